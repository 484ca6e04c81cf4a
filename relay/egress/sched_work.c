/*
 * sched_work.c - deliveries: opened with a claim, given more while there is
 * more, kept a while, then let go.
 */
#include "relay/egress/sched_impl.h"

/* ---- slots ---- */

enum err lane_take_slot(struct sched_lane *lane)
{
    struct sched *sched = lane->sched;
    uint64_t retry;

    if (sched_room(lane) == 0) {
        lane_starve(lane);
        return ERR_AGAIN;
    }
    if (dest_acquire(&lane->dest->dest, loop_now_ms(sched->options.loop), &retry)) {
        lane_block(lane, retry);
        return ERR_AGAIN;
    }
    sched->connections++;
    lane->slot = lane->dest;
    lane->slot->refs++;
    return ERR_OK;
}

static void slot_back(struct sched *sched, struct sched_dest *dest)
{
    sched->connections--;
    dest_release(&dest->dest, loop_now_ms(sched->options.loop));
    dest_let_go(dest);
    dest_unref(&dest);
    sched_let_go(sched);
}

void lane_drop_slot(struct sched_lane *lane)
{
    struct sched_dest *dest = lane->slot;

    if (!dest)
        return;
    lane->slot = NULL;
    if (lane->has_token)
        dest_message_undo(&dest->dest);
    lane->has_token = false;
    slot_back(lane->sched, dest);
}

/* ---- idle ones ---- */

static void unidle(struct sched_work *work)
{
    struct sched *sched = work->lane->sched;

    if (!work->is_idle)
        return;
    work->is_idle = false;
    loop_timer_stop(sched->options.loop, &work->reuse_timer);
    DL_DELETE2(work->lane->idle, work, idle_prev, idle_next);
    DL_DELETE2(work->dest->idle, work, dest_prev, dest_next);
    DL_DELETE2(sched->idle, work, all_prev, all_next);
    DL_APPEND2(sched->busy, work, all_prev, all_next);
}

void work_quit(struct sched_work *work)
{
    unidle(work);
    delivery_quit(work->delivery);
}

static void kept_long_enough(void *arg) { work_quit(arg); }

static void keep(struct sched_work *work)
{
    struct sched *sched = work->lane->sched;
    uint64_t reuse_ms = sched->settings->reuse_ms ? sched->settings->reuse_ms : SCHED_REUSE_MS;

    work->is_idle = true;
    DL_PREPEND2(work->lane->idle, work, idle_prev, idle_next);
    DL_APPEND2(work->dest->idle, work, dest_prev, dest_next);
    DL_DELETE2(sched->busy, work, all_prev, all_next);
    DL_APPEND2(sched->idle, work, all_prev, all_next);
    loop_timer_start(sched->options.loop, &work->reuse_timer, reuse_ms, kept_long_enough, work);
}

/* ---- giving ---- */

static void give(struct sched_work *work, struct claim *claim)
{
    work->turn++;
    work->given_ms = work->busy_since_ms = loop_now_ms(work->lane->sched->options.loop);
    sched_tell_wait(work->lane, claim, STR_EMPTY);
    delivery_give(work->delivery, claim);
}

/* It had its share, with those still `under_way`, or must not be used any more. */
static bool is_used_up(const struct sched_work *work, unsigned under_way)
{
    const struct sched *sched = work->lane->sched;
    unsigned most = work->dest->dest.limits.messages_per_connection;

    if (sched->is_draining || work->settings != sched->settings || work->dest != work->lane->dest)
        return true;
    if (most && delivery_sent(work->delivery) + under_way >= most)
        return true;
    return work->turn >= SCHED_TURN_MESSAGES && lane_is_envied(work->lane, work->dest);
}

void work_hand_out(struct sched_lane *lane)
{
    uint64_t retry;

    while (lane->claims && lane->idle) {
        struct sched_work *work = lane->idle;
        if (is_used_up(work, 0)) {
            work_quit(work);
            continue;
        }
        if (lane_take_token(lane, work->dest, &retry)) {
            if (lane->line == LINE_NONE)
                lane_throttle(lane, retry);
            return;
        }
        unidle(work);
        give(work, lane_claim_next(lane));
    }
}

/* ---- what deliveries tell ---- */

/* A kept connection that the other side closed while our next message was under
 * way to it says nothing about the place: that message goes over a new one. */
static bool is_dead_reuse(const struct sched_work *work, const struct claim *claim,
                          const struct delivery_result *results)
{
    if (delivery_sent(work->delivery) == 0)
        return false;
    for (size_t i = 0; i < claim->count; i++) {
        const struct outcome *outcome = &results[i].outcome;
        bool is_gone = outcome->kind == CLASS_NETWORK || str_starts(results[i].said, STR("421"));
        if (outcome->result != RESULT_LATER || !is_gone || outcome->unknown_delivery ||
            results[i].stage != STAGE_MAIL ||
            (outcome->scope != SCOPE_HOST && outcome->scope != SCOPE_DEST))
            return false;
    }
    return true;
}

/* The relay stops, and nothing of this claim was tried: due again at once. */
static bool is_untouched(const struct sched *sched, const struct claim *claim,
                         const struct delivery_result *results)
{
    for (size_t i = 0; i < claim->count; i++)
        if (results[i].attempted || results[i].outcome.result != RESULT_LATER)
            return false;
    return sched->is_aborting;
}

/* The one result that says most about the place. */
static const struct delivery_result *telling(const struct claim *claim,
                                             const struct delivery_result *results)
{
    const struct delivery_result *best = &results[0];

    for (size_t i = 0; i < claim->count; i++) {
        enum scope scope = results[i].outcome.scope;
        if (results[i].outcome.result == RESULT_LATER &&
            (scope == SCOPE_DEST || scope == SCOPE_HOST))
            return &results[i];
        if (results[i].outcome.result == RESULT_DELIVERED)
            best = &results[i];
    }
    return best;
}

