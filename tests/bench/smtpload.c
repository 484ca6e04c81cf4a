/*
 * smtpload.c - the client of the bench: submits messages as fast as it is let.
 *
 * C connections work through N messages, one or many messages on each
 * connection, in clear or with STARTTLS and AUTH PLAIN. Each message has its
 * number in the recipient (u123@...) and in its last body line, so that the sink
 * can tell lost, doubled and damaged ones. Every TLS handshake is a full one:
 * no session is kept. Certificates are not judged.
 *
 * A round trip costs one write and one read, so that the relay is measured and
 * not this program; its own CPU time is printed for the reader to judge that.
 *
 * usage: smtpload [-c CONNECTIONS] [-n MESSAGES] [-l BYTES] [-m PER_CONNECTION]
 *                 [-s] [-u USER -w PASSWORD] [-p] [-t THREADS] [-f SENDER]
 *                 [-d SECONDS] [-D DOMAINS] [-F FIRST] [-b] PORT
 *   -m 0: no end to a connection's messages    -s: STARTTLS
 *   -p: MAIL, RCPT and DATA in one write        -d: give up after so long
 *   -D: message 123 goes to u123@d3.sink.test when there are 10 domains
 *   -b: BDAT in place of DATA (not with -p)
 *   -F: the number of the first message
 *
 * Prints one JSON line. Exit 0 when every message got its 250.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
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

#define REPLY_MAX 4096U
#define NUMBER_DIGITS 10U
#define TROUBLE_MAX 1000U /* then the run is worthless: stop */

/* CLOSED -> BANNER -> EHLO [-> STARTTLS -> HANDSHAKE -> EHLO]
 * [-> AUTH] -> MAIL -> RCPT -> DATA -> CONTENT -> MAIL | QUIT -> CLOSED */
enum step {
    STEP_CLOSED,
    STEP_BANNER,
    STEP_EHLO,
    STEP_STARTTLS,
    STEP_HANDSHAKE,
    STEP_AUTH,
    STEP_MAIL,
    STEP_RCPT,
    STEP_DATA,
    STEP_CONTENT, /* all of it is written, the reply is owed */
    STEP_QUIT,
};

struct conn {
    int fd;
    enum step step;
    bool is_encrypted;
    bool wants_write;
    unsigned pipelined; /* replies still owed to commands that went ahead */
    uint32_t number;
    uint32_t done_here;
    uint64_t began_ns;
    SSL *ssl;
    size_t in_len;
    size_t out_len, out_at;
    char in[REPLY_MAX];
    char *out;
};

struct work {
    pthread_t thread;
    int epoll;
    uint32_t open;
    struct conn *conns;
    uint32_t conn_count;
};

static struct {
    uint16_t port;
    uint32_t connections, messages, size, per_connection, threads, seconds, domains, first;
    bool with_tls, with_pipelining, with_bdat;
    const char *user, *password, *sender;
    char auth_line[512];
    SSL_CTX *tls;
    char *content;
    size_t content_len;
    size_t id_at, end_at; /* where the number goes */
    uint64_t *latency_ns;
    uint64_t deadline_ns;
} load = { .connections = 20,
           .messages = 1000,
           .size = 10240,
           .per_connection = 1,
           .threads = 1,
           .seconds = 300,
           .sender = "bench@bench.test" };

static atomic_uint next_number, accepted, refused, troubles, handshakes;
static atomic_ullong last_250_ns;

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static void complain(const struct conn *conn, const char *what)
{
    unsigned before = atomic_fetch_add(&troubles, 1);

    if (before < 5)
        fprintf(stderr, "smtpload: step %d: %s\n", (int)conn->step, what);
}

/* ---- the message ---- */

