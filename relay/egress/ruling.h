/*
 * ruling.h - what an attempt means for a recipient: its next state, when it is
 * tried again, and whether its sender is to hear of it. Pure.
 *
 * The outcome says what happened, the ruling what follows from it under this
 * relay's retry settings.
 */
#ifndef WAYPOST_EGRESS_RULING_H
#define WAYPOST_EGRESS_RULING_H

#include "queue/backoff.h"
#include "relay/mail/dsn.h"
#include "relay/mail/outcome.h"

struct ruling_terms {
    struct backoff backoff;
    uint64_t lifetime_s;
    uint64_t warn_after_s; /* 0: never */
    int64_t set_by_s;      /* the wall clock was set forward: mail from before ... */
    int64_t set_at_s;      /* ... this moment is younger than it looks */
};

struct ruling {
    enum recipient_state state;
    bool attempted; /* counts as an attempt */
    bool warned;
    int64_t due_at;           /* wall s, QUEUED only */
    bool has_report;          /* before NOTIFY and the null reverse-path are asked */
    enum dsn_action action;   /* of the report */
    int64_t will_retry_until; /* wall s, DELAYED only */
};

/* `attempted`: it got as far as trying this recipient or its host. `relayed`:
 * delivered to a hop that makes no success reports of its own. */
void ruling_of_attempt(const struct ruling_terms *terms, const struct envelope *envelope,
                       const struct recipient *recipient, const struct outcome *outcome,
                       bool attempted, bool relayed, int64_t now_s, uint64_t noise,
                       struct ruling *out);

/* A recipient whose place is known to be down: it is not attempted itself, but
 * lifetime and warning hold. What stays is due as it was. */
void ruling_of_outage(const struct ruling_terms *terms, const struct envelope *envelope,
                      const struct recipient *recipient, int64_t now_s, struct ruling *out);

#endif