static void work_done(void *arg, struct delivery *delivery, struct claim *claim,
                      const struct delivery_result *results)
{
    struct sched_work *work = arg;
    struct sched_lane *lane = work->lane;

    (void)delivery;
    if (!lane->sched->is_aborting && is_dead_reuse(work, claim, results)) {
        claim->next = lane->redo;
        lane->redo = claim;
        return;
    }
    /* The one that was sent behind it, if any, has its turn from now on. */
    work->busy_since_ms = loop_now_ms(lane->sched->options.loop);
    if (is_untouched(lane->sched, claim, results)) {
        store_unclaim(lane->sched->options.store, &claim);
        return;
    }
    const struct delivery_result *most = telling(claim, results);
    lane_note_pace(lane, loop_now_ms(lane->sched->options.loop) - work->given_ms,
                   most->outcome.result == RESULT_DELIVERED);
    dest_hear(lane, work->dest, most, &claim->message->envelope.id);
    settle_results(lane, claim, results);
}

/* Claims left its hand. */
static void took(struct sched_lane *lane)
{
    /* A lane that stands in line for another connection keeps its place there
     * as long as it has mail for one. */
    if (lane->claims || lane->redo) {
        lane_fill(lane);
        if (lane_is_due(lane) && !lane->is_claiming)
            lane_pass(lane);
    } else
        lane_let_go(lane);
    lane_ready(lane);
}

static void work_free(void *arg, struct delivery *delivery)
{
    struct sched_work *work = arg;
    struct sched_lane *lane = work->lane;
    uint64_t retry;

    (void)delivery;
    if (is_used_up(work, 0)) {
        delivery_quit(work->delivery);
        return;
    }
    if (lane->claims && !lane_take_token(lane, work->dest, &retry))
        give(work, lane_claim_next(lane));
    else
        keep(work);
    took(lane);
}

/* Only when the lane can have no other connection for it: it waits here for the
 * reply to the message before it. */
static struct claim *work_take(void *arg, struct delivery *delivery)
{
    struct sched_work *work = arg;
    struct sched_lane *lane = work->lane;
    bool is_full = lane->line == LINE_BLOCKED || lane->line == LINE_STARVED;
    struct claim *claim;
    uint64_t retry;

    (void)delivery;
    if (!is_full || !lane->claims || lane->redo || lane->idle || is_used_up(work, 1) ||
        lane_take_token(lane, work->dest, &retry))
        return NULL;
    claim = lane_claim_next(lane);
    work->turn++;
    sched_tell_wait(lane, claim, STR_EMPTY);
    took(lane);
    return claim;
}

static void work_untake(void *arg, struct delivery *delivery, struct claim *claim)
{
    struct sched_work *work = arg;

    (void)delivery;
    work->turn--;
    dest_message_undo(&work->dest->dest);
    lane_claim_return(work->lane, claim);
    lane_ready(work->lane);
}

static void work_ended(void *arg, struct delivery *delivery, const struct outcome *trouble)
{
    struct sched_work *work = arg;
    struct sched_lane *lane = work->lane;
    struct sched *sched = lane->sched;

    (void)delivery;
    (void)trouble; /* its claims told it already; an idle connection may end as it likes */
    unidle(work);
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is in the list
    DL_DELETE2(sched->busy, work, all_prev, all_next);
    DL_DELETE2(lane->works, work, lane_prev, lane_next);
    lane->work_count--;
    if (lane->work_count == 0 && lane->line != LINE_NONE && lane->line != LINE_READY)
        lane_give_back(lane);
    sweep_begin(work->dest);
    slot_back(sched, work->dest);
    free(work);
    lane_ready(lane);
    sched_check_idle(sched);
}

/* ---- starting ---- */

static struct claim *take_first(struct sched_lane *lane)
{
    struct claim *claim = lane->redo;

    if (!claim)
        return lane_claim_next(lane);
    lane->redo = claim->next;
    claim->next = NULL;
    return claim;
}

void work_start(struct sched_lane *lane)
{
    struct sched *sched = lane->sched;
    struct sched_work *work = mem_alloc(sizeof(*work));
    struct claim *claim = take_first(lane);
    struct delivery_options options = {
        .loop = sched->options.loop,
        .resolver = sched->options.resolver,
        .store = sched->options.store,
        .keyring = sched->options.keyring,
        .route = sched_route(sched, lane),
        .plan = lane->plan,
        .lane = str_of(lane->name),
        .hostname = sched->settings->hostname,
        .timeouts = sched->settings->timeouts,
        .connect_ms = sched->settings->connect_ms,
        .done = work_done,
        .free_now = work_free,
        .take = work_take,
        .untake = work_untake,
        .ended = work_ended,
        .arg = work,
    };

    work->given_ms = work->busy_since_ms = loop_now_ms(lane->sched->options.loop);
    work->lane = lane;
    work->dest = lane->slot; /* its reference and the slot go over */
    lane->slot = NULL;
    lane->has_token = false;
    work->settings = sched->settings;
    work->turn = 1;
    DL_APPEND2(lane->works, work, lane_prev, lane_next);
    DL_APPEND2(sched->busy, work, all_prev, all_next);
    lane->work_count++;
    sched_tell_wait(lane, claim, STR_EMPTY);
    sched_tell_route(lane, claim);
    options.attempt = claim->message->envelope.recipients[claim->indexes[0]].attempts + 1;
    work->delivery = delivery_start(&options, claim);
}
