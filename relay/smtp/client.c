/*
 * client.c - the frame of the client machine: bytes in and out, the clock,
 * the order of events, and the ways a session ends.
 */
#include "relay/smtp/client_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define IN_MAX ((size_t)16 * 1024)
#define OUT_KEPT ((size_t)1024) /* while a reply is awaited: room for commands, not for content */
#define OUT_MAX (SIZE_MAX / 4)  /* the driver's content: it looks at SMTP_CLIENT_HIGH */
#define CHUNK_MAX ((size_t)96 * 1024)
#define QUIT_MS 10000 /* the mail is settled: no reason to wait long for a goodbye */

struct smtp_client *smtp_client_new(const struct smtp_client_options *options, uint64_t now_ms)
{
    struct smtp_client *client = mem_alloc(sizeof(*client));

    client->options = *options;
    client->helo = str_dup(options->helo);
    client->tls_active = options->tls_active;
    client->now_ms = client->since_ms = now_ms;
    client->last_stage = STAGE_BANNER;
    client->runs[0] = (struct client_run){ CLIENT_WAIT_BANNER, 1 };
    client->run_count = 1;
    buf_init(&client->in, IN_MAX);
    buf_init(&client->out, OUT_MAX);
    buf_init(&client->chunk, CHUNK_MAX);
    return client;
}

void smtp_client_free(struct smtp_client **client)
{
    if (!*client)
        return;
    buf_clear(&(*client)->in);
    buf_clear(&(*client)->out);
    buf_clear(&(*client)->chunk);
    free((*client)->refusal);
    free((*client)->helo);
    free(*client);
    *client = NULL;
}

/* ---- the clock ---- */

static void tick(struct smtp_client *client, uint64_t now_ms)
{
    client->now_ms = now_ms;
    if (client->stamp)
        client->since_ms = now_ms;
    client->stamp = false;
}

enum client_wait smtp_client_head(const struct smtp_client *client) { return client->runs[0].kind; }

/* How long what we wait for may take; UINT64_MAX: we wait for nobody but ourselves. */
static uint64_t patience(const struct smtp_client *client)
{
    const struct smtp_client_timeouts *timeouts = &client->options.timeouts;

    if (client->run_count == 0)
        return client->out.len > 0 ? timeouts->data_ms : UINT64_MAX;
    switch (smtp_client_head(client)) {
    case CLIENT_WAIT_BANNER:
        return timeouts->banner_ms;
    case CLIENT_WAIT_DATA:
        return timeouts->data_ms;
    case CLIENT_WAIT_CHUNK:
    case CLIENT_WAIT_CONTENT:
        if (client->out.len > 0)
            return timeouts->data_ms;
        return client->by_bdat || client->ended ? timeouts->end_of_data_ms : UINT64_MAX;
    case CLIENT_WAIT_DOT:
    case CLIENT_WAIT_SILENT:
        return timeouts->end_of_data_ms;
    case CLIENT_WAIT_QUIT:
        return timeouts->command_ms < QUIT_MS ? timeouts->command_ms : QUIT_MS;
    case CLIENT_WAIT_EHLO:
    case CLIENT_WAIT_HELO:
    case CLIENT_WAIT_STARTTLS:
    case CLIENT_WAIT_AUTH:
    case CLIENT_WAIT_MAIL:
    case CLIENT_WAIT_RCPT:
    case CLIENT_WAIT_RSET:
    case CLIENT_WAIT_CLEAR:
        return timeouts->command_ms;
    }
    return timeouts->command_ms;
}

uint64_t smtp_client_deadline(const struct smtp_client *client)
{
    uint64_t since = client->stamp ? client->now_ms : client->since_ms;

    if (client->dead || client->eof || client->awaits_tls)
        return UINT64_MAX;
    uint64_t span = patience(client);
    return span > UINT64_MAX - since ? UINT64_MAX : since + span;
}

void smtp_client_timeout(struct smtp_client *client, uint64_t now_ms)
{
    tick(client, now_ms);
    if (now_ms < smtp_client_deadline(client))
        return;
    if (client->run_count > 0 && smtp_client_head(client) == CLIENT_WAIT_QUIT) {
        client->dead = client->tell_quit = true;
        return;
    }
    const char *what = client->out.len > 0  ? "the server does not read what is sent"
                       : client->in.len > 0 ? "the server began a reply and did not end it"
                                            : "no reply";
    smtp_client_fail(client, ERR_TIMEOUT, NULL, "%s within %llu s", what,
                     (unsigned long long)patience(client) / 1000);
}

/* ---- bytes ---- */

size_t smtp_client_feed(struct smtp_client *client, struct str in, uint64_t now_ms)
{
    tick(client, now_ms);
    if (client->dead || client->awaits_tls)
        return 0;
    size_t room = client->in.max - client->in.len;
    size_t len = in.len < room ? in.len : room;
    buf_append(&client->in, in.at, len);
    return len;
}

struct str smtp_client_output(const struct smtp_client *client) { return buf_view(&client->out); }

