/*
 * engine_spread.c - listeners without TLS: which loops take new clients.
 *
 * Looked at when clients come, so it costs an idle relay nothing. Loop 0 always takes
 * some, and does it for all.
 */
#include "relay/engine_impl.h"
#include "relay/ingress/spread.h"

#include <time.h>

#define LOOK_MS 50

static bool is_spread(const struct engine_listener *listener)
{
    return !listener->service->tls_implicit && !listener->service->tls_starttls;
}

/* In vain (no SO_REUSEPORT: systemd's sockets, unix; an old kernel): the kernel spreads. */
static void give_to(struct engine_loop *first, unsigned open)
{
    first->engine->spread.open = open;
    for (struct engine_listener *one = first->listeners; one; one = one->next)
        listener_spread(one->listener, is_spread(one) ? open : first->engine->loop_count);
}

static uint64_t busy_ns(struct engine *engine)
{
    struct timespec used;
    clockid_t clock;
    uint64_t sum = 0;

    for (unsigned i = 0; i < engine->loop_count; i++) {
        pthread_t thread = engine->loops[i].has_thread ? engine->loops[i].thread : pthread_self();
        if (pthread_getcpuclockid(thread, &clock) == 0 && clock_gettime(clock, &used) == 0)
            sum += (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
    }
    return sum;
}

void engine_spread_reset(struct engine_loop *own)
{
    struct engine *engine = own->engine;

    if (own != &engine->loops[0])
        return;
    if (engine->spread.open && engine->spread.open < engine->loop_count)
        give_to(own, engine->loop_count); /* one that was without TLS may have it now */
    engine->spread.open = engine->loop_count;
}

void engine_spread_accepted(struct engine_loop *own, const struct engine_listener *listener)
{
    struct engine *engine = own->engine;
    struct engine_spread *spread = &engine->spread;

    if (engine->loop_count < 2 || !is_spread(listener))
        return;
    atomic_fetch_add(&spread->accepted, 1);
    uint64_t now_ms = loop_now_ms(own->loop);
    if (own != &engine->loops[0] || now_ms - spread->looked_ms < LOOK_MS)
        return;
    uint64_t busy = busy_ns(engine);
    struct spread_facts facts = {
        .loops = engine->loop_count,
        .open = spread->open,
        .elapsed_ms = now_ms - spread->looked_ms,
        .accepted = atomic_exchange(&spread->accepted, 0),
        .staying = caps_sessions(engine->caps),
        .busy_ms = (busy - spread->busy_ns) / 1000000,
    };
    unsigned open = spread_open(&facts);
    spread->looked_ms = now_ms;
    spread->busy_ns = busy;
    if (open != spread->open)
        give_to(own, open);
}
