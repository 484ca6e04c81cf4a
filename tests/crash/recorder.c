/*
 * recorder.c - a preloaded library that logs what a program does to one folder,
 * and when it made or heard a promise.
 *
 * CRASH_ROOT names the folder, CRASH_LOG the log; the counter beside it
 * (CRASH_LOG.count) is shared memory, so that a relay that was killed and
 * started again goes on with the same numbers. Behind it stands a second number
 * that the test may set: when the counter has reached it, the process kills itself
 * with SIGKILL at a moment when no recorded call is under way, so that the log
 * says exactly what was done.
 *
 * Every call is made as a bare system call: nothing here allocates, looks up
 * symbols or depends on who was loaded first, so it also works below the
 * interceptors of a sanitizer. That nothing was missed is shown by the checker:
 * the log played to its end must give the folder as it is on the real disk.
 */
#include "tests/crash/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FDS 65536

struct recorder recorder = { .log = -1, .gate = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP };

static struct {
    atomic_uint handle; /* 0: not of ours */
    atomic_bool synced;
} files[MOST_FDS];

/* ---- the log ------------------------------------------------------------------------ */

static void append(struct log_record *record, const void *a, const void *b)
{
    static const char zeros[LOG_ALIGN];
    size_t len = sizeof(*record) + record->len + record->len2;
    struct iovec parts[4] = {
        { record, sizeof(*record) },
        { (void *)(uintptr_t)a, record->len },
        { (void *)(uintptr_t)b, record->len2 },
        { (void *)(uintptr_t)zeros, log_padded(len) - len },
    };

    record->magic = LOG_MAGIC;
    /* One call on a descriptor with O_APPEND: records never mix. */
    if (syscall(SYS_writev, recorder.log, parts, 4) != (long)log_padded(len))
        abort();
}

static uint64_t tick(void) { return atomic_fetch_add(recorder.count, 1) + 1; }

void recorder_enter(struct log_record *record)
{
    pthread_rwlock_rdlock(&recorder.gate);
    record->begin = tick();
}

void recorder_leave(struct log_record *record, const void *a, const void *b)
{
    int saved = errno;

    record->end = tick();
    append(record, a, b);
    pthread_rwlock_unlock(&recorder.gate);
    uint64_t die_at = atomic_load(&recorder.count[1]);
    if (die_at && record->end >= die_at) {
        pthread_rwlock_wrlock(&recorder.gate);
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    errno = saved;
}

/* The call failed: it changed nothing. */
void recorder_give_up(void)
{
    int saved = errno;

    pthread_rwlock_unlock(&recorder.gate);
    errno = saved;
}

__attribute__((constructor)) static void begin(void)
{
    const char *log = getenv("CRASH_LOG"), *root = getenv("CRASH_ROOT");
    char path[4200];

    if (!log || !root || recorder.log >= 0)
        return;
    snprintf(path, sizeof(path), "%s.count", log);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || syscall(SYS_ftruncate, fd, 4096) != 0)
        abort();
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        abort();
    syscall(SYS_close, fd);
    recorder.count = shared;
    recorder.root = root;
    recorder.root_len = strlen(root);
    fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    recorder.log = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 500);
    if (recorder.log < 0)
        abort();
    syscall(SYS_close, fd);
    struct log_record record = { .op = LOG_START };
    recorder_enter(&record);
    recorder_leave(&record, NULL, NULL);
}

bool recorder_is_ours(const char *path)
{
    return recorder.log >= 0 && strncmp(path, recorder.root, recorder.root_len) == 0 &&
           (path[recorder.root_len] == '/' || path[recorder.root_len] == '\0');
}

unsigned recorder_handle(int fd)
{
    return recorder.log >= 0 && fd >= 0 && fd < MOST_FDS ? atomic_load(&files[fd].handle) : 0;
}

bool recorder_is_synced(int fd) { return atomic_load(&files[fd].synced); }

void recorder_strange(const char *what)
{
    struct log_record record = { .op = LOG_STRANGE, .len = (uint32_t)strlen(what) };

    recorder_enter(&record);
    recorder_leave(&record, what, NULL);
}

/* ---- opening -------------------------------------------------------------------------- */

static int do_open(int at, const char *path, int flags, mode_t mode)
{
    /* By a folder's descriptor only to read: what is written so would not be seen. */
    if (path[0] != '/' && recorder_handle(at) && (flags & (O_CREAT | O_ACCMODE)))
        recorder_strange("openat");
    if (!recorder_is_ours(path))
        return (int)syscall(SYS_openat, at, path, flags, mode);
    struct log_record record = { .op = LOG_OPEN,
                                 .open_flags = (uint32_t)flags,
                                 .len = (uint32_t)strlen(path) };
    recorder_enter(&record);
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd < 0) {
        recorder_give_up();
        return fd;
    }
    if (fd >= MOST_FDS)
        abort();
    record.handle = atomic_fetch_add(&recorder.handles, 1) + 1;
    atomic_store(&files[fd].handle, record.handle);
    atomic_store(&files[fd].synced, (flags & O_DSYNC) != 0);
    recorder_leave(&record, path, NULL);
    return fd;
}

#define OPEN_MODE(flags, mode)                                                                     \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                       \
        va_list list;                                                                              \
        va_start(list, flags);                                                                     \
        mode = va_arg(list, mode_t);                                                               \
        va_end(list);                                                                              \
    }

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

int open(const char *path, int flags, ...)
{
    OPEN_MODE(flags, mode)
    return do_open(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    OPEN_MODE(flags, mode)
    return do_open(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
    OPEN_MODE(flags, mode)
    return do_open(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...)
{
    OPEN_MODE(flags, mode)
    return do_open(at, path, flags, mode);
}

int __open_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }

/* Two descriptors of one open() share what the model knows of it. */
static int copied(int from, int to)
{
    if (to >= 0 && to < MOST_FDS && recorder_handle(from)) {
        atomic_store(&files[to].handle, recorder_handle(from));
        atomic_store(&files[to].synced, recorder_is_synced(from));
    }
    return to;
}

static int do_fcntl(int fd, int command, long arg)
{
    int rc = (int)syscall(SYS_fcntl, fd, command, arg);

    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, rc) : rc;
}

int fcntl(int fd, int command, ...)
{
    va_list list;

    va_start(list, command);
    long arg = va_arg(list, long);
    va_end(list);
    return do_fcntl(fd, command, arg);
}

int fcntl64(int fd, int command, ...)
{
    va_list list;

    va_start(list, command);
    long arg = va_arg(list, long);
    va_end(list);
    return do_fcntl(fd, command, arg);
}

int dup(int fd) { return copied(fd, (int)syscall(SYS_dup, fd)); }

int close(int fd)
{
    if (fd == recorder.log && fd >= 0) {
        errno = EBADF; /* somebody closes all descriptors */
        return -1;
    }
    if (recorder_handle(fd))
        atomic_store(&files[fd].handle, 0);
    return (int)syscall(SYS_close, fd);
}
