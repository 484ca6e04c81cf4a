/*
 * deliver_send.c - one claim over a session: what the hop can take, the
 * transaction, the content, an outcome for each recipient.
 */
#include "relay/egress/deliver_impl.h"

static struct recipient *slot_recipient(const struct delivery *delivery, size_t slot)
{
    const struct claim *claim = delivery->claim;

    return &claim->message->envelope.recipients[claim->indexes[slot]];
}

void delivery_send_clear(struct delivery *delivery)
{
    free(delivery->recipients);
    delivery->recipients = NULL;
    free(delivery->slot_of);
    delivery->slot_of = NULL;
    if (delivery->job_is_out)
        return; /* a worker uses the rest: when it is home */
    free(delivery->window);
    delivery->window = NULL;
    delivery_copy_clear(delivery);
}

/* ---- outcomes ---- */

static void settle(struct delivery *delivery, size_t slot, const struct delivery_result *result)
{
    delivery->slots[slot].is_settled = true;
    delivery->slots[slot].result = *result;
}

static struct delivery_result judge(struct delivery *delivery, const struct outcome_facts *facts)
{
    struct outcome_facts judged = *facts;

    judged.is_smarthost = delivery->options.route->relay_count > 0;
    judged.is_last_host = delivery_is_last_step(delivery);
    return delivery_judge(delivery, &judged);
}

void delivery_settle_open(struct delivery *delivery, const struct outcome_facts *facts)
{
    struct delivery_result result = delivery_judge(delivery, facts);

    delivery_tell(delivery, facts->stage, facts->reply, &result.outcome, facts->fault);
    for (size_t i = 0; i < delivery->claim->count; i++)
        if (!delivery->slots[i].is_settled)
            settle(delivery, i, &result);
}

/* Every slot is settled. */
static void claim_finish(struct delivery *delivery)
{
    delivery->sent++;
    delivery->state = DELIVERY_FREE;
    delivery_claim_done(delivery);
    if (delivery->state != DELIVERY_FREE || delivery_follow_up(delivery))
        return;
    if (smtp_client_is_usable(delivery->client))
        delivery->options.free_now(delivery->options.arg, delivery);
    else
        delivery_end(delivery, NULL);
}

/* ---- the transaction ---- */

void delivery_transaction_fill(const struct delivery *delivery, const struct message *message,
                               struct smtp_client_transaction *out_transaction)
{
    const struct ext_offer *offer = smtp_client_offer(delivery->client);
    const struct envelope *envelope = &message->envelope;

    *out_transaction = (struct smtp_client_transaction){
        .sender = sender_path(&delivery->senders, envelope->sender),
        .size = message->head_len + body_size(message->body),
        .body_8bit = (envelope->flags & ENVELOPE_HAS_8BIT) && (offer->exts & EXT_8BITMIME),
        .smtputf8 = (envelope->flags & ENVELOPE_UTF8_NEEDED) && (offer->exts & EXT_SMTPUTF8),
        .ret = envelope->ret,
        .envid = envelope->envid,
    };
}

void delivery_transaction_began(struct delivery *delivery)
{
    delivery->mail_refused = delivery->has_last = delivery->has_followed = false;
    delivery->needs_rset = false;
    delivery->over_head_written = false;
    delivery->body_at = 0;
    delivery->stage_began_us = loop_wall_us(delivery->options.loop);
}

static void begin_transaction(struct delivery *delivery)
{
    struct smtp_client_transaction *transaction = &delivery->transactions[delivery->turn];
    bool needs_rset = delivery->needs_rset;
    size_t count = 0;

    free(delivery->recipients);
    free(delivery->slot_of);
    delivery->recipients = mem_alloc(delivery->claim->count * sizeof(const struct recipient *));
    delivery->slot_of = mem_alloc(delivery->claim->count * sizeof(*delivery->slot_of));
    for (size_t i = 0; i < delivery->claim->count; i++) {
        /* What another host accepted before it fell is worth nothing here. */
        delivery->slots[i].is_accepted = delivery->slots[i].is_again = false;
        if (delivery->slots[i].is_settled)
            continue;
        delivery->recipients[count] = slot_recipient(delivery, i);
        delivery->slot_of[count++] = i;
    }
    delivery_transaction_fill(delivery, delivery->claim->message, transaction);
    transaction->recipients = delivery->recipients;
    transaction->recipient_count = count;
    if (delivery->has_copy)
        transaction->size = delivery->copy_head.len + body_size(delivery->copy_body);
    if (delivery->copy_is_7bit)
        transaction->body_8bit = false;
    delivery_transaction_began(delivery);
    if (needs_rset)
        smtp_client_rset(delivery->client);
    smtp_client_begin(delivery->client, transaction);
}