void smtp_client_sent(struct smtp_client *client, size_t len, uint64_t now_ms)
{
    tick(client, now_ms);
    if (len > client->out.len)
        len = client->out.len;
    if (len == 0)
        return;
    buf_consume(&client->out, len);
    if (client->out.len == 0 && client->out.cap > OUT_KEPT)
        buf_clear(&client->out);
    client->octets_sent += len;
    client->since_ms = now_ms; /* the server took something: it is alive */
    if (client->wants_room && client->out.len <= SMTP_CLIENT_LOW) {
        client->wants_room = false;
        client->tell_room = client->sending;
    }
}

void smtp_client_closed(struct smtp_client *client) { client->eof = true; }

/* ---- events ---- */

void smtp_client_fail(struct smtp_client *client, enum err err, const struct reply *reply,
                      const char *format, ...)
{
    va_list args;

    if (client->dead)
        return;
    va_start(args, format);
    vsnprintf(client->words, sizeof(client->words), format, args);
    va_end(args);
    client->fault = err;
    client->fault_stage = smtp_client_stage(client);
    client->fault_reply = reply;
    client->dead = client->tell_fault = true;
    client->sending = client->tell_go = client->tell_room = false;
}

static bool tell_fault(struct smtp_client *client, struct smtp_client_event *event)
{
    client->tell_fault = false;
    client->transaction = client->follower = NULL;
    event->kind = SMTP_CLIENT_FAULT;
    event->err = client->fault;
    event->stage = client->fault_stage;
    event->words = str_of(client->words);
    event->reply = client->fault_reply;
    return true;
}

const struct reply *smtp_client_refusal(const struct smtp_client *client)
{
    static const struct reply none;

    return client->refusal ? client->refusal : &none;
}

static bool tell_over(struct smtp_client *client, struct smtp_client_event *event)
{
    client->tell_over = false;
    client->transaction = NULL;
    client->needs_rset = client->mail_accepted;
    event->kind = SMTP_CLIENT_DATA;
    event->reply = smtp_client_refusal(client);
    return true;
}

static bool tell_plain(bool *flag, enum smtp_client_event_kind kind,
                       struct smtp_client_event *event)
{
    if (!*flag)
        return false;
    *flag = false;
    event->kind = kind;
    return true;
}

/* What earlier replies caused goes before anything new is read. */
static bool tell_pending(struct smtp_client *client, struct smtp_client_event *event)
{
    if (client->tell_over)
        return tell_over(client, event);
    if (tell_plain(&client->tell_go, SMTP_CLIENT_GO, event))
        return true;
    if (client->tell_fault)
        return tell_fault(client, event);
    return tell_plain(&client->tell_quit, SMTP_CLIENT_QUIT, event) ||
           tell_plain(&client->tell_room, SMTP_CLIENT_ROOM, event);
}

static void judge_end(struct smtp_client *client)
{
    for (size_t i = 0; i < client->run_count; i++) {
        if (client->runs[i].kind == CLIENT_WAIT_QUIT) {
            client->dead = client->tell_quit = true;
            return;
        }
    }
    /* A server that drops us after EHLO said why in its reply to EHLO. */
    bool after_ehlo = client->run_count > 0 && smtp_client_head(client) == CLIENT_WAIT_HELO;
    smtp_client_fail(client, ERR_CLOSED, after_ehlo ? smtp_client_refusal(client) : NULL,
                     client->in.len > 0 ? "the server closed the connection within a reply"
                                        : "the server closed the connection");
}

bool smtp_client_next(struct smtp_client *client, uint64_t now_ms,
                      struct smtp_client_event *out_event)
{
    tick(client, now_ms);
    memset(out_event, 0, sizeof(*out_event));
    if (tell_pending(client, out_event))
        return true;
    if (client->dead)
        return false;
    if (smtp_client_read(client, out_event))
        return true;
    if (client->eof && !client->dead)
        judge_end(client);
    memset(out_event, 0,
           sizeof(*out_event)); /* a reply that was not told may have left its marks */
    return tell_pending(client, out_event);
}

/* ---- facts ---- */

const struct ext_offer *smtp_client_offer(const struct smtp_client *client)
{
    return &client->offer;
}

bool smtp_client_is_esmtp(const struct smtp_client *client) { return client->is_esmtp; }

enum stage smtp_client_stage(const struct smtp_client *client)
{
    if (client->dead && client->fault)
        return client->fault_stage;
    if (client->awaits_tls)
        return STAGE_TLS;
    if (client->run_count > 0)
        return smtp_client_wait_stage(client, smtp_client_head(client));
    return client->sending ? STAGE_DATA : client->last_stage;
}

bool smtp_client_content_sent(const struct smtp_client *client)
{
    return client->ended && client->octets_sent >= client->end_mark;
}

uint64_t smtp_client_sent_behind(const struct smtp_client *client)
{
    return smtp_client_content_sent(client) ? client->octets_sent - client->end_mark : 0;
}

bool smtp_client_follows(const struct smtp_client *client)
{
    return client->transaction && !client->dead && !client->tell_fault;
}

bool smtp_client_is_usable(const struct smtp_client *client)
{
    return !client->dead && !client->eof && !client->tell_fault && client->transaction == NULL;
}