static void make_content(void)
{
    static const char line[] =
        "The quick brown fox jumps over the lazy dog, and 1234567890 other words.\r\n";
    char head[1024];
    char *at;
    int len = snprintf(head, sizeof(head),
                       "From: Bench <%s>\r\nTo: Somebody <somebody@sink.test>\r\n"
                       "Subject: a message of the bench, neither long nor short\r\n"
                       "Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
                       "Message-ID: <0000000000.%u@bench.test>\r\n"
                       "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n",
                       load.sender, (unsigned)getpid());

    load.content = malloc(load.size + sizeof(head) + 256);
    at = load.content;
    memcpy(at, head, (size_t)len);
    load.id_at = (size_t)(strstr(head, "<0000000000.") + 1 - head);
    at += len;
    while ((size_t)(at - load.content) + sizeof(line) + 16 < load.size) {
        memcpy(at, line, sizeof(line) - 1);
        at += sizeof(line) - 1;
    }
    memcpy(at, "end ", 4);
    load.end_at = (size_t)(at + 4 - load.content);
    memcpy(at + 4, "0000000000\r\n.\r\n", 15);
    load.content_len = load.end_at + 15;
}

static void put_number(char *at, uint32_t number)
{
    unsigned i;

    for (i = NUMBER_DIGITS; i > 0; i--) {
        at[i - 1] = (char)('0' + number % 10);
        number /= 10;
    }
}

static void make_auth_line(void)
{
    unsigned char plain[256];
    int len = snprintf((char *)plain, sizeof(plain), "%c%s%c%s", 0, load.user, 0, load.password);

    memcpy(load.auth_line, "AUTH PLAIN ", 11);
    EVP_EncodeBlock((unsigned char *)load.auth_line + 11, plain, len);
    strcat(load.auth_line, "\r\n");
}

/* ---- bytes ---- */

static void watch(struct work *work, struct conn *conn, bool for_write, int op)
{
    struct epoll_event ev = { .events = for_write ? EPOLLIN | EPOLLOUT : EPOLLIN,
                              .data.ptr = conn };

    conn->wants_write = for_write;
    epoll_ctl(work->epoll, op, conn->fd, &ev);
}

/* Returns 1: all written; 0: later; -1: the connection is gone. */
static int flush(struct work *work, struct conn *conn)
{
    while (conn->out_at < conn->out_len) {
        size_t left = conn->out_len - conn->out_at;
        ssize_t put;

        if (conn->is_encrypted) {
            int rc = SSL_write(conn->ssl, conn->out + conn->out_at, (int)left);

            put = rc > 0 ? rc : SSL_get_error(conn->ssl, rc) == SSL_ERROR_WANT_WRITE ? 0 : -1;
        } else {
            put = send(conn->fd, conn->out + conn->out_at, left, MSG_NOSIGNAL);
            if (put < 0 && errno == EAGAIN)
                put = 0;
        }
        if (put < 0)
            return -1;
        if (put == 0) {
            if (!conn->wants_write)
                watch(work, conn, true, EPOLL_CTL_MOD);
            return 0;
        }
        conn->out_at += (size_t)put;
    }
    conn->out_at = conn->out_len = 0;
    if (conn->wants_write)
        watch(work, conn, false, EPOLL_CTL_MOD);
    return 1;
}

static void put_text(struct conn *conn, const char *text)
{
    size_t len = strlen(text);

    memcpy(conn->out + conn->out_len, text, len);
    conn->out_len += len;
}

static ssize_t receive(struct conn *conn)
{
    size_t room = sizeof(conn->in) - conn->in_len;
    ssize_t got;

    if (!conn->is_encrypted) {
        got = recv(conn->fd, conn->in + conn->in_len, room, 0);
        return got < 0 && errno == EAGAIN ? 0 : got > 0 ? got : -1;
    }
    got = SSL_read(conn->ssl, conn->in + conn->in_len, (int)room);
    if (got > 0)
        return got;
    return SSL_get_error(conn->ssl, (int)got) == SSL_ERROR_WANT_READ ? 0 : -1;
}

/* ---- the dialogue ---- */

static void end_connection(struct work *work, struct conn *conn)
{
    if (conn->ssl) {
        SSL_free(conn->ssl);
        conn->ssl = NULL;
    }
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->step = STEP_CLOSED;
    work->open--;
}

static bool take_number(struct conn *conn)
{
    uint32_t number = atomic_fetch_add(&next_number, 1);

    if (number >= load.messages)
        return false;
    conn->number = load.first + number;
    return true;
}

