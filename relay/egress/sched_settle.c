/*
 * sched_settle.c - what became of claims, on its way to the store.
 *
 * What finishes within one turn of the loop goes as one settlement; the reports
 * that are owed are made first and go with it, so that none is stored without what it
 * tells of, nor the other way round. A settlement that fails is kept
 * and tried again until the store takes it: its claims stay leased, so nothing
 * is sent twice meanwhile. One bad message must not hold the others up: a batch
 * that failed is tried again in halves.
 */
#include "relay/egress/sched_impl.h"

#include <stdio.h>

#define BATCH_MAX 512
#define TEXTS 256 /* status, host, reply and queue id of most results */
#define RETRY_FIRST_MS 250
#define RETRY_MAX_MS 30000
#define REPORT_RETRY_S 300

/* One claim that is finished. */
struct settling {
    struct settling *next;
    struct sched *sched;
    struct sched_lane *lane;
    struct arena arena; /* texts, and everything below */
    struct claim *claim;
    struct verdict *verdicts; /* claim->count */
    struct settled_hop *hops; /* the same */
    struct bounce_recipient *reports;
    size_t report_count;
    struct bounced bounced;
};

/* What only the hop says. */
struct settled_hop {
    enum result result;
    enum scope scope;
    struct status status;
    struct str remote_id;
    bool is_silent; /* nothing new to tell: it was only looked at */
};

struct settle_batch {
    struct store_settle request;
    struct sched *sched;
    struct settlement *settlements;
    struct settling **items;
    size_t count;
    unsigned tries;
    uint64_t since_ms;
    bool is_out; /* with the store */
    struct timer timer;
    struct settle_batch *prev, *next;
};

/* The store is slower than the next hops: what it has not taken is in memory, and
 * would be sent again after a crash. */
static void count_unsettled(struct sched *sched, bool is_more)
{
    struct sched_work *work;

    sched->unsettled = is_more ? sched->unsettled + 1 : sched->unsettled - 1;
    if (sched->unsettled >= SCHED_UNSETTLED_MAX)
        sched->is_held_up = true;
    if (!sched->is_held_up || sched->unsettled > SCHED_UNSETTLED_MAX / 2)
        return;
    sched->is_held_up = false;
    while (sched->unrouted)
        lane_let_go(sched->unrouted);
    DL_FOREACH2(sched->idle, work, all_next)
    lane_ready(work->lane);
}

static void settling_free(struct settling **item)
{
    struct settling *s = *item;

    *item = NULL;
    s->lane->settling--;
    count_unsettled(s->sched, false);
    lane_ready(s->lane); /* it may be empty now */
    bounced_clear(&s->bounced);
    claim_free(&s->claim);
    arena_clear(&s->arena);
    free(s);
}

/* ---- hops ---- */

static void tell_one(const struct settling *item, size_t i)
{
    struct loop *loop = item->sched->options.loop;
    const struct envelope *envelope = &item->claim->message->envelope;
    const struct verdict *verdict = &item->verdicts[i];
    const struct settled_hop *settled = &item->hops[i];
    const struct recipient *recipient = &envelope->recipients[verdict->index];
    struct hop hop = {
        .id = envelope->id,
        .began_us = envelope->arrived_us,
        .ended_us = loop_wall_us(loop),
        .next_us = verdict->state == RECIPIENT_QUEUED ? verdict->due_at * 1000000 : 0,
        .attempt = recipient->attempts + verdict->attempted,
        .weight = settled->is_silent ? HOP_DETAIL : HOP_EVENT,
        .side = HOP_OUT,
        .stage = settled->is_silent ? STAGE_WAIT : STAGE_SETTLE,
        .result = settled->result,
        .scope = settled->scope,
        .kind = verdict->kind,
        .code = sched_code_of(verdict->said),
        .status_class = settled->status.class,
        .status_subject = settled->status.subject,
        .status_detail = settled->status.detail,
        .recipient = recipient->address,
        .lane = str_of(item->claim->lane),
        .host = verdict->host,
        .remote_id = settled->remote_id,
    };

    sched_set_said(&hop, verdict->said);
    if (verdict->state != RECIPIENT_DELIVERED) { /* nothing to explain */
        hop.cause = verdict->cause;
        hop.fix = verdict->fix;
    }
    /* Nobody is told of it otherwise: a report is never reported. */
    if (verdict->state == RECIPIENT_FAILED && (envelope->flags & ENVELOPE_DSN)) {
        hop.weight = HOP_WARNING;
        hop.text = STR("a delivery report reached nobody");
    }
    hop_emit(loop_ring(loop), &hop);
}

