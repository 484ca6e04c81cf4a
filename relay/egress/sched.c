/*
 * sched.c - the scheduler of one loop as its owner sees it.
 */
#include "relay/egress/sched_impl.h"

#define TURNS_AT_ONCE 256 /* then the sockets have their turn */

uint64_t sched_noise(const struct msgid *id)
{
    return str_hash(str_make((const char *)id->bytes, sizeof(id->bytes)), 0);
}

unsigned sched_loop_of(struct str lane, unsigned loops)
{
    return loops > 1 ? (unsigned)(str_hash(lane, 0) % loops) : 0;
}

/* ---- turns ---- */

static void run(void *arg)
{
    struct sched *sched = arg;

    for (unsigned n = 0; sched->ready && n < TURNS_AT_ONCE; n++) {
        struct sched_lane *lane = sched->ready;
        lane_unline(lane);
        lane_run(lane);
    }
    /* By a timer: deferred calls would all run before the sockets are looked at. */
    if (sched->ready)
        loop_timer_start(sched->options.loop, &sched->run_timer, 0, run, sched);
    sched_check_idle(sched);
}

void sched_run_soon(struct sched *sched)
{
    if (!sched->run.is_queued && !timer_is_running(&sched->run_timer))
        loop_defer(sched->options.loop, &sched->run, run, sched);
}

static void tell_idle(void *arg)
{
    struct sched *sched = arg;

    if (sched->idle_fn)
        sched->idle_fn(sched->idle_arg);
}

void sched_check_idle(struct sched *sched)
{
    if (!sched->is_draining || sched->is_idle_told || sched->busy || sched->idle ||
        sched->claims_out || sched->ready || settle_is_busy(sched))
        return;
    sched->is_idle_told = true;
    loop_defer(sched->options.loop, &sched->idle_call, tell_idle, sched);
}

/* ---- life ---- */

static void take_settings(struct sched *sched, const struct sched_settings *settings)
{
    sched->settings = settings;
    free(sched->hostname);
    sched->hostname = str_dup(settings->hostname);
}

struct sched *sched_new(const struct sched_options *options, const struct sched_settings *settings)
{
    struct sched *sched = mem_alloc(sizeof(*sched));

    sched->options = *options;
    sched->settling_last = &sched->settling;
    timers_init(&sched->waiting);
    take_settings(sched, settings);
    return sched;
}

void sched_set(struct sched *sched, const struct sched_settings *settings, struct keyring *keyring)
{
    const struct sched_settings *before = sched->settings;
    struct sched_lane *lane, *next;

    take_settings(sched, settings);
    sched->options.keyring = keyring;
    HASH_ITER (hh, sched->lanes, lane, next) {
        lane_plan_drop(lane);
        if (lane->dest)
            dest_limits_renew(lane->dest);
        lane_follow(lane, before);
        lane_ready(lane);
    }
    while (sched->unrouted)
        lane_let_go(sched->unrouted);
    sched_let_go(sched);
    while (sched->idle)
        work_quit(sched->idle); /* the next message goes by the new settings */
}

bool sched_settings_idle(const struct sched *sched, const struct sched_settings *settings)
{
    const struct sched_work *work;

    if (sched->settings == settings)
        return false;
    DL_FOREACH2(sched->busy, work, all_next)
    if (work->settings == settings)
        return false;
    DL_FOREACH2(sched->idle, work, all_next)
    if (work->settings == settings)
        return false;
    return true;
}

void sched_drain(struct sched *sched, loop_fn *idle, void *arg)
{
    struct sched_lane *lane, *next;

    sched->idle_fn = idle;
    sched->idle_arg = arg;
    if (sched->is_draining)
        return;
    sched->is_draining = true;
    HASH_ITER (hh, sched->lanes, lane, next) {
        lane_plan_drop(lane);
        lane_let_go(lane);
    }
    while (sched->idle)
        work_quit(sched->idle);
    sched_run_soon(sched);
}

void sched_abort(struct sched *sched)
{
    sched->is_draining = sched->is_aborting = true;
    while (sched->idle)
        delivery_abort(sched->idle->delivery);
    while (sched->busy)
        delivery_abort(sched->busy->delivery);
    settle_abort(sched);
    sched_run_soon(sched);
}

