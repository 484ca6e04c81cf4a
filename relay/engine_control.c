/*
 * engine_control.c - what the API asks of the whole: state gathered over all
 * loops, lanes woken, lanes recomputed.
 *
 * Gathering is a relay race: the request visits each loop by letter, adds what
 * it finds there, and comes home to loop 0. No loop waits for another.
 */
#include "relay/engine_impl.h"

#include "relay/base/memwatch.h"

#include <sys/resource.h>

struct gather {
    struct engine *engine;
    struct arena arena;
    struct api_state state;
    size_t lane_cap;
    bool with_lanes;
    unsigned at;
    api_state_fn *fn;
    void *arg;
};

static bool add_lane(void *arg, const struct sched_lane_info *info)
{
    struct gather *gather = arg;
    struct api_state *state = &gather->state;

    if (state->lane_count == gather->lane_cap) {
        gather->lane_cap = gather->lane_cap ? gather->lane_cap * 2 : 64;
        state->lanes = mem_realloc(state->lanes, gather->lane_cap * sizeof(*state->lanes));
    }
    state->lanes[state->lane_count++] = (struct api_lane){
        .lane = arena_str(&gather->arena, info->lane),
        .dest = arena_str(&gather->arena, info->dest),
        .host = arena_str(&gather->arena, info->host),
        .state = str_of(dest_state_word(info->state)),
        .trouble = arena_str(&gather->arena, info->trouble),
        .connections = info->connections,
        .window = info->window,
        .next_due = info->next_due,
        .wake_at = info->wake_at,
        .delivered = info->delivered,
        .later = info->later,
        .failed = info->failed,
    };
    return true;
}

static void add_loop(struct gather *gather, struct engine_loop *own)
{
    struct api_state *state = &gather->state;
    struct sched_counts counts;
    struct resolver_counts dns;

    if (!own->sched || !own->resolver)
        return;
    sched_counts(own->sched, &counts);
    dns = resolver_counts(own->resolver);
    state->connections_out += counts.connections;
    state->lanes_known += counts.lanes;
    state->lanes_sleeping += counts.lanes_sleeping;
    state->attempts += counts.attempts;
    state->delivered += counts.delivered;
    state->later += counts.later;
    state->failed += counts.failed;
    state->dns_asked += dns.asked;
    state->dns_cached += dns.cached;
    state->dns_sent += dns.sent;
    state->dns_timed_out += dns.timed_out;
    if (gather->with_lanes)
        sched_each_lane(own->sched, add_lane, gather);
}

static uint64_t descriptors_max(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

static void gathered(struct engine_loop *first, void *arg)
{
    struct gather *gather = arg;
    struct engine *engine = first->engine;
    struct api_state *state = &gather->state;

    state->arena = &gather->arena;
    state->sessions = caps_sessions(engine->caps);
    state->log_lost = log_lost(engine->log);
    state->trace_bytes = tracelog_bytes(engine->tracelog);
    state->trace_lost = tracelog_lost(engine->tracelog);
    state->started_us = engine->started_us;
    state->clock_jumps = engine->clock_jumps;
    state->stuck_s = engine->stuck.age_ms / 1000;
    state->stuck = arena_str(&gather->arena, str_of(engine->stuck.what));
    state->memory_shortages = engine->memory_shortages;
    state->memory_limit = engine->memory_limit;
    state->memory_anonymous = memwatch_anonymous();
    state->descriptors = memwatch_descriptors();
    state->descriptors_max = descriptors_max();
    state->reloads = engine->reloads;
    state->reloads_failed = engine->reloads_failed;
    state->reports_put_off = atomic_load(&engine->reports.put_off);
    if (engine->setup->tls)
        state->certificate_expires_at = tls_server_expires_at(engine->setup->tls);
    state->certificate_is_stale = engine->certificate.is_stale;
    gather->fn(gather->arg, state);
    free(state->lanes);
    arena_clear(&gather->arena);
    free(gather);
}

static void visit(struct engine_loop *own, void *arg)
{
    struct gather *gather = arg;
    struct engine *engine = gather->engine;

    add_loop(gather, own);
    if (++gather->at < engine->loop_count)
        engine_tell(&engine->loops[gather->at], visit, gather);
    else
        engine_tell(&engine->loops[0], gathered, gather);
}

void engine_gather(void *arg, bool with_lanes, api_state_fn *fn, void *fn_arg)
{
    struct engine *engine = arg;
    struct gather *gather = mem_alloc(sizeof(*gather));

    gather->engine = engine;
    gather->with_lanes = with_lanes;
    gather->fn = fn;
    gather->arg = fn_arg;
    arena_init(&gather->arena);
    engine_tell(&engine->loops[0], visit, gather);
}

static void flush_one(struct engine_loop *own, void *arg)
{
    char *lane = arg;

    if (!own->is_draining)
        sched_flush(own->sched, str_of(lane));
    free(lane);
}

void engine_flush(void *arg, struct str lane)
{
    struct engine *engine = arg;

    for (unsigned i = 0; i < engine->loop_count; i++)
        engine_tell(&engine->loops[i], flush_one, str_dup(lane));
}

/* On a store thread: loop 0 may put another setup in force meanwhile. */
void engine_reroute(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                    char out_lane[LANE_MAX])
{
    struct engine *engine = arg;

    struct setup *setup;

    pthread_mutex_lock(&engine->lock);
    setup = setup_ref(engine->setup);
    pthread_mutex_unlock(&engine->lock);
    setup_lane(setup, envelope, recipient, out_lane);
    setup_unref(&setup);
}
