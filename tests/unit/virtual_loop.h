/*
 * virtual_loop.h - loop.h on a virtual clock, for tests that link it in place
 * of the real one. Time passes only inside virtual_run().
 */
#ifndef WAYPOST_TESTS_VIRTUAL_LOOP_H
#define WAYPOST_TESTS_VIRTUAL_LOOP_H

#include "relay/net/loop.h"

#define VIRTUAL_WALL_US INT64_C(1800000000000000) /* wall clock when it begins */

struct loop {
    struct loop_options options;
    uint64_t now_ms;
    struct timers timers;
    struct mailbox mailbox;
    struct msgid_maker maker;
    struct deferred *deferred, **deferred_last;
    uint64_t numbers;
    bool reads_little;
};

static struct loop virtual_loop;

static void virtual_begin(const struct loop_options *options)
{
    virtual_loop = (struct loop){ .options = *options, .now_ms = 1000 };
    virtual_loop.deferred_last = &virtual_loop.deferred;
    timers_init(&virtual_loop.timers);
    mailbox_init(&virtual_loop.mailbox, NULL, NULL);
    msgid_maker_init(&virtual_loop.maker);
    virtual_loop.maker.random = 1; /* ids spread retries: the same in every run */
}

static void virtual_end(void)
{
    timers_clear(&virtual_loop.timers);
    mailbox_clear(&virtual_loop.mailbox);
}

static int64_t virtual_wall_us(void)
{
    return VIRTUAL_WALL_US + (int64_t)virtual_loop.now_ms * 1000;
}

/* Letters and deferred calls until there are none. */
static void virtual_turn(void)
{
    do {
        mailbox_drain(&virtual_loop.mailbox);
        while (virtual_loop.deferred) {
            struct deferred *first = virtual_loop.deferred;
            loop_undefer(&virtual_loop, first);
            first->fn(first->arg);
        }
    } while (mailbox_drain(&virtual_loop.mailbox) > 0 || virtual_loop.deferred);
}

static inline void virtual_run(uint64_t ms)
{
    uint64_t end = virtual_loop.now_ms + ms, due;

    virtual_turn();
    while (timers_next(&virtual_loop.timers, &due) && due <= end) {
        if (due > virtual_loop.now_ms)
            virtual_loop.now_ms = due;
        timers_run(&virtual_loop.timers, virtual_loop.now_ms);
        virtual_turn();
    }
    virtual_loop.now_ms = end;
}

uint64_t loop_now_ms(const struct loop *loop) { return loop->now_ms; }
int64_t loop_wall_us(const struct loop *loop)
{
    (void)loop;
    return virtual_wall_us();
}
struct loop_wall_set loop_wall_set(const struct loop *loop)
{
    (void)loop;
    return (struct loop_wall_set){ 0 };
}
void loop_read_little(struct loop *loop, bool is_little) { loop->reads_little = is_little; }
unsigned loop_index(const struct loop *loop) { return loop->options.index; }
unsigned loop_count(const struct loop *loop) { return loop->options.count; }
struct mailbox *loop_mailbox(struct loop *loop) { return &loop->mailbox; }
struct pool *loop_pool(struct loop *loop) { return loop->options.pool; }
struct hop_ring *loop_ring(struct loop *loop) { return loop->options.ring; }
uint64_t loop_number(struct loop *loop) { return ++loop->numbers; }

struct msgid loop_msgid(struct loop *loop)
{
    return msgid_make(&loop->maker, virtual_wall_us() / 1000);
}

void loop_timer_start(struct loop *loop, struct timer *timer, uint64_t delay_ms, timer_fn *fn,
                      void *arg)
{
    timer_start(&loop->timers, timer, loop->now_ms + delay_ms, fn, arg);
}

void loop_timer_stop(struct loop *loop, struct timer *timer) { timer_stop(&loop->timers, timer); }

void loop_defer(struct loop *loop, struct deferred *deferred, loop_fn *fn, void *arg)
{
    loop_undefer(loop, deferred);
    *deferred = (struct deferred){ .link = loop->deferred_last, .fn = fn, .arg = arg };
    deferred->is_queued = true;
    *loop->deferred_last = deferred;
    loop->deferred_last = &deferred->next;
}

void loop_undefer(struct loop *loop, struct deferred *deferred)
{
    if (!deferred->is_queued)
        return;
    *deferred->link = deferred->next;
    if (deferred->next)
        deferred->next->link = deferred->link;
    else
        loop->deferred_last = deferred->link;
    deferred->is_queued = false;
}

#endif