static void tell_dsn(const struct settling *item, size_t i)
{
    const struct message *dsn = item->bounced.reports[i];
    struct loop *loop = item->sched->options.loop;
    char id[MSGID_TEXT + 1];
    char text[64];
    struct hop hop = {
        .id = item->claim->message->envelope.id,
        .began_us = loop_wall_us(loop),
        .ended_us = loop_wall_us(loop),
        .weight = HOP_EVENT,
        .stage = STAGE_DSN,
        .count = item->bounced.counts[i],
        .recipient = dsn->envelope.recipients[0].address,
    };

    msgid_print(&dsn->envelope.id, id);
    snprintf(text, sizeof(text), "queued as %s", id);
    hop.text = str_of(text);
    hop_emit(loop_ring(loop), &hop);
}

static void tell(const struct settling *item)
{
    for (size_t i = 0; i < item->claim->count; i++)
        tell_one(item, i);
    for (size_t i = 0; i < item->bounced.count; i++)
        tell_dsn(item, i);
}

/* ---- batches ---- */

static void batch_free(struct settle_batch *batch)
{
    struct sched *sched = batch->sched;

    DL_DELETE(sched->batches, batch);
    loop_timer_stop(sched->options.loop, &batch->timer);
    free(batch->settlements);
    free(batch->items);
    free(batch);
}

static void batch_done(struct store_request *request);

static void batch_post(struct settle_batch *batch)
{
    struct store *store = batch->sched->options.store;

    batch->request.request = (struct store_request){
        .reply_to = loop_mailbox(batch->sched->options.loop),
        .done = batch_done,
    };
    batch->request.settlements = batch->settlements;
    batch->request.count = batch->count;
    batch->is_out = true;
    store_settle(store, &batch->request);
}

static struct settle_batch *batch_new(struct sched *sched, size_t count)
{
    struct settle_batch *batch = mem_alloc(sizeof(*batch));

    batch->sched = sched;
    batch->since_ms = loop_now_ms(sched->options.loop);
    batch->settlements = mem_alloc(count * sizeof(*batch->settlements));
    batch->items = mem_alloc(count * sizeof(struct settling *));
    DL_APPEND(sched->batches, batch);
    return batch;
}

static void batch_add(struct settle_batch *batch, struct settling *item)
{
    batch->settlements[batch->count] = (struct settlement){
        .claim = item->claim,
        .verdicts = item->verdicts,
        .verdict_count = item->claim->count,
        .dsns = item->bounced.reports,
        .dsn_count = item->bounced.count,
    };
    batch->items[batch->count++] = item;
}

static void batch_again(void *arg)
{
    struct settle_batch *batch = arg;
    struct settle_batch *half;
    size_t keep = (batch->count + 1) / 2;

    if (batch->count > 1) {
        half = batch_new(batch->sched, batch->count - keep);
        half->tries = batch->tries;
        half->since_ms = batch->since_ms;
        for (size_t i = keep; i < batch->count; i++)
            batch_add(half, batch->items[i]);
        batch->count = keep;
        batch_post(half);
    }
    batch_post(batch);
}

static uint64_t retry_delay_ms(unsigned tries)
{
    return tries > 7 ? RETRY_MAX_MS : (uint64_t)RETRY_FIRST_MS << (tries - 1);
}

static void give_up(struct settle_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct settling *item = batch->items[i];
        store_unclaim(batch->sched->options.store, &item->claim);
        for (size_t j = 0; j < item->bounced.count; j++) {
            struct body *body = body_ref(item->bounced.reports[j]->body);
            body_discard_later(&body, loop_pool(batch->sched->options.loop));
        }
        settling_free(&item);
    }
    batch_free(batch);
}

static void batch_failed(struct settle_batch *batch)
{
    struct sched *sched = batch->sched;

    if (!sched->settle_trouble)
        sched_tell_trouble(sched, STAGE_SETTLE, STR_EMPTY,
                           STR("results could not be stored; they are kept and stored again"),
                           str_of(batch->request.request.fault.text));
    sched->settle_trouble = true;
    if (sched->is_aborting) {
        give_up(batch);
        return;
    }
    batch->tries++;
    loop_timer_start(sched->options.loop, &batch->timer, retry_delay_ms(batch->tries), batch_again,
                     batch);
}

