/*
 * smtpsink.c - the next hop of the bench: receives, counts, forgets.
 *
 * Written for being cheap, so that what the bench measures is the relay: one
 * thread, one read and one write per round trip, nothing kept of a message but
 * the number in its recipient (u123@...), which tells lost from duplicated. The
 * last body line repeats that number, which tells whole from damaged.
 *
 * Talks over standard input, one word a line: "stat" prints a JSON line,
 * "reset" forgets, "refuse" (421) and "accept" change the answer to new
 * connections, "away" stops listening (connection refused) and "back" starts again
 * on the same port. Ends when standard input does.
 *
 * usage: smtpsink PORT [CAPACITY]      (0: any port; it prints the one it got)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_MAX (256U << 10)
#define KEEP_MAX 2048U /* an unfinished command line, or the tail of content */
#define TAIL_KEEP 64U  /* of content: the marker line and the dot fit in */
#define IDS_MAX 16U

struct conn {
    int fd;
    bool in_content;
    bool content_began;
    bool is_signed;
    unsigned ids;
    unsigned keep;
    uint32_t id[IDS_MAX];
    char kept[KEEP_MAX];
};

struct sink {
    int epoll, listener;
    bool is_refusing;
    uint8_t *seen;
    uint32_t capacity;
    uint64_t messages, unique, duplicates, unknown, damaged, with_signature, connections, bytes;
    uint64_t refused; /* connections, with 421 */
    double first_at, last_at, called_at;
    uint16_t port;
    char in[KEEP_MAX + READ_MAX];
    char out[16U << 10];
    size_t out_len;
};

static struct sink sink;

