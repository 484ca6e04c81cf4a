/*
 * sendmail_session.c - -bs: SMTP on standard input and output.
 *
 * While the relay runs the caller talks to the relay itself: its socket is
 * spliced to the two descriptors, so it is the same server, and its 250 means what
 * it means everywhere. While it does not run, the same server machine runs here and
 * puts each message into the drop folder; its 250 comes after the sync. In both an
 * input that ends within a message leaves nothing behind.
 */
#include "relay/cli/sendmail.h"

#include "relay/base/clock.h"
#include "relay/smtp/server.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE ((size_t)64 * 1024)
#define ERRORS_MAX 20

/* ---- the relay runs ---- */

/* One direction: read when nothing waits to be written, so that neither side's
 * silence stops the other. */
struct half {
    int from, to;
    struct buf waiting;
    bool is_over; /* nothing more comes */
};

/* A pipe with room takes this much without blocking. */
#define WRITE_MAX ((size_t)4096)

static void half_read(struct half *half)
{
    char *to = buf_reserve(&half->waiting, PIECE);
    ssize_t got = read(half->from, to, PIECE);

    if (got > 0)
        buf_commit(&half->waiting, (size_t)got);
    else if (got == 0 || (errno != EINTR && errno != EAGAIN))
        half->is_over = true;
}

/* False: nobody takes it any more. */
static bool half_write(struct half *half)
{
    struct str piece = str_head(buf_view(&half->waiting), WRITE_MAX);
    ssize_t done = write(half->to, piece.at, piece.len);

    if (done > 0)
        buf_consume(&half->waiting, (size_t)done);
    return done >= 0 || errno == EINTR || errno == EAGAIN;
}

static void half_poll(const struct half *half, struct pollfd out[2])
{
    bool wants_more = half->waiting.len == 0 && !half->is_over;

    out[0] = (struct pollfd){ .fd = wants_more ? half->from : -1, .events = POLLIN };
    out[1] = (struct pollfd){ .fd = half->waiting.len > 0 ? half->to : -1, .events = POLLOUT };
}

/* False: it cannot go on. */
static bool half_turn(struct half *half, const struct pollfd polls[2])
{
    if (polls[0].revents)
        half_read(half);
    return !polls[1].revents || half_write(half);
}

static int splice_both(int relay)
{
    struct half up = { .from = STDIN_FILENO, .to = relay };
    struct half down = { .from = relay, .to = STDOUT_FILENO };
    struct pollfd polls[4];
    bool is_open = true, is_shut = false;

    buf_init(&up.waiting, 2 * PIECE);
    buf_init(&down.waiting, 2 * PIECE);
    (void)signal(SIGPIPE, SIG_IGN);
    while (is_open && !(down.is_over && down.waiting.len == 0)) {
        half_poll(&up, &polls[0]);
        half_poll(&down, &polls[2]);
        if (poll(polls, 4, -1) < 0 && errno != EINTR)
            break;
        is_open = half_turn(&down, &polls[2]);
        /* A relay that is gone has said why: that is still to be read. */
        if (!half_turn(&up, &polls[0])) {
            up.is_over = true;
            buf_reset(&up.waiting);
        }
        if (up.is_over && up.waiting.len == 0 && !is_shut) {
            (void)shutdown(relay, SHUT_WR);
            is_shut = true;
        }
    }
    buf_clear(&up.waiting);
    buf_clear(&down.waiting);
    close(relay);
    return EX_OK;
}

/* ---- the relay does not run ---- */

static bool write_all(int fd, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t done = write(fd, bytes.at, bytes.len);
        if (done < 0 && errno != EINTR)
            return false;
        if (done > 0)
            bytes = str_from(bytes, (size_t)done);
    }
    return true;
}

struct local {
    const struct sendmail_wish *wish;
    const struct conf *conf;
    struct smtp_server *machine;
    const char *why;
    struct buf lines; /* of the transaction: MAIL and RCPTs */
    struct sendmail_drop *drop;
    struct fault fault;
    bool is_over;
};

