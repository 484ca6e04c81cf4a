/*
 * stuck.h - the oldest thing that hangs, as far as one has looked.
 *
 * Whatever waits for a peer has a deadline of its own. What waits for us (a disk, a
 * worker, a lock) has none: giving up would not make the disk answer. The watchdog
 * asks each part for the oldest of what it waits for, and tells a person.
 */
#ifndef WAYPOST_BASE_STUCK_H
#define WAYPOST_BASE_STUCK_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#define STUCK_MS (UINT64_C(5) * 60 * 1000) /* nothing of ours takes so long */

struct stuck {
    uint64_t age_ms; /* 0: nothing hangs */
    char what[240];
};

/* `since_ms` and `now_ms` on one clock; 0: it does not wait. `usual_ms`: so long is right. */
__attribute__((format(printf, 5, 6))) static inline void stuck_offer(struct stuck *stuck,
                                                                     uint64_t since_ms,
                                                                     uint64_t now_ms,
                                                                     uint64_t usual_ms,
                                                                     const char *format, ...)
{
    uint64_t age_ms = since_ms && now_ms > since_ms ? now_ms - since_ms : 0;
    va_list args;

    if (age_ms < usual_ms || age_ms <= stuck->age_ms)
        return;
    stuck->age_ms = age_ms;
    va_start(args, format);
    (void)vsnprintf(stuck->what, sizeof(stuck->what), format, args);
    va_end(args);
}

#endif
