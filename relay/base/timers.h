/*
 * timers.h - many deadlines on one clock: a binary heap of embedded timers.
 *
 * Pure: the owner passes `now_ms` of whatever clock it keeps, so a simulation
 * runs a week in a moment. A timer fires once. Starting a running timer moves
 * it. Stopping is immediate and always safe, also from inside a timer's own
 * function or another's. What a timer's function starts for now or earlier is
 * due one millisecond later, so that a run always ends. One thread.
 */
#ifndef WAYPOST_BASE_TIMERS_H
#define WAYPOST_BASE_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef void timer_fn(void *arg);

struct timer {
    uint64_t due_ms;
    uint64_t order; /* equal due times fire in the order they were started */
    size_t at;      /* place in the heap + 1; 0: not running */
    timer_fn *fn;
    void *arg;
};

struct timers {
    struct timer **heap;
    size_t count, cap;
    uint64_t order;
    uint64_t floor_ms; /* while a run is under way: nothing starts earlier */
};

void timers_init(struct timers *timers);
void timers_clear(struct timers *timers); /* none may be running */
void timer_start(struct timers *timers, struct timer *timer, uint64_t due_ms, timer_fn *fn,
                 void *arg);
void timer_stop(struct timers *timers, struct timer *timer); /* also when not running */
static inline bool timer_is_running(const struct timer *timer) { return timer->at != 0; }

bool timers_next(const struct timers *timers, uint64_t *out_due_ms); /* false: none */
size_t timers_run(struct timers *timers, uint64_t now_ms); /* fires all that are due; count */

#endif
