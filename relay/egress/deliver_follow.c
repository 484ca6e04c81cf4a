/*
 * deliver_follow.c - the next claim's envelope right behind the present content.
 *
 * A hop that offers PIPELINING takes both in one go (RFC 2920 3.1), so that a
 * connection that mail waits for sends a message per round trip instead of one
 * per two. The follower is taken only when the present transaction either ends
 * for all of its recipients or takes the whole connection along; then, or when the
 * hop is gone, the scheduler gets the follower back as if it had never left.
 */
#include "relay/egress/deliver_impl.h"

/* Which record the end of the content went in nobody knows: at most one record
 * more than what was said behind it is in doubt, and counts as gone. */
#define TLS_DOUBT ((size_t)18 * 1024)

bool delivery_content_sent(const struct delivery *delivery)
{
    uint64_t behind;

    if (!delivery->client || !delivery->stream || !smtp_client_content_sent(delivery->client))
        return false;
    behind = smtp_client_sent_behind(delivery->client);
    if (behind > 0 && delivery->tls_active)
        behind += TLS_DOUBT;
    return stream_pending(delivery->stream) <= behind;
}

/* No recipient is left for another transaction or another host. */
static bool may_follow(const struct delivery *delivery)
{
    if (!delivery->options.take || delivery->never_follow || delivery->follower.claim ||
        delivery->has_last || delivery->senders.sender.len > 0 ||
        !(smtp_client_offer(delivery->client)->exts & EXT_PIPELINING))
        return false;
    for (size_t i = 0; i < delivery->claim->count; i++)
        if (!delivery->slots[i].is_settled && !delivery->slots[i].is_accepted)
            return false;
    return true;
}

/* Neither refused by what EHLO offered nor in need of a copy. */
static bool goes_as_it_is(const struct delivery *delivery, const struct message *message)
{
    const struct ext_offer *offer = smtp_client_offer(delivery->client);
    unsigned flags = message->envelope.flags;
    bool is_large = (offer->exts & EXT_SIZE) && offer->size_max > 0 &&
                    message->head_len + body_size(message->body) > offer->size_max;

    return !is_large && (!(flags & ENVELOPE_UTF8_NEEDED) || (offer->exts & EXT_SMTPUTF8)) &&
           (!(flags & ENVELOPE_HAS_8BIT) || (offer->exts & EXT_8BITMIME));
}

void delivery_follow(struct delivery *delivery)
{
    struct smtp_client_transaction *transaction = &delivery->transactions[!delivery->turn];
    struct claim *claim;

    if (!may_follow(delivery))
        return;
    claim = delivery->options.take(delivery->options.arg, delivery);
    if (!claim)
        return;
    delivery->follower.claim = claim;
    if (!goes_as_it_is(delivery, claim->message))
        return; /* it begins when its turn comes */
    delivery->follower.recipients = mem_alloc(claim->count * sizeof(const struct recipient *));
    for (size_t i = 0; i < claim->count; i++)
        delivery->follower.recipients[i] = &claim->message->envelope.recipients[claim->indexes[i]];
    delivery_transaction_fill(delivery, claim->message, transaction);
    transaction->recipients = delivery->follower.recipients;
    transaction->recipient_count = claim->count;
    delivery->follower.is_said = smtp_client_follow(delivery->client, transaction);
}

void delivery_follow_undo(struct delivery *delivery)
{
    struct claim *claim = delivery->follower.claim;

    if (!claim)
        return;
    free(delivery->follower.recipients);
    delivery->follower = (struct delivery_follower){ 0 };
    delivery->options.untake(delivery->options.arg, delivery, claim);
}

bool delivery_follow_up(struct delivery *delivery)
{
    struct delivery_follower follower = delivery->follower;

    if (!follower.claim)
        return false;
    if (follower.is_said ? !smtp_client_follows(delivery->client)
                         : !smtp_client_is_usable(delivery->client)) {
        delivery_follow_undo(delivery);
        return false;
    }
    delivery->follower = (struct delivery_follower){ 0 };
    delivery_take_claim(delivery, follower.claim);
    delivery->is_reused = true;
    if (!follower.is_said) {
        free(follower.recipients);
        delivery_send(delivery);
        return true;
    }
    delivery->state = DELIVERY_SENDING;
    delivery->turn = !delivery->turn;
    delivery->recipients = follower.recipients;
    delivery->slot_of = mem_alloc(follower.claim->count * sizeof(*delivery->slot_of));
    for (size_t i = 0; i < follower.claim->count; i++)
        delivery->slot_of[i] = i;
    delivery_transaction_began(delivery);
    delivery->has_followed = true;
    return true;
}
