/*
 * server_impl.h - the inside of the server machine, for its own files only.
 *
 * server.c        feeding, phases, answers, deadlines, the end of a session
 * server_cmd.c    one row and one function per command
 * server_auth.c   STARTTLS and AUTH
 * server_param.c  the parameters of MAIL and RCPT
 * server_content.c  DATA and BDAT
 */
#ifndef WAYPOST_SMTP_SERVER_IMPL_H
#define WAYPOST_SMTP_SERVER_IMPL_H

#include "relay/smtp/line.h"
#include "relay/smtp/server.h"

#define SERVER_AUTH_LINE_MAX 12288 /* RFC 4954 4.3, CRLF included */
/* Room for the longest line; content is taken in steps of it. What else has come waits
 * in the stream. */
#define SERVER_IN_MAX ((size_t)16 * 1024)

/* GREET -> COMMAND -> AUTH | TLS | DATA | BDAT | SWALLOW -> COMMAND;  any -> CLOSED. */
enum server_phase {
    SERVER_GREET,   /* our greeting is owed; whatever comes waits */
    SERVER_COMMAND, /* between or inside command lines */
    SERVER_AUTH,    /* a challenge was written, its response line is awaited */
    SERVER_TLS,     /* STARTTLS was answered 220, the handshake runs */
    SERVER_DATA,    /* content up to the lone dot */
    SERVER_BDAT,    /* `chunk_left` octets of a chunk, wanted */
    SERVER_SWALLOW, /* `chunk_left` octets of a chunk, to be dropped; then `held` is said */
    SERVER_CLOSED,  /* nothing is read any more */
};

enum server_step { SERVER_WAIT, SERVER_AGAIN, SERVER_EVENT };

struct smtp_server {
    struct smtp_server_options options;
    enum server_phase phase;
    struct buf in, out;
    struct buf line;  /* the command that events point into */
    struct buf piece; /* decoded content that a CONTENT event points into */
    size_t used;      /* octets of `in` that the last event points at, to drop at the next call */
    size_t scanned;   /* see line_next */
    bool skipping, line_is_auth;

    bool owes; /* an answer to `owed` */
    enum smtp_server_event_kind owed;
    bool tell_reset, tell_close; /* events to come before anything else */
    bool shutting;
    struct str why; /* of CLOSE, a constant */

    bool tls_active, greeted_back /* EHLO or HELO was accepted */, authenticated;
    bool is_esmtp; /* of the EHLO that is owed an answer */
    unsigned errors, idle_commands;

    /* the transaction */
    bool mail, smtputf8;
    unsigned recipients;
    bool bdat; /* a chunk was taken: no other way to send content now */

    /* the content */
    struct line_content content;
    uint64_t content_octets; /* as delivered, or beyond the limit as counted */
    bool too_big;
    uint64_t chunk_left, chunk_size;
    bool chunk_last, is_bdat_owed /* DATA's answer is about a chunk */;
    struct reply refusal; /* what END carries */
    struct reply held;    /* said when a refused chunk was swallowed */

    /* clock: `since` and `content_since` start at the next call that knows the time when asked to */
    uint64_t now_ms, since_ms, content_since_ms, phase_octets;
    bool stamp, stamp_content;
};

/* ---- server.c ---- */
void smtp_server_say(struct smtp_server *server, const struct reply *reply); /* counts refusals */
void smtp_server_refuse(struct smtp_server *server, unsigned code, struct status status,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Writes a last reply and ends the session; `why` is a constant. */
void smtp_server_close(struct smtp_server *server, unsigned code, struct status status,
                       const char *why);
void smtp_server_end_transaction(struct smtp_server *server, bool tell);
void smtp_server_drop_input(struct smtp_server *server, size_t len);
enum server_step smtp_server_owe(struct smtp_server *server, struct smtp_server_event *event,
                                 enum smtp_server_event_kind kind);
/* The next line into server->line. LINE_MORE: wait. */
enum line_got smtp_server_line(struct smtp_server *server, size_t max);

/* ---- server_cmd.c ---- */
typedef enum server_step smtp_server_command_fn(struct smtp_server *server, struct str args,
                                                struct smtp_server_event *event);
enum server_step smtp_server_command(struct smtp_server *server, struct smtp_server_event *event);
/* A refusal that needs no event. */
enum server_step smtp_server_no(struct smtp_server *server, unsigned code, struct status status,
                                const char *text);
enum server_step smtp_server_no_args(struct smtp_server *server);
void smtp_server_answer_ehlo(struct smtp_server *server, const struct reply *reply);

/* ---- server_auth.c ---- */
smtp_server_command_fn smtp_server_starttls, smtp_server_auth;
bool smtp_server_offers_auth(const struct smtp_server *server);
/* The client's line in an exchange. */
enum server_step smtp_server_auth_line(struct smtp_server *server, struct smtp_server_event *event);

/* ---- server_param.c ---- */
/* Reads the path and parameters of MAIL or RCPT into the event; false: refused, and said so. */
bool smtp_server_mail_args(struct smtp_server *server, struct str args,
                           struct smtp_server_event *event);
bool smtp_server_rcpt_args(struct smtp_server *server, struct str args,
                           struct smtp_server_event *event);

/* ---- server_content.c ---- */
enum server_step smtp_server_data(struct smtp_server *server, struct smtp_server_event *event);
enum server_step smtp_server_bdat(struct smtp_server *server, struct smtp_server_event *event);
enum server_step smtp_server_swallow(struct smtp_server *server, struct smtp_server_event *event);
enum server_step smtp_server_begin_chunk(struct smtp_server *server, uint64_t size, bool is_last,
                                         const struct reply *refusal,
                                         struct smtp_server_event *event);
void smtp_server_answer_data(struct smtp_server *server, const struct reply *reply);
void smtp_server_answer_end(struct smtp_server *server, const struct reply *reply);

#endif
