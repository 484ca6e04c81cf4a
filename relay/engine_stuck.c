/*
 * engine_stuck.c - the watchdog: what hangs, and for how long.
 *
 * Every half minute while there are sessions or mail, each loop is asked by letter for
 * the oldest thing of its own that waits (relay/base/stuck.h), the pool for its oldest
 * job, and the thread of log and traces for its oldest write. A loop that has not answered by the next time is itself what hangs.
 * Only a report: an attempt has its deadline, and what waits for a disk can do nothing
 * but wait. systemd's watchdog (engine_alive) restarts a relay whose loops hang.
 */
#include "relay/engine_impl.h"

#include "relay/base/clock.h"

#include <pthread.h>
#include <unistd.h>

#define LOOK_MS 30000
#define SAY_AGAIN_MS 900000
#define LOOP_MS 60000 /* a turn takes milliseconds */
#define MISSED_MIN 2  /* looks: one may be missed when all of us was stopped for a while */

static void ask_pool(struct engine *engine, struct stuck *found)
{
    static const char *const words[] = {
#define X(name, word, threads, most) word,
        POOL_CLASS_MAP(X)
#undef X
    };
    uint64_t now_ms = clock_mono_ms();

    for (unsigned kind = 0; kind < POOL_CLASS_COUNT; kind++)
        stuck_offer(found, pool_oldest_ms(engine->pool, (enum pool_class)kind), now_ms, STUCK_MS,
                    "a worker of the class %s does not end its job", words[kind]);
}

static void ask_loop(struct engine_loop *own, void *arg)
{
    (void)arg;
    own->stuck = (struct stuck){ .age_ms = 0 };
    if (own->sched)
        sched_stuck(own->sched, &own->stuck);
    if (own->sessions)
        sessions_stuck(own->sessions, &own->stuck);
    atomic_store(&own->asked_ms, 0); /* from here on loop 0 may read it */
}

/* Log lines and traces have one thread. */
static bool ask_log(struct engine *engine, struct stuck *found)
{
    uint64_t since_ms = hops_since_ms(engine->hops), now_ms = clock_mono_ms();

    stuck_offer(found, since_ms, now_ms, LOOP_MS, "the thread that writes the log and the traces");
    return since_ms && since_ms + LOOP_MS <= now_ms;
}

/* What was answered to the last question; those who have not answered keep it. */
static void gather(struct engine *engine, struct stuck *found)
{
    uint64_t now_ms = clock_mono_ms();

    for (unsigned i = 0; i < engine->loop_count; i++) {
        struct engine_loop *own = &engine->loops[i];
        uint64_t asked_ms = atomic_load(&own->asked_ms);
        own->looks_missed = asked_ms ? own->looks_missed + 1 : 0;
        if (own->looks_missed >= MISSED_MIN)
            stuck_offer(found, asked_ms, now_ms, LOOP_MS, "event loop %u does not turn", i);
        else if (!asked_ms && own->stuck.age_ms > found->age_ms)
            *found = own->stuck;
    }
}

static void ask(struct engine *engine)
{
    uint64_t now_ms = clock_mono_ms();

    for (unsigned i = 0; i < engine->loop_count; i++) {
        if (atomic_load(&engine->loops[i].asked_ms))
            continue;
        atomic_store(&engine->loops[i].asked_ms, now_ms);
        engine_tell(&engine->loops[i], ask_loop, NULL);
    }
}

static atomic_bool is_crying; /* and may hang in it: one at a time */

static void *cry(void *arg)
{
    char *line = arg;

    if (write(STDERR_FILENO, line, strlen(line)) < 0) /* nobody is left to tell */
        line[0] = '\0';
    free(line);
    atomic_store(&is_crying, false);
    return NULL;
}

/* The log cannot tell that the log hangs. Where stderr goes may hang too, so neither a
 * loop nor a worker is risked. */
static void cry_out(const char *text)
{
    pthread_t thread;
    char line[400];

    if (atomic_exchange(&is_crying, true))
        return;
    (void)snprintf(line, sizeof(line),
                   "waypost: something hangs, the log too; this is the oldest: %s\n", text);
    char *copy = str_dup(str_of(line));
    if (pthread_create(&thread, NULL, cry, copy) == 0) {
        pthread_detach(thread);
        return;
    }
    free(copy);
    atomic_store(&is_crying, false);
}

static void say(struct engine *engine, const struct stuck *found, bool was_stuck, bool is_mute)
{
    uint64_t now_ms = clock_mono_ms();
    char span[32], text[320];

    if (found->age_ms == 0) {
        if (was_stuck)
            engine_say(engine, STAGE_SERVICE, HOP_EVENT, STR("nothing hangs any more"), STR_EMPTY);
        return;
    }
    if (was_stuck && now_ms < engine->stuck_said_ms + SAY_AGAIN_MS)
        return;
    engine->stuck_said_ms = now_ms;
    clock_span(found->age_ms / 1000, span, sizeof(span));
    (void)snprintf(text, sizeof(text), "%s, for %s", found->what, span);
    engine_say(engine, STAGE_ALARM, HOP_ALARM, STR("something hangs; this is the oldest"),
               str_of(text));
    if (is_mute)
        cry_out(text);
}

void engine_stuck_look(struct engine *engine)
{
    struct stuck found = { .age_ms = 0 };
    uint64_t now_ms = clock_mono_ms();
    bool was_stuck = engine->stuck.age_ms > 0;

    if (now_ms < engine->stuck_look_ms)
        return;
    engine->stuck_look_ms = now_ms + LOOK_MS;
    ask_pool(engine, &found);
    bool is_mute = ask_log(engine, &found);
    gather(engine, &found);
    engine->stuck = found;
    say(engine, &found, was_stuck, is_mute);
    ask(engine);
}
