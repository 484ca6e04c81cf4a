/*
 * envelope.h - reverse-path, recipients, SMTP parameters and arrival facts.
 *
 * Plain values, no behaviour beyond copying. An envelope is built by ingress,
 * completed by intake, written by queue/record, read by egress. All text lives
 * in one arena, the envelope's own.
 */
#ifndef WAYPOST_MAIL_ENVELOPE_H
#define WAYPOST_MAIL_ENVELOPE_H

#include "relay/base/arena.h"
#include "relay/base/msgid.h"
#include "relay/base/verdict.h"

#define ENVELOPE_SENDMAIL_MAX 50000 /* recipients of one message of sendmail(1), however it comes */

/* RFC 3461 NOTIFY; 0: not given (failures, and delays if we like) */
enum {
    NOTIFY_NEVER = 1 << 0,
    NOTIFY_SUCCESS = 1 << 1,
    NOTIFY_FAILURE = 1 << 2,
    NOTIFY_DELAY = 1 << 3,
};

enum envelope_ret { RET_UNSET, RET_FULL, RET_HDRS }; /* RFC 3461 RET */

enum {
    ENVELOPE_SMTPUTF8 = 1 << 0,    /* asked for at MAIL (RFC 6531) */
    ENVELOPE_8BITMIME = 1 << 1,    /* BODY=8BITMIME said, or 8-bit bytes seen in the body */
    ENVELOPE_UTF8_NEEDED = 1 << 2, /* an address or a header field really needs SMTPUTF8 */
    ENVELOPE_HAS_8BIT = 1 << 3,    /* the body really has bytes over 127 */
    ENVELOPE_TLS = 1 << 4,         /* arrived over TLS */
    ENVELOPE_DSN = 1 << 5,         /* it is a report of our own making */
    ENVELOPE_LOCAL_SENDER =
        1 << 6, /* the reverse-path was a name of this machine, without a domain */
};

/* QUEUED -> DELIVERED | FAILED, and QUEUED <-> HELD. Settled ones are kept in
 * the record until the message's last recipient is settled. */
#define RECIPIENT_STATE_MAP(X)                                                                     \
    X(QUEUED, "queued") /* waits for `due_at` or is being attempted */                             \
    X(HELD, "held")     /* an operator holds it */                                                 \
    X(DELIVERED, "delivered")                                                                      \
    X(FAILED, "failed")
enum recipient_state {
#define X(name, word) RECIPIENT_##name,
    RECIPIENT_STATE_MAP(X)
#undef X
};

struct recipient {
    struct str address; /* canonical (addr_canonical) */
    struct str orcpt;   /* RFC 3461 ORCPT as given, xtext kept; empty: none */
    struct str lane;    /* see mail/lane.h */
    uint8_t notify;
    bool warned; /* a delay warning was made */
    enum recipient_state state;
    uint32_t attempts;
    int64_t due_at;          /* wall seconds of the next attempt; HELD: since when */
    int64_t tried_at;        /* wall seconds of the last attempt; 0: none */
    int64_t held_lifetime_s; /* seconds spent on hold, do not count against lifetime */
    /* how the last attempt ended, for the operator and the DSN */
    enum stage stage;
    enum class kind;
    struct str status; /* "4.2.2"; empty: none */
    struct str host;   /* remote MTA */
    struct str said;   /* its reply, or our fault text */
    struct str cause;
    struct str fix;
};

struct envelope {
    struct arena arena;
    struct msgid id;
    int64_t arrived_us; /* wall */
    struct str sender;  /* reverse-path, canonical; empty: null */
    struct str envid;   /* RFC 3461, xtext as given */
    struct str user;    /* authenticated name, "uid:1000", or empty */
    struct str client;  /* "[192.0.2.1]:1234" */
    struct str helo;
    struct str listener;    /* name of the listen section */
    struct str message_id;  /* of the header */
    struct str from_domain; /* of the From field, for routing and signing */
    enum envelope_ret ret;
    unsigned flags;
    uint64_t size_bytes;          /* head and body as stored */
    struct recipient *recipients; /* in the arena */
    size_t recipient_count, recipient_cap;
    uint32_t *places; /* envelope_add_once: index + 1 by hash of the address; 0: free */
    size_t place_count, placed;
};

void envelope_init(struct envelope *envelope);
void envelope_clear(struct envelope *envelope);
struct recipient *envelope_add(struct envelope *envelope, struct str address); /* text copied */
/* NULL: this address is a recipient already. Of fifty thousand as quick as of one, as long
 * as addresses do not change between calls. */
struct recipient *envelope_add_once(struct envelope *envelope, struct str address);
/* Hands out the recipients (they stay in the arena) and begins with none. */
struct recipient *envelope_empty(struct envelope *envelope, size_t *out_count);
/* A deep copy into an initialised `to`. */
void envelope_copy(struct envelope *to, const struct envelope *from);
const char *recipient_state_word(enum recipient_state state);
bool recipient_state_parse(struct str word, enum recipient_state *out_state);

#endif
