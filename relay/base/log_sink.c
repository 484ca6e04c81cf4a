/*
 * log_sink.c - writing log lines without being held up by their reader.
 *
 * The descriptor may be shared with other processes, so it is never switched
 * to O_NONBLOCK. Instead: a socket is sent to with MSG_DONTWAIT; a pipe or
 * terminal is written at most PIPE_BUF bytes at a time after poll() has said
 * that there is room, which then does not block; a regular file is written in
 * one go.
 */
#include "relay/base/log_sink.h"

#include "relay/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define GATHER_BYTES ((size_t)64 * 1024)  /* written at the latest when so many wait */
#define PENDING_MAX ((size_t)1024 * 1024) /* kept for a reader that does not read */
#define PATIENCE_MS 100                   /* for one flush */

static bool is_journal_stream(const struct stat *st)
{
    const char *names = getenv("JOURNAL_STREAM"); /* "device:inode", sd-daemon(3) */
    unsigned long long device, inode;

    return names && sscanf(names, "%llu:%llu", &device, &inode) == 2 && device == st->st_dev &&
           inode == st->st_ino;
}

static void learn_kind(struct sink *sink)
{
    struct stat st = { 0 };

    if (sink->fd < 0 || fstat(sink->fd, &st) != 0)
        return;
    sink->is_regular = S_ISREG(st.st_mode);
    sink->is_socket = S_ISSOCK(st.st_mode);
    if (sink->to == LOG_TO_STDOUT)
        sink->is_journal = is_journal_stream(&st);
}

/* O_NONBLOCK: opening a FIFO that nobody reads must fail, not wait. */
static enum err open_file(const char *path, int *out_fd, struct fault *fault)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);

    if (fd < 0)
        return fault_errno(fault, errno, "cannot open the log file %s", path);
    *out_fd = fd;
    return ERR_OK;
}

enum err sink_open(struct sink *sink, enum log_to to, const char *path, struct fault *fault)
{
    int fd = -1;

    if (to == LOG_TO_FILE && !path)
        return fault_set(fault, ERR_INVALID, "a log to a file needs the file's name");
    enum err err = to == LOG_TO_FILE ? open_file(path, &fd, fault) : ERR_OK;
    if (err)
        return err;
    if (to == LOG_TO_SYSLOG && !path)
        path = "/dev/log";
    if (to == LOG_TO_SYSLOG && strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return fault_set(fault, ERR_INVALID, "the syslog socket's name is too long: %s", path);
    *sink = (struct sink){ .to = to, .fd = fd, .is_journal = to == LOG_TO_JOURNAL };
    if (to == LOG_TO_FILE || to == LOG_TO_SYSLOG)
        sink->path = str_dup(str_of(path));
    if (to == LOG_TO_STDOUT)
        sink->fd = STDOUT_FILENO;
    if (to == LOG_TO_JOURNAL)
        sink->fd = STDERR_FILENO;
    buf_init(&sink->pending, PENDING_MAX);
    learn_kind(sink);
    return ERR_OK;
}

static void close_fd(struct sink *sink)
{
    if (sink->path && sink->fd >= 0)
        close(sink->fd);
    sink->fd = -1;
}

/* ---- syslog: one datagram a line ---------------------------------------- */

static bool syslog_connect(struct sink *sink)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };

    if (sink->fd >= 0)
        return true;
    str_copy(to.sun_path, sizeof(to.sun_path), str_of(sink->path));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        close(fd);
        return false;
    }
    sink->fd = fd;
    return true;
}

static bool wait_writable(struct sink *sink, int timeout_ms)
{
    struct pollfd fd = { .fd = sink->fd, .events = POLLOUT };

    return poll(&fd, 1, timeout_ms) > 0;
}

