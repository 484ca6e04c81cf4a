/*
 * sim_loop.c - net/loop.h on a virtual clock, and the clock's own ways.
 *
 * One loop, one thread. The store's writer is a real thread all the same: an
 * instant is over only when it has answered everything.
 */
#include "tests/sim/host.h"
#include "tests/sim/world.h"
#include "tests/sim/zone.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define BEGAN_MS 1000000   /* the monotonic clock does not start at 0 either */
#define WRITER_MS 100000   /* of real time: the store's writer hangs */
#define TURNS_MAX 20000000 /* at one instant: something calls itself for ever */

struct loop {
    struct loop_options options;
    struct world *world;
    struct timers timers;
    struct deferred *deferred, **deferred_last;
    struct mailbox mailbox;
    struct msgid_maker maker;
    uint64_t now_ms;
    uint64_t numbers;
};

static _Atomic int64_t wall_us; /* one world per process, read by store threads */
static int64_t set_forward_us;
static struct loop_wall_set wall_set;

int64_t world_wall_us(void) { return atomic_load(&wall_us); }

static void set_now(struct loop *loop, uint64_t now_ms)
{
    loop->now_ms = now_ms;
    atomic_store(&wall_us,
                 WORLD_BEGAN_S * 1000000 + set_forward_us + (int64_t)(now_ms - BEGAN_MS) * 1000);
}

void world_set_clock(struct world *world, int64_t forward_s)
{
    if (forward_s > 0)
        wall_set.at_s = world_wall_us() / 1000000;
    wall_set.times++;
    wall_set.last_s = forward_s;
    wall_set.forward_s = wall_set.forward_s + forward_s > 0 ? wall_set.forward_s + forward_s : 0;
    set_forward_us += forward_s * 1000000;
    set_now(world->loop, world->loop->now_ms);
}

void world_forget_clock(void) { wall_set = (struct loop_wall_set){ 0 }; }

uint64_t world_now_ms(const struct world *world) { return world->loop->now_ms - BEGAN_MS; }

struct world *loop_world(struct loop *loop) { return loop->world; }

/* ---- net/loop.h ---- */

enum err loop_new(const struct loop_options *options, struct loop **out_loop, struct fault *fault)
{
    struct loop *loop = mem_alloc(sizeof(*loop));

    (void)fault;
    loop->options = *options;
    loop->deferred_last = &loop->deferred;
    timers_init(&loop->timers);
    mailbox_init(&loop->mailbox, NULL, NULL);
    msgid_maker_init(&loop->maker);
    loop->maker.random = 0x5eed; /* ids give the noise of retry times: the same in every run */
    set_forward_us = 0;
    wall_set = (struct loop_wall_set){ 0 };
    set_now(loop, BEGAN_MS);
    *out_loop = loop;
    return ERR_OK;
}

void loop_free(struct loop **loop_at)
{
    struct loop *loop = *loop_at;

    *loop_at = NULL;
    if (!loop)
        return;
    assert(!loop->deferred);
    timers_clear(&loop->timers); /* asserts that none runs: everything was closed */
    mailbox_drain(&loop->mailbox);
    mailbox_clear(&loop->mailbox);
    free(loop);
}

uint64_t loop_now_ms(const struct loop *loop) { return loop->now_ms; }

int64_t loop_wall_us(const struct loop *loop)
{
    (void)loop;
    return world_wall_us();
}

struct loop_wall_set loop_wall_set(const struct loop *loop)
{
    (void)loop;
    return wall_set;
}

/* A script says how its bytes come. */
void loop_read_little(struct loop *loop, bool is_little)
{
    (void)loop;
    (void)is_little;
}

unsigned loop_index(const struct loop *loop) { return loop->options.index; }
unsigned loop_count(const struct loop *loop) { return loop->options.count; }
struct mailbox *loop_mailbox(struct loop *loop) { return &loop->mailbox; }
struct pool *loop_pool(struct loop *loop) { return loop->options.pool; }
struct hop_ring *loop_ring(struct loop *loop) { return loop->options.ring; }
uint64_t loop_number(struct loop *loop) { return ++loop->numbers; }

struct msgid loop_msgid(struct loop *loop)
{
    return msgid_make(&loop->maker, loop_wall_us(loop) / 1000);
}

void loop_timer_start(struct loop *loop, struct timer *timer, uint64_t delay_ms, timer_fn *fn,
                      void *arg)
{
    uint64_t due = delay_ms < UINT64_MAX - loop->now_ms ? loop->now_ms + delay_ms : UINT64_MAX;

    timer_start(&loop->timers, timer, due, fn, arg);
}

void loop_timer_stop(struct loop *loop, struct timer *timer) { timer_stop(&loop->timers, timer); }

void loop_defer(struct loop *loop, struct deferred *deferred, loop_fn *fn, void *arg)
{
    loop_undefer(loop, deferred);
    *deferred = (struct deferred){
        .link = loop->deferred_last,
        .fn = fn,
        .arg = arg,
        .is_queued = true,
    };
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
    deferred->next = NULL;
    deferred->is_queued = false;
}

/* ---- time ---- */

/* False: nothing moved. */
static bool turn(struct world *world)
{
    struct loop *loop = world->loop;
    bool moved = mailbox_drain(&loop->mailbox) > 0;

    for (unsigned n = 0; loop->deferred && n < 1000; n++) {
        struct deferred *deferred = loop->deferred;
        loop_undefer(loop, deferred);
        deferred->fn(deferred->arg); /* may free it */
        moved = true;
    }
    if (world->hops)
        (void)hops_drain(world->hops);
    return moved;
}

static void wait_for_writer(struct world *world)
{
    struct letter *letter = mailbox_wait(&world->loop->mailbox, WRITER_MS);

    if (!letter) {
        (void)fprintf(stderr, "sim: the store owes %zu answers and gives none\n",
                      store_outstanding(world->store));
        abort();
    }
    while (letter) {
        struct letter *next = letter->next;
        letter->open(letter);
        letter = next;
    }
}

void world_settle(struct world *world)
{
    for (unsigned long turns = 0; turns < TURNS_MAX; turns++) {
        if (turn(world))
            continue;
        if (!world->store || store_outstanding(world->store) == 0) {
            if (!turn(world)) /* what was answered between the two looks */
                return;
            continue;
        }
        wait_for_writer(world);
    }
    (void)fprintf(stderr, "sim: time stands still at %llu ms: calls without end\n",
                  (unsigned long long)world_now_ms(world));
    abort();
}

void world_run_until(struct world *world, uint64_t at_ms)
{
    struct loop *loop = world->loop;
    uint64_t due, until = BEGAN_MS + at_ms;

    world_settle(world);
    while (timers_next(&loop->timers, &due) && due <= until) {
        if (due > loop->now_ms)
            set_now(loop, due);
        (void)timers_run(&loop->timers, loop->now_ms);
        world_settle(world);
    }
    set_now(loop, until);
    world_settle(world);
}

void world_init(struct world *world) { *world = (struct world){ .zone = zone_new() }; }

void world_clear(struct world *world)
{
    hosts_free(world);
    zone_free(&world->zone);
}

/* The loop is made by the relay, with its pool and ring; it lives in this world. */
void loop_settle_in(struct loop *loop, struct world *world)
{
    loop->world = world;
    world->loop = loop;
}
