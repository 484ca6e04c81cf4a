/*
 * deliver_copy.c - the copy of a message that a next hop gets when it cannot
 * have the message as stored: 7-bit for one without 8BITMIME, another From for
 * one that accepts only senders it knows.
 *
 * Made when it is sent, not when it came: so one message may go by routes that
 * want different heads, and mail that a reload moves to another route gets that
 * route's. All changes come first, then the signature.
 */
#include "relay/egress/deliver_impl.h"

#include "relay/intake/remake.h"
#include "relay/mail/addr.h"
#include "relay/mail/convert.h"

void delivery_copy_clear(struct delivery *delivery)
{
    if (delivery->has_copy)
        buf_clear(&delivery->copy_head);
    if (delivery->copy_body && delivery->copy_shares_body)
        body_unref(&delivery->copy_body);
    else if (delivery->copy_body)
        body_discard_later(&delivery->copy_body, loop_pool(delivery->options.loop));
    delivery->has_copy = delivery->copy_shares_body = false;
    delivery->copy_is_7bit = delivery->copy_has_sender = false;
}

/* ---- is one needed? ---- */

static bool needs_7bit(const struct delivery *delivery)
{
    return (delivery->claim->message->envelope.flags & ENVELOPE_HAS_8BIT) &&
           !(smtp_client_offer(delivery->client)->exts & EXT_8BITMIME);
}

static bool needs_sender(const struct delivery *delivery)
{
    const struct message *message = delivery->claim->message;
    struct arena arena;
    bool needs;

    if (delivery->senders.sender.len == 0)
        return false;
    arena_init(&arena);
    needs =
        sender_must_change(&delivery->senders, str_make(message->head, message->head_len), &arena);
    arena_clear(&arena);
    return needs;
}

bool delivery_copy_is_wanted(struct delivery *delivery)
{
    delivery->want_7bit = needs_7bit(delivery) && !delivery->copy_is_7bit;
    delivery->want_sender = delivery->copy_has_sender || needs_sender(delivery);
    return delivery->want_7bit || (delivery->want_sender && !delivery->copy_has_sender);
}

/* ---- on a worker ---- */

struct copying {
    struct delivery *delivery;
    const struct message *message;
    struct buf sender_head, head, signatures, words;
    struct arena arena;
    struct str now; /* the head so far */
    unsigned own;   /* signatures of ours in it */
};

static enum err change_sender(struct copying *copying)
{
    struct delivery *delivery = copying->delivery;
    const struct message *message = copying->message;

    if (!delivery->want_sender)
        return ERR_OK;
    enum err rc = sender_rewrite(&delivery->senders, copying->now, copying->own,
                                 message->envelope.sender.len == 0, &copying->arena,
                                 &copying->sender_head, &delivery->job_fault);
    copying->now = buf_view(&copying->sender_head);
    copying->own = 0;
    return rc;
}

static enum err change_body(struct copying *copying)
{
    struct delivery *delivery = copying->delivery;
    struct msgid id = copying->message->envelope.id;
    enum err rc;

    if (!delivery->want_7bit)
        return ERR_OK;
    /* A temporary copy in memory or, when large, a side file of its own name. */
    id.bytes[MSGID_BYTES - 1] ^= 2;
    rc = remake_convert(copying->now, copying->message->body, CONVERT_7BIT, copying->own,
                        store_folder(delivery->options.store), &id, &copying->head,
                        &delivery->copy_body, &delivery->job_fault);
    if (!rc && delivery->copy_body)
        copying->now = buf_view(&copying->head);
    return rc;
}

static enum err sign(struct copying *copying)
{
    struct delivery *delivery = copying->delivery;
    const struct message *message = copying->message;
    struct str domain = delivery->want_sender ? addr_domain_of(delivery->senders.sender)
                                              : message->envelope.from_domain;
    unsigned count = 0;

    if (!delivery->options.keyring || (message->own_signatures == 0 && !delivery->want_sender))
        return ERR_OK;
    return remake_sign(delivery->options.keyring, domain, copying->now, delivery->copy_body,
                       &copying->signatures, &count, &copying->words, &delivery->job_fault);
}

static void keep(struct copying *copying)
{
    struct delivery *delivery = copying->delivery;

    buf_init(&delivery->copy_head, copying->signatures.len + copying->now.len);
    buf_str(&delivery->copy_head, buf_view(&copying->signatures));
    buf_str(&delivery->copy_head, copying->now);
    delivery->has_copy = true;
    delivery->copy_is_7bit = delivery->want_7bit;
    delivery->copy_has_sender = delivery->want_sender;
}

static enum err make(struct copying *copying)
{
    struct delivery *delivery = copying->delivery;
    enum err rc = change_sender(copying);

    if (!rc)
        rc = change_body(copying);
    if (rc)
        return rc;
    if (!delivery->copy_body && delivery->want_sender) {
        delivery->copy_body = body_ref(copying->message->body);
        delivery->copy_shares_body = true;
    }
    if (!delivery->copy_body)
        return ERR_OK; /* it is 7-bit as it is */
    rc = sign(copying);
    if (!rc)
        keep(copying);
    return rc;
}

void delivery_copy_run(struct job *job)
{
    struct delivery *delivery = container_of(job, struct delivery, job);
    const struct message *message = delivery->job_message;
    struct copying copying = { .delivery = delivery,
                               .message = message,
                               .now = str_make(message->head, message->head_len),
                               .own = message->own_signatures };
    size_t head_max = (4U << 20) + message->head_len * 4;

    delivery_copy_clear(delivery); /* one made for the host before this one */
    buf_init(&copying.sender_head, head_max);
    buf_init(&copying.head, head_max);
    buf_init(&copying.signatures, 64U << 10);
    buf_init(&copying.words, 1024);
    arena_init(&copying.arena);
    delivery->copy_err = make(&copying);
    if (delivery->copy_err)
        delivery_copy_clear(delivery);
    arena_clear(&copying.arena);
    buf_clear(&copying.words);
    buf_clear(&copying.signatures);
    buf_clear(&copying.head);
    buf_clear(&copying.sender_head);
}
