/*
 * server.h - the server's side of an SMTP session, without I/O (RFC 5321, 6409).
 *
 * Pull style: feed() bytes from the client, next() an event, answer() it, send
 * output(), arm deadline(). While an answer is owed next() returns nothing, so
 * pipelined commands wait in the bounded input and replies leave together: no
 * command queue, no callbacks, and backpressure is "feed takes nothing more".
 *
 * The machine answers by itself whatever needs no outside knowledge: syntax,
 * sequence, limits, NOOP, HELP, VRFY, EXPN, RSET. Its driver decides who may do what.
 * After STARTTLS was answered with 220, feed() takes nothing until
 * tls_started(); anything left in the input then ends the session with 554.
 */
#ifndef WAYPOST_SMTP_SERVER_H
#define WAYPOST_SMTP_SERVER_H

#include "relay/mail/addr.h"
#include "relay/mail/envelope.h"
#include "relay/mail/reply.h"
#include "relay/smtp/ext.h"

struct smtp_server_options {
    struct str hostname; /* views must outlive the machine */
    unsigned exts;       /* EXT_* to offer; STARTTLS and AUTH follow from the rows below */
    bool starttls;       /* can start TLS */
    bool tls_active;     /* from the first byte */
    bool auth_needs_tls; /* offer and accept AUTH only under TLS */
    bool auth_required;  /* MAIL without AUTH: 530 5.7.0 */
    unsigned mechanisms; /* MECHANISM_* offered; 0: no AUTH */
    uint64_t size_max;   /* octets; 552 above */
    size_t line_max; /* command line, 2048 (RFC 5321's 512 plus extensions); AUTH lines: 12288 */
    bool bare_addresses;     /* MAIL and RCPT without a domain are taken; the driver completes them
                            (<postmaster> always is, as a recipient) */
    unsigned recipients_max; /* then 452 4.5.3 */
    unsigned errors_max;     /* then 421 4.7.0 and close */
    uint64_t command_timeout_ms; /* from the start of a line, or idle between commands */
    uint64_t data_timeout_ms;    /* between pieces of content */
    uint64_t
        data_rate_min; /* octets per second over the whole content, after a grace of data_timeout_ms */
};

enum smtp_server_event_kind {
    SMTP_SERVER_EHLO,      /* answer positive: the machine writes the EHLO response itself */
    SMTP_SERVER_STARTTLS,  /* answer 220 or 454; then the driver starts TLS once output is sent */
    SMTP_SERVER_AUTH,      /* mechanism + initial response: challenge() or answer() 235/535/454 */
    SMTP_SERVER_AUTH_MORE, /* the client's response to a challenge */
    SMTP_SERVER_MAIL,      /* answer 250 or refuse */
    SMTP_SERVER_RCPT,      /* answer 250/251 or refuse */
    SMTP_SERVER_DATA,      /* content is about to come: answer 354 (DATA; for BDAT any positive
                              answer means go on and is not sent) or refuse */
    SMTP_SERVER_CONTENT,   /* a piece of content; needs no answer, valid until the next call */
    SMTP_SERVER_END,       /* end of content: answer 250 or refuse; `refusal` is set when the
                              machine itself found the content unacceptable */
    SMTP_SERVER_RESET, /* transaction is over (RSET, EHLO again, STARTTLS, aborted BDAT): no answer */
    SMTP_SERVER_QUIT,  /* 221 was written: close when output is sent; no answer */
    SMTP_SERVER_CLOSE, /* the machine gave up (errors, timeout, HTTP): close when output is sent */
};

/* Views stay valid until the event is answered; CONTENT's until the next call
 * of any function but output() and the plain facts. */
struct smtp_server_event {
    enum smtp_server_event_kind kind;
    struct str helo;              /* EHLO: name said */
    bool is_esmtp;                /* EHLO rather than HELO */
    enum mechanism mechanism;     /* AUTH */
    bool has_initial;             /* AUTH: an initial response was sent ("=" gives an empty one) */
    struct str bytes;             /* AUTH, AUTH_MORE: the base64 text, secret; CONTENT: octets */
    bool cancelled;               /* AUTH_MORE: "*" (the machine answered 501 itself) */
    struct addr addr;             /* MAIL, RCPT: as written */
    uint64_t size;                /* MAIL: SIZE=, 0: not given */
    bool body_8bit, smtputf8;     /* MAIL */
    enum envelope_ret ret;        /* MAIL */
    struct str envid, orcpt;      /* MAIL, RCPT: xtext as given, syntax checked */
    struct str auth_sender;       /* MAIL: AUTH= (RFC 4954 5), xtext as given */
    uint8_t notify;               /* RCPT */
    bool is_bdat;                 /* DATA */
    bool has_8bit, has_long_line; /* END: what the content had */
    bool lacks_final_crlf;        /* END: BDAT content without CRLF at its end */
    const struct reply *refusal;  /* END: answer this when not NULL (bare CR/LF, NUL, too big) */
    struct str why;               /* CLOSE: for the log */
};

struct smtp_server;

struct smtp_server *smtp_server_new(const struct smtp_server_options *options, uint64_t now_ms);
void smtp_server_free(struct smtp_server **server);

/* The greeting: 220, or a refusal (421, 554) after which the session closes. Once, first. */
void smtp_server_greet(struct smtp_server *server, const struct reply *reply_or_null);

/* Returns how many octets were taken; less than in.len: keep the rest and stop reading. */
size_t smtp_server_feed(struct smtp_server *server, struct str in, uint64_t now_ms);
bool smtp_server_next(struct smtp_server *server, uint64_t now_ms,
                      struct smtp_server_event *out_event);
/* What the last event pointed to is used up, and nothing is asked for a while: gives
 * back the memory that held it. */
void smtp_server_rest(struct smtp_server *server);
void smtp_server_answer(struct smtp_server *server, const struct reply *reply);
/* 334 with this base64 text (may be empty). */
void smtp_server_challenge(struct smtp_server *server, struct str base64);

/* Octets to write; sent() drops them from the front. A client that does not
 * read its replies is not served further: call next() again after sent(). */
struct str smtp_server_output(const struct smtp_server *server);
void smtp_server_sent(struct smtp_server *server, size_t len);

void smtp_server_tls_started(struct smtp_server *server);   /* forgets EHLO, AUTH, transaction */
void smtp_server_authenticated(struct smtp_server *server); /* with the 235 answer */

/* Absolute, on the clock of now_ms; UINT64_MAX: none. While an answer is owed there is none. */
uint64_t smtp_server_deadline(const struct smtp_server *server);
void smtp_server_timeout(struct smtp_server *server, uint64_t now_ms); /* writes 421, then CLOSE */
/* The relay stops: 421 4.3.2 at the next command boundary, then CLOSE. */
void smtp_server_shutdown(struct smtp_server *server);

bool smtp_server_is_idle(const struct smtp_server *server); /* between commands, no transaction */
bool smtp_server_owes_answer(const struct smtp_server *server);
bool smtp_server_wants_input(const struct smtp_server *server);    /* feed would take octets */
unsigned smtp_server_recipients(const struct smtp_server *server); /* accepted so far */
bool smtp_server_is_secure(const struct smtp_server *server);

#endif