static void print_recipient(char *out, size_t size, uint32_t number)
{
    if (load.domains > 0)
        snprintf(out, size, "RCPT TO:<u%u@d%u.sink.test>\r\n", number, number % load.domains);
    else
        snprintf(out, size, "RCPT TO:<u%u@sink.test>\r\n", number);
}

static void say_envelope(struct conn *conn)
{
    char text[512];

    if (conn->done_here > 0)
        conn->began_ns = now_ns();
    snprintf(text, sizeof(text), "MAIL FROM:<%s>\r\n", load.sender);
    put_text(conn, text);
    conn->step = STEP_MAIL;
    if (!load.with_pipelining)
        return;
    print_recipient(text, sizeof(text), conn->number);
    put_text(conn, text);
    put_text(conn, "DATA\r\n");
    conn->pipelined = 2;
}

static void say_recipient(struct conn *conn)
{
    char text[64];

    print_recipient(text, sizeof(text), conn->number);
    put_text(conn, text);
}

static void say_content(struct conn *conn)
{
    size_t len = load.content_len - (load.with_bdat ? 3 : 0); /* without the dot */
    char *at = conn->out;

    if (load.with_bdat)
        at += sprintf(at, "BDAT %zu LAST\r\n", len);
    memcpy(at, load.content, len);
    put_number(at + load.id_at, conn->number);
    put_number(at + load.end_at, conn->number);
    conn->out_len = (size_t)(at - conn->out) + len;
}

static void say_quit(struct conn *conn)
{
    conn->step = STEP_QUIT;
    put_text(conn, "QUIT\r\n");
}

static void content_answered(struct conn *conn, int code)
{
    uint64_t now = now_ns();

    if (code / 100 == 2) {
        load.latency_ns[atomic_fetch_add(&accepted, 1)] = now - conn->began_ns;
        atomic_store(&last_250_ns, now);
    } else {
        atomic_fetch_add(&refused, 1);
    }
    conn->done_here++;
    if ((load.per_connection != 0 && conn->done_here >= load.per_connection) || !take_number(conn))
        say_quit(conn);
    else
        say_envelope(conn);
}

static void ehlo_answered(struct conn *conn)
{
    if (load.with_tls && !conn->is_encrypted) {
        conn->step = STEP_STARTTLS;
        put_text(conn, "STARTTLS\r\n");
    } else if (load.user) {
        conn->step = STEP_AUTH;
        put_text(conn, load.auth_line);
    } else {
        say_envelope(conn);
    }
}

static bool begin_handshake(struct conn *conn)
{
    conn->ssl = SSL_new(load.tls);
    if (!conn->ssl || SSL_set_fd(conn->ssl, conn->fd) != 1)
        return false;
    SSL_set_connect_state(conn->ssl);
    conn->step = STEP_HANDSHAKE;
    return true;
}

static void envelope_refused(struct conn *conn, int code)
{
    char text[32];

    snprintf(text, sizeof(text), "answered %d", code);
    complain(conn, text);
    atomic_fetch_add(&refused, 1);
    say_quit(conn);
}

/* One whole reply. Returns false when the connection is over. */
static bool answered(struct conn *conn, int code)
{
    bool good = code / 100 == 2 || (conn->step == STEP_DATA && code == 354);

    if (!good && conn->step != STEP_CONTENT && conn->step != STEP_QUIT) {
        envelope_refused(conn, code);
        return true;
    }
    switch (conn->step) {
    case STEP_BANNER:
        conn->step = STEP_EHLO;
        put_text(conn, "EHLO load.bench.test\r\n");
        return true;
    case STEP_EHLO:
        ehlo_answered(conn);
        return true;
    case STEP_STARTTLS:
        return begin_handshake(conn);
    case STEP_AUTH:
        say_envelope(conn);
        return true;
    case STEP_MAIL:
        conn->step = STEP_RCPT;
        if (conn->pipelined == 0)
            say_recipient(conn);
        return true;
    case STEP_RCPT:
        if (load.with_bdat) {
            conn->step = STEP_CONTENT;
            say_content(conn);
            return true;
        }
        conn->step = STEP_DATA;
        if (conn->pipelined == 0)
            put_text(conn, "DATA\r\n");
        return true;
    case STEP_DATA:
        conn->step = STEP_CONTENT;
        conn->pipelined = 0;
        say_content(conn);
        return true;
    case STEP_CONTENT:
        content_answered(conn, code);
        return true;
    case STEP_QUIT:
    case STEP_CLOSED:
    case STEP_HANDSHAKE:
        return false;
    }
    return false;
}

