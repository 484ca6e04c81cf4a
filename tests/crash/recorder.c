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
#include "tests/crash/log.h"

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
#define MOST_SAID ((size_t)1 << 20)

static struct {
    const char *root;
    size_t root_len;
    int log;
    _Atomic uint64_t *count; /* [1]: where to die; 0: nowhere */
    atomic_uint handles;
    pthread_rwlock_t gate; /* read: a recorded call is under way; write: about to die */
} recorder = { .log = -1, .gate = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP };

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

static void enter(struct log_record *record)
{
    pthread_rwlock_rdlock(&recorder.gate);
    record->begin = tick();
}

static void leave(struct log_record *record, const void *a, const void *b)
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
static void give_up(void)
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
    recorder.log = fcntl(fd, F_DUPFD_CLOEXEC, 500);
    if (recorder.log < 0)
        abort();
    syscall(SYS_close, fd);
    struct log_record record = { .op = LOG_START };
    enter(&record);
    leave(&record, NULL, NULL);
}

static bool is_ours(const char *path)
{
    return recorder.log >= 0 && strncmp(path, recorder.root, recorder.root_len) == 0 &&
           (path[recorder.root_len] == '/' || path[recorder.root_len] == '\0');
}

static unsigned handle_of(int fd)
{
    return recorder.log >= 0 && fd >= 0 && fd < MOST_FDS ? atomic_load(&files[fd].handle) : 0;
}

static void strange(const char *what)
{
    struct log_record record = { .op = LOG_STRANGE, .len = (uint32_t)strlen(what) };

    enter(&record);
    leave(&record, what, NULL);
}

/* ---- opening -------------------------------------------------------------------------- */

static int do_open(int at, const char *path, int flags, mode_t mode)
{
    if (!is_ours(path))
        return (int)syscall(SYS_openat, at, path, flags, mode);
    struct log_record record = { .op = LOG_OPEN,
                                 .open_flags = (uint32_t)flags,
                                 .len = (uint32_t)strlen(path) };
    enter(&record);
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd < 0) {
        give_up();
        return fd;
    }
    if (fd >= MOST_FDS)
        abort();
    record.handle = atomic_fetch_add(&recorder.handles, 1) + 1;
    atomic_store(&files[fd].handle, record.handle);
    atomic_store(&files[fd].synced, (flags & O_DSYNC) != 0);
    leave(&record, path, NULL);
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

int close(int fd)
{
    if (fd == recorder.log && fd >= 0) {
        errno = EBADF; /* somebody closes all descriptors */
        return -1;
    }
    if (handle_of(fd))
        atomic_store(&files[fd].handle, 0);
    return (int)syscall(SYS_close, fd);
}

/* ---- writing ------------------------------------------------------------------------------ */

static bool has_word(const void *data, size_t len, const char *word)
{
    return memmem(data, len, word, strlen(word)) != NULL;
}

/* What is worth remembering of what leaves: acknowledgements of mail, verdicts
 * in the log, answers of the API. */
static bool is_promise(const void *data, size_t len)
{
    return has_word(data, len, "queued as ") || has_word(data, len, "stage=settle") ||
           has_word(data, len, "HTTP/1.1 200");
}

/* And of what comes: the sink's last words on a recipient, the operator's wishes. */
static bool is_cause(const void *data, size_t len)
{
    return has_word(data, len, "crash-final") || has_word(data, len, "crash-dsn") ||
           has_word(data, len, "queue/drop");
}

static ssize_t said(int fd, const struct iovec *parts, int count, ssize_t (*call)(int, void *),
                    void *arg)
{
    char text[16384];
    size_t len = 0;
    struct log_record record = { .op = LOG_SAID, .handle = (uint32_t)fd };

    for (int i = 0; i < count && count > 1 && len < sizeof(text); i++) {
        size_t n = parts[i].iov_len < sizeof(text) - len ? parts[i].iov_len : sizeof(text) - len;
        memcpy(text + len, parts[i].iov_base, n);
        len += n;
    }
    const void *data = text;
    if (count == 1 && parts[0].iov_len <= MOST_SAID) { /* a batch of log lines can be long */
        data = parts[0].iov_base;
        len = parts[0].iov_len;
    }
    if (recorder.log < 0 || !is_promise(data, len))
        return call(fd, arg);
    enter(&record);
    ssize_t n = call(fd, arg);
    if (n <= 0) {
        give_up();
        return n;
    }
    record.len = (uint32_t)((size_t)n < len ? (size_t)n : len);
    leave(&record, data, NULL);
    return n;
}

