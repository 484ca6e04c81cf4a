/*
 * sched_claim.c - from the store into a lane's hand.
 */
#include "relay/egress/sched_impl.h"

#define CLAIM_FAILED_RETRY_S 5
#define CLAIM_OVERHEAD 2048 /* a message costs about so much beside its content */

bool lane_is_due(const struct sched_lane *lane)
{
    return lane->due_at && lane->due_at <= loop_wall_s(lane->sched->options.loop);
}

uint64_t sched_claim_cost(uint64_t size_bytes)
{
    return CLAIM_OVERHEAD + (size_bytes < BODY_INLINE_MAX ? size_bytes : BODY_INLINE_MAX);
}

static uint64_t cost_of(const struct claim *claim)
{
    return sched_claim_cost(claim->message->envelope.size_bytes);
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
    lane->sched->hand_bytes -= cost_of(claim);
    claim->next = NULL;
    return claim;
}

void lane_claim_return(struct sched_lane *lane, struct claim *claim)
{
    if (!lane->claims)
        lane->claims_last = &claim->next;
    claim->next = lane->claims;
    lane->claims = claim;
    lane->claim_count++;
    lane->sched->hand_bytes += cost_of(claim);
}

void lane_give_back(struct sched_lane *lane)
{
    struct claim *all;

    for (const struct claim *claim = lane->claims; claim; claim = claim->next)
        lane->sched->hand_bytes -= cost_of(claim);
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

static void take_claims(struct sched_lane *lane, struct claim *claims)
{
    uint64_t bytes = 0, count = 0;

    while (claims) {
        struct claim *claim = claims;
        claims = claim->next;
        claim->next = NULL;
        bytes += claim->message->envelope.size_bytes;
        count++;
        *lane->claims_last = claim;
        lane->claims_last = &claim->next;
        lane->claim_count++;
        lane->sched->hand_bytes += cost_of(claim);
    }
    if (count)
        lane->claim_bytes = lane->sched->claim_bytes = bytes / count;
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

/* Of a lane, while it is with the store: ten thousand lanes that wait have none. */
struct lane_request {
    struct store_claim claim;
    struct sched_lane *lane;
    uint64_t asked_bytes; /* in hand already, as far as others are concerned */
};

static void claim_done(struct store_request *request)
{
    struct store_claim *claim = container_of(request, struct store_claim, request);
    struct lane_request *with_store = container_of(claim, struct lane_request, claim);
    struct sched_lane *lane = with_store->lane;
    struct sched *sched = lane->sched;
    struct claim *claims = claim->claims;
    bool is_sweep = lane->is_sweep, more = claim->more;

    lane->is_claiming = lane->is_sweep = false;
    sched->claims_out--;
    sched->hand_bytes -= with_store->asked_bytes;
    if (request->err)
        claim_failed(lane, request);
    else
        lane->due_at = more && !is_sweep ? loop_wall_s(sched->options.loop) : claim->next_due;
    lane->due_at = earlier(lane->due_at, lane->told_at);
    lane->told_at = 0;
    if (!is_sweep)
        lane->is_passed = false;
    if (lane->is_lost)
        lane_lost(lane);
    else if (more && !is_sweep && !request->err)
        lane_pass(lane);
    if (is_sweep) {
        sweep_claimed(lane, claims, more ? &claim->look : NULL);
    } else if (!request->err) {
        take_claims(lane, claims);
    }
    free(with_store);
    lane_run(lane);
    sched_check_idle(sched);
}

static void post(struct sched_lane *lane, size_t max, const struct claim_look *look)
{
    struct sched *sched = lane->sched;
    struct lane_request *with_store = mem_alloc(sizeof(*with_store));

    with_store->lane = lane;
    with_store->claim = (struct store_claim){
        .request = { .reply_to = loop_mailbox(sched->options.loop), .done = claim_done },
        .lane = lane->name,
        .max = max,
        .now_s = loop_wall_s(sched->options.loop),
    };
    if (look)
        with_store->claim.look = *look;
    lane->is_claiming = true;
    lane->claiming_since_ms = loop_now_ms(sched->options.loop);
    lane->is_sweep = look != NULL;
    sched->claims_out++;
    if (!look) {
        uint64_t bytes = lane->claim_bytes ? lane->claim_bytes : sched->claim_bytes;
        with_store->asked_bytes = max * sched_claim_cost(bytes);
        sched->hand_bytes += with_store->asked_bytes;
    }
    store_claim(sched->options.store, &with_store->claim);
}

void lane_claim(struct sched_lane *lane, size_t max) { post(lane, max, NULL); }

void lane_look(struct sched_lane *lane, size_t max, const struct claim_look *look)
{
    struct claim_look copy = *look;

    copy.is_on = true;
    post(lane, max, &copy);
}
