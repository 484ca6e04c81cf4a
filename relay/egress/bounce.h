/*
 * bounce.h - the reports that a settlement owes.
 *
 * Decides from the verdicts which recipients get a report (RFC 3461: NOTIFY,
 * null reverse-path), builds one DSN per message and settlement, or as many as it
 * takes when one would be too large to reach anybody, and has intake make messages
 * of them (signed, with lanes), ready to be stored all in the settling transaction.
 * Each recipient stands in exactly one of them.
 */
#ifndef WAYPOST_EGRESS_BOUNCE_H
#define WAYPOST_EGRESS_BOUNCE_H

#include "queue/store.h"
#include "relay/egress/report_pace.h"
#include "relay/intake/intake.h"
#include "relay/mail/dsn.h"

/* Of one report. Many hosts refuse more than 10 MB, and a person has to open it. */
#define BOUNCE_RECIPIENTS ((size_t)1000)
#define BOUNCE_BYTES ((size_t)3 << 19)

struct bounce_options {
    struct loop *loop;
    struct intake *intake;
    struct str hostname;
    struct report_pace *pace; /* NULL: reports leave at once */
    unsigned per_hour;
    size_t recipients_max, bytes_max; /* of one report */
    const struct msgid *first_id;     /* stays until the call back; NULL: a new one */
};
struct bounce_recipient {
    uint32_t index; /* into the message's recipients */
    enum dsn_action action;
    struct verdict *verdict; /* words of the last attempt */
    int64_t will_retry_until;
};

/* What was made of them. */
struct bounced {
    struct message **reports; /* references, in an array that is freed with them */
    uint32_t *counts;         /* of recipients in each */
    size_t count;
    size_t done; /* of the recipients asked about, from the first: no more is owed for these */
};
void bounced_clear(struct bounced *bounced);

/* Calls back once, and hands over what it made. `done` is short of `count` when no more
 * could be made just now, for want of room or a descriptor; where a recipient that has
 * its mail is among the rest, smaller ones were tried before, which need neither. A
 * report that can never be made counts as done. A hop says why in both cases. Never
 * before this returned, and until then `recipients` and their verdicts stay where they
 * are. */
typedef void bounce_fn(void *arg, struct bounced *take);
void bounce_make(const struct bounce_options *options, struct message *original,
                 const struct bounce_recipient *recipients, size_t count, bounce_fn *fn, void *arg);

#endif
