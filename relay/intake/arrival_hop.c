/*
 * arrival_hop.c - the hops of an arriving message: received, converted, signed, queued.
 */
#include "relay/intake/arrival.h"

static struct hop hop_for(const struct arrival *arrival, enum stage stage, int64_t began_us)
{
    struct hop hop = { .id = *arrival_id(arrival),
                       .session = arrival->facts.session,
                       .began_us = began_us,
                       .ended_us = loop_wall_us(arrival->intake->loop),
                       .weight = HOP_DETAIL,
                       .side = HOP_US,
                       .stage = stage };
    return hop;
}

static void hop_refusal(const struct arrival *arrival, struct hop *hop)
{
    hop->result = reply_is_transient(&arrival->refusal) ? RESULT_LATER : RESULT_FAILED;
    hop->scope = reply_is_transient(&arrival->refusal) ? SCOPE_US : SCOPE_MESSAGE;
    hop->kind = reply_is_transient(&arrival->refusal) ? CLASS_CONFIG : CLASS_CONTENT;
    hop->code = arrival->refusal.code;
    hop->status_class = arrival->refusal.status.class;
    hop->status_subject = arrival->refusal.status.subject;
    hop->status_detail = arrival->refusal.status.detail;
    hop->said = reply_text(&arrival->refusal);
    hop->fault = str_of(arrival->fault.text);
    hop->weight = reply_is_transient(&arrival->refusal) ? HOP_WARNING : HOP_EVENT;
}

void arrival_tell_received(const struct arrival *arrival)
{
    const struct envelope *envelope = &arrival->message->envelope;
    struct hop hop = hop_for(arrival, STAGE_RECEIVE, arrival->began_us);

    hop.side = HOP_IN;
    hop.weight = HOP_EVENT;
    hop.ended_us = arrival->making_us;
    hop.sender = envelope->sender.len ? envelope->sender : STR("<>");
    hop.user = envelope->user;
    hop.peer = envelope->client;
    hop.host = envelope->helo;
    hop.tls = arrival->facts.tls;
    hop.message_id = envelope->message_id;
    hop.bytes = envelope->size_bytes;
    hop.count = (uint32_t)envelope->recipient_count;
    if (envelope->recipient_count == 1)
        hop.recipient = envelope->recipients[0].address;
    if (arrival->refusal.code)
        hop_refusal(arrival, &hop);
    hop_emit(loop_ring(arrival->intake->loop), &hop);
    /* A trace is looked up by recipient: each one needs a hop of its own. */
    for (size_t i = 0; envelope->recipient_count > 1 && i < envelope->recipient_count; i++) {
        struct hop one = hop_for(arrival, STAGE_RECEIVE, arrival->began_us);
        one.side = HOP_IN;
        one.recipient = envelope->recipients[i].address;
        one.lane = envelope->recipients[i].lane;
        hop_emit(loop_ring(arrival->intake->loop), &one);
    }
}

void arrival_tell_made(const struct arrival *arrival)
{
    struct hop hop = hop_for(arrival, STAGE_SIGN, arrival->making_us);

    hop.ended_us = arrival->made_us;
    if (arrival->was_converted) {
        struct hop converted = hop_for(arrival, STAGE_CONVERT, arrival->making_us);
        converted.ended_us = arrival->made_us;
        converted.text = STR("over-long lines re-encoded");
        hop_emit(loop_ring(arrival->intake->loop), &converted);
    }
    if (!arrival->keyring || keyring_count(arrival->keyring) == 0)
        return;
    hop.text = arrival->signature_count ? buf_view(&arrival->signer_words)
                                        : STR("unsigned: no key for the From domain");
    hop.host = arrival->found.from_domain;
    hop_emit(loop_ring(arrival->intake->loop), &hop);
}

void arrival_tell_queued(const struct arrival *arrival)
{
    struct hop hop = hop_for(arrival, STAGE_QUEUE, arrival->made_us);

    if (arrival->refusal.code)
        hop_refusal(arrival, &hop);
    hop.lane = arrival->message->envelope.recipient_count
                   ? arrival->message->envelope.recipients[0].lane
                   : STR_EMPTY;
    hop_emit(loop_ring(arrival->intake->loop), &hop);
}