/* The code of the first whole reply in the input, 0 when there is none. */
static int next_reply(struct conn *conn)
{
    size_t at = 0;

    for (;;) {
        char *end = memchr(conn->in + at, '\n', conn->in_len - at);
        size_t len;

        if (!end)
            return 0;
        len = (size_t)(end - conn->in) + 1 - at;
        if (len < 5 || conn->in[at + 3] != '-') {
            int code = atoi(conn->in + at);

            conn->in_len -= at + len;
            memmove(conn->in, end + 1, conn->in_len);
            return code > 0 ? code : 999;
        }
        at += len;
    }
}

static bool take_replies(struct conn *conn)
{
    int code;

    while ((code = next_reply(conn)) != 0) {
        if (!answered(conn, code))
            return false;
        if (conn->step == STEP_HANDSHAKE)
            return true;
    }
    return true;
}

/* Returns 1: done; 0: later; -1: failed. */
static int go_on_handshake(struct work *work, struct conn *conn)
{
    int rc = SSL_do_handshake(conn->ssl), why;

    if (rc == 1) {
        conn->is_encrypted = true;
        atomic_fetch_add(&handshakes, 1);
        conn->step = STEP_EHLO;
        put_text(conn, "EHLO load.bench.test\r\n");
        return flush(work, conn) < 0 ? -1 : 1;
    }
    why = SSL_get_error(conn->ssl, rc);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static bool go_on(struct work *work, struct conn *conn, uint32_t events)
{
    ssize_t got;
    int rc;

    if (conn->step == STEP_HANDSHAKE) {
        rc = go_on_handshake(work, conn);
        if (rc <= 0)
            return rc == 0;
    }
    if (conn->out_len > 0 && flush(work, conn) < 0)
        return false;
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return true;
    got = receive(conn);
    if (got < 0)
        return false;
    conn->in_len += (size_t)got;
    if (!take_replies(conn))
        return false;
    if (conn->step == STEP_HANDSHAKE)
        return go_on_handshake(work, conn) >= 0;
    return conn->out_len == 0 || flush(work, conn) >= 0;
}

static void begin_connection(struct work *work, struct conn *conn)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(load.port) };
    char *out = conn->out;
    uint32_t number = conn->number;
    int on = 1;

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(conn, 0, offsetof(struct conn, in));
    conn->out = out;
    conn->number = number;
    conn->began_ns = now_ns();
    conn->step = STEP_BANNER; /* on loopback connect() is done at once */
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    work->open++;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(conn->fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 && errno != EINPROGRESS) {
        complain(conn, strerror(errno));
        end_connection(work, conn);
        return;
    }
    watch(work, conn, false, EPOLL_CTL_ADD);
}

static void conn_event(struct work *work, struct conn *conn, uint32_t events)
{
    if (conn->step == STEP_CLOSED || go_on(work, conn, events))
        return;
    if (conn->step != STEP_QUIT)
        complain(conn, "the connection ended early");
    end_connection(work, conn);
    if (atomic_load(&troubles) < TROUBLE_MAX && take_number(conn))
        begin_connection(work, conn);
}

static void *work_run(void *arg)
{
    struct work *work = arg;
    struct epoll_event events[64];
    uint32_t i;

    work->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (i = 0; i < work->conn_count; i++) {
        work->conns[i].fd = -1;
        work->conns[i].out = malloc(load.content_len + 4096);
        if (take_number(&work->conns[i]))
            begin_connection(work, &work->conns[i]);
    }
    while (work->open > 0 && now_ns() < load.deadline_ns) {
        int count = epoll_wait(work->epoll, events, 64, 1000), n;

        for (n = 0; n < count; n++)
            conn_event(work, events[n].data.ptr, events[n].events);
    }
    return NULL;
}

