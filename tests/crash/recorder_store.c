/*
 * recorder_store.c - the calls that change the folder: writes, sizes, syncs, names.
 */
#include "tests/crash/recorder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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
    record.flags = recorder_is_synced(fd) ? LOG_SYNCED : 0;
    recorder_enter(&record);
    ssize_t n = at >= 0 ? syscall(SYS_pwritev, fd, parts, count, at, 0)
                        : syscall(SYS_writev, fd, parts, count);
    if (n <= 0) {
        recorder_give_up();
        return n;
    }
    record.at =
        at >= 0 ? (uint64_t)at : (uint64_t)syscall(SYS_lseek, fd, (off_t)0, SEEK_CUR) - (uint64_t)n;
    record.len = (uint32_t)n;
    recorder_leave(&record, data, NULL);
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
    unsigned handle = recorder_handle(fd);

    if (handle && len)
        return store_write(fd, handle, part, 1, -1);
    if (recorder.log < 0 || len < 16) /* wake-ups by eventfd among them */
        return syscall(SYS_write, fd, data, len);
    return recorder_said(fd, part, 1, call_writev, part);
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
    unsigned handle = recorder_handle(fd);
    struct plain_writev call = { parts, count };

    if (handle)
        return store_write(fd, handle, parts, count, -1);
    return recorder_said(fd, parts, count, call_plain_writev, &call);
}

static ssize_t do_pwrite(int fd, const void *data, size_t len, off_t at)
{
    struct iovec part = { (void *)(uintptr_t)data, len };
    unsigned handle = recorder_handle(fd);

    if (handle && len)
        return store_write(fd, handle, &part, 1, at);
    return syscall(SYS_pwrite64, fd, data, len, at);
}

static ssize_t do_pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    unsigned handle = recorder_handle(fd);

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
                                 .handle = recorder_handle(fd),
                                 .at = (uint64_t)size };

    if (!record.handle)
        return (int)syscall(SYS_ftruncate, fd, size);
    recorder_enter(&record);
    int rc = (int)syscall(SYS_ftruncate, fd, size);
    if (rc)
        recorder_give_up();
    else
        recorder_leave(&record, NULL, NULL);
    return rc;
}

static int path_call(enum log_op op, uint64_t at, const char *a, const char *b, long number,
                     long second)
{
    struct log_record record = { .op = (uint16_t)op, .at = at, .len = (uint32_t)strlen(a) };

    record.len2 = b ? (uint32_t)strlen(b) : 0;
    if (!recorder_is_ours(a) && !(b && recorder_is_ours(b)))
        return (int)syscall(number, a, second);
    recorder_enter(&record);
    int rc = (int)syscall(number, a, second);
    if (rc)
        recorder_give_up();
    else
        recorder_leave(&record, a, b);
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
    struct log_record record = { .op = LOG_SYNC, .handle = recorder_handle(fd) };

    if (!record.handle)
        return (int)syscall(number, fd);
    recorder_enter(&record);
    int rc = (int)syscall(number, fd);
    if (rc)
        recorder_give_up();
    else
        recorder_leave(&record, NULL, NULL);
    return rc;
}

int fsync(int fd) { return do_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

int syncfs(int fd)
{
    struct log_record record = { .op = LOG_SYNC_ALL };

    if (!recorder_handle(fd))
        return (int)syscall(SYS_syncfs, fd);
    recorder_enter(&record);
    int rc = (int)syscall(SYS_syncfs, fd);
    if (rc)
        recorder_give_up();
    else
        recorder_leave(&record, NULL, NULL);
    return rc;
}

/* Noted only to be counted: it promises nothing about sizes or the drive's cache. */
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags)
{
    struct log_record record = { .op = LOG_RANGE,
                                 .handle = recorder_handle(fd),
                                 .at = (uint64_t)at };

    if (!record.handle)
        return (int)syscall(SYS_sync_file_range, fd, at, len, flags);
    recorder_enter(&record);
    int rc = (int)syscall(SYS_sync_file_range, fd, at, len, flags);
    if (rc)
        recorder_give_up();
    else
        recorder_leave(&record, NULL, NULL);
    return rc;
}

/* Writes through a mapping are not seen by the recorder: there must be none. */
int msync(void *at, size_t len, int flags)
{
    if (recorder.log >= 0)
        recorder_strange("msync");
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

int unlinkat(int folder, const char *name, int flags)
{
    struct log_record record = { .op = LOG_UNLINK,
                                 .handle = recorder_handle(folder),
                                 .len = (uint32_t)strlen(name) };

    if (flags || name[0] == '/' || !record.handle)
        return (int)syscall(SYS_unlinkat, folder, name, flags);
    recorder_enter(&record);
    int rc = (int)syscall(SYS_unlinkat, folder, name, flags);
    if (rc)
        recorder_give_up();
    else
        recorder_leave(&record, name, NULL);
    return rc;
}

int renameat(int a, const char *from, int b, const char *to)
{
    if (recorder_handle(a) || recorder_handle(b))
        recorder_strange("renameat");
    return (int)syscall(SYS_renameat, a, from, b, to);
}

int link(const char *from, const char *to)
{
    if (recorder.log >= 0 && (recorder_is_ours(from) || recorder_is_ours(to)))
        recorder_strange("link");
    return (int)syscall(SYS_link, from, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    if (recorder.log >= 0 && (recorder_is_ours(from) || recorder_is_ours(to)))
        recorder_strange("renameat2");
    return (int)syscall(SYS_renameat2, a, from, b, to, flags);
}