/* ---- work on the pool ---- */

/* A job came home. False: the connection it worked for is gone, and maybe all. */
static bool job_home(struct delivery *delivery)
{
    bool same = delivery->job_era == delivery->era && delivery->claim && delivery->client &&
                delivery->state == DELIVERY_SENDING;

    delivery->jobs--;
    delivery->job_is_out = false;
    message_unref(&delivery->job_message);
    if (same)
        return true;
    if (!delivery->claim)
        delivery_send_clear(delivery);
    if (delivery->send_waits) {
        delivery->send_waits = false;
        delivery_send(delivery);
        delivery_pump(delivery); /* may free it */
        return false;
    }
    delivery_maybe_free(delivery);
    return false;
}

static void job_post(struct delivery *delivery, enum pool_class kind, job_fn *run, job_fn *done)
{
    delivery->jobs++;
    delivery->job_is_out = true;
    delivery->job_era = delivery->era;
    delivery->job_message = message_ref(delivery->claim->message);
    delivery->job.run = run;
    delivery->job.done = done;
    delivery->job.reply_to = loop_mailbox(delivery->options.loop);
    (void)pool_post(loop_pool(delivery->options.loop), kind, &delivery->job);
}

/* ---- may this go to this hop at all? ---- */

static void leave_host(struct delivery *delivery, const struct delivery_result *result);

/* It may not, by what EHLO offered: to another host if there is one and the
 * verdict leaves it open, else this is the outcome. */
static void refuse(struct delivery *delivery, const struct outcome_facts *facts)
{
    struct delivery_result result = judge(delivery, facts);

    delivery_tell(delivery, facts->stage, facts->reply, &result.outcome, facts->fault);
    if (result.outcome.scope == SCOPE_HOST && !delivery_is_last_step(delivery)) {
        leave_host(delivery, &result);
        return;
    }
    for (size_t i = 0; i < delivery->claim->count; i++)
        if (!delivery->slots[i].is_settled)
            settle(delivery, i, &result);
    claim_finish(delivery);
}

static bool refuse_utf8(struct delivery *delivery)
{
    const struct ext_offer *offer = smtp_client_offer(delivery->client);
    struct outcome_facts facts = {
        .stage = STAGE_MAIL,
        .err = ERR_UNSUPPORTED,
        .fault = STR("the next hop does not offer SMTPUTF8"),
        .needs_utf8 = true,
    };

    if (!(delivery->claim->message->envelope.flags & ENVELOPE_UTF8_NEEDED) ||
        (offer->exts & EXT_SMTPUTF8))
        return false;
    refuse(delivery, &facts);
    return true;
}

static bool refuse_size(struct delivery *delivery)
{
    const struct ext_offer *offer = smtp_client_offer(delivery->client);
    const struct message *message = delivery->claim->message;
    struct outcome_facts facts = { .stage = STAGE_MAIL };
    struct reply reply;

    if (!(offer->exts & EXT_SIZE) || offer->size_max == 0 ||
        message->head_len + body_size(message->body) <= offer->size_max)
        return false;
    /* What it would say to SIZE=, without the round trip (RFC 1870 6.1). */
    reply_set(&reply, 552, STATUS(5, 3, 4),
              "Message size exceeds the limit of %llu octets it announced",
              (unsigned long long)offer->size_max);
    facts.reply = &reply;
    refuse(delivery, &facts);
    return true;
}

