/*
 * sched_hop.c - what the scheduler tells of waiting, routes and trouble.
 */
#include "relay/egress/sched_impl.h"

#define WAIT_WORTH_TELLING_US 100000

/* A plan that was there before it was needed took this message no time. */
static bool is_awaited(const struct route_plan *plan, int64_t arrived_us, int64_t now_us)
{
    return plan->began_us >= arrived_us && now_us - plan->ended_us < WAIT_WORTH_TELLING_US;
}

void sched_tell_route(const struct sched_lane *lane, const struct claim *claim)
{
    const struct route_plan *plan = lane->plan;
    int64_t now_us = loop_wall_us(lane->sched->options.loop);
    bool awaited = is_awaited(plan, claim->message->envelope.arrived_us, now_us);
    struct hop hop = {
        .id = claim->message->envelope.id,
        .began_us = awaited ? plan->began_us : now_us,
        .ended_us = awaited ? plan->ended_us : now_us,
        .weight = HOP_DETAIL,
        .side = HOP_OUT,
        .stage = STAGE_ROUTE,
        .lane = str_of(lane->name),
        .text = str_of(plan->evidence),
    };

    if (plan->step_count == 0)
        return; /* the delivery tells what a plan without addresses means */
    if (plan->host_count > 0)
        hop.host = str_of(plan->hosts[0].name);
    hop_emit(loop_ring(lane->sched->options.loop), &hop);
}

void sched_tell_wait(const struct sched_lane *lane, const struct claim *claim, struct str why)
{
    struct loop *loop = lane->sched->options.loop;
    const struct envelope *envelope = &claim->message->envelope;
    int64_t due_us = claim->due_at * 1000000;
    struct hop hop = {
        .id = envelope->id,
        .began_us = envelope->arrived_us > due_us ? envelope->arrived_us : due_us,
        .ended_us = loop_wall_us(loop),
        .weight = HOP_DETAIL,
        .stage = STAGE_WAIT,
        .count = (uint32_t)claim->count,
        .lane = str_of(lane->name),
        .text = why,
    };

    if (hop.ended_us - hop.began_us >= WAIT_WORTH_TELLING_US)
        hop_emit(loop_ring(loop), &hop);
}

uint16_t sched_code_of(struct str said)
{
    uint64_t code = 0;

    if (said.len >= 3 && (said.len == 3 || said.at[3] == ' ' || said.at[3] == '-') &&
        str_u64(str_head(said, 3), &code) && code >= 200 && code < 600)
        return (uint16_t)code;
    return 0;
}

void sched_set_said(struct hop *hop, struct str said)
{
    if (sched_code_of(said))
        hop->said = said;
    else
        hop->fault = said;
}

static struct hop hop_of_result(const struct sched_lane *lane, const struct delivery_result *result)
{
    int64_t now = loop_wall_us(lane->sched->options.loop);
    /* Success needs no advice on every line. */
    bool told = result->outcome.result != RESULT_DELIVERED;

    struct hop hop = {
        .began_us = now,
        .ended_us = now,
        .side = HOP_OUT,
        .result = result->outcome.result,
        .scope = result->outcome.scope,
        .kind = result->outcome.kind,
        .status_class = result->outcome.status.class,
        .status_subject = result->outcome.status.subject,
        .status_detail = result->outcome.status.detail,
        .lane = str_of(lane->name),
        .host = result->host,
        .cause = told ? str_of(result->outcome.cause) : STR_EMPTY,
        .fix = told ? str_of(result->outcome.fix) : STR_EMPTY,
    };

    sched_set_said(&hop, result->said);
    return hop;
}

void sched_tell_alarm(const struct sched_lane *lane, const struct delivery_result *result)
{
    struct hop hop = hop_of_result(lane, result);

    hop.weight = HOP_ALARM;
    hop.stage = STAGE_ALARM;
    hop_emit(loop_ring(lane->sched->options.loop), &hop);
}

void sched_tell_asleep(const struct sched_lane *lane, const struct sched_dest *dest,
                       const struct delivery_result *result, bool is_new)
{
    struct loop *loop = lane->sched->options.loop;
    struct hop hop = hop_of_result(lane, result);

    hop.weight = is_new ? HOP_EVENT : HOP_DETAIL;
    hop.stage = STAGE_WAIT;
    hop.text = STR("the place is left alone until its next probe");
    hop.next_us = loop_wall_us(loop);
    if (dest->dest.wake_at_ms > loop_now_ms(loop))
        hop.next_us += (int64_t)(dest->dest.wake_at_ms - loop_now_ms(loop)) * 1000;
    hop_emit(loop_ring(loop), &hop);
}

void sched_tell_trouble(const struct sched *sched, enum stage stage, struct str lane,
                        struct str text, struct str fault)
{
    int64_t now = loop_wall_us(sched->options.loop);
    struct hop hop = {
        .began_us = now,
        .ended_us = now,
        .weight = HOP_ALARM,
        .stage = stage,
        .result = RESULT_LATER,
        .scope = SCOPE_US,
        .lane = lane,
        .text = text,
        .fault = fault,
    };

    hop_emit(loop_ring(sched->options.loop), &hop);
}