/* A short write is a write of what was written. */
static ssize_t store_write(int fd, unsigned handle, const struct iovec *parts, int count,
                           int64_t at)
{
    struct log_record record = { .op = LOG_WRITE, .handle = handle };
    static _Thread_local char gathered[(size_t)1 << 20];
    const void *data = parts[0].iov_base;
    size_t len = 0;

    for (int i = 0; i < count; i++)
        len += parts[i].iov_len;
    if (count > 1) {
        if (len > sizeof(gathered))
            abort(); /* LMDB writes 64 pages at once, 256 KiB */
        len = 0;
        for (int i = 0; i < count; i++) {
            memcpy(gathered + len, parts[i].iov_base, parts[i].iov_len);
            len += parts[i].iov_len;
        }
        data = gathered;
    }
    record.flags = atomic_load(&files[fd].synced) ? LOG_SYNCED : 0;
    enter(&record);
    ssize_t n = at >= 0 ? syscall(SYS_pwritev, fd, parts, count, at, 0)
                        : syscall(SYS_writev, fd, parts, count);
    if (n <= 0) {
        give_up();
        return n;
    }
    record.at =
        at >= 0 ? (uint64_t)at : (uint64_t)syscall(SYS_lseek, fd, (off_t)0, SEEK_CUR) - (uint64_t)n;
    record.len = (uint32_t)n;
    leave(&record, data, NULL);
    return n;
}

static ssize_t call_writev(int fd, void *arg)
{
    const struct iovec *parts = arg;
    int count = 0;

    while (parts[count].iov_base || parts[count].iov_len)
        count++;
    return syscall(SYS_writev, fd, parts, count);
}

ssize_t write(int fd, const void *data, size_t len)
{
    struct iovec part[2] = { { (void *)(uintptr_t)data, len }, { 0 } };
    unsigned handle = handle_of(fd);

    if (handle && len)
        return store_write(fd, handle, part, 1, -1);
    if (recorder.log < 0 || len < 16) /* wake-ups by eventfd among them */
        return syscall(SYS_write, fd, data, len);
    return said(fd, part, 1, call_writev, part);
}

struct plain_writev {
    const struct iovec *parts;
    int count;
};

static ssize_t call_plain_writev(int fd, void *arg)
{
    struct plain_writev *call = arg;

    return syscall(SYS_writev, fd, call->parts, call->count);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    unsigned handle = handle_of(fd);
    struct plain_writev call = { parts, count };

    if (handle)
        return store_write(fd, handle, parts, count, -1);
    return said(fd, parts, count, call_plain_writev, &call);
}

static ssize_t do_pwrite(int fd, const void *data, size_t len, off_t at)
{
    struct iovec part = { (void *)(uintptr_t)data, len };
    unsigned handle = handle_of(fd);

    if (handle && len)
        return store_write(fd, handle, &part, 1, at);
    return syscall(SYS_pwrite64, fd, data, len, at);
}

