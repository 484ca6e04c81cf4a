/*
 * bounce.h - the reports that a settlement owes.
 *
 * Decides from the verdicts which recipients get a report (RFC 3461: NOTIFY,
 * null reverse-path), builds one DSN per message and settlement, and has
 * intake make a message of it (signed, with lanes), ready to be stored in the
 * settling transaction.
 */
#ifndef WAYPOST_EGRESS_BOUNCE_H
#define WAYPOST_EGRESS_BOUNCE_H

#include "queue/store.h"
#include "relay/egress/report_pace.h"
#include "relay/intake/intake.h"
#include "relay/mail/dsn.h"

struct bounce_options {
    struct loop *loop;
    struct intake *intake;
    struct str hostname;
    struct report_pace *pace; /* NULL: reports leave at once */
    unsigned per_hour;
};
struct bounce_recipient {
    uint32_t index; /* into the message's recipients */
    enum dsn_action action;
    struct verdict *verdict; /* words of the last attempt */
    int64_t will_retry_until;
};

/* Calls back once with the report, or NULL when none is owed or none can be
 * made (a hop says why); `try_again`: only now, for want of room or a descriptor.
 * Never before this returned. */
typedef void bounce_fn(void *arg, struct message *dsn, bool try_again);
void bounce_make(const struct bounce_options *options, struct message *original,
                 const struct bounce_recipient *recipients, size_t count, bounce_fn *fn, void *arg);

#endif