static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static double cpu_s(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

static void say(const char *text)
{
    size_t len = strlen(text);

    if (sink.out_len + len <= sizeof(sink.out)) {
        memcpy(sink.out + sink.out_len, text, len);
        sink.out_len += len;
    }
}

static void count_one(uint32_t id)
{
    if (id >= sink.capacity)
        sink.unknown++;
    else if (sink.seen[id])
        sink.duplicates++;
    else
        sink.unique++;
    if (id < sink.capacity)
        sink.seen[id] = 1;
}

/* The line before the dot is "end 0000000123": ours, whole, and not another's. */
static bool is_whole(const char *dot, size_t before, uint32_t id)
{
    char want[32];
    int len = snprintf(want, sizeof(want), "end %010u", id);

    return before >= (size_t)len && memcmp(dot - len, want, (size_t)len) == 0;
}

static void content_ended(struct conn *conn, const char *dot, size_t before)
{
    unsigned i;

    sink.messages++;
    sink.last_at = now_s();
    if (sink.messages == 1)
        sink.first_at = sink.last_at;
    if (conn->is_signed)
        sink.with_signature++;
    for (i = 0; i < conn->ids; i++) {
        count_one(conn->id[i]);
        if (!is_whole(dot, before, conn->id[i]))
            sink.damaged++;
    }
    conn->ids = 0;
    conn->in_content = false;
    say("250 2.0.0 Ok\r\n");
}

/* Take content up to its dot; returns how many bytes were taken. */
static size_t take_content(struct conn *conn, const char *at, size_t len)
{
    size_t scan = len < 4096 ? len : 4096;
    const char *dot;

    if (!conn->content_began) {
        conn->content_began = true;
        conn->is_signed = memmem(at, scan, "DKIM-Signature:", 15) != NULL;
    }
    dot = memmem(at, len, "\r\n.\r\n", 5);
    if (!dot) {
        int on = 1;

        /* A sender that waits for our acknowledgement must not wait 40 ms. */
        setsockopt(conn->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
        return len > TAIL_KEEP ? len - TAIL_KEEP : 0;
    }
    content_ended(conn, dot, (size_t)(dot - at));
    return (size_t)(dot - at) + 5;
}

static void take_recipient(struct conn *conn, const char *line)
{
    const char *at = strchr(line, '<');

    if (at && conn->ids < IDS_MAX) /* smtp-source writes <123@..., we <u123@... */
        conn->id[conn->ids++] = (uint32_t)strtoul(at + 1 + (at[1] == 'u'), NULL, 10);
    else
        sink.unknown++;
    say("250 2.1.5 Ok\r\n");
}

/* Returns false when the connection is to be closed. */
static bool take_line(struct conn *conn, const char *line)
{
    if (strncasecmp(line, "EHLO", 4) == 0) {
        say("250-sink.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n"
            "250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n");
    } else if (strncasecmp(line, "MAIL", 4) == 0 || strncasecmp(line, "RSET", 4) == 0) {
        conn->ids = 0;
        say("250 2.1.0 Ok\r\n");
    } else if (strncasecmp(line, "RCPT", 4) == 0) {
        take_recipient(conn, line);
    } else if (strncasecmp(line, "DATA", 4) == 0) {
        conn->in_content = true;
        conn->content_began = false;
        say("354 End data with <CR><LF>.<CR><LF>\r\n");
    } else if (strncasecmp(line, "QUIT", 4) == 0) {
        say("221 2.0.0 Bye\r\n");
        return false;
    } else {
        say(strncasecmp(line, "HELO", 4) == 0 || strncasecmp(line, "NOOP", 4) == 0
                ? "250 Ok\r\n"
                : "500 5.5.2 What?\r\n");
    }
    return true;
}

static void conn_close(struct conn *conn)
{
    close(conn->fd);
    free(conn);
}

static bool flush_out(struct conn *conn)
{
    size_t len = sink.out_len;

    sink.out_len = 0;
    return len == 0 || send(conn->fd, sink.out, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void conn_readable(struct conn *conn)
{
    size_t used = 0, have = conn->keep;
    bool goes_on = true;
    ssize_t got;

    memcpy(sink.in, conn->kept, conn->keep);
    got = recv(conn->fd, sink.in + have, READ_MAX, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            conn_close(conn);
        return;
    }
    have += (size_t)got;
    sink.bytes += (uint64_t)got;
    while (goes_on && used < have) {
        if (conn->in_content) {
            size_t took = take_content(conn, sink.in + used, have - used);

            used += took;
            if (conn->in_content)
                break;
        } else {
            char *end = memchr(sink.in + used, '\n', have - used);

            if (!end)
                break;
            *end = '\0';
            goes_on = take_line(conn, sink.in + used);
            used = (size_t)(end - sink.in) + 1;
        }
    }
    conn->keep = (unsigned)(have - used);
    if (!flush_out(conn) || !goes_on || conn->keep > KEEP_MAX) {
        conn_close(conn);
        return;
    }
    memcpy(conn->kept, sink.in + used, conn->keep);
}

static void accept_one(void)
{
    int fd = accept4(sink.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
    struct epoll_event ev = { .events = EPOLLIN };
    struct conn *conn;

    if (fd < 0)
        return;
    if (sink.called_at == 0)
        sink.called_at = now_s();
    if (sink.is_refusing) {
        sink.refused++;
        send(fd, "421 4.3.2 Not now\r\n", 19, MSG_NOSIGNAL);
        close(fd);
        return;
    }
    conn = malloc(sizeof(*conn));
    if (!conn)
        abort();
    memset(conn, 0, offsetof(struct conn, id));
    conn->fd = fd;
    ev.data.ptr = conn;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sink.connections++;
    if (send(fd, "220 sink.test ESMTP\r\n", 21, MSG_NOSIGNAL) != 21 ||
        epoll_ctl(sink.epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
        conn_close(conn);
}

static void print_stat(void)
{
    printf("{\"messages\": %lu, \"unique\": %lu, \"duplicates\": %lu, \"unknown\": %lu, "
           "\"damaged\": %lu, \"signed\": %lu, \"connections\": %lu, \"bytes\": %lu, "
           "\"refused\": %lu, \"called_at\": %.6f, \"first_at\": %.6f, \"last_at\": %.6f, "
           "\"cpu_s\": %.6f}\n",
           sink.messages, sink.unique, sink.duplicates, sink.unknown, sink.damaged,
           sink.with_signature, sink.connections, sink.bytes, sink.refused, sink.called_at,
           sink.first_at, sink.last_at, cpu_s());
    fflush(stdout);
}

static void reset(void)
{
    memset(sink.seen, 0, sink.capacity);
    sink.messages = sink.unique = sink.duplicates = sink.unknown = sink.damaged = 0;
    sink.with_signature = sink.connections = sink.bytes = 0;
    sink.refused = 0;
    sink.first_at = sink.last_at = sink.called_at = 0;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    socklen_t len = sizeof(addr);

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(fd, 1024) != 0) {
        fprintf(stderr, "smtpsink: cannot listen on 127.0.0.1:%u: %s\n", port, strerror(errno));
        exit(1);
    }
    getsockname(fd, (struct sockaddr *)&addr, &len);
    sink.port = ntohs(addr.sin_port);
    return fd;
}

static void watch(int fd, void *ptr)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = ptr };

    epoll_ctl(sink.epoll, EPOLL_CTL_ADD, fd, &ev);
}

static char on_listener, on_input;

static void come_back(void)
{
    if (sink.listener >= 0)
        return;
    sink.listener = listen_on(sink.port);
    watch(sink.listener, &on_listener);
}

static void go_away(void)
{
    if (sink.listener >= 0)
        close(sink.listener);
    sink.listener = -1;
}

static bool take_word(void)
{
    char word[256];
    ssize_t got = read(STDIN_FILENO, word, sizeof(word) - 1);

    if (got <= 0)
        return false;
    word[got] = '\0';
    if (strncmp(word, "reset", 5) == 0)
        reset();
    if (strncmp(word, "refuse", 6) == 0)
        sink.is_refusing = true;
    if (strncmp(word, "accept", 6) == 0)
        sink.is_refusing = false;
    if (strncmp(word, "away", 4) == 0)
        go_away();
    if (strncmp(word, "back", 4) == 0)
        come_back();
    print_stat();
    return true;
}

int main(int argc, char **argv)
{
    struct epoll_event events[64];
    int count, i;

    if (argc < 2) {
        fprintf(stderr, "usage: smtpsink PORT [CAPACITY]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    sink.capacity = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000000U;
    sink.seen = calloc(sink.capacity, 1);
    sink.epoll = epoll_create1(EPOLL_CLOEXEC);
    sink.listener = -1;
    sink.port = (uint16_t)strtoul(argv[1], NULL, 10);
    come_back();
    printf("%u\n", sink.port);
    fflush(stdout);
    watch(STDIN_FILENO, &on_input);
    for (;;) {
        count = epoll_wait(sink.epoll, events, 64, -1);
        for (i = 0; i < count; i++) {
            if (events[i].data.ptr == &on_listener)
                accept_one();
            else if (events[i].data.ptr != &on_input)
                conn_readable(events[i].data.ptr);
            else if (!take_word())
                return 0;
        }
    }
}
