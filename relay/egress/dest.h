/*
 * dest.h - how hard to push one destination.
 *
 * A dest turns outcomes into pace: its window (attempts at once) widens while
 * deliveries succeed and narrows when host or destination push back; a token
 * bucket keeps the message rate; failures of the whole place put it to sleep,
 * and one probe at a time finds out when it is back, so that 100,000 messages
 * for a dead domain cost one probe per interval. Pure: callers pass `now_ms`,
 * so a week of retries runs in a unit test.
 *
 * A dest belongs to one loop. Limits given are this loop's share.
 */
#ifndef WAYPOST_EGRESS_DEST_H
#define WAYPOST_EGRESS_DEST_H

#include "queue/backoff.h"
#include "relay/base/err.h"
#include "relay/mail/outcome.h"

struct dest_limits {
    unsigned max_connections;         /* window never over this */
    unsigned messages_per_connection; /* 0: no limit */
    double rate_per_s;                /* messages; 0: no limit */
    struct backoff backoff;           /* of the place as a whole */
};

/* READY -> SLEEPING -> PROBING -> READY | SLEEPING */
#define DEST_STATE_MAP(X)                                                                          \
    X(READY, "ready")       /* up to `window` attempts may run */                                  \
    X(SLEEPING, "sleeping") /* nothing runs until wake_at */                                       \
    X(PROBING, "probing")   /* one attempt runs to see whether the place is back */
enum dest_state {
#define X(name, word) DEST_##name,
    DEST_STATE_MAP(X)
#undef X
};

struct dest {
    struct dest_limits limits;
    enum dest_state state;
    double window;        /* allowed connections; grows by parts */
    double calm;          /* up to here it grows by one per success, above by one per round */
    unsigned connections; /* held now */
    bool is_proven;       /* it took something since the start or since it last slept */
    bool probe_is_out;    /* PROBING: the one attempt runs */
    unsigned failures;    /* in a row, of the whole place */
    unsigned sleeps;      /* in a row: how long the next one is */
    uint64_t wake_at_ms;
    double tokens; /* of the message rate */
    uint64_t tokens_at_ms;
    uint64_t delivered, later, failed; /* attempts, for operators */
    struct outcome last_trouble;       /* why it sleeps */
};

void dest_init(struct dest *dest, const struct dest_limits *limits, uint64_t now_ms);
void dest_limits_set(struct dest *dest, const struct dest_limits *limits);

/* A slot for one connection. ERR_AGAIN: *out_retry_ms says when to ask again
 * (UINT64_MAX: when a slot is given back). Give it back with dest_release(). */
enum err dest_acquire(struct dest *dest, uint64_t now_ms, uint64_t *out_retry_ms);
void dest_release(struct dest *dest, uint64_t now_ms);
/* How many slots dest_acquire() would give out now. */
unsigned dest_room(const struct dest *dest, uint64_t now_ms);
/* A token for one message over a held connection; as above. */
enum err dest_message(struct dest *dest, uint64_t now_ms, uint64_t *out_retry_ms);
void dest_message_undo(struct dest *dest); /* no message went: the token back */
/* Whole tokens at hand (UINT_MAX: there is no rate). */
unsigned dest_tokens(const struct dest *dest, uint64_t now_ms);

/* What an attempt told about the place. Scope recipient and message say nothing
 * against it, scope us nothing at all. `noise` spreads the sleep. True when it
 * changed its state. */
bool dest_feedback(struct dest *dest, const struct outcome *outcome, uint64_t now_ms,
                   uint64_t noise);
/* An operator wants it tried now (queue flush). */
void dest_wake(struct dest *dest, uint64_t now_ms);
/* Nothing is known of the place, and many may wait for it: one attempt first. */
void dest_doubt(struct dest *dest, uint64_t now_ms);
const char *dest_state_word(enum dest_state state);

#endif