static void reset(struct local *local)
{
    sendmail_drop_abort(&local->drop);
    buf_reset(&local->lines);
}

static void answer(struct local *local, unsigned code, struct status status, const char *text)
{
    struct reply reply;

    reply_set(&reply, code, status, "%s", text);
    smtp_server_answer(local->machine, &reply);
}

static struct str path_of(const struct addr *addr, char *out, size_t size)
{
    bool has_domain = addr->domain.len > 0;
    int len = snprintf(out, size, STR_FMT "%s" STR_FMT, STR_ARG(addr->local), has_domain ? "@" : "",
                       STR_ARG(addr->domain));

    return str_make(out, (size_t)len);
}

/* False: it was refused, as the relay would refuse it later. */
static bool is_canonical(struct local *local, const struct addr *addr, struct status status)
{
    struct buf text;
    struct fault why;
    enum err rc = ERR_OK;

    buf_init(&text, (size_t)2 * ADDR_MAX);
    if (!addr_is_null(addr))
        rc = addr_canonical(addr, &text, &why);
    buf_clear(&text);
    if (rc)
        answer(local, 553, status, why.text);
    return rc == ERR_OK;
}

static void keep_mail(struct local *local, const struct smtp_server_event *event)
{
    char path[ADDR_MAX + 8];
    struct sendmail_wish wish = { .body_8bit = event->body_8bit,
                                  .smtputf8 = event->smtputf8,
                                  .ret = event->ret,
                                  .envid = STR_EMPTY };
    struct sendmail_message message = { .sender = path_of(&event->addr, path, sizeof(path)) };

    reset(local);
    if (!is_canonical(local, &event->addr, STATUS(5, 1, 7)))
        return;
    sendmail_mail_line(&wish, &message, &local->lines);
    if (event->envid.len) { /* xtext already */
        local->lines.len -= 2;
        buf_printf(&local->lines, " ENVID=" STR_FMT "\r\n", STR_ARG(event->envid));
    }
    answer(local, 250, STATUS(2, 1, 0), "Sender ok");
}

static void keep_recipient(struct local *local, const struct smtp_server_event *event)
{
    char path[ADDR_MAX + 8];
    struct sendmail_wish wish = { .notify = event->notify };

    if (!is_canonical(local, &event->addr, STATUS(5, 1, 3)))
        return;
    sendmail_rcpt_line(&wish, path_of(&event->addr, path, sizeof(path)), &local->lines);
    if (event->orcpt.len) {
        local->lines.len -= 2;
        buf_printf(&local->lines, " ORCPT=" STR_FMT "\r\n", STR_ARG(event->orcpt));
    }
    answer(local, 250, STATUS(2, 1, 5), "Recipient ok");
}

static void begin(struct local *local)
{
    if (local->lines.overflowed)
        (void)fault_set(&local->fault, ERR_LIMIT, "the recipients are too many");
    if (local->lines.overflowed ||
        sendmail_drop_open(local->conf, 0, local->why, &local->drop, &local->fault)) {
        answer(local, 451, STATUS(4, 3, 0), local->fault.text);
        return;
    }
    sendmail_drop_say(local->drop, buf_view(&local->lines));
    sendmail_drop_say(local->drop, STR("DATA\r\n"));
    answer(local, 354, STATUS(0, 0, 0), "Send the message, end it with a dot on a line by itself");
}

static void finish(struct local *local, const struct smtp_server_event *event)
{
    if (event->refusal) {
        struct reply refusal = *event->refusal;
        reset(local);
        smtp_server_answer(local->machine, &refusal);
        return;
    }
    if (sendmail_drop_commit(&local->drop, &local->fault))
        answer(local, 451, STATUS(4, 3, 0), local->fault.text);
    else
        answer(local, 250, STATUS(2, 0, 0), "kept until the relay runs");
    reset(local);
}

