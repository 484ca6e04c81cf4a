/*
 * server.c - the frame of the server machine: bytes in and out, phases,
 * answers, deadlines, and the ways a session ends.
 *
 * What a command means is in server_cmd.c, what content means in
 * server_content.c. Every reply passes smtp_server_say(), which counts
 * refusals, so that no command can forget to.
 */
#include "relay/smtp/server_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define OUT_HIGH ((size_t)16 * 1024) /* a client that does not read its replies gets no more */
#define OUT_MAX ((size_t)1024 * 1024)

struct smtp_server *smtp_server_new(const struct smtp_server_options *options, uint64_t now_ms)
{
    struct smtp_server *server = mem_alloc(sizeof(*server));

    server->options = *options;
    server->phase = SERVER_GREET;
    server->tls_active = options->tls_active;
    server->now_ms = server->since_ms = now_ms;
    buf_init(&server->in, SERVER_IN_MAX);
    buf_init(&server->out, OUT_MAX);
    buf_init(&server->line, SERVER_AUTH_LINE_MAX);
    buf_init(&server->piece, SERVER_IN_MAX + 2);
    return server;
}

void smtp_server_free(struct smtp_server **server)
{
    if (!*server)
        return;
    buf_clear(&(*server)->in);
    buf_clear(&(*server)->out);
    buf_clear(&(*server)->line);
    buf_clear(&(*server)->piece);
    free(*server);
    *server = NULL;
}

/* ---- the clock ---- */

static void tick(struct smtp_server *server, uint64_t now_ms)
{
    server->now_ms = now_ms;
    if (server->stamp)
        server->since_ms = now_ms;
    if (server->stamp_content)
        server->content_since_ms = now_ms;
    server->stamp = server->stamp_content = false;
}

static uint64_t add_ms(uint64_t at, uint64_t span)
{
    return span > UINT64_MAX - at ? UINT64_MAX : at + span;
}

static bool takes_content(const struct smtp_server *server)
{
    return server->phase == SERVER_DATA || server->phase == SERVER_BDAT ||
           server->phase == SERVER_SWALLOW;
}

/* When the octets that came so far stop being enough for the minimum rate. */
static uint64_t rate_deadline(const struct smtp_server *server)
{
    uint64_t rate = server->options.data_rate_min;

    if (rate == 0)
        return UINT64_MAX;
    uint64_t since = server->stamp_content ? server->now_ms : server->content_since_ms;
    uint64_t seconds = server->phase_octets / rate;
    uint64_t earned = seconds > UINT64_MAX / 1000 ? UINT64_MAX : seconds * 1000;
    return add_ms(add_ms(since, server->options.data_timeout_ms), earned);
}

uint64_t smtp_server_deadline(const struct smtp_server *server)
{
    uint64_t since = server->stamp ? server->now_ms : server->since_ms;

    if (server->owes || server->phase == SERVER_GREET || server->phase == SERVER_CLOSED)
        return UINT64_MAX;
    if (!takes_content(server))
        return add_ms(since, server->options.command_timeout_ms);
    uint64_t silent = add_ms(since, server->options.data_timeout_ms);
    uint64_t slow = rate_deadline(server);
    return silent < slow ? silent : slow;
}

void smtp_server_timeout(struct smtp_server *server, uint64_t now_ms)
{
    tick(server, now_ms);
    if (now_ms < smtp_server_deadline(server))
        return;
    if (server->phase == SERVER_TLS) { /* the line belongs to the handshake: nothing can be said */
        server->phase = SERVER_CLOSED;
        server->tell_close = true;
        server->why = STR("timeout before TLS");
        return;
    }
    bool slow = takes_content(server) && now_ms >= rate_deadline(server);
    smtp_server_close(server, 421, STATUS(4, 4, 2), slow ? "content came too slowly" : "timeout");
}

/* ---- bytes ---- */

size_t smtp_server_feed(struct smtp_server *server, struct str in, uint64_t now_ms)
{
    tick(server, now_ms);
    if (!smtp_server_wants_input(server))
        return 0;
    size_t room = server->in.max - server->in.len;
    size_t len = in.len < room ? in.len : room;
    if (len == 0)
        return 0;
    if (takes_content(server) || server->in.len == 0)
        server->since_ms = now_ms;
    if (takes_content(server))
        server->phase_octets += len;
    buf_append(&server->in, in.at, len);
    return len;
}

bool smtp_server_wants_input(const struct smtp_server *server)
{
    return server->phase != SERVER_TLS && server->phase != SERVER_CLOSED &&
           server->out.len <= OUT_HIGH && server->in.len < server->in.max;
}

