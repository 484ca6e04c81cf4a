/*
 * timers.c - the heap: parent of place i is (i - 1) / 2; a timer knows its place.
 */
#include "relay/base/timers.h"

#include "relay/base/str.h"

#include <assert.h>
#include <stdlib.h>

void timers_init(struct timers *timers) { *timers = (struct timers){ 0 }; }

void timers_clear(struct timers *timers)
{
    assert(timers->count == 0);
    free(timers->heap);
    timers_init(timers);
}

static bool earlier(const struct timer *a, const struct timer *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void place(struct timers *timers, size_t i, struct timer *timer)
{
    timers->heap[i] = timer;
    timer->at = i + 1;
}

static void sift_up(struct timers *timers, size_t i, struct timer *timer)
{
    while (i > 0 && earlier(timer, timers->heap[(i - 1) / 2])) {
        place(timers, i, timers->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(timers, i, timer);
}

static void sift_down(struct timers *timers, size_t i, struct timer *timer)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= timers->count)
            break;
        if (child + 1 < timers->count && earlier(timers->heap[child + 1], timers->heap[child]))
            child++;
        if (!earlier(timers->heap[child], timer))
            break;
        place(timers, i, timers->heap[child]);
        i = child;
    }
    place(timers, i, timer);
}

void timer_stop(struct timers *timers, struct timer *timer)
{
    if (!timer->at)
        return;
    size_t i = timer->at - 1;
    timer->at = 0;
    struct timer *last = timers->heap[--timers->count];
    if (last == timer)
        return;
    if (i > 0 && earlier(last, timers->heap[(i - 1) / 2]))
        sift_up(timers, i, last);
    else
        sift_down(timers, i, last);
}

void timer_start(struct timers *timers, struct timer *timer, uint64_t due_ms, timer_fn *fn,
                 void *arg)
{
    timer_stop(timers, timer);
    if (timers->count == timers->cap) {
        timers->cap = timers->cap ? timers->cap * 2 : 64;
        timers->heap = mem_realloc(timers->heap, timers->cap * sizeof(struct timer *));
    }
    timer->due_ms = due_ms > timers->floor_ms ? due_ms : timers->floor_ms;
    timer->order = timers->order++;
    timer->fn = fn;
    timer->arg = arg;
    sift_up(timers, timers->count++, timer);
}

bool timers_next(const struct timers *timers, uint64_t *out_due_ms)
{
    if (timers->count == 0)
        return false;
    *out_due_ms = timers->heap[0]->due_ms;
    return true;
}

size_t timers_run(struct timers *timers, uint64_t now_ms)
{
    size_t fired = 0;

    timers->floor_ms = now_ms + 1;
    while (timers->count && timers->heap[0]->due_ms <= now_ms) {
        struct timer *timer = timers->heap[0];
        timer_stop(timers, timer);
        timer->fn(timer->arg); /* may start, stop or free this timer and others */
        fired++;
    }
    timers->floor_ms = 0;
    return fired;
}