static bool syslog_try(struct sink *sink, struct str line)
{
    if (!syslog_connect(sink))
        return false;
    ssize_t rc = send(sink->fd, line.at, line.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (rc < 0 && errno == EAGAIN && !sink->stuck && wait_writable(sink, PATIENCE_MS))
        rc = send(sink->fd, line.at, line.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    sink->stuck = rc < 0 && errno == EAGAIN;
    if (rc < 0 && !sink->stuck)
        close_fd(sink);
    return rc >= 0;
}

/* The second try is for a syslog daemon that was started anew: its old socket
 * refuses, the new one is found by connecting again. */
static bool syslog_send(struct sink *sink, struct str line)
{
    return syslog_try(sink, line) || (sink->fd < 0 && syslog_try(sink, line));
}

/* ---- streams --------------------------------------------------------------- */

/* Bytes written, 0 when there is no room now, -1 when it is broken. */
static ssize_t write_some(struct sink *sink, int timeout_ms)
{
    struct str all = buf_view(&sink->pending);
    ssize_t rc;

    if (!sink->is_regular && !wait_writable(sink, timeout_ms))
        return 0;
    if (sink->is_socket)
        rc = send(sink->fd, all.at, all.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    else
        rc = write(sink->fd, all.at, sink->is_regular || all.len < PIPE_BUF ? all.len : PIPE_BUF);
    if (rc < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return rc > 0 ? rc : -1;
}

static uint64_t count_lines(struct str text)
{
    uint64_t lines = 0;

    for (struct str piece; str_next(&text, '\n', &piece);)
        lines++;
    return lines;
}

/* The notice among the pending lines is no line of anybody's, and what it told
 * of is untold again. */
static void drop_pending(struct sink *sink)
{
    uint64_t lines = count_lines(buf_view(&sink->pending));

    sink->lost += lines + sink->told - (sink->told ? 1 : 0);
    sink->lost_ever += lines - (sink->told ? 1 : 0);
    sink->told = 0;
    buf_reset(&sink->pending);
}

static void wrote(struct sink *sink, size_t len)
{
    struct str all = buf_view(&sink->pending);

    sink->mid_line = all.at[len - 1] != '\n';
    buf_consume(&sink->pending, len);
    sink->stuck = false;
    if (len >= sink->told_len || sink->pending.len == 0)
        sink->told = 0;
    else
        sink->told_len -= len;
}

void sink_flush(struct sink *sink)
{
    uint64_t end_ms = clock_mono_ms() + (sink->stuck ? 0 : PATIENCE_MS);

    while (sink->pending.len) {
        uint64_t now_ms = clock_mono_ms();
        ssize_t len = write_some(sink, now_ms < end_ms ? (int)(end_ms - now_ms) : 0);
        if (len < 0) {
            drop_pending(sink);
            return;
        }
        if (len > 0)
            wrote(sink, (size_t)len);
        if (len == 0 && clock_mono_ms() >= end_ms) {
            sink->stuck = true;
            return;
        }
    }
}

static bool gather(struct sink *sink, struct str line)
{
    /* A line that was cut off by a full disk must not swallow the next one. */
    bool cut = sink->mid_line && sink->pending.len == 0;
    char *to = buf_reserve(&sink->pending, line.len + 1 + cut);

    if (!to)
        return false;
    if (cut)
        *to++ = '\n';
    memcpy(to, line.at, line.len);
    to[line.len] = '\n';
    buf_commit(&sink->pending, line.len + 1 + cut);
    if (sink->pending.len >= GATHER_BYTES && !sink->stuck)
        sink_flush(sink);
    return true;
}

static bool take_line(struct sink *sink, struct str line)
{
    return sink->to == LOG_TO_SYSLOG ? syslog_send(sink, line) : gather(sink, line);
}

void sink_line(struct sink *sink, struct str line)
{
    if (take_line(sink, line))
        return;
    sink->lost++;
    sink->lost_ever++;
}

/* Not as soon as one line fits again: that would tell of every gap alone. */
bool sink_owes_notice(const struct sink *sink)
{
    return sink->lost && !sink->told && !sink->stuck && sink->pending.len < GATHER_BYTES;
}

void sink_notice(struct sink *sink, struct str line)
{
    uint64_t lost = sink->lost;

    sink->lost = 0;
    sink->told = sink->to == LOG_TO_SYSLOG ? 0 : lost;
    sink->told_len = sink->pending.len + line.len + 2;
    if (take_line(sink, line))
        return;
    sink->lost = lost;
    sink->told = 0;
}

void sink_close(struct sink *sink)
{
    sink->stuck = false;
    sink_flush(sink);
    drop_pending(sink);
    close_fd(sink);
    free(sink->path);
    sink->path = NULL;
    buf_clear(&sink->pending);
}

enum err sink_reopen(struct sink *sink, struct fault *fault)
{
    int fd = -1;

    sink_flush(sink);
    if (sink->to == LOG_TO_SYSLOG)
        close_fd(sink); /* the next line connects */
    if (sink->to != LOG_TO_FILE)
        return ERR_OK;
    enum err err = open_file(sink->path, &fd, fault);
    if (err)
        return err;
    drop_pending(sink); /* only what the old file would not take */
    close_fd(sink);
    sink->fd = fd;
    sink->mid_line = false;
    learn_kind(sink);
    return ERR_OK;
}
