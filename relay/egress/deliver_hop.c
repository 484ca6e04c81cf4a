/*
 * deliver_hop.c - what a delivery tells, and how it turns facts into a result.
 */
#include "relay/egress/deliver_impl.h"

static struct hop hop_new(struct delivery *delivery, enum stage stage)
{
    int64_t now = loop_wall_us(delivery->options.loop);
    struct hop hop = {
        .session = delivery->number,
        .began_us = delivery->stage_began_us ? delivery->stage_began_us : now,
        .ended_us = now,
        .weight = HOP_DETAIL,
        .side = HOP_OUT,
        .stage = stage,
        .attempt = delivery->attempt,
        .lane = str_of(delivery->lane),
        .peer = str_of(delivery->peer),
    };

    if (delivery->claim)
        hop.id = delivery->claim->message->envelope.id;
    if (delivery->step < delivery->plan->step_count)
        hop.host = str_of(delivery_route_host(delivery)->name);
    delivery->stage_began_us = now;
    return hop;
}

static void set_outcome(struct hop *hop, const struct outcome *outcome)
{
    if (!outcome)
        return;
    hop->result = outcome->result;
    hop->scope = outcome->scope;
    hop->kind = outcome->kind;
    if (outcome->result != RESULT_DELIVERED) { /* success needs no advice on every line */
        hop->cause = str_of(outcome->cause);
        hop->fix = str_of(outcome->fix);
    }
    hop->status_class = outcome->status.class;
    hop->status_subject = outcome->status.subject;
    hop->status_detail = outcome->status.detail;
}

static void set_reply(struct hop *hop, const struct reply *reply, struct buf *line)
{
    if (!reply || reply->code == 0)
        return;
    reply_line(reply, line);
    hop->said = buf_view(line);
    hop->code = reply->code;
    if (hop->status_class == 0) {
        hop->status_class = reply->status.class;
        hop->status_subject = reply->status.subject;
        hop->status_detail = reply->status.detail;
    }
}

void delivery_tell(struct delivery *delivery, enum stage stage, const struct reply *reply,
                   const struct outcome *outcome, struct str fault)
{
    struct hop hop = hop_new(delivery, stage);
    struct buf line;

    buf_init(&line, REPLY_TEXT_MAX + 64);
    set_outcome(&hop, outcome);
    set_reply(&hop, reply, &line);
    hop.fault = fault;
    if (stage == STAGE_TLS)
        hop.tls = str_of(delivery->tls_words);
    if (stage == STAGE_TLS || stage == STAGE_POLICY)
        hop.policy = str_of(delivery->policy.evidence);
    if (stage == STAGE_CONTENT && delivery->claim) {
        hop.bytes = delivery->claim->message->envelope.size_bytes;
        if (reply && reply_is_positive(reply))
            hop.remote_id = outcome_remote_id(reply_text(reply));
    }
    hop_emit(loop_ring(delivery->options.loop), &hop);
    buf_clear(&line);
}

void delivery_tell_copy(struct delivery *delivery)
{
    struct hop hop = hop_new(delivery, STAGE_CONVERT);
    struct buf text;

    buf_init(&text, 1024);
    if (delivery->copy_has_sender)
        buf_printf(&text, "From is " STR_FMT " for this next hop, the original is kept beside it",
                   STR_ARG(delivery->senders.sender));
    if (delivery->copy_is_7bit)
        buf_printf(&text, "%sre-encoded as 7-bit", text.len ? "; " : "");
    hop.text = buf_view(&text);
    hop_emit(loop_ring(delivery->options.loop), &hop);
    buf_clear(&text);
}

void delivery_tell_recipient(struct delivery *delivery, enum stage stage, const struct reply *reply,
                             const struct outcome *outcome, const struct recipient *recipient)
{
    struct hop hop = hop_new(delivery, stage);
    struct buf line;

    buf_init(&line, REPLY_TEXT_MAX + 64);
    set_outcome(&hop, outcome);
    set_reply(&hop, reply, &line);
    hop.recipient = recipient->address;
    hop_emit(loop_ring(delivery->options.loop), &hop);
    buf_clear(&line);
}

struct delivery_result delivery_judge(struct delivery *delivery, const struct outcome_facts *facts)
{
    struct delivery_result result = { .stage = facts->stage, .attempted = true };

    result.outcome = outcome_of(facts);
    result.host = arena_str(&delivery->arena, str_of(delivery->host_words));
    if (facts->reply && facts->reply->code) {
        struct buf line;
        buf_init(&line, REPLY_TEXT_MAX + 64);
        reply_line(facts->reply, &line);
        result.said = arena_str(&delivery->arena, buf_view(&line));
        buf_clear(&line);
    } else {
        result.said = arena_str(&delivery->arena, facts->fault);
    }
    if (result.outcome.result == RESULT_DELIVERED && facts->reply)
        result.remote_id = arena_str(&delivery->arena, outcome_remote_id(reply_text(facts->reply)));
    return result;
}
