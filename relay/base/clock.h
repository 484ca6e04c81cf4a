/*
 * clock.h - the three clocks, and which one is for what.
 *
 * wall    CLOCK_REALTIME: what is stored, printed and compared after a restart
 * mono    CLOCK_MONOTONIC: deadlines and durations inside one run
 * boot    CLOCK_BOOTTIME: to notice that the wall clock was set
 *
 * Pure code takes `now` as an argument and calls none of these. Any thread.
 */
#ifndef WAYPOST_BASE_CLOCK_H
#define WAYPOST_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t clock_wall_us(void); /* since 1970 */
uint64_t clock_mono_ms(void);
uint64_t clock_mono_ns(void);
uint64_t clock_boot_ms(void);

/* How far the wall clock has been set since the last call on this watch, in
 * seconds, beyond what really passed: 0 when |jump| is under `slack_s`. */
struct clock_watch {
    int64_t wall_us;
    uint64_t boot_ms;
};
void clock_watch_init(struct clock_watch *watch);
int64_t clock_watch_jump_s(struct clock_watch *watch, int64_t slack_s);

/* "2026-11-21T13:27:36.123Z"; returns its length. `size` at least 32. */
size_t clock_iso(int64_t wall_us, char *out, size_t size);
/* RFC 5322: "Sat, 21 Nov 2026 13:27:36 +0000" in the local zone of the machine. `size` at least 40. */
size_t clock_rfc5322(int64_t wall_us, char *out, size_t size);
/* "12s", "3m 20s", "4h 05m", "2d 3h", a zero rest left out ("5d"): for people. `size` at least 24. */
size_t clock_span(uint64_t seconds, char *out, size_t size);

#endif
