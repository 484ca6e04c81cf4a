/*
 * report_pace.h - how many reports leave in an hour, over all loops.
 *
 * A flood of failures must not become a flood of bounces, and no report may be
 * lost: those over the cap are made and stored like others, due when a later
 * hour has room. One word of atomics; any thread. After a restart it counts anew.
 */
#ifndef WAYPOST_EGRESS_REPORT_PACE_H
#define WAYPOST_EGRESS_REPORT_PACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct report_pace {
    _Atomic uint64_t hour_and_count; /* the hour since 1970, and reports since it began, beyond
                                        what earlier hours had room for */
    _Atomic uint64_t put_off;        /* since the start */
};

/* When a report that is made now may be sent (wall s). *out_is_first: it is the first
 * for which this hour has no room. `per_hour` 0: no cap. */
int64_t report_pace_take(struct report_pace *pace, unsigned per_hour, int64_t now_s,
                         bool *out_is_first);

#endif
