/*
 * smtp_play.h - a driver for the server machine that writes down what happens.
 *
 * The transcript has each reply line as it was sent and each event as one line
 * in brackets, in order; pieces of content are joined. It does not depend on
 * how the input was cut: tests and the fuzz target compare transcripts.
 */
#ifndef WAYPOST_TESTS_SMTP_PLAY_H
#define WAYPOST_TESTS_SMTP_PLAY_H

#include "relay/smtp/server.h"

struct play {
    struct smtp_server *server;
    struct buf transcript;
    struct buf content; /* of the message that is arriving, or of the last one */
    struct buf wire;    /* output that was not fetched, with `keep_wire` */
    bool in_content, keep_wire;
    bool starts_tls; /* STARTTLS is answered 220 rather than 454 */
    bool refuses_data;
    bool closed; /* QUIT or CLOSE came */
    unsigned messages;
    uint64_t now_ms;
};

static inline struct smtp_server_options play_options(void)
{
    return (struct smtp_server_options){
        .hostname = STR("mx.test"),
        .exts = EXT_PIPELINING | EXT_SIZE | EXT_ENHANCEDSTATUSCODES | EXT_8BITMIME | EXT_DSN |
                EXT_CHUNKING | EXT_SMTPUTF8,
        .starttls = true,
        .mechanisms = MECHANISM_PLAIN | MECHANISM_LOGIN,
        .size_max = 1000,
        .line_max = 2048,
        .recipients_max = 3,
        .errors_max = 5,
        .command_timeout_ms = 300000,
        .data_timeout_ms = 60000,
        .data_rate_min = 100,
    };
}

static inline void play_end_content(struct play *play)
{
    if (play->in_content)
        buf_cstr(&play->transcript, "]\n");
    play->in_content = false;
}

static inline void play_drain(struct play *play)
{
    struct str out = smtp_server_output(play->server);

    if (out.len == 0)
        return;
    play_end_content(play);
    buf_str(&play->transcript, out);
    if (play->keep_wire)
        buf_str(&play->wire, out);
    smtp_server_sent(play->server, out.len);
}

static inline void play_init(struct play *play, const struct smtp_server_options *options)
{
    *play = (struct play){ .server = smtp_server_new(options, 0) };
    buf_init(&play->transcript, (size_t)256 * 1024 * 1024);
    buf_init(&play->content, (size_t)256 * 1024 * 1024);
    buf_init(&play->wire, (size_t)256 * 1024 * 1024);
    smtp_server_greet(play->server, NULL);
    play_drain(play);
}

static inline void play_clear(struct play *play)
{
    smtp_server_free(&play->server);
    buf_clear(&play->transcript);
    buf_clear(&play->content);
    buf_clear(&play->wire);
}

static inline void play_say(struct play *play, unsigned code, struct status status)
{
    struct reply reply;

    reply_set(&reply, code, status, "driver");
    smtp_server_answer(play->server, &reply);
}

static inline void play_ehlo(struct play *play, const struct smtp_server_event *event)
{
    buf_printf(&play->transcript, "[%s " STR_FMT "]\n", event->is_esmtp ? "EHLO" : "HELO",
               STR_ARG(event->helo));
    play_say(play, 250, STATUS(2, 0, 0));
}

static inline void play_starttls(struct play *play)
{
    buf_cstr(&play->transcript, "[STARTTLS]\n");
    play_say(play, play->starts_tls ? 220 : 454,
             play->starts_tls ? STATUS(2, 0, 0) : STATUS(4, 7, 0));
}

/* PLAIN takes "AGEAYg==" ("\0a\0b"); LOGIN asks twice. */
static inline void play_auth(struct play *play, const struct smtp_server_event *event)
{
    buf_printf(&play->transcript, "[AUTH%s %d %d " STR_FMT "%s]\n",
               event->kind == SMTP_SERVER_AUTH ? "" : "_MORE", (int)event->mechanism,
               event->has_initial, STR_ARG(event->bytes), event->cancelled ? " cancelled" : "");
    if (event->cancelled)
        return;
    if (event->kind == SMTP_SERVER_AUTH && !event->has_initial) {
        smtp_server_challenge(play->server, STR(""));
    } else if (str_eq(event->bytes, STR("bW9yZQ=="))) {
        smtp_server_challenge(play->server, STR("UGFzc3dvcmQ6"));
    } else if (str_eq(event->bytes, STR("AGEAYg=="))) {
        smtp_server_authenticated(play->server);
        play_say(play, 235, STATUS(2, 7, 0));
    } else {
        play_say(play, 535, STATUS(5, 7, 8));
    }
}