struct str smtp_server_output(const struct smtp_server *server) { return buf_view(&server->out); }

void smtp_server_sent(struct smtp_server *server, size_t len) { buf_consume(&server->out, len); }

/* Gives memory back: most sessions are idle most of the time, and who stalls within
 * content may do so for minutes. */
void smtp_server_drop_input(struct smtp_server *server, size_t len)
{
    buf_consume(&server->in, len);
    if (server->in.len == 0 && server->in.cap > 4096)
        buf_clear(&server->in);
}

enum line_got smtp_server_line(struct smtp_server *server, size_t max)
{
    struct str line = STR_EMPTY;
    size_t used;
    enum line_got got =
        line_next(buf_view(&server->in), max, &server->skipping, &server->scanned, &line, &used);

    buf_reset(&server->line);
    if (got == LINE_WHOLE || got == LINE_BARE)
        buf_str(&server->line, line);
    smtp_server_drop_input(server, used);
    if (got == LINE_TOO_LONG && server->skipping)
        return LINE_MORE;
    if (got != LINE_MORE)
        server->stamp = true;
    return got;
}

/* ---- replies ---- */

void smtp_server_say(struct smtp_server *server, const struct reply *reply)
{
    if (reply_is_permanent(reply))
        server->errors++;
    reply_wire(reply, &server->out);
    server->stamp = true;
}

void smtp_server_refuse(struct smtp_server *server, unsigned code, struct status status,
                        const char *format, ...)
{
    char text[512];
    struct reply reply;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    reply_set(&reply, code, status, "%s", text);
    smtp_server_say(server, &reply);
}

void smtp_server_close(struct smtp_server *server, unsigned code, struct status status,
                       const char *why)
{
    struct reply reply;

    reply_set(&reply, code, status, STR_FMT " closing connection: %s",
              STR_ARG(server->options.hostname), why);
    smtp_server_say(server, &reply);
    server->phase = SERVER_CLOSED;
    server->owes = false;
    server->tell_close = true;
    server->why = str_of(why);
}

void smtp_server_greet(struct smtp_server *server, const struct reply *reply_or_null)
{
    struct reply greeting;

    if (server->phase != SERVER_GREET)
        return;
    reply_set(&greeting, 220, STATUS(0, 0, 0), STR_FMT " ESMTP waypost",
              STR_ARG(server->options.hostname));
    const struct reply *reply = reply_or_null ? reply_or_null : &greeting;
    smtp_server_say(server, reply);
    server->phase = SERVER_COMMAND;
    if (!reply_is_positive(reply)) {
        server->phase = SERVER_CLOSED;
        server->tell_close = true;
        server->why = STR("refused at the greeting");
    }
}

/* ---- the transaction ---- */

void smtp_server_end_transaction(struct smtp_server *server, bool tell)
{
    if (server->mail && tell)
        server->tell_reset = true;
    server->mail = server->smtputf8 = server->bdat = false;
    server->recipients = 0;
    server->too_big = false;
    server->content_octets = 0;
    buf_clear(&server->piece);
}

enum server_step smtp_server_owe(struct smtp_server *server, struct smtp_server_event *event,
                                 enum smtp_server_event_kind kind)
{
    event->kind = kind;
    server->owes = true;
    server->owed = kind;
    return SERVER_EVENT;
}

/* ---- events ---- */

static enum server_step step_wait(struct smtp_server *server, struct smtp_server_event *event)
{
    (void)server;
    (void)event;
    return SERVER_WAIT;
}

/* A command may be read only while the session has not used up our patience. */
static enum server_step step_command(struct smtp_server *server, struct smtp_server_event *event)
{
    if (server->shutting) {
        smtp_server_close(server, 421, STATUS(4, 3, 2), "the server is shutting down");
        return SERVER_AGAIN;
    }
    if (server->options.errors_max && server->errors >= server->options.errors_max) {
        smtp_server_close(server, 421, STATUS(4, 7, 0), "too many errors");
        return SERVER_AGAIN;
    }
    return smtp_server_command(server, event);
}

typedef enum server_step step_fn(struct smtp_server *server, struct smtp_server_event *event);

static step_fn *const steps[] = {
    [SERVER_GREET] = step_wait,
    [SERVER_COMMAND] = step_command,
    [SERVER_AUTH] = smtp_server_auth_line,
    [SERVER_TLS] = step_wait,
    [SERVER_DATA] = smtp_server_data,
    [SERVER_BDAT] = smtp_server_bdat,
    [SERVER_SWALLOW] = smtp_server_swallow,
    [SERVER_CLOSED] = step_wait,
};