static void copy_done(struct job *job)
{
    struct delivery *delivery = container_of(job, struct delivery, job);
    struct outcome_facts facts = { .stage = STAGE_CONVERT, .err = delivery->copy_err };

    if (!job_home(delivery))
        return;
    if (delivery->copy_err) {
        facts.fault = str_of(delivery->job_fault.text);
        facts.sent_8bit_refused = delivery->copy_err == ERR_DENIED;
        refuse(delivery, &facts);
    } else {
        delivery_tell_copy(delivery);
        begin_transaction(delivery);
    }
    delivery_pump(delivery);
}

void delivery_send(struct delivery *delivery)
{
    delivery->state = DELIVERY_SENDING;
    delivery->send_waits = delivery->job_is_out; /* for the host before this one */
    if (delivery->send_waits)
        return;
    if (refuse_utf8(delivery) || refuse_size(delivery))
        return;
    if (delivery_copy_is_wanted(delivery)) {
        bool large = !body_is_inline(delivery->claim->message->body, &(struct str){ 0 });
        job_post(delivery, large ? POOL_DISK : POOL_SIGN, delivery_copy_run, copy_done);
        return;
    }
    begin_transaction(delivery);
}

/* A transaction is over: what is still open goes again. */
static void claim_next(struct delivery *delivery)
{
    bool again = false;

    for (size_t i = 0; i < delivery->claim->count; i++) {
        struct delivery_slot *slot = &delivery->slots[i];
        again |= !slot->is_settled;
        slot->is_accepted = slot->is_again = false;
    }
    if (again)
        delivery_send(delivery);
    else
        claim_finish(delivery);
}

/* ---- content ---- */

static struct body *content_body(const struct delivery *delivery)
{
    return delivery->has_copy ? delivery->copy_body : delivery->claim->message->body;
}

static void window_run(struct job *job)
{
    struct delivery *delivery = container_of(job, struct delivery, job);
    struct body *body = delivery->has_copy ? delivery->copy_body : delivery->job_message->body;

    delivery->copy_err = body_read(body, delivery->body_at, delivery->window, BODY_WINDOW,
                                   &delivery->window_len, &delivery->job_fault);
}

static void content_more(struct delivery *delivery);

static void window_done(struct job *job)
{
    struct delivery *delivery = container_of(job, struct delivery, job);
    struct outcome_facts facts = { .stage = STAGE_DATA, .err = delivery->copy_err };

    if (!job_home(delivery))
        return;
    if (facts.err == ERR_IO) /* of the disk, where the wire is meant otherwise */
        facts.err = ERR_CORRUPT;
    if (delivery->copy_err) {
        /* Our own disk: blame nobody, and never let half a message pass for a
         * whole one: the connection ends before the final dot. */
        facts.fault = str_of(delivery->job_fault.text);
        delivery_settle_open(delivery, &facts);
        delivery_claim_done(delivery);
        delivery_end(delivery, NULL);
        return;
    }
    delivery->body_at += delivery->window_len;
    if (delivery->window_len == 0)
        smtp_client_body_end(delivery->client);
    else
        smtp_client_body(delivery->client, str_make(delivery->window, delivery->window_len));
    free(delivery->window); /* the peer may take its time over what it was given */
    delivery->window = NULL;
    /* SMTP_CLIENT_ROOM comes only after the mark was passed. */
    if (delivery->window_len && smtp_client_output(delivery->client).len <= SMTP_CLIENT_HIGH)
        content_more(delivery);
    delivery_pump(delivery);
}

/* Feed what fits; a side file is read by windows, off the loop. */
static void content_more(struct delivery *delivery)
{
    const struct message *message = delivery->claim->message;
    struct str all;

    if (!delivery->over_head_written) {
        delivery->over_head_written = true;
        smtp_client_body(delivery->client, delivery->has_copy
                                               ? buf_view(&delivery->copy_head)
                                               : str_make(message->head, message->head_len));
        if (body_is_inline(content_body(delivery), &all)) {
            smtp_client_body(delivery->client, all);
            smtp_client_body_end(delivery->client);
            delivery_follow(delivery);
            return;
        }
    }
    if (body_is_inline(content_body(delivery), &all) || delivery->job_is_out)
        return;
    if (!delivery->window)
        delivery->window = mem_alloc(BODY_WINDOW);
    job_post(delivery, POOL_DISK, window_run, window_done);
}