void sched_free(struct sched **sched_at)
{
    struct sched *sched = *sched_at;
    struct sched_lane *lane, *next;

    *sched_at = NULL;
    if (!sched)
        return;
    HASH_ITER (hh, sched->lanes, lane, next) {
        lane_give_back(lane);
        lane_free(&lane);
    }
    loop_timer_stop(sched->options.loop, &sched->timer);
    loop_timer_stop(sched->options.loop, &sched->run_timer);
    loop_undefer(sched->options.loop, &sched->run);
    loop_undefer(sched->options.loop, &sched->flush);
    loop_undefer(sched->options.loop, &sched->idle_call);
    timers_clear(&sched->waiting);
    free(sched->hostname);
    free(sched);
}

/* ---- from outside ---- */

void sched_ready(struct sched *sched, const char *name, int64_t due_at, bool is_passed)
{
    struct loop *loop = sched->options.loop;
    struct str lane = str_of(name);

    if (sched->is_draining)
        return;
    if (!lane_is_smarthost(lane) && sched_loop_of(lane, loop_count(loop)) != loop_index(loop))
        return;
    struct sched_lane *one = sched_lane_get(sched, lane);
    one->is_passed = is_passed;
    sched_lane_due(one, due_at);
}

void sched_flush(struct sched *sched, struct str typed)
{
    struct sched_lane *lane, *next;
    uint64_t now = loop_now_ms(sched->options.loop);

    if (sched->is_draining)
        return;
    HASH_ITER (hh, sched->lanes, lane, next) {
        if (typed.len > 0 && !lane_matches(str_of(lane->name), typed))
            continue;
        lane_plan_drop(lane);
        if (lane->dest) {
            dest_wake(&lane->dest->dest, now);
            dest_let_go(lane->dest);
        }
        lane_ready(lane);
    }
}

/* ---- looking in ---- */

static int64_t wall_s_of(const struct sched *sched, uint64_t at_ms)
{
    uint64_t now = loop_now_ms(sched->options.loop);
    int64_t now_s = loop_wall_s(sched->options.loop);

    return at_ms > now ? now_s + (int64_t)((at_ms - now) / 1000) : now_s;
}

static void describe(const struct sched_lane *lane, struct sched_lane_info *info)
{
    const struct sched_dest *dest = lane->dest;

    *info = (struct sched_lane_info){
        .lane = str_of(lane->name),
        .host =
            lane->plan && lane->plan->host_count ? str_of(lane->plan->hosts[0].name) : STR_EMPTY,
        .connections = lane->work_count,
        .next_due = lane->due_at,
    };
    if (!dest)
        return;
    info->dest = str_of(dest->name);
    info->state = dest->dest.state;
    info->window = (unsigned)dest->dest.window;
    info->delivered = dest->dest.delivered;
    info->later = dest->dest.later;
    info->failed = dest->dest.failed;
    if (dest->dest.state == DEST_READY)
        return;
    info->wake_at = wall_s_of(lane->sched, dest->dest.wake_at_ms);
    info->trouble = str_of(dest->dest.last_trouble.cause);
}

void sched_each_lane(const struct sched *sched, sched_lane_fn *fn, void *arg)
{
    struct sched_lane_info info;

    for (const struct sched_lane *lane = sched->lanes; lane; lane = lane->hh.next) {
        describe(lane, &info);
        if (!fn(arg, &info))
            return;
    }
}

#define OVERDUE_MS (DELIVERY_TOTAL_MS + STUCK_MS)

void sched_stuck(const struct sched *sched, struct stuck *stuck)
{
    uint64_t now_ms = loop_now_ms(sched->options.loop);
    const struct sched_work *work;

    settle_stuck(sched, stuck);
    for (const struct sched_lane *lane = sched->lanes; lane && sched->claims_out > 0;
         lane = lane->hh.next)
        if (lane->is_claiming)
            stuck_offer(stuck, lane->claiming_since_ms, now_ms, STUCK_MS,
                        "the lane %.200s waits for its mail from the store", lane->name);
    DL_FOREACH2(sched->busy, work, all_next)
    stuck_offer(stuck, work->busy_since_ms, now_ms, OVERDUE_MS,
                "an attempt of the lane %.200s has outlived its deadline", work->lane->name);
}

void sched_counts(const struct sched *sched, struct sched_counts *out_counts)
{
    *out_counts = (struct sched_counts){
        .connections = sched->connections,
        .lanes = HASH_COUNT(sched->lanes),
        .attempts = sched->attempts,
        .delivered = sched->delivered,
        .later = sched->later,
        .failed = sched->failed,
    };
    for (const struct sched_lane *lane = sched->lanes; lane; lane = lane->hh.next)
        if (lane->dest && lane->dest->dest.state != DEST_READY)
            out_counts->lanes_sleeping++;
}
