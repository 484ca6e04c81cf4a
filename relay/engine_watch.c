/*
 * engine_watch.c - what happens to the machine under us: the wall clock is set,
 * memory runs short. Looked at from loop 0 every second or two while there are
 * sessions or mail; with neither there is nothing that could come to harm, and
 * nobody is woken. A client or mail that becomes due starts the watch again.
 */
#include "relay/engine_impl.h"

#include "relay/base/clock.h"
#include "relay/base/memwatch.h"

#include <inttypes.h>
#include <malloc.h>

#define WATCH_MS 1000
#define WATCH_CALM_MS 2000 /* mail waits, and nobody is here */
/* With a limit of memory: the less room, the sooner, as if a crowd took so much in a
 * millisecond. */
#define WATCH_LIMITED_MS 250
#define WATCH_NEAR_MS 4
#define TAKEN_IN_MS ((uint64_t)256 << 10)

/* ---- the clock ---- */

static void clock_was_set(struct engine_loop *own, void *arg)
{
    (void)arg;
    if (!own->is_draining)
        sched_clock_set(own->sched);
}

static void brought_forward(struct engine *engine, struct chore_run *run)
{
    (void)engine;
    free(run);
}

/* Set back, everything that waits would wait for so much longer. Which times came
 * from the wrong clock nobody knows: each gets its try now, and a new time with it.
 * Places that sleep go on sleeping, they count by another clock. */
static struct chore_run *bring_forward(struct engine *engine)
{
    struct chore_run *run = mem_alloc(sizeof(*run));

    (void)engine;
    run->change.kind = STORE_RETRY;
    run->change.filter.state = RECIPIENT_QUEUED;
    return run;
}

const struct chore_kind engine_forward_kind = {
    .failed = "mail that waits by a clock that was set back could not be made due; it is tried "
              "again",
    .over = "mail that waited by a clock that was set back is due",
    .make = bring_forward,
    .done = brought_forward,
};

static void say_jump(struct engine *engine, int64_t by_s)
{
    char span[32], text[160];

    clock_span((uint64_t)llabs(by_s), span, sizeof(span));
    (void)snprintf(text, sizeof(text), "the wall clock was set %s by %s%s",
                   by_s > 0 ? "forward" : "back", span,
                   by_s > 0 ? ": no mail grows old by it" : ": all mail that waits is tried now");
    engine_say(engine, STAGE_SERVICE, HOP_WARNING, str_of(text), STR_EMPTY);
}

static void watch_clock(struct engine *engine)
{
    struct loop_wall_set set = loop_wall_set(engine->loops[0].loop);

    if (set.times == engine->clock_jumps)
        return;
    engine->clock_jumps = set.times;
    say_jump(engine, set.last_s);
    engine_certificate_look(engine);
    for (unsigned i = 0; i < engine->loop_count; i++)
        engine_tell(&engine->loops[i], clock_was_set, NULL);
    if (set.last_s < 0)
        chore_ask(&engine->forward);
}

/* ---- memory ---- */

#define KERNEL_LEAST ((uint64_t)16 << 20)
#define SHORT_LINGERS_MS 5000 /* below the limit that was passed, and not far below it */
#define SHARE_USUAL ((uint64_t)STORE_WINDOW_BYTES)
#define TRIM_EVERY_MAX_MS 600000
#define TRIM_GIVEN_UP_MS 60000        /* it is in use, or no help: not worth a wake-up */
#define GIVE_BACK ((uint64_t)4 << 20) /* worth the trouble */

/* An eighth: mail that arrives takes half as much again, as long as a commit lasts it
 * is in memory twice, fresh mail has another share, and all of it is for a crowd that
 * has its sessions too. */
size_t engine_memory_share(const struct engine *engine)
{
    uint64_t eighth = engine->memory_limit / 8;

    return (size_t)(eighth && eighth < SHARE_USUAL ? eighth : SHARE_USUAL);
}

static void say_memory(struct engine *engine)
{
    char text[200];

    if (!engine->memory_short) {
        engine_say(engine, STAGE_SERVICE, HOP_EVENT, STR("there is memory again"), STR_EMPTY);
        return;
    }
    (void)snprintf(text, sizeof(text),
                   "memory is short: %" PRIu64 " MB of %" PRIu64
                   " MB are taken; new clients and new mail get 4xx until there is room",
                   engine->memory_taken >> 20, engine->memory_limit >> 20);
    engine_say(engine, STAGE_ALARM, HOP_ALARM, STR_EMPTY, str_of(text));
}

/* Refusing while a quarter is left: what is under way still grows, and the kernel's
 * own share (sockets, pages of the queue being written) is in the same limit. With
 * little for that share nothing can be written down, and no memory comes free. */
static uint64_t short_from(const struct engine *engine)
{
    uint64_t limit = engine->memory_limit, left = limit / 4;

    if (left < KERNEL_LEAST)
        left = limit / 8 * 3 < KERNEL_LEAST ? limit / 8 * 3 : KERNEL_LEAST;
    return limit - left;
}