/* ---- replies ---- */

static void mail_answered(struct delivery *delivery, const struct reply *reply)
{
    struct outcome_facts facts = { .stage = STAGE_MAIL, .reply = reply };
    struct delivery_result result;

    /* 421 to the first word over a kept connection: it has had enough of the
     * connection (idle, messages counted), not of us. */
    if (delivery->is_reused && reply->code == 421) {
        delivery_reconnect(delivery);
        return;
    }
    /* Out of order, says a hop that offered PIPELINING: its verdict is asked once
     * more, in the old way. */
    if (delivery->has_followed && (reply->code == 503 || reply->code == 554)) {
        delivery->never_follow = true;
        delivery_reconnect(delivery);
        return;
    }
    delivery->is_reused = false;
    if (reply_is_positive(reply)) {
        delivery_tell(delivery, STAGE_MAIL, reply, NULL, STR_EMPTY);
        return;
    }
    result = judge(delivery, &facts);
    delivery->mail_refused = true;
    delivery->last_result = result;
    delivery_tell(delivery, STAGE_MAIL, reply, &result.outcome, STR_EMPTY);
}

static void rcpt_answered(struct delivery *delivery, size_t index, const struct reply *reply)
{
    size_t at = delivery->slot_of[index];
    struct delivery_slot *slot = &delivery->slots[at];
    struct outcome_facts facts = { .stage = STAGE_RCPT, .reply = reply };
    struct delivery_result result;
    bool accepted_before = false;

    if (delivery->mail_refused)
        return; /* it only says that there was no MAIL */
    if (reply_is_positive(reply)) {
        slot->is_accepted = true;
        delivery_tell_recipient(delivery, STAGE_RCPT, reply, NULL, slot_recipient(delivery, at));
        return;
    }
    for (size_t i = 0; i < delivery->claim->count; i++)
        accepted_before |= delivery->slots[i].is_accepted;
    facts.has_accepted = accepted_before;
    result = judge(delivery, &facts);
    /* RFC 5321 4.5.3.1.10: too many for one transaction, not too many for the
     * recipient: the rest goes at once in another. */
    if (result.outcome.split) {
        slot->is_again = true;
        return;
    }
    delivery_tell_recipient(delivery, STAGE_RCPT, reply, &result.outcome,
                            slot_recipient(delivery, at));
    if (result.outcome.scope == SCOPE_HOST && !delivery_is_last_step(delivery)) {
        delivery->last_result = result; /* left open: the next host is asked */
        delivery->has_last = true;
        return;
    }
    settle(delivery, at, &result);
}

/* What a refused MAIL, DATA or content means for the recipients it concerns. */
static bool spread(struct delivery *delivery, const struct delivery_result *result,
                   bool only_accepted)
{
    if ((result->outcome.scope == SCOPE_HOST) && !delivery_is_last_step(delivery))
        return false;
    for (size_t i = 0; i < delivery->claim->count; i++) {
        struct delivery_slot *slot = &delivery->slots[i];
        if (!slot->is_settled && (!only_accepted || slot->is_accepted))
            settle(delivery, i, result);
    }
    return true;
}

/* The session is no good for more, the recipients that are open go elsewhere. */
static void leave_host(struct delivery *delivery, const struct delivery_result *result)
{
    delivery_drop_stream(delivery);
    delivery->last_result = *result;
    delivery->has_last = true;
    for (size_t i = 0; i < delivery->claim->count; i++)
        delivery->slots[i].is_accepted = delivery->slots[i].is_again = false;
    delivery->step++;
    delivery->clear_only = false;
    delivery_next_address(delivery);
}