static void handle(struct local *local, const struct smtp_server_event *event)
{
    switch (event->kind) {
    case SMTP_SERVER_EHLO:
        reset(local);
        answer(local, 250, STATUS(2, 0, 0), "localhost");
        break;
    case SMTP_SERVER_MAIL:
        keep_mail(local, event);
        break;
    case SMTP_SERVER_RCPT:
        keep_recipient(local, event);
        break;
    case SMTP_SERVER_DATA:
        begin(local);
        break;
    case SMTP_SERVER_CONTENT:
        if (local->drop)
            sendmail_drop_content(local->drop, event->bytes);
        break;
    case SMTP_SERVER_END:
        finish(local, event);
        break;
    case SMTP_SERVER_RESET:
        reset(local);
        break;
    case SMTP_SERVER_QUIT:
    case SMTP_SERVER_CLOSE:
        local->is_over = true;
        break;
    case SMTP_SERVER_STARTTLS:
    case SMTP_SERVER_AUTH:
    case SMTP_SERVER_AUTH_MORE:
        break; /* not offered */
    }
}

/* False: standard output is gone. The machine pauses while much output waits: so
 * it is asked again after each write. */
static bool serve_events(struct local *local)
{
    struct smtp_server_event event;
    struct str out;

    do {
        while (!local->is_over && smtp_server_next(local->machine, clock_mono_ms(), &event))
            handle(local, &event);
        out = smtp_server_output(local->machine);
        if (!write_all(STDOUT_FILENO, out))
            return false;
        smtp_server_sent(local->machine, out.len);
    } while (out.len > 0);
    return true;
}

static void serve(struct local *local)
{
    char *piece = mem_alloc(PIECE);

    while (serve_events(local) && !local->is_over) {
        ssize_t got = read(STDIN_FILENO, piece, PIECE);
        struct str in = str_make(piece, got > 0 ? (size_t)got : 0);
        if (got == 0 || (got < 0 && errno != EINTR))
            break;
        while (in.len > 0 && !local->is_over) {
            size_t used = smtp_server_feed(local->machine, in, clock_mono_ms());
            in = str_from(in, used);
            if (!serve_events(local))
                local->is_over = true;
        }
    }
    free(piece);
}

static int serve_locally(const struct sendmail_wish *wish, const struct conf *conf, const char *why)
{
    char host[256] = "localhost";
    struct local local = { .wish = wish, .conf = conf, .why = why };
    struct smtp_server_options options = {
        .exts = EXT_PIPELINING | EXT_SIZE | EXT_ENHANCEDSTATUSCODES | EXT_8BITMIME | EXT_DSN |
                EXT_SMTPUTF8,
        .size_max = conf->limits.message_size,
        .line_max = 2048,
        .bare_addresses = true,
        .recipients_max = ENVELOPE_SENDMAIL_MAX,
        .errors_max = ERRORS_MAX,
        .command_timeout_ms = UINT64_MAX / 4,
        .data_timeout_ms = UINT64_MAX / 4,
    };

    (void)gethostname(host, sizeof(host) - 1);
    options.hostname = str_of(host);
    buf_init(&local.lines, (size_t)ENVELOPE_SENDMAIL_MAX * 512);
    local.machine = smtp_server_new(&options, clock_mono_ms());
    smtp_server_greet(local.machine, NULL);
    serve(&local);
    reset(&local);
    buf_clear(&local.lines);
    smtp_server_free(&local.machine);
    return EX_OK;
}

int sendmail_session(const struct sendmail_wish *wish, const struct conf *conf)
{
    struct sendmail_fault fault = { .trouble = TROUBLE_NONE };
    struct fault why;
    int relay = -1;

    (void)fault_set(&why, ERR_REFUSED, "the relay has no socket for sendmail");
    if (conf->sendmail.socket.len)
        relay = sendmail_connect(conf->sendmail.socket.at, &why);
    if (relay >= 0)
        return splice_both(relay);
    if (conf->sendmail.drop.len)
        return serve_locally(wish, conf, why.text);
    sendmail_fail(&fault, TROUBLE_NOT_TAKEN, "%s", why.text);
    return sendmail_say(wish, &fault);
}
