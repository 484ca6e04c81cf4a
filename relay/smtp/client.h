/*
 * client.h - the client's side of an SMTP session, without I/O (RFC 5321).
 *
 * Pull style, like server.h: feed() octets from the server, next() an event,
 * say the next verb, send output(), arm deadline(). Verbs queue output; the
 * machine pairs replies with commands in order, so that PIPELINING needs
 * nothing from the driver.
 *
 * A transaction: begin() sends MAIL, RCPT..., DATA (or BDAT), pipelined when
 * offered; then body() pieces when CLIENT_GO came; then body_end(). With
 * CHUNKING the content goes by BDAT, else by DATA with dots stuffed.
 */
#ifndef WAYPOST_SMTP_CLIENT_H
#define WAYPOST_SMTP_CLIENT_H

#include "relay/mail/envelope.h"
#include "relay/mail/reply.h"
#include "relay/smtp/ext.h"

struct smtp_client_timeouts { /* RFC 5321 4.5.3.2 */
    uint64_t banner_ms;       /* 5 min: also EHLO, STARTTLS, AUTH use command_ms */
    uint64_t command_ms;      /* 5 min: MAIL, RCPT, and the rest */
    uint64_t data_ms;         /* 2 min for 354; 3 min between accepted blocks of content */
    uint64_t end_of_data_ms;  /* 10 min */
};

struct smtp_client_options {
    struct str helo; /* name or address literal we present */
    struct smtp_client_timeouts timeouts;
    bool tls_active; /* implicit TLS */
};

struct smtp_client_transaction {
    struct str sender; /* canonical, empty: null */
    const struct recipient *const *recipients;
    size_t recipient_count;   /* at least 1 */
    uint64_t size;            /* octets of content, for SIZE= */
    bool body_8bit, smtputf8; /* only if offered (the driver checked) */
    enum envelope_ret ret;
    struct str envid;
};

enum smtp_client_event_kind {
    SMTP_CLIENT_BANNER, /* reply; positive: say ehlo() */
    SMTP_CLIENT_EHLO, /* reply, offer is filled; EHLO refused with 5xx: HELO was tried by itself */
    SMTP_CLIENT_STARTTLS,  /* reply; positive: start TLS, then tls_started(), then ehlo() again */
    SMTP_CLIENT_CHALLENGE, /* 334: `bytes` is its base64 text; say auth_respond() or auth_cancel() */
    SMTP_CLIENT_AUTH,      /* final reply to AUTH */
    SMTP_CLIENT_MAIL,      /* reply */
    SMTP_CLIENT_RCPT,      /* reply, for recipients[index]; none comes after a refused MAIL */
    SMTP_CLIENT_GO, /* send content: body()..., body_end(). Comes only with a recipient accepted */
    SMTP_CLIENT_ROOM,    /* output drained below its mark: more body() is welcome */
    SMTP_CLIENT_DATA,    /* DATA was refused, or MAIL or all recipients were: the transaction is
                         over. `reply`: DATA's refusal, else the last one */
    SMTP_CLIENT_CONTENT, /* final reply to the content: the transaction is over */
    SMTP_CLIENT_RSET,    /* reply */
    SMTP_CLIENT_QUIT,    /* reply, or the connection may be closed now */
    SMTP_CLIENT_FAULT,   /* the server broke the protocol, was too slow or left: `err`, `stage`,
                          `words`; `reply` when it said why (421), else NULL; session is dead */
};

struct smtp_client_event {
    enum smtp_client_event_kind kind;
    const struct reply *reply; /* valid until the next call of next() or a verb */
    size_t index;
    struct str bytes;
    enum err err;     /* FAULT: ERR_TIMEOUT, ERR_INVALID, ERR_LIMIT, ERR_CLOSED */
    enum stage stage; /* FAULT: where it was */
    struct str words; /* FAULT: in words */
};

struct smtp_client;

struct smtp_client *smtp_client_new(const struct smtp_client_options *options, uint64_t now_ms);
void smtp_client_free(struct smtp_client **client);

size_t smtp_client_feed(struct smtp_client *client, struct str in, uint64_t now_ms);
bool smtp_client_next(struct smtp_client *client, uint64_t now_ms,
                      struct smtp_client_event *out_event);

void smtp_client_ehlo(struct smtp_client *client);
void smtp_client_starttls(struct smtp_client *client);
void smtp_client_tls_started(struct smtp_client *client); /* leftover plaintext: FAULT */
void smtp_client_auth(struct smtp_client *client, enum mechanism mechanism,
                      const struct str *initial_base64);
void smtp_client_auth_respond(struct smtp_client *client, struct str base64);
void smtp_client_auth_cancel(struct smtp_client *client);

/* The transaction (and what it points to) must stay until its last event. */
void smtp_client_begin(struct smtp_client *client,
                       const struct smtp_client_transaction *transaction);
/* A piece of canonical content (CRLF text, no dots stuffed). Takes all; look at
 * output() and wait for SMTP_CLIENT_ROOM when it is over SMTP_CLIENT_HIGH. */
void smtp_client_body(struct smtp_client *client, struct str piece);
void smtp_client_body_end(struct smtp_client *client);
/* The next transaction behind the end of the content, in the same pipeline (RFC
 * 2920 3.1): its events come behind the CONTENT event of the present one, without
 * another begin(). False: not now, and nothing was said. */
bool smtp_client_follow(struct smtp_client *client,
                        const struct smtp_client_transaction *transaction);
/* Behind the CONTENT event: the one that followed is under way. */
bool smtp_client_follows(const struct smtp_client *client);
#define SMTP_CLIENT_HIGH ((size_t)32 * 1024)
#define SMTP_CLIENT_LOW ((size_t)16 * 1024)

void smtp_client_rset(struct smtp_client *client);
void smtp_client_quit(struct smtp_client *client);

struct str smtp_client_output(const struct smtp_client *client);
void smtp_client_sent(struct smtp_client *client, size_t len, uint64_t now_ms);

uint64_t smtp_client_deadline(const struct smtp_client *client); /* UINT64_MAX: none */
void smtp_client_timeout(struct smtp_client *client, uint64_t now_ms);
/* The connection ended: gives a last FAULT (or QUIT) event. */
void smtp_client_closed(struct smtp_client *client);

const struct ext_offer *smtp_client_offer(const struct smtp_client *client);
/* Between transactions of a session that is alive: another may begin. After a
 * reply 421, or one that came before the content was sent, it is not. */
bool smtp_client_is_usable(const struct smtp_client *client);
bool smtp_client_is_esmtp(const struct smtp_client *client);
enum stage smtp_client_stage(const struct smtp_client *client); /* what is being waited for */
bool smtp_client_content_sent(
    const struct smtp_client *client); /* end-of-data was written in this transaction */
/* What was written behind it. */
uint64_t smtp_client_sent_behind(const struct smtp_client *client);

#endif
