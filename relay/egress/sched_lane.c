/*
 * sched_lane.c - the lanes of this loop: when they are due, where their mail
 * goes, and what a lane does in its turn.
 */
#include "relay/egress/sched_impl.h"

#define NO_ROUTE_RETRY_S 60
#define CLAIM_BYTES ((uint64_t)1 << 20) /* no more than this, and one, at once */
#define HAND_BYTES ((uint64_t)12 << 20) /* of claims in hand, all loops together */

/* ---- the table ---- */

struct sched_lane *sched_lane_get(struct sched *sched, struct str name)
{
    struct sched_lane *lane;

    HASH_FIND(hh, sched->lanes, name.at, name.len, lane);
    if (lane)
        return lane;
    lane = mem_alloc(sizeof(*lane));
    lane->sched = sched;
    lane->name = str_dup(name);
    lane->place = lane_place(str_of(lane->name));
    lane->is_smarthost = lane_is_smarthost(str_of(lane->name));
    lane->claims_last = &lane->claims;
    HASH_ADD_KEYPTR(hh, sched->lanes, lane->name, name.len, lane);
    return lane;
}

void lane_plan_drop(struct sched_lane *lane)
{
    if (lane->lookup) {
        route_cancel(&lane->lookup);
        lane->sched->lookups--;
    }
    if (lane->plan)
        route_plan_unref(&lane->plan);
}

void lane_free(struct sched_lane **lane_at)
{
    struct sched_lane *lane = *lane_at;

    *lane_at = NULL;
    HASH_DELETE(hh, lane->sched->lanes, lane);
    timer_stop(&lane->sched->waiting, &lane->due_timer);
    lane_unline(lane);
    lane_drop_slot(lane);
    lane_plan_drop(lane);
    dest_unref(&lane->dest);
    free(lane->name);
    free(lane);
}

void lane_maybe_free(struct sched_lane **lane)
{
    struct sched_lane *l = *lane;

    if (l->is_claiming || l->settling || l->works || l->claims || l->redo)
        return;
    if (!l->sched->is_draining &&
        (l->due_at || l->lookup || (l->line != LINE_NONE && l->line != LINE_READY)))
        return;
    lane_free(lane);
}

/* ---- when ---- */

/* It may stand in a line for a connection: then others may have one. */
static void run_or_pass(struct sched_lane *lane)
{
    lane_ready(lane);
    if (lane->line != LINE_READY && lane_is_due(lane))
        lane_pass(lane);
}

static void lane_is_now_due(void *arg) { run_or_pass(arg); }

static void look_at_clock(void *arg)
{
    struct sched *sched = arg;

    sched->timer_at_ms = 0;
    (void)timers_run(&sched->waiting, (uint64_t)(loop_wall_us(sched->options.loop) / 1000));
    lane_arm(sched);
}

void sched_clock_set(struct sched *sched)
{
    if (!sched->is_draining)
        look_at_clock(sched);
}

void lane_arm(struct sched *sched)
{
    struct loop *loop = sched->options.loop;
    int64_t now = loop_wall_us(loop) / 1000;
    uint64_t due, delay;

    if (!timers_next(&sched->waiting, &due)) {
        loop_timer_stop(loop, &sched->timer);
        return;
    }
    delay = (int64_t)due > now ? due - (uint64_t)now : 0;
    if (delay > SCHED_CLOCK_LOOK_MS)
        delay = SCHED_CLOCK_LOOK_MS;
    if (timer_is_running(&sched->timer) && sched->timer_at_ms <= now + (int64_t)delay)
        return;
    sched->timer_at_ms = now + (int64_t)delay;
    loop_timer_start(loop, &sched->timer, delay, look_at_clock, sched);
}

static void wait_until_due(struct sched_lane *lane)
{
    struct sched *sched = lane->sched;
    uint64_t due_ms = (uint64_t)lane->due_at * 1000;

    if (timer_is_running(&lane->due_timer) && lane->due_timer.due_ms == due_ms)
        return;
    timer_start(&sched->waiting, &lane->due_timer, due_ms, lane_is_now_due, lane);
    lane_arm(sched);
}

void sched_lane_due(struct sched_lane *lane, int64_t due_at)
{
    int64_t *at = lane->is_claiming ? &lane->told_at : &lane->due_at;

    if (due_at < 1)
        due_at = 1;
    if (!*at || due_at < *at)
        *at = due_at;
    run_or_pass(lane);
    if (lane->line != LINE_READY && lane->due_at && !lane_is_due(lane))
        wait_until_due(lane);
}

static bool may_pass_on(const struct sched_lane *lane)
{
    return lane->is_smarthost && !lane->is_passed && lane->sched->options.pass;
}

void lane_pass(struct sched_lane *lane)
{
    const struct sched_options *options = &lane->sched->options;

    if (!may_pass_on(lane))
        return;
    lane->is_passed = true;
    options->pass(options->pass_arg, lane->name, lane->due_at);
}

