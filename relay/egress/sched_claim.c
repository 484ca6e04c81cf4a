/*
 * sched_claim.c - from the store into a lane's hand.
 */
#include "relay/egress/sched_impl.h"

#define CLAIM_FAILED_RETRY_S 5
#define ASIDE_MAX 64

/* What is due by then may be claimed now. */
static int64_t horizon(const struct sched_lane *lane)
{
    int64_t now_s = loop_wall_s(lane->sched->options.loop);

    return lane->put_off_until > now_s ? lane->put_off_until : now_s;
}

bool lane_is_due(const struct sched_lane *lane)
{
    return lane->due_at && lane->due_at <= horizon(lane);
}

struct claim *lane_claim_next(struct sched_lane *lane)
{
    struct claim *claim = lane->claims;

    if (!claim)
        return NULL;
    lane->claims = claim->next;
    if (!lane->claims)
        lane->claims_last = &lane->claims;
    lane->claim_count--;
    claim->next = NULL;
    return claim;
}

static void aside_back(struct sched_lane *lane)
{
    if (lane->aside)
        store_unclaim(lane->sched->options.store, &lane->aside);
    lane->aside_count = 0;
    lane->back_since = 0;
}

void lane_give_back(struct sched_lane *lane)
{
    struct claim *all;

    aside_back(lane);
    *lane->claims_last = lane->redo;
    all = lane->claims;
    lane->claims = lane->redo = NULL;
    lane->claims_last = &lane->claims;
    lane->claim_count = 0;
    if (!all)
        return;
    if (!lane->due_at || all->due_at < lane->due_at)
        lane->due_at = all->due_at ? all->due_at : 1;
    store_unclaim(lane->sched->options.store, &all);
}

static bool was_tried(const struct sched_lane *lane, const struct claim *claim)
{
    const struct recipient *first = &claim->message->envelope.recipients[claim->indexes[0]];

    return lane->back_since && first->tried_at >= lane->back_since &&
           claim->due_at > loop_wall_s(lane->sched->options.loop);
}

static void take_claims(struct sched_lane *lane, struct claim *claims)
{
    uint64_t bytes = 0, count = 0;

    while (claims) {
        struct claim *claim = claims;
        claims = claim->next;
        claim->next = NULL;
        bytes += claim->message->envelope.size_bytes;
        count++;
        if (was_tried(lane, claim)) {
            claim->next = lane->aside;
            lane->aside = claim;
            lane->aside_count++;
            continue;
        }
        *lane->claims_last = claim;
        lane->claims_last = &claim->next;
        lane->claim_count++;
    }
    if (count)
        lane->claim_bytes = bytes / count;
}

/* Everything that was put off has been claimed, or too much of it comes back. */
static void look_if_caught_up(struct sched_lane *lane, bool more)
{
    if (lane->put_off_until == 0)
        return;
    if (!lane->back_since && lane->dest && lane->dest->dest.state == DEST_READY)
        lane->back_since = loop_wall_s(lane->sched->options.loop);
    if (more && lane->aside_count < ASIDE_MAX)
        return;
    if (!lane->back_since)
        return; /* a probe: most of it is still to come */
    lane->put_off_until = 0;
    aside_back(lane);
}

static int64_t earlier(int64_t a, int64_t b) /* 0: none */
{
    if (!a || !b)
        return a ? a : b;
    return a < b ? a : b;
}

static void claim_failed(struct sched_lane *lane, const struct store_request *request)
{
    struct sched *sched = lane->sched;

    lane->due_at = loop_wall_s(sched->options.loop) + CLAIM_FAILED_RETRY_S;
    sched_tell_trouble(sched, STAGE_WAIT, str_of(lane->name), STR("mail could not be read"),
                       str_of(request->fault.text));
}

static void claim_done(struct store_request *request)
{
    struct store_claim *claim = container_of(request, struct store_claim, request);
    struct sched_lane *lane = container_of(claim, struct sched_lane, claim);
    struct sched *sched = lane->sched;
    struct claim *claims = claim->claims;
    bool is_sweep = lane->is_sweep, more = claim->more;

    lane->is_claiming = lane->is_sweep = false;
    sched->claims_out--;
    if (request->err)
        claim_failed(lane, request);
    else
        lane->due_at = more ? loop_wall_s(sched->options.loop) : claim->next_due;
    lane->due_at = earlier(lane->due_at, lane->told_at);
    lane->told_at = 0;
    if (is_sweep) {
        sweep_claimed(lane, claims, more);
    } else if (!request->err) {
        take_claims(lane, claims);
        look_if_caught_up(lane, more);
    }
    lane_run(lane);
    sched_check_idle(sched);
}

void lane_claim(struct sched_lane *lane, size_t max)
{
    struct sched *sched = lane->sched;

    lane->claim = (struct store_claim){
        .request = { .reply_to = loop_mailbox(sched->options.loop), .done = claim_done },
        .lane = lane->name,
        .max = max,
        .now_s = lane->is_sweep ? loop_wall_s(sched->options.loop) : horizon(lane),
    };
    lane->is_claiming = true;
    sched->claims_out++;
    store_claim(sched->options.store, &lane->claim);
}
