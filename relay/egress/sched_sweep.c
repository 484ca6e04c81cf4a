/*
 * sched_sweep.c - mail for a place that is down is not attempted, but its
 * lifetime runs.
 *
 * After a failed probe the due entries of the lanes that wait for the place are
 * looked at in small batches: those past their lifetime fail with the place's
 * words, a delay warning is given where it is time, and all others are put off
 * for as long as the place has been down already (as if attempted: so an entry
 * costs a look now and then, not one per probe, and none hides another). When
 * the place is back, what was put off is claimed at once, due or not. Outages
 * too short to matter to anybody are not swept.
 *
 * Looking only at the oldest entries would be cheaper still, but the store gives
 * out by due time: fresh mail would hide what was put off before.
 */
#include "relay/egress/sched_impl.h"

#define SWEEP_BATCH 64
#define SWEEP_AFTER_MAX_S 900

static int64_t sweep_after_s(const struct sched_settings *settings)
{
    uint64_t after = SWEEP_AFTER_MAX_S;

    if (settings->lifetime_s / 4 < after)
        after = settings->lifetime_s / 4;
    if (settings->warn_after_s && settings->warn_after_s / 4 < after)
        after = settings->warn_after_s / 4;
    return (int64_t)after;
}

/* No entry is put off for longer (ruling_of_outage). */
static int64_t put_off_max_s(const struct sched_dest *dest)
{
    const struct sched_settings *settings = dest->sched->settings;
    uint32_t most = settings->backoff.max_s;

    if (dest->dest.limits.backoff.max_s > most)
        most = dest->dest.limits.backoff.max_s;
    return (int64_t)most + 86400; /* a peer's hint may let it sleep for a day */
}

static bool is_worth_it(const struct sched_dest *dest)
{
    const struct sched *sched = dest->sched;

    return dest->dest.state == DEST_SLEEPING && dest->down_since_s && !sched->is_draining &&
           loop_wall_s(sched->options.loop) - dest->down_since_s >= sweep_after_s(sched->settings);
}

/* The lane that has waited longest; it goes to the end of the line. */
static void sweep_next(struct sched_dest *dest)
{
    struct sched_lane *lane = dest->blocked;

    while (lane && dest->sweeps_left > 0) {
        dest->sweeps_left--;
        if (!lane->is_claiming && lane->work_count == 0) {
            DL_DELETE(dest->blocked, lane);
            DL_APPEND(dest->blocked, lane);
            lane->is_sweep = dest->is_sweeping = true;
            lane_claim(lane, SWEEP_BATCH);
            return;
        }
        lane = lane->next;
    }
    dest->sweeps_left = 0;
}

void sweep_begin(struct sched_dest *dest)
{
    if (!dest->sweep_wanted || dest->is_sweeping || !is_worth_it(dest))
        return;
    dest->sweep_wanted = false;
    dest->sweeps_left = dest->blocked_count;
    sweep_next(dest);
}

void sweep_claimed(struct sched_lane *lane, struct claim *claims, bool more)
{
    struct sched_dest *dest = lane->dest;
    bool go_on = lane->line == LINE_BLOCKED && is_worth_it(dest);

    dest->is_sweeping = false;
    if (!go_on && claims)
        store_unclaim(lane->sched->options.store, &claims);
    while (claims) {
        struct claim *claim = claims;
        claims = claim->next;
        claim->next = NULL;
        settle_outage(lane, claim);
    }
    if (go_on)
        lane->put_off_until = loop_wall_s(lane->sched->options.loop) + put_off_max_s(dest);
    if (go_on && more) {
        lane->is_sweep = dest->is_sweeping = true;
        lane_claim(lane, SWEEP_BATCH);
    } else if (go_on) {
        sweep_next(dest);
    }
}
