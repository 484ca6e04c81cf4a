/*
 * engine_alive.c - a sign of life for the service manager, given only while the
 * loops turn.
 *
 * The manager restarts a relay that hangs (WatchdogSec of systemd). At each tick
 * loop 0 asks one other loop, by letter, and says the next word only when that
 * loop has answered: by a flag, which wakes nobody. So an idle relay pays two
 * wake-ups a tick, however many loops it has.
 */
#include "relay/engine_impl.h"

static void answer(struct engine_loop *own, void *arg)
{
    (void)arg;
    atomic_store_explicit(&own->engine->alive_is_owed, false, memory_order_relaxed);
}

static void ask_next(struct engine *engine)
{
    if (engine->loop_count < 2)
        return;
    engine->alive_at = engine->alive_at + 1 < engine->loop_count ? engine->alive_at + 1 : 1;
    atomic_store_explicit(&engine->alive_is_owed, true, memory_order_relaxed);
    engine_tell(&engine->loops[engine->alive_at], answer, NULL);
}

static void tick(void *arg)
{
    struct engine *engine = arg;

    loop_timer_start(engine->loops[0].loop, &engine->alive_timer, engine->options.alive_every_ms,
                     tick, engine);
    if (atomic_load_explicit(&engine->alive_is_owed, memory_order_relaxed))
        return; /* a loop hangs: silence is what the manager acts on */
    engine->options.alive(engine->options.arg);
    ask_next(engine);
}

void engine_alive_start(struct engine *engine)
{
    if (engine->options.alive && engine->options.alive_every_ms)
        tick(engine);
}

void engine_alive_stop(struct engine *engine)
{
    loop_timer_stop(engine->loops[0].loop, &engine->alive_timer);
}