/* ---- start and report ---- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static double percentile_ms(uint32_t count, double share)
{
    uint32_t at = count > 0 ? (uint32_t)((double)(count - 1) * share) : 0;

    return count > 0 ? (double)load.latency_ns[at] / 1e6 : 0;
}

static void report(uint64_t began_ns)
{
    struct rusage use;
    uint32_t count = atomic_load(&accepted);
    uint64_t ended_ns = atomic_load(&last_250_ns);

    qsort(load.latency_ns, count, sizeof(*load.latency_ns), by_value);
    getrusage(RUSAGE_SELF, &use);
    printf("{\"accepted\": %u, \"refused\": %u, \"troubles\": %u, \"handshakes\": %u, "
           "\"began_at\": %.6f, \"ended_at\": %.6f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"max_ms\": %.3f, \"bytes\": %zu, \"cpu_s\": %.6f}\n",
           count, atomic_load(&refused), atomic_load(&troubles), atomic_load(&handshakes),
           (double)began_ns / 1e9, (double)ended_ns / 1e9, percentile_ms(count, 0.5),
           percentile_ms(count, 0.99), percentile_ms(count, 1.0), load.content_len,
           (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
               (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6);
}

static void setup_tls(void)
{
    load.tls = SSL_CTX_new(TLS_client_method());
    if (!load.tls) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_verify(load.tls, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(load.tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(load.tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* A relay that ends without close_notify is not our concern here. */
    SSL_CTX_set_options(load.tls, SSL_OP_IGNORE_UNEXPECTED_EOF);
}

static uint32_t number_of(const char *text) { return (uint32_t)strtoul(text, NULL, 10); }

static void read_options(int argc, char **argv)
{
    int opt;

    while ((opt = getopt(argc, argv, "c:n:l:m:su:w:pt:f:d:D:F:b")) != -1) {
        switch (opt) {
        case 'c':
            load.connections = number_of(optarg);
            break;
        case 'n':
            load.messages = number_of(optarg);
            break;
        case 'l':
            load.size = number_of(optarg);
            break;
        case 'm':
            load.per_connection = number_of(optarg);
            break;
        case 's':
            load.with_tls = true;
            break;
        case 'u':
            load.user = optarg;
            break;
        case 'w':
            load.password = optarg;
            break;
        case 'p':
            load.with_pipelining = true;
            break;
        case 't':
            load.threads = number_of(optarg);
            break;
        case 'f':
            load.sender = optarg;
            break;
        case 'd':
            load.seconds = number_of(optarg);
            break;
        case 'D':
            load.domains = number_of(optarg);
            break;
        case 'b':
            load.with_bdat = true;
            break;
        case 'F':
            load.first = number_of(optarg);
            break;
        default:
            exit(2);
        }
    }
    if (optind >= argc || (load.user && !load.password) || load.threads < 1 ||
        load.connections < load.threads || (load.with_bdat && load.with_pipelining)) {
        fprintf(stderr, "usage: smtpload [options] PORT (see the top of smtpload.c)\n");
        exit(2);
    }
    load.port = (uint16_t)number_of(argv[optind]);
}

int main(int argc, char **argv)
{
    struct work *works;
    uint64_t began_ns;
    uint32_t i;

    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    make_content();
    if (load.with_tls)
        setup_tls();
    if (load.user)
        make_auth_line();
    load.latency_ns = calloc(load.messages + 1U, sizeof(*load.latency_ns));
    works = calloc(load.threads, sizeof(*works));
    began_ns = now_ns();
    load.deadline_ns = began_ns + (uint64_t)load.seconds * 1000000000U;
    for (i = 0; i < load.threads; i++) {
        works[i].conn_count =
            load.connections / load.threads + (i < load.connections % load.threads ? 1U : 0U);
        works[i].conns = calloc(works[i].conn_count, sizeof(*works[i].conns));
        pthread_create(&works[i].thread, NULL, work_run, &works[i]);
    }
    for (i = 0; i < load.threads; i++)
        pthread_join(works[i].thread, NULL);
    report(began_ns);
    return atomic_load(&accepted) == load.messages ? 0 : 1;
}