/* Events that were caused by something already answered. */
static bool tell_left_over(struct smtp_server *server, struct smtp_server_event *event)
{
    if (server->tell_reset) {
        server->tell_reset = false;
        event->kind = SMTP_SERVER_RESET;
        return true;
    }
    if (server->tell_close) {
        server->tell_close = false;
        event->kind = SMTP_SERVER_CLOSE;
        event->why = server->why;
        return true;
    }
    return false;
}

static void drop_used(struct smtp_server *server)
{
    if (server->used)
        smtp_server_drop_input(server, server->used);
    server->used = 0;
}

void smtp_server_rest(struct smtp_server *server)
{
    drop_used(server);
    buf_clear(&server->piece);
}

bool smtp_server_next(struct smtp_server *server, uint64_t now_ms,
                      struct smtp_server_event *out_event)
{
    enum server_step step;

    tick(server, now_ms);
    drop_used(server);
    do {
        /* again for each command: a refused one leaves its parameters behind */
        memset(out_event, 0, sizeof(*out_event));
        if (!server->owes && tell_left_over(server, out_event))
            return true;
        if (server->owes || server->out.len > OUT_HIGH)
            return false;
        step = steps[server->phase](server, out_event);
        tick(server, now_ms);
    } while (step == SERVER_AGAIN);
    return step == SERVER_EVENT;
}

/* ---- answers ---- */

static void answer_plain(struct smtp_server *server, const struct reply *reply)
{
    smtp_server_say(server, reply);
}

/* Anything that came behind the STARTTLS line was sent in clear and may have
 * been put there by somebody else: it must not survive into TLS. */
static void answer_starttls(struct smtp_server *server, const struct reply *reply)
{
    if (!reply_is_positive(reply)) {
        smtp_server_say(server, reply);
        return;
    }
    if (server->in.len > 0) {
        smtp_server_close(server, 554, STATUS(5, 5, 0), "plaintext behind STARTTLS");
        return;
    }
    smtp_server_say(server, reply);
    server->phase = SERVER_TLS;
}

static void answer_mail(struct smtp_server *server, const struct reply *reply)
{
    server->mail = reply_is_positive(reply);
    smtp_server_say(server, reply);
}

static void answer_rcpt(struct smtp_server *server, const struct reply *reply)
{
    server->recipients += reply_is_positive(reply);
    smtp_server_say(server, reply);
}

typedef void answer_fn(struct smtp_server *server, const struct reply *reply);

static answer_fn *const answers[] = {
    [SMTP_SERVER_EHLO] = smtp_server_answer_ehlo,
    [SMTP_SERVER_STARTTLS] = answer_starttls,
    [SMTP_SERVER_AUTH] = answer_plain,
    [SMTP_SERVER_AUTH_MORE] = answer_plain,
    [SMTP_SERVER_MAIL] = answer_mail,
    [SMTP_SERVER_RCPT] = answer_rcpt,
    [SMTP_SERVER_DATA] = smtp_server_answer_data,
    [SMTP_SERVER_END] = smtp_server_answer_end,
};

void smtp_server_answer(struct smtp_server *server, const struct reply *reply)
{
    if (!server->owes)
        return;
    server->owes = false;
    answers[server->owed](server, reply);
}

void smtp_server_challenge(struct smtp_server *server, struct str base64)
{
    if (!server->owes ||
        (server->owed != SMTP_SERVER_AUTH && server->owed != SMTP_SERVER_AUTH_MORE))
        return;
    server->owes = false;
    server->phase = SERVER_AUTH;
    server->stamp = true;
    buf_printf(&server->out, "334 " STR_FMT "\r\n", STR_ARG(base64));
}

void smtp_server_authenticated(struct smtp_server *server) { server->authenticated = true; }

void smtp_server_tls_started(struct smtp_server *server)
{
    if (server->phase != SERVER_TLS)
        return;
    server->phase = SERVER_COMMAND;
    server->tls_active = true;
    server->greeted_back = server->authenticated = false;
    smtp_server_end_transaction(server, true);
    server->stamp = true;
    if (server->in.len > 0)
        smtp_server_close(server, 554, STATUS(5, 5, 0), "plaintext behind STARTTLS");
}

void smtp_server_shutdown(struct smtp_server *server) { server->shutting = true; }

/* ---- facts ---- */

bool smtp_server_is_idle(const struct smtp_server *server)
{
    return server->phase == SERVER_COMMAND && !server->owes && !server->mail && server->in.len == 0;
}

bool smtp_server_owes_answer(const struct smtp_server *server) { return server->owes; }

unsigned smtp_server_recipients(const struct smtp_server *server) { return server->recipients; }

bool smtp_server_is_secure(const struct smtp_server *server) { return server->tls_active; }
