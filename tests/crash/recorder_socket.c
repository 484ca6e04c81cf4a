/*
 * recorder_socket.c - what is said and heard: promises and their causes.
 */
#include "tests/crash/recorder.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_SAID ((size_t)1 << 20)

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

ssize_t recorder_said(int fd, const struct iovec *parts, int count, ssize_t (*call)(int, void *),
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
    recorder_enter(&record);
    ssize_t n = call(fd, arg);
    if (n <= 0) {
        recorder_give_up();
        return n;
    }
    record.len = (uint32_t)((size_t)n < len ? (size_t)n : len);
    recorder_leave(&record, data, NULL);
    return n;
}

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

    return recorder_said(fd, &part, 1, call_send, &call);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct plain_send call = { .message = message, .flags = flags };

    return recorder_said(fd, message->msg_iov, (int)message->msg_iovlen, call_send, &call);
}

/* The call is over: what it brought can only have had effects after this. */
static ssize_t heard(int fd, const void *data, ssize_t n)
{
    struct log_record record = { .op = LOG_HEARD, .handle = (uint32_t)fd };

    if (recorder.log < 0 || n < 16 || n > 65536 || recorder_handle(fd) ||
        !is_cause(data, (size_t)n))
        return n;
    record.len = (uint32_t)n;
    recorder_enter(&record);
    recorder_leave(&record, data, NULL);
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