/* ---- where ---- */

static bool plan_is_good(const struct sched_lane *lane)
{
    return lane->plan && loop_now_ms(lane->sched->options.loop) < lane->plan_until_ms;
}

static void plan_found(void *arg, struct route_plan *plan)
{
    struct sched_lane *lane = arg;
    struct sched *sched = lane->sched;
    uint64_t ttl_s = plan->ttl_s < SCHED_PLAN_MAX_S ? plan->ttl_s : SCHED_PLAN_MAX_S;

    lane->lookup = NULL;
    sched->lookups--;
    if (lane->plan)
        route_plan_unref(&lane->plan);
    lane->plan = plan;
    lane->plan_until_ms = loop_now_ms(sched->options.loop) + (ttl_s ? ttl_s : 1) * 1000;
    lane_dest_choose(lane);
    if (sched->unrouted)
        lane_let_go(sched->unrouted);
    lane_ready(lane);
}

static void find_plan(struct sched_lane *lane, const struct route_settings *route)
{
    struct sched *sched = lane->sched;
    struct route_options options = {
        .resolver = sched->options.resolver,
        .hostname = sched->hostname,
        .locals = sched->settings->locals,
        .local_count = sched->settings->local_count,
    };

    if (sched->lookups >= SCHED_LOOKUPS_MAX) {
        lane_unroute(lane);
        return;
    }
    sched->lookups++;
    route_find(sched->options.loop, &options, route, lane->place, plan_found, lane, &lane->lookup);
}

/* ---- a turn ---- */

static bool has_in_hand(const struct sched_lane *lane) { return lane->claims || lane->redo; }

static bool is_asleep(const struct sched_lane *lane)
{
    return lane->dest && lane->dest->dest.state == DEST_SLEEPING &&
           loop_now_ms(lane->sched->options.loop) < lane->dest->dest.wake_at_ms;
}

static bool needs_connection(const struct sched_lane *lane)
{
    if (lane->line != LINE_NONE || lane->lookup)
        return false;
    if (has_in_hand(lane))
        return true; /* what idle connections could take, they took */
    return lane->work_count == 0 && !lane->slot && !lane->is_claiming && lane_is_due(lane);
}

/* A connection's share of what may be in hand: with a thousand of them, each with
 * the most it may claim, the queue would stand in memory instead of on disk. */
static uint64_t claim_bytes_max(const struct sched *sched)
{
    uint64_t mine = HAND_BYTES / sched_loops(sched);
    uint64_t share = mine / (sched->connections ? sched->connections : 1);
    uint64_t room = mine > sched->hand_bytes ? mine - sched->hand_bytes : 0;

    /* The first of many connections do not know of the others yet. */
    if (room / 8 < share)
        share = room / 8;
    return share < CLAIM_BYTES ? share : CLAIM_BYTES;
}

static size_t claim_size(const struct sched_lane *lane)
{
    const struct dest *dest = &lane->dest->dest;
    uint64_t bytes = lane->claim_bytes ? lane->claim_bytes : lane->sched->claim_bytes;
    uint64_t fit = claim_bytes_max(lane->sched) / sched_claim_cost(bytes);
    double rate = dest->limits.rate_per_s;

    if (dest->state != DEST_READY)
        return 1;
    if (fit < SCHED_CLAIM_MAX)
        return 1 + (size_t)fit;
    if (rate > 0.0 && rate * 2.0 < SCHED_CLAIM_MAX)
        return 1 + (size_t)(rate * 2.0);
    return SCHED_CLAIM_MAX;
}

/* So many are left when more are asked for: one for each connection, that none waits
 * for the store. It would stand idle meanwhile, and go when others wait for one. */
static size_t enough_in_hand(const struct sched_lane *lane)
{
    size_t size = claim_size(lane), half = size < 4 ? 1 : size / 2 - 1;

    return lane->work_count < half ? lane->work_count : half;
}

/* Another message would have to wait here until one that is under way is done. */
static bool is_full(const struct sched_lane *lane)
{
    uint64_t now = loop_now_ms(lane->sched->options.loop);

    return !lane->idle && (sched_room(lane) == 0 || dest_room(&lane->dest->dest, now) == 0);
}

static bool is_left_to_others(const struct sched_lane *lane)
{
    return lane->is_smarthost && lane->dest && lane->dest->dest.limits.max_connections == 0;
}

static bool needs_claim(const struct sched_lane *lane)
{
    if (lane->is_claiming || lane->sched->is_held_up || !lane_is_due(lane))
        return false;
    if (lane->slot)
        return !has_in_hand(lane);
    if (lane->work_count == 0 || is_asleep(lane) || lane->claim_count > enough_in_hand(lane))
        return false;
    /* After a reload what still runs may not take more, and nothing else would. */
    if (is_left_to_others(lane) || !sched_route(lane->sched, lane))
        return false;
    return !may_pass_on(lane) || !is_full(lane); /* before it waits here, others may have it */
}