static inline void play_mail(struct play *play, const struct smtp_server_event *event)
{
    buf_printf(
        &play->transcript, "[MAIL " STR_FMT "@" STR_FMT " %llu%s%s %d " STR_FMT " " STR_FMT "]\n",
        STR_ARG(event->addr.local), STR_ARG(event->addr.domain), (unsigned long long)event->size,
        event->body_8bit ? " 8bit" : "", event->smtputf8 ? " utf8" : "", (int)event->ret,
        STR_ARG(event->envid), STR_ARG(event->auth_sender));
    if (str_eq(event->addr.local, STR("bad")))
        play_say(play, 550, STATUS(5, 7, 1));
    else
        play_say(play, 250, STATUS(2, 1, 0));
}

static inline void play_rcpt(struct play *play, const struct smtp_server_event *event)
{
    buf_printf(&play->transcript, "[RCPT " STR_FMT "@" STR_FMT " %d " STR_FMT "]\n",
               STR_ARG(event->addr.local), STR_ARG(event->addr.domain), event->notify,
               STR_ARG(event->orcpt));
    if (str_eq(event->addr.local, STR("bad")))
        play_say(play, 550, STATUS(5, 1, 1));
    else if (str_eq(event->addr.local, STR("later")))
        play_say(play, 450, STATUS(4, 2, 1));
    else
        play_say(play, 250, STATUS(2, 1, 5));
}

static inline void play_data(struct play *play, const struct smtp_server_event *event)
{
    buf_printf(&play->transcript, "[DATA%s]\n", event->is_bdat ? " by BDAT" : "");
    buf_reset(&play->content);
    if (play->refuses_data)
        play_say(play, 451, STATUS(4, 3, 0));
    else
        play_say(play, 354, STATUS(0, 0, 0));
}

static inline void play_content(struct play *play, struct str bytes)
{
    if (!play->in_content)
        buf_cstr(&play->transcript, "[CONTENT ");
    play->in_content = true;
    buf_str(&play->transcript, bytes);
    buf_str(&play->content, bytes);
}

static inline void play_end(struct play *play, const struct smtp_server_event *event)
{
    buf_printf(&play->transcript, "[END%s%s%s]\n", event->has_8bit ? " 8bit" : "",
               event->has_long_line ? " long" : "", event->lacks_final_crlf ? " open" : "");
    if (event->refusal) {
        smtp_server_answer(play->server, event->refusal);
        return;
    }
    play->messages++;
    play_say(play, 250, STATUS(2, 0, 0));
}

static inline void play_event(struct play *play, const struct smtp_server_event *event)
{
    switch (event->kind) {
    case SMTP_SERVER_EHLO:
        play_ehlo(play, event);
        return;
    case SMTP_SERVER_STARTTLS:
        play_starttls(play);
        return;
    case SMTP_SERVER_AUTH:
    case SMTP_SERVER_AUTH_MORE:
        play_auth(play, event);
        return;
    case SMTP_SERVER_MAIL:
        play_mail(play, event);
        return;
    case SMTP_SERVER_RCPT:
        play_rcpt(play, event);
        return;
    case SMTP_SERVER_DATA:
        play_data(play, event);
        return;
    case SMTP_SERVER_CONTENT:
        return;
    case SMTP_SERVER_END:
        play_end(play, event);
        return;
    case SMTP_SERVER_RESET:
        buf_cstr(&play->transcript, "[RESET]\n");
        return;
    case SMTP_SERVER_QUIT:
        buf_cstr(&play->transcript, "[QUIT]\n");
        play->closed = true;
        return;
    case SMTP_SERVER_CLOSE:
        buf_printf(&play->transcript, "[CLOSE " STR_FMT "]\n", STR_ARG(event->why));
        play->closed = true;
        return;
    }
}

/* False when nothing is left to do: no event, and no output that held events up. */
static inline bool play_next(struct play *play)
{
    struct smtp_server_event event;
    bool has_event = smtp_server_next(play->server, play->now_ms, &event);

    bool wrote = smtp_server_output(play->server).len > 0;
    play_drain(play); /* replies that were written before this event */
    if (!has_event)
        return wrote;
    if (event.kind == SMTP_SERVER_CONTENT) { /* its octets outlive sent() */
        play_content(play, event.bytes);
        return true;
    }
    play_end_content(play);
    play_event(play, &event);
    return true;
}

static inline void play_pump(struct play *play)
{
    while (play_next(play))
        ;
}

static inline size_t play_feed(struct play *play, struct str in)
{
    size_t fed = 0, took;

    do {
        took = smtp_server_feed(play->server, str_from(in, fed), play->now_ms);
        fed += took;
        play_pump(play);
    } while (took > 0 && fed < in.len);
    return fed;
}

#endif