static void batch_done(struct store_request *request)
{
    struct store_settle *settle = container_of(request, struct store_settle, request);
    struct settle_batch *batch = container_of(settle, struct settle_batch, request);
    struct sched *sched = batch->sched;

    batch->is_out = false;
    if (request->err) {
        batch_failed(batch);
    } else {
        sched->settle_trouble = false;
        for (size_t i = 0; i < batch->count; i++) {
            tell(batch->items[i]);
            settling_free(&batch->items[i]);
        }
        batch_free(batch);
    }
    sched_check_idle(sched);
}

static void flush(void *arg)
{
    struct sched *sched = arg;
    struct settle_batch *batch;
    size_t count;

    while (sched->settling) {
        count = 0;
        for (struct settling *item = sched->settling; item && count < BATCH_MAX; item = item->next)
            count++;
        batch = batch_new(sched, count);
        while (count-- > 0) {
            struct settling *item = sched->settling;
            sched->settling = item->next;
            batch_add(batch, item);
        }
        batch_post(batch);
    }
    sched->settling_last = &sched->settling;
}

static void send_off(struct settling *item)
{
    struct sched *sched = item->sched;

    item->next = NULL;
    *sched->settling_last = item;
    sched->settling_last = &item->next;
    if (!sched->flush.is_queued)
        loop_defer(sched->options.loop, &sched->flush, flush, sched);
}

bool settle_is_busy(const struct sched *sched)
{
    return sched->settling || sched->batches || sched->bounces;
}

void settle_stuck(const struct sched *sched, struct stuck *stuck)
{
    const struct settle_batch *batch;
    uint64_t now_ms = loop_now_ms(sched->options.loop);

    DL_FOREACH (sched->batches, batch)
        stuck_offer(stuck, batch->since_ms, now_ms, STUCK_MS,
                    "results of %zu attempts wait for the store", batch->count);
}

void settle_abort(struct sched *sched)
{
    struct settle_batch *batch, *next;

    DL_FOREACH_SAFE(sched->batches, batch, next)
    if (!batch->is_out)
        give_up(batch);
}

/* ---- verdicts ---- */

static struct settling *settling_new(struct sched_lane *lane, struct claim *claim)
{
    struct settling *item = mem_alloc(sizeof(*item));

    item->sched = lane->sched;
    item->lane = lane;
    lane->settling++;
    count_unsettled(lane->sched, true);
    item->claim = claim;
    arena_init(&item->arena);
    arena_expect(&item->arena,
                 claim->count * (sizeof(*item->verdicts) + sizeof(*item->hops)) + TEXTS);
    item->verdicts = arena_alloc(&item->arena, claim->count * sizeof(*item->verdicts));
    item->hops = arena_alloc(&item->arena, claim->count * sizeof(*item->hops));
    return item;
}

static struct ruling_terms terms_of(const struct sched *sched)
{
    struct loop_wall_set set = loop_wall_set(sched->options.loop);

    return (struct ruling_terms){
        .backoff = sched->settings->backoff,
        .lifetime_s = sched->settings->lifetime_s,
        .warn_after_s = sched->settings->warn_after_s,
        .set_by_s = set.forward_s,
        .set_at_s = set.at_s,
    };
}

static void count_up(struct sched *sched, const struct ruling *ruling)
{
    sched->attempts += ruling->attempted;
    sched->delivered += ruling->state == RECIPIENT_DELIVERED;
    sched->failed += ruling->state == RECIPIENT_FAILED;
    sched->later += ruling->state == RECIPIENT_QUEUED && ruling->attempted;
}

static void add_report(struct settling *item, size_t i, const struct ruling *ruling)
{
    const struct envelope *envelope = &item->claim->message->envelope;
    const struct recipient *recipient = &envelope->recipients[item->verdicts[i].index];

    if (!ruling->has_report || !dsn_is_owed(envelope, recipient, ruling->action))
        return;
    if (!item->reports)
        item->reports = arena_alloc(&item->arena, item->claim->count * sizeof(*item->reports));
    item->reports[item->report_count++] = (struct bounce_recipient){
        .index = item->verdicts[i].index,
        .action = ruling->action,
        .verdict = &item->verdicts[i],
        .will_retry_until = ruling->will_retry_until,
    };
}