static ssize_t do_pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    unsigned handle = handle_of(fd);

    if (handle)
        return store_write(fd, handle, parts, count, at);
    return syscall(SYS_pwritev, fd, parts, count, at, 0);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    return do_pwrite(fd, data, len, at);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t at)
{
    return do_pwrite(fd, data, len, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    return do_pwritev(fd, parts, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at)
{
    return do_pwritev(fd, parts, count, at);
}

static int do_truncate(int fd, off_t size)
{
    struct log_record record = { .op = LOG_TRUNCATE,
                                 .handle = handle_of(fd),
                                 .at = (uint64_t)size };

    if (!record.handle)
        return (int)syscall(SYS_ftruncate, fd, size);
    enter(&record);
    int rc = (int)syscall(SYS_ftruncate, fd, size);
    if (rc)
        give_up();
    else
        leave(&record, NULL, NULL);
    return rc;
}

static int path_call(enum log_op op, uint64_t at, const char *a, const char *b, long number,
                     long second)
{
    struct log_record record = { .op = op, .at = at, .len = (uint32_t)strlen(a) };

    record.len2 = b ? (uint32_t)strlen(b) : 0;
    if (!is_ours(a) && !(b && is_ours(b)))
        return (int)syscall(number, a, second);
    enter(&record);
    int rc = (int)syscall(number, a, second);
    if (rc)
        give_up();
    else
        leave(&record, a, b);
    return rc;
}

int ftruncate(int fd, off_t size) { return do_truncate(fd, size); }
int ftruncate64(int fd, off_t size) { return do_truncate(fd, size); }

int truncate(const char *path, off_t size)
{
    return path_call(LOG_TRUNCATE, (uint64_t)size, path, NULL, SYS_truncate, size);
}

int truncate64(const char *path, off_t size) { return truncate(path, size); }

/* ---- syncing --------------------------------------------------------------------------------- */

static int do_sync(int fd, long number)
{
    struct log_record record = { .op = LOG_SYNC, .handle = handle_of(fd) };

    if (!record.handle)
        return (int)syscall(number, fd);
    enter(&record);
    int rc = (int)syscall(number, fd);
    if (rc)
        give_up();
    else
        leave(&record, NULL, NULL);
    return rc;
}

int fsync(int fd) { return do_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

/* Promises nothing about sizes, or about the drive's cache: no sync to the model. */
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags)
{
    return (int)syscall(SYS_sync_file_range, fd, at, len, flags);
}

/* Writes through a mapping are not seen by the recorder: there must be none. */
int msync(void *at, size_t len, int flags)
{
    if (recorder.log >= 0)
        strange("msync");
    return (int)syscall(SYS_msync, at, len, flags);
}

/* ---- names ------------------------------------------------------------------------------------- */

int mkdir(const char *path, mode_t mode)
{
    return path_call(LOG_MKDIR, 0, path, NULL, SYS_mkdir, (long)mode);
}

int rmdir(const char *path) { return path_call(LOG_RMDIR, 0, path, NULL, SYS_rmdir, 0); }
int unlink(const char *path) { return path_call(LOG_UNLINK, 0, path, NULL, SYS_unlink, 0); }

int rename(const char *from, const char *to)
{
    return path_call(LOG_RENAME, 0, from, to, SYS_rename, (long)(uintptr_t)to);
}

int link(const char *from, const char *to)
{
    if (recorder.log >= 0 && (is_ours(from) || is_ours(to)))
        strange("link");
    return (int)syscall(SYS_link, from, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    if (recorder.log >= 0 && (is_ours(from) || is_ours(to)))
        strange("renameat2");
    return (int)syscall(SYS_renameat2, a, from, b, to, flags);
}

/* ---- sockets ------------------------------------------------------------------------------------ */

struct plain_send {
    const void *data;
    size_t len;
    const struct msghdr *message;
    int flags;
};

static ssize_t call_send(int fd, void *arg)
{
    struct plain_send *call = arg;

    if (call->message)
        return syscall(SYS_sendmsg, fd, call->message, call->flags);
    return syscall(SYS_sendto, fd, call->data, call->len, call->flags, NULL, 0);
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    struct plain_send call = { .data = data, .len = len, .flags = flags };
    struct iovec part = { (void *)(uintptr_t)data, len };

    return said(fd, &part, 1, call_send, &call);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct plain_send call = { .message = message, .flags = flags };

    return said(fd, message->msg_iov, (int)message->msg_iovlen, call_send, &call);
}

/* The call is over: what it brought can only have had effects after this. */
static ssize_t heard(int fd, const void *data, ssize_t n)
{
    struct log_record record = { .op = LOG_HEARD, .handle = (uint32_t)fd };

    if (recorder.log < 0 || n < 16 || n > 65536 || handle_of(fd) || !is_cause(data, (size_t)n))
        return n;
    record.len = (uint32_t)n;
    enter(&record);
    leave(&record, data, NULL);
    return n;
}

ssize_t read(int fd, void *data, size_t len)
{
    return heard(fd, data, syscall(SYS_read, fd, data, len));
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
    return heard(fd, data, syscall(SYS_recvfrom, fd, data, len, flags, NULL, NULL));
}

ssize_t __read_chk(int fd, void *data, size_t len, size_t room);
ssize_t __recv_chk(int fd, void *data, size_t len, size_t room, int flags);

ssize_t __read_chk(int fd, void *data, size_t len, size_t room)
{
    if (len > room)
        abort();
    return read(fd, data, len);
}

ssize_t __recv_chk(int fd, void *data, size_t len, size_t room, int flags)
{
    if (len > room)
        abort();
    return recv(fd, data, len, flags);
}