static void transaction_failed(struct delivery *delivery, const struct delivery_result *result,
                               bool only_accepted)
{
    struct delivery_result copy = *result;

    if (!spread(delivery, &copy, only_accepted)) {
        leave_host(delivery, &copy);
        return;
    }
    if (copy.outcome.scope == SCOPE_HOST || copy.outcome.scope == SCOPE_DEST) {
        struct outcome trouble = copy.outcome;
        spread(delivery, &copy, false);
        delivery_claim_done(delivery);
        delivery_end(delivery, &trouble);
        return;
    }
    delivery->needs_rset = true;
    claim_next(delivery);
}

bool delivery_was_refused(struct delivery *delivery)
{
    struct delivery_result result = delivery->last_result;

    if (delivery->state != DELIVERY_SENDING || !delivery->claim)
        return false;
    if (!delivery->mail_refused && !(delivery->has_last && !delivery_is_last_step(delivery)))
        return false;
    transaction_failed(delivery, &result, false);
    return true;
}

static void data_refused(struct delivery *delivery, const struct reply *reply)
{
    struct outcome_facts facts = { .stage = STAGE_DATA, .reply = reply };
    struct delivery_result result;
    bool accepted = false;

    if (delivery->mail_refused) {
        result = delivery->last_result;
        transaction_failed(delivery, &result, false);
        return;
    }
    for (size_t i = 0; i < delivery->claim->count; i++)
        accepted |= delivery->slots[i].is_accepted;
    if (accepted && reply) {
        result = judge(delivery, &facts);
        delivery_tell(delivery, STAGE_DATA, reply, &result.outcome, STR_EMPTY);
        transaction_failed(delivery, &result, true);
        return;
    }
    /* Nobody was accepted; those still open wait for another host. */
    if (delivery->has_last) {
        result = delivery->last_result;
        leave_host(delivery, &result);
        return;
    }
    delivery->needs_rset = true;
    claim_next(delivery);
}

static void content_answered(struct delivery *delivery, const struct reply *reply)
{
    struct outcome_facts facts = { .stage = STAGE_CONTENT, .reply = reply, .content_sent = true };
    struct delivery_result result = judge(delivery, &facts);

    result.relayed_with_dsn = smtp_client_offer(delivery->client)->exts & EXT_DSN;
    delivery_tell(delivery, STAGE_CONTENT, reply, &result.outcome, STR_EMPTY);
    if (!reply_is_positive(reply)) {
        transaction_failed(delivery, &result, true);
        return;
    }
    spread(delivery, &result, true);
    if (delivery->has_last && delivery->last_result.outcome.scope == SCOPE_HOST) {
        for (size_t i = 0; i < delivery->claim->count; i++)
            if (!delivery->slots[i].is_settled && !delivery->slots[i].is_again) {
                struct delivery_result last = delivery->last_result;
                leave_host(delivery, &last);
                return;
            }
    }
    claim_next(delivery);
}

void delivery_transaction_event(struct delivery *delivery, const struct smtp_client_event *event)
{
    struct reply reply;

    reply.code = 0;
    /* Judging may drop the machine that the reply lives in. */
    if (event->reply)
        reply = *event->reply;
    switch (event->kind) {
    case SMTP_CLIENT_MAIL:
        mail_answered(delivery, &reply);
        break;
    case SMTP_CLIENT_RCPT:
        rcpt_answered(delivery, event->index, &reply);
        break;
    case SMTP_CLIENT_GO:
    case SMTP_CLIENT_ROOM:
        if (delivery->state == DELIVERY_SENDING && delivery->claim)
            content_more(delivery);
        break;
    case SMTP_CLIENT_DATA:
        data_refused(delivery, event->reply ? &reply : NULL);
        break;
    case SMTP_CLIENT_CONTENT:
        content_answered(delivery, &reply);
        break;
    case SMTP_CLIENT_BANNER:
    case SMTP_CLIENT_EHLO:
    case SMTP_CLIENT_STARTTLS:
    case SMTP_CLIENT_CHALLENGE:
    case SMTP_CLIENT_AUTH:
    case SMTP_CLIENT_RSET:
    case SMTP_CLIENT_QUIT:
    case SMTP_CLIENT_FAULT:
        break; /* deliver_talk.c's */
    }
}