static uint64_t again_from(const struct engine *engine) { return short_from(engine) / 6 * 5; }

/* What is left when a crowd has gone may be more than again_from(), and then nothing makes
 * it less: that it is no more than may be has to do after a while. */
static bool is_short(struct engine *engine)
{
    uint64_t now = loop_now_ms(engine->loops[0].loop);

    if (engine->memory_taken > short_from(engine)) {
        engine->memory_over_ms = now;
        return true;
    }
    return engine->memory_short && engine->memory_taken > again_from(engine) &&
           now < engine->memory_over_ms + SHORT_LINGERS_MS;
}

/* Without a descriptor to look with it stays as it was. */
static void look_at_memory(struct engine *engine)
{
    uint64_t taken = memwatch_anonymous();

    if (taken)
        engine->memory_taken = taken;
}

static void watch_memory(struct engine *engine)
{
    bool was_short = engine->memory_short;

    look_at_memory(engine);
    if (engine->memory_limit == 0)
        return;
    if (was_short && engine->memory_taken > again_from(engine)) {
        malloc_trim(0); /* what sessions gave back is still counted as ours */
        look_at_memory(engine);
    }
    engine->memory_short = is_short(engine);
    if (engine->memory_short == was_short)
        return;
    caps_set_short(engine->caps, engine->memory_short);
    engine->memory_shortages += engine->memory_short;
    say_memory(engine);
}

/* When a crowd has left, the heap returns only what lies at its ends: the rest is
 * given back while no client waits. What is in use stays, so it is tried less and
 * less often until it helps. */
static void give_back(struct engine *engine)
{
    uint64_t anonymous = engine->memory_taken, now = loop_now_ms(engine->loops[0].loop);

    if (engine->memory_rest == 0 || anonymous < engine->memory_rest)
        engine->memory_rest = anonymous;
    if (anonymous < engine->memory_rest + GIVE_BACK) {
        engine->trim_every_ms = WATCH_MS;
        return;
    }
    if (now < engine->trim_at_ms || caps_sessions(engine->caps) > 0)
        return;
    malloc_trim(0);
    if (engine->trim_every_ms < TRIM_EVERY_MAX_MS)
        engine->trim_every_ms *= 2;
    engine->trim_at_ms = now + engine->trim_every_ms;
}

/* ---- the watch ---- */

static bool is_at_rest(struct engine *engine)
{
    struct store_health health;

    store_health(engine->store, &health);
    return health.messages == 0 && caps_sessions(engine->caps) == 0 && !engine->memory_short &&
           (engine->trim_every_ms == WATCH_MS || engine->trim_every_ms > TRIM_GIVEN_UP_MS);
}

/* Until what is free now could be taken; once memory is short nothing is urgent. */
static uint64_t pause_limited(const struct engine *engine)
{
    uint64_t most = short_from(engine), taken = engine->memory_taken;
    uint64_t ms = taken < most ? (most - taken) / TAKEN_IN_MS : 0;

    if (engine->memory_short || ms > WATCH_LIMITED_MS)
        return WATCH_LIMITED_MS;
    return ms < WATCH_NEAR_MS ? WATCH_NEAR_MS : ms;
}

/* The flag first: a client that comes in between cuts the pause short. */
static uint64_t pause_of(struct engine *engine)
{
    atomic_store(&engine->watch_is_calm, true);
    if (caps_sessions(engine->caps) == 0 && !engine->memory_short)
        return WATCH_CALM_MS;
    atomic_store(&engine->watch_is_calm, false);
    return engine->memory_limit ? pause_limited(engine) : WATCH_MS;
}

static void watch(void *arg)
{
    struct engine *engine = arg;

    if (engine->is_stopping)
        return;
    watch_clock(engine);
    watch_memory(engine);
    give_back(engine);
    engine_stuck_look(engine);
    /* The flag first: who comes in between starts it again. */
    atomic_store(&engine->watch_is_on, false);
    if (is_at_rest(engine)) {
        engine->stuck.age_ms = 0;
    } else {
        atomic_store(&engine->watch_is_on, true);
        loop_timer_start(engine->loops[0].loop, &engine->watch_timer, pause_of(engine), watch,
                         engine);
    }
}

static void watch_now(struct engine_loop *first, void *arg)
{
    (void)arg;
    watch(first->engine);
}

void engine_watch_wake(struct engine *engine)
{
    if (!atomic_load(&engine->watch_is_on) && !atomic_exchange(&engine->watch_is_on, true))
        engine_tell(&engine->loops[0], watch_now, NULL);
}

void engine_watch_client(struct engine *engine)
{
    engine_watch_wake(engine);
    if (engine->memory_limit && atomic_load(&engine->watch_is_calm) &&
        atomic_exchange(&engine->watch_is_calm, false))
        engine_tell(&engine->loops[0], watch_now, NULL);
}

void engine_watch_stop(struct engine *engine)
{
    loop_timer_stop(engine->loops[0].loop, &engine->watch_timer);
}
