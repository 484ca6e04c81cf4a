/*
 * faults.c - a library for LD_PRELOAD that lies to the relay under test: about the
 * time, and about whether files below one folder can be written.
 *
 * FAULTS names a file of 64 octets that is mapped and read at each call, so a test
 * changes the world while the relay runs: five signed 64-bit numbers (in the
 * machine's order): seconds added to the wall clock; the errno that writing gives (0:
 * none); 1 when syncing gives it too; seconds that have gone by, on all clocks; 1 while
 * syncing hangs. FAULTS_UNDER is the folder. A real clock cannot
 * be set where other tests run, and a file system with open files cannot be made
 * read-only and writable again.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct world {
    int64_t wall_offset_s, write_errno, fails_sync, passed_s, sync_hangs;
};

static const volatile struct world calm;
static const volatile struct world *world = &calm;
static const char *under = "";

__attribute__((constructor)) static void learn(void)
{
    const char *path = getenv("FAULTS");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, 64, PROT_READ, MAP_SHARED, fd, 0);

    if (fd >= 0)
        close(fd);
    if (at != MAP_FAILED)
        world = at;
    if (getenv("FAULTS_UNDER"))
        under = getenv("FAULTS_UNDER");
}

/* The next definition of the function that is being replaced. */
#define REAL(name)                                                                                 \
    static __typeof__(name) *real;                                                                 \
    if (!real)                                                                                     \
    real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int is_under(const char *path) { return *under && strncmp(path, under, strlen(under)) == 0; }

static int fd_is_under(int fd)
{
    char link[64], path[PATH_MAX];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof(path) - 1);
    if (len < 0)
        return 0;
    path[len] = '\0';
    return is_under(path);
}

static int fails(int fd)
{
    if (!world->write_errno || !fd_is_under(fd))
        return 0;
    errno = (int)world->write_errno;
    return 1;
}

static int path_fails(const char *path)
{
    if (!world->write_errno || !is_under(path))
        return 0;
    errno = (int)world->write_errno;
    return 1;
}

/* ---- the clock ---- */

int clock_gettime(clockid_t id, struct timespec *out)
{
    REAL(clock_gettime);
    int rc = real(id, out);

    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        out->tv_sec += (time_t)world->wall_offset_s;
    if (rc == 0 && id != CLOCK_PROCESS_CPUTIME_ID && id != CLOCK_THREAD_CPUTIME_ID)
        out->tv_sec += (time_t)world->passed_s;
    return rc;
}

/* The moment was made from the clock above; the kernel waits by its own. */
int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    struct timespec moved = *until;
    REAL(pthread_cond_timedwait);

    moved.tv_sec -= (time_t)world->passed_s;
    return real(cond, mutex, &moved);
}

time_t time(time_t *out)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

/* ---- files ---- */

ssize_t write(int fd, const void *bytes, size_t len)
{
    REAL(write);
    return fails(fd) ? -1 : real(fd, bytes, len);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    REAL(pwrite);
    return fails(fd) ? -1 : real(fd, bytes, len, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    REAL(pwrite64);
    return fails(fd) ? -1 : real(fd, bytes, len, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(writev);
    return fails(fd) ? -1 : real(fd, parts, count);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    REAL(pwritev);
    return fails(fd) ? -1 : real(fd, parts, count, at);
}

static void hang(int fd)
{
    while (world->sync_hangs && fd_is_under(fd))
        usleep(10000);
}

int fsync(int fd)
{
    REAL(fsync);
    hang(fd);
    return world->fails_sync && fails(fd) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    hang(fd);
    return world->fails_sync && fails(fd) ? -1 : real(fd);
}

int ftruncate(int fd, off_t len)
{
    REAL(ftruncate);
    return fails(fd) ? -1 : real(fd, len);
}

int posix_fallocate(int fd, off_t at, off_t len)
{
    REAL(posix_fallocate);
    return fails(fd) ? (int)world->write_errno : real(fd, at, len);
}

int unlink(const char *path)
{
    REAL(unlink);
    return path_fails(path) ? -1 : real(path);
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    return path_fails(to) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    return path_fails(path) ? -1 : real(path, mode);
}

static int may_write(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT); }

#define OPEN(name, first, path)                                                                    \
    mode_t mode = 0;                                                                               \
    va_list list;                                                                                  \
    REAL(name);                                                                                    \
    va_start(list, flags);                                                                         \
    if (flags & O_CREAT)                                                                           \
        mode = va_arg(list, mode_t);                                                               \
    va_end(list);                                                                                  \
    return may_write(flags) && path_fails(path) ? -1 : first

int open(const char *path, int flags, ...) { OPEN(open, real(path, flags, mode), path); }
int open64(const char *path, int flags, ...) { OPEN(open64, real(path, flags, mode), path); }

int openat(int folder, const char *path, int flags, ...)
{
    OPEN(openat, real(folder, path, flags, mode), path);
}

int openat64(int folder, const char *path, int flags, ...)
{
    OPEN(openat64, real(folder, path, flags, mode), path);
}
