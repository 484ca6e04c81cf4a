/*
 * sched_sweep.c - mail for a place that is down is not attempted, but its
 * lifetime runs.
 *
 * After a failed probe the due entries of the lanes that wait for the place are
 * looked at, by age: those past their lifetime fail with the place's words, and a
 * delay warning is given where it is time. All others stay as they are: nothing is
 * written for them, however many there are, and when the place is back they are
 * due. Outages too short to matter to anybody are not swept.
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

static bool is_worth_it(const struct sched_dest *dest)
{
    const struct sched *sched = dest->sched;

    return dest->dest.state == DEST_SLEEPING && dest->down_since_s && !sched->is_draining &&
           loop_wall_s(sched->options.loop) - dest->down_since_s >= sweep_after_s(sched->settings);
}

/* Who arrived before these moments: the ruling has the last word. */
static struct claim_look look_of(const struct sched *sched)
{
    const struct sched_settings *settings = sched->settings;
    int64_t now_s = loop_wall_s(sched->options.loop);

    return (struct claim_look){
        .expired_before = now_s - (int64_t)settings->lifetime_s + 1,
        .late_before = settings->warn_after_s ? now_s - (int64_t)settings->warn_after_s + 1 : 0,
    };
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
            struct claim_look look = look_of(dest->sched);
            dest->is_sweeping = true;
            lane_look(lane, SWEEP_BATCH, &look);
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

void sweep_claimed(struct sched_lane *lane, struct claim *claims, const struct claim_look *more)
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
    if (go_on && more) {
        dest->is_sweeping = true;
        lane_look(lane, SWEEP_BATCH, more);
    } else if (go_on) {
        sweep_next(dest);
    }
}