void lane_fill(struct sched_lane *lane)
{
    if (needs_claim(lane))
        lane_claim(lane, claim_size(lane));
}

/* A slot and a token; with claims in hand, also a delivery. */
static void open_connection(struct sched_lane *lane)
{
    uint64_t retry;

    if (!lane->slot && lane_take_slot(lane))
        return;
    if (!lane->has_token && lane_take_token(lane, lane->slot, &retry)) {
        lane_drop_slot(lane);
        lane_throttle(lane, retry);
        return;
    }
    lane->has_token = true;
    if (!has_in_hand(lane))
        return;
    work_start(lane);
    if (has_in_hand(lane))
        lane_ready(lane); /* another one, after the others had their turn */
}

/* A reload took the route away; its mail is being moved to other lanes. What is not must
 * not sleep here for ever. */
static void look_what_is_left(struct sched_lane *lane)
{
    lane_drop_slot(lane);
    lane_give_back(lane);
    if (lane->is_claiming)
        return; /* its answer comes back here */
    lane->is_lost = true;
    lane_claim(lane, 0);
}

void lane_lost(struct sched_lane *lane)
{
    struct sched *sched = lane->sched;
    int64_t again_at = loop_wall_s(sched->options.loop) + NO_ROUTE_RETRY_S;

    lane->is_lost = false;
    if (!lane->due_at || sched_route(sched, lane))
        return;
    lane->due_at = again_at;
    if (sched->options.lost)
        sched->options.lost(sched->options.lost_arg);
}

void lane_follow(struct sched_lane *lane, const struct sched_settings *before)
{
    const struct route_settings *is = sched_route(lane->sched, lane);
    const struct route_settings *was =
        route_named(before->routes, before->route_count, lane_route_name(str_of(lane->name)),
                    lane->is_smarthost);

    if (is && !was)
        sched_lane_due(lane, 1); /* it was put off for want of one */
    if (is && was && !route_same(is, was))
        lane_dest_forget(lane);
}

static void try_to_open(struct sched_lane *lane)
{
    const struct route_settings *route = sched_route(lane->sched, lane);

    if (!route) {
        look_what_is_left(lane);
    } else if (is_asleep(lane)) {
        lane_drop_slot(lane);
        lane_block(lane, lane->dest->dest.wake_at_ms);
    } else if (lane->sched->is_held_up && !has_in_hand(lane)) {
        lane_unroute(lane);
    } else if (!plan_is_good(lane) && !(lane->slot && lane->plan)) {
        lane_drop_slot(lane);
        find_plan(lane, route);
    } else if (is_left_to_others(lane)) {
        /* Fewer connections than loops: other loops see to this lane. */
        lane_give_back(lane);
        lane_pass(lane);
        lane->due_at = 0;
    } else {
        open_connection(lane);
    }
}

/* A connection is kept for nothing while others wait for one; the next of them
 * goes when this one has ended and that was not enough. */
static void give_up_idle(struct sched_lane *lane)
{
    if (lane->idle && !has_in_hand(lane) && !lane->is_claiming && !lane_is_due(lane) &&
        lane_is_envied(lane, lane->idle->dest))
        work_quit(lane->idle);
}

static void end_turn(struct sched_lane *lane)
{
    struct sched_dest *dest = lane->dest;

    give_up_idle(lane);
    if (lane->slot && !lane->is_claiming)
        lane_drop_slot(lane); /* idle connections took everything */
    if (lane->work_count == 0 && lane->line != LINE_NONE && lane->line != LINE_READY)
        lane_give_back(lane);
    if (lane->line != LINE_READY && lane->due_at && !lane_is_due(lane))
        wait_until_due(lane);
    if (lane->line != LINE_READY && !lane->is_claiming && !lane->lookup && lane_is_due(lane))
        lane_pass(lane);
    /* It was let go and did not use the room: the next one may. */
    if (dest && !lane->lookup && (dest->blocked || dest->throttled))
        dest_let_go(dest);
    if (dest)
        sweep_begin(dest);
    lane_maybe_free(&lane);
}

void lane_run(struct sched_lane *lane)
{
    if (lane->sched->is_draining) {
        lane_give_back(lane);
        if (!lane->is_claiming)
            lane_drop_slot(lane);
        lane_maybe_free(&lane);
        return;
    }
    work_hand_out(lane);
    if (needs_connection(lane))
        try_to_open(lane);
    else if (lane->line == LINE_NONE && !lane->lookup && is_asleep(lane) && lane_is_due(lane))
        lane_block(lane, lane->dest->dest.wake_at_ms); /* a connection that hangs is no probe */
    lane_fill(lane);
    end_turn(lane);
}