/* What people are told of the i-th recipient; texts of `result` are copied. */
static void add_verdict(struct settling *item, size_t i, const struct ruling *ruling,
                        const struct delivery_result *result)
{
    const struct outcome *outcome = &result->outcome;
    struct arena *arena = &item->arena;
    enum result told = outcome->result;
    char status[32] = "";

    if (ruling->state == RECIPIENT_FAILED)
        told = RESULT_FAILED;
    if (outcome->status.class)
        status_print(outcome->status, status, sizeof(status));
    item->verdicts[i] = (struct verdict){
        .index = item->claim->indexes[i],
        .state = ruling->state,
        .attempted = ruling->attempted,
        .warned = ruling->warned,
        .due_at = ruling->due_at,
        .stage = result->stage,
        .kind = outcome->kind,
        .status = arena_str(arena, str_of(status)),
        .host = arena_str(arena, result->host),
        .said = arena_str(arena, result->said),
        .cause = str_of(outcome->cause),
        .fix = str_of(outcome->fix),
    };
    item->hops[i] = (struct settled_hop){
        .result = told,
        .scope = outcome->scope,
        .status = outcome->status,
        .remote_id = arena_str(arena, result->remote_id),
        .is_silent = !ruling->attempted && ruling->state == RECIPIENT_QUEUED,
    };
    count_up(item->sched, ruling);
    add_report(item, i, ruling);
}

/* ---- reports ---- */

/* Nothing of ours may end without the word that is owed for it: what cannot be
 * reported now stays in the queue, is tried again, and reported then. What the reports
 * that could be made tell of is settled with them, and not tried again. */
static void put_off_rest(struct settling *item)
{
    struct sched *sched = item->sched;

    for (size_t i = item->bounced.done; i < item->report_count; i++) {
        struct verdict *verdict = item->reports[i].verdict;
        verdict->warned = false;
        if (verdict->state != RECIPIENT_FAILED)
            continue;
        verdict->state = RECIPIENT_QUEUED;
        verdict->due_at = loop_wall_s(sched->options.loop) + REPORT_RETRY_S;
        item->hops[verdict - item->verdicts].result = RESULT_LATER;
        sched->failed--;
        sched->later++;
    }
}

static void bounced(void *arg, struct bounced *take)
{
    struct settling *item = arg;

    item->sched->bounces--;
    item->bounced = *take;
    put_off_rest(item);
    send_off(item);
}

static void finish(struct settling *item)
{
    struct sched *sched = item->sched;
    struct bounce_options options = {
        .loop = sched->options.loop,
        .intake = sched->options.intake,
        .hostname = sched->settings->hostname,
        .pace = sched->options.pace,
        .per_hour = sched->settings->reports_per_hour,
        .recipients_max = BOUNCE_RECIPIENTS,
        .bytes_max = BOUNCE_BYTES,
    };

    if (item->report_count == 0) {
        message_drop_content(item->claim->message); /* a thousand of them may wait for the store */
        send_off(item);
        return;
    }
    sched->bounces++;
    bounce_make(&options, item->claim->message, item->reports, item->report_count, bounced, item);
}

void settle_results(struct sched_lane *lane, struct claim *claim,
                    const struct delivery_result *results)
{
    struct sched *sched = lane->sched;
    const struct envelope *envelope = &claim->message->envelope;
    struct ruling_terms terms = terms_of(sched);
    struct settling *item = settling_new(lane, claim);
    int64_t now_s = loop_wall_s(sched->options.loop);

    for (size_t i = 0; i < claim->count; i++) {
        const struct recipient *recipient = &envelope->recipients[claim->indexes[i]];
        struct ruling ruling;
        ruling_of_attempt(&terms, envelope, recipient, &results[i].outcome, results[i].attempted,
                          !results[i].relayed_with_dsn, now_s,
                          sched_noise(&envelope->id) + claim->indexes[i], &ruling);
        add_verdict(item, i, &ruling, &results[i]);
    }
    finish(item);
}

void settle_outage(struct sched_lane *lane, struct claim *claim)
{
    struct sched *sched = lane->sched;
    const struct sched_dest *dest = lane->dest;
    const struct envelope *envelope = &claim->message->envelope;
    struct ruling_terms terms = terms_of(sched);
    struct ruling *rulings = mem_alloc(claim->count * sizeof(*rulings));
    struct delivery_result result = {
        .outcome = dest->dest.last_trouble,
        .stage = dest->words.stage,
        .host = str_of(dest->words.host),
        .said = str_of(dest->words.said),
    };
    bool any_news = false;

    for (size_t i = 0; i < claim->count; i++) {
        ruling_of_outage(&terms, envelope, &envelope->recipients[claim->indexes[i]],
                         loop_wall_s(sched->options.loop), &rulings[i]);
        any_news |= rulings[i].warned || rulings[i].state != RECIPIENT_QUEUED;
    }
    if (any_news) {
        struct settling *item = settling_new(lane, claim);
        for (size_t i = 0; i < claim->count; i++)
            add_verdict(item, i, &rulings[i], &result);
        finish(item);
    } else {
        store_unclaim(sched->options.store, &claim);
    }
    free(rulings);
}
