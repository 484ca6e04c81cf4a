/*
 * store_mem.c - the queue in memory: for tests, the simulation and the dev relay.
 *
 * Everything is done inside the call, under one lock; only the answers are
 * letters. mem_store.c keeps the lanes and messages.
 */
#include "queue/mem_store.h"
#include "relay/base/clock.h"

#include <stdlib.h>

static struct store_mem *mem_of(struct store *store) { return (struct store_mem *)(void *)store; }

static int64_t now_s(struct store_mem *mem) { return mem->wall_us() / 1000000; }

/* ---- requests ------------------------------------------------------------ */

static enum err take(struct store_mem *mem, struct message *message, bool within_quota,
                     struct fault *fault)
{
    if (mem_entry_find(mem, &message->envelope.id))
        return fault_set(fault, ERR_EXISTS, "the queue has a message with this id");
    if (within_quota && mem->quota_bytes &&
        mem->queued_bytes + mem_cost(message) > mem->quota_bytes)
        return fault_set(fault, ERR_FULL, "the queue is full: %llu bytes of %llu",
                         (unsigned long long)mem->queued_bytes,
                         (unsigned long long)mem->quota_bytes);
    mem_entry_add(mem, message);
    return ERR_OK;
}

static void mem_accept(struct store *store, struct store_accept *request)
{
    struct store_mem *mem = mem_of(store);

    pthread_mutex_lock(&mem->lock);
    enum err rc = take(mem, request->message, true, &request->request.fault);
    store_answer(&request->request, rc);
    pthread_mutex_unlock(&mem->lock);
}

static struct claim *claim_item(struct store_mem *mem, struct mem_item *item, int64_t now)
{
    struct mem_entry *entry = item->entry;
    struct mem_lane *lane = item->lane;
    struct message *message = message_ref(entry->message);
    const struct envelope *envelope = &message->envelope;
    int64_t due_at = (int64_t)item->timer.due_ms;
    uint32_t *indexes = mem_alloc(envelope->recipient_count * sizeof(*indexes));
    size_t count = 0;

    mem_entry_open(mem, entry);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct recipient *r = &envelope->recipients[i];
        if (r->state != RECIPIENT_QUEUED || entry->leased[i] || r->due_at > now ||
            !str_eq(r->lane, str_of(lane->name)))
            continue;
        entry->leased[i] = true;
        indexes[count++] = (uint32_t)i;
    }
    mem_entry_close(mem, entry);
    return claim_new(message, str_of(lane->name), indexes, count, due_at);
}

/* The next due item, round robin over the groups of senders. */
static struct mem_item *next_item(struct mem_lane *lane, int64_t now)
{
    for (unsigned i = 0; i < STORE_BUCKETS; i++) {
        unsigned bucket = (lane->turn + i) % STORE_BUCKETS;
        struct mem_item *item = mem_bucket_first(lane, bucket);
        if (!item || (int64_t)item->timer.due_ms > now)
            continue;
        lane->turn = bucket + 1;
        return item;
    }
    return NULL;
}

static void claim_due(struct store_mem *mem, struct mem_lane *lane, struct store_claim *request)
{
    struct claim **last = &request->claims;
    struct mem_item *item;

    for (size_t n = 0; n < request->max && (item = next_item(lane, request->now_s)); n++) {
        *last = claim_item(mem, item, request->now_s);
        last = &(*last)->next;
    }
}

static struct mem_item *item_in(const struct mem_entry *entry, const struct mem_lane *lane)
{
    struct mem_item *item = entry->items;

    while (item && item->lane != lane)
        item = item->next;
    return item;
}

/* All at once: nothing here has to be read from a disk. */
static void claim_looked_for(struct store_mem *mem, struct mem_lane *lane,
                             struct store_claim *request)
{
    struct claim **last = &request->claims;

    for (struct mem_entry *entry = mem->first; entry; entry = entry->next) {
        struct mem_item *item = item_in(entry, lane);
        if (!item || (int64_t)item->timer.due_ms > request->now_s ||
            !rules_is_looked_for(&request->look, &entry->message->envelope, str_of(lane->name),
                                 request->now_s))
            continue;
        *last = claim_item(mem, item, request->now_s);
        last = &(*last)->next;
    }
}

static void mem_claim(struct store *store, struct store_claim *request)
{
    struct store_mem *mem = mem_of(store);

    pthread_mutex_lock(&mem->lock);
    struct mem_lane *lane = mem_lane(mem, str_of(request->lane), false);
    if (lane && request->look.is_on)
        claim_looked_for(mem, lane, request);
    else if (lane)
        claim_due(mem, lane, request);
    if (lane) {
        lane->told = request->next_due = mem_lane_due(lane);
        request->more = !request->look.is_on && lane->told && lane->told <= request->now_s;
    }
    store_answer(&request->request, ERR_OK);
    pthread_mutex_unlock(&mem->lock);
}

static void apply_verdict(struct envelope *envelope, struct mem_entry *entry,
                          const struct verdict *verdict, int64_t now)
{
    struct recipient *r = &envelope->recipients[verdict->index];

    rules_settle(r, verdict, now, entry->retry[verdict->index]);
    r->status = arena_str(&envelope->arena, r->status);
    r->host = arena_str(&envelope->arena, r->host);
    r->said = arena_str(&envelope->arena, r->said);
    r->cause = arena_str(&envelope->arena, r->cause);
    r->fix = arena_str(&envelope->arena, r->fix);
}

static void end_lease(struct mem_entry *entry, const struct claim *claim)
{
    for (size_t i = 0; i < claim->count; i++)
        entry->leased[claim->indexes[i]] = entry->retry[claim->indexes[i]] = false;
}

static void settle_one(struct store_mem *mem, const struct settlement *settlement)
{
    struct mem_entry *entry = mem_entry_find(mem, &settlement->claim->message->envelope.id);

    if (!entry) /* dropped meanwhile */
        return;
    mem_entry_open(mem, entry);
    struct envelope *envelope = mem_entry_own(entry);
    for (size_t i = 0; i < settlement->verdict_count; i++)
        apply_verdict(envelope, entry, &settlement->verdicts[i], now_s(mem));
    end_lease(entry, settlement->claim);
    mem_entry_done(mem, entry);
    for (size_t i = 0; i < settlement->dsn_count; i++)
        take(mem, settlement->dsns[i], false, NULL);
}

static void mem_settle(struct store *store, struct store_settle *request)
{
    struct store_mem *mem = mem_of(store);

    pthread_mutex_lock(&mem->lock);
    for (size_t i = 0; i < request->count; i++)
        settle_one(mem, &request->settlements[i]);
    store_answer(&request->request, ERR_OK);
    pthread_mutex_unlock(&mem->lock);
}

static void mem_unclaim(struct store *store, struct claim *claims)
{
    struct store_mem *mem = mem_of(store);

    pthread_mutex_lock(&mem->lock);
    for (struct claim *claim = claims; claim; claim = claim->next) {
        struct mem_entry *entry = mem_entry_find(mem, &claim->message->envelope.id);
        if (!entry)
            continue;
        mem_entry_open(mem, entry);
        end_lease(entry, claim);
        mem_entry_close(mem, entry);
    }
    pthread_mutex_unlock(&mem->lock);
}

/* The recipients may have become more. */
static void fit_entry(struct mem_entry *entry, size_t before)
{
    size_t count = entry->message->envelope.recipient_count;

    entry->leased = mem_realloc(entry->leased, count + 1);
    entry->retry = mem_realloc(entry->retry, count + 1);
    for (size_t i = before; i < count; i++)
        entry->leased[i] = entry->retry[i] = false;
}

static bool change_recipient(struct store_mem *mem, struct store_change *request,
                             struct mem_entry *entry, struct envelope *envelope, size_t i)
{
    struct recipient *r = &envelope->recipients[i];
    char lane[LANE_MAX];

    if (!rules_change(request, envelope, r, entry->leased[i], now_s(mem), lane))
        return false;
    r->lane = arena_str(&envelope->arena, r->lane);
    request->leased += entry->leased[i];
    entry->retry[i] = request->kind == STORE_RETRY && entry->leased[i];
    return true;
}

static uint64_t readdress_all(struct store_mem *mem, const struct store_change *request,
                              struct envelope *envelope)
{
    size_t before = envelope->recipient_count;
    struct readdressing readdressing;
    uint64_t changed = 0;

    readdressing_begin(&readdressing, request, envelope, now_s(mem));
    for (size_t i = 0; i < before; i++)
        changed += rules_readdress(&readdressing, i);
    readdressing_end(&readdressing);
    return changed;
}

static void change_entry(struct store_mem *mem, struct store_change *request,
                         struct mem_entry *entry)
{
    struct message *before = message_ref(entry->message);
    uint64_t changed = 0;

    mem_entry_open(mem, entry);
    struct envelope *envelope = mem_entry_own(entry);
    size_t before_count = envelope->recipient_count;
    mem->queued_bytes -= mem_cost(before);
    if (request->kind == STORE_READDRESS)
        changed = readdress_all(mem, request, envelope);
    for (size_t i = 0; i < before_count && request->kind != STORE_READDRESS; i++)
        changed += change_recipient(mem, request, entry, envelope, i);
    mem->queued_bytes += mem_cost(entry->message);
    fit_entry(entry, before_count);
    request->recipients += changed;
    if (changed > 0 && request->messages < request->ids_max)
        request->ids[request->messages] = entry->id;
    request->messages += changed > 0;
    mem_entry_done(mem, entry);
    for (size_t i = 0; i < before->envelope.recipient_count; i++)
        mem_lane_sweep(mem, before->envelope.recipients[i].lane);
    message_unref(&before);
}

static void mem_change(struct store *store, struct store_change *request)
{
    struct store_mem *mem = mem_of(store);

    pthread_mutex_lock(&mem->lock);
    bool is_done = request->routes && request->routes == mem->routes && !request->routes_in_doubt;
    if (request->routes)
        mem->routes = request->routes;
    if (request->hop_count > 0) {
        is_done = !rules_hops_changed(request, buf_view(&mem->hops));
        buf_clear(&mem->hops);
        rules_hops_row(request, &mem->hops);
    }
    for (struct mem_entry *entry = mem->first, *next; entry && !is_done; entry = next) {
        next = entry->next;
        request->examined++;
        if (rules_matches(&request->filter, &entry->message->envelope))
            change_entry(mem, request, entry);
    }
    store_answer(&request->request, ERR_OK);
    pthread_mutex_unlock(&mem->lock);
}

static void mem_list(struct store *store, struct store_list *request)
{
    struct store_mem *mem = mem_of(store);

    pthread_mutex_lock(&mem->lock);
    request->envelopes = mem_alloc((request->max + 1) * sizeof(request->envelopes[0]));
    request->is_corrupt = mem_alloc(request->max + 1);
    for (struct mem_entry *entry = mem->first; entry; entry = entry->next) {
        if (msgid_cmp(&entry->id, &request->after) <= 0 ||
            !rules_matches(&request->filter, &entry->message->envelope))
            continue;
        if (request->count == request->max || request->recipients >= STORE_LIST_RECIPIENTS) {
            request->more = true;
            break;
        }
        struct envelope *out = &request->envelopes[request->count++];
        envelope_init(out);
        envelope_copy(out, &entry->message->envelope);
        request->recipients += out->recipient_count;
    }
    store_answer(&request->request, ERR_OK);
    pthread_mutex_unlock(&mem->lock);
}

static void mem_get(struct store *store, struct store_get *request)
{
    struct store_mem *mem = mem_of(store);
    enum err rc = ERR_OK;

    pthread_mutex_lock(&mem->lock);
    struct mem_entry *entry = mem_entry_find(mem, &request->id);
    if (entry)
        request->message = message_ref(entry->message);
    else
        rc = fault_set(&request->request.fault, ERR_NOT_FOUND,
                       "no message with this id is in the queue");
    store_answer(&request->request, rc);
    pthread_mutex_unlock(&mem->lock);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct mem_lane *const *)a)->name, (*(struct mem_lane *const *)b)->name);
}

static int64_t lane_oldest(const struct mem_lane *lane)
{
    int64_t oldest = 0;

    for (size_t i = 0; i < STORE_BUCKETS; i++) {
        struct mem_item *item = mem_bucket_first(lane, i);
        int64_t arrived = item ? item->entry->message->envelope.arrived_us / 1000000 : 0;
        if (item && (!oldest || arrived < oldest))
            oldest = arrived;
    }
    return oldest;
}

static void mem_lanes(struct store *store, struct store_lanes *request)
{
    struct store_mem *mem = mem_of(store);
    size_t total = 0;

    pthread_mutex_lock(&mem->lock);
    struct mem_lane **all = mem_alloc((HASH_COUNT(mem->lanes) + 1) * sizeof(struct mem_lane *));
    for (struct mem_lane *lane = mem->lanes; lane; lane = lane->hh.next) {
        if (!request->after || strcmp(lane->name, request->after) > 0)
            all[total++] = lane;
    }
    qsort(all, total, sizeof(struct mem_lane *), by_name);
    request->count = total < request->max ? total : request->max;
    request->more = request->count < total;
    request->lanes = mem_alloc((request->count + 1) * sizeof(request->lanes[0]));
    for (size_t i = 0; i < request->count; i++) {
        struct mem_lane *lane = all[i];
        request->lanes[i] = (struct lane_info){
            .lane = str_dup(str_of(lane->name)),
            .queued = lane->queued,
            .held = lane->held,
            .next_due = mem_lane_due(lane),
            .oldest = lane_oldest(lane),
            .leased = lane->leased > 0,
        };
    }
    free(all);
    store_answer(&request->request, ERR_OK);
    pthread_mutex_unlock(&mem->lock);
}

static void mem_watch(struct store *store, store_ready_fn *fn, void *arg)
{
    struct store_mem *mem = mem_of(store);

    pthread_mutex_lock(&mem->lock);
    mem->ready = fn;
    mem->ready_arg = arg;
    for (struct mem_lane *lane = mem->lanes; lane; lane = lane->hh.next) {
        lane->told = 0;
        mem_lane_tell(mem, lane);
    }
    pthread_mutex_unlock(&mem->lock);
}

static void mem_health(struct store *store, struct store_health *out_health)
{
    struct store_mem *mem = mem_of(store);

    pthread_mutex_lock(&mem->lock);
    *out_health = (struct store_health){
        .state = mem->quota_bytes && mem->queued_bytes >= mem->quota_bytes ? STORE_FULL_QUOTA
                                                                           : STORE_FINE,
        .queued_bytes = mem->queued_bytes,
        .quota_bytes = mem->quota_bytes,
        .messages = HASH_COUNT(mem->entries),
        .recipients_queued = mem->queued,
        .recipients_held = mem->held,
        .oldest_s = mem->first ? mem->first->message->envelope.arrived_us / 1000000 : 0,
    };
    pthread_mutex_unlock(&mem->lock);
}

static const char *mem_folder(struct store *store)
{
    (void)store;
    return NULL;
}

static void mem_close(struct store *store)
{
    struct store_mem *mem = mem_of(store);
    struct mem_lane *lane, *next;

    while (mem->first) {
        mem_entry_open(mem, mem->first);
        mem_entry_free(mem, mem->first);
    }
    HASH_ITER (hh, mem->lanes, lane, next)
        mem_lane_free(mem, lane);
    buf_clear(&mem->hops);
    pthread_mutex_destroy(&mem->lock);
    store_clear(store);
    free(mem);
}

static const struct store_backend backend = {
    .accept = mem_accept,
    .claim = mem_claim,
    .settle = mem_settle,
    .change = mem_change,
    .list = mem_list,
    .get = mem_get,
    .lanes = mem_lanes,
    .unclaim = mem_unclaim,
    .watch = mem_watch,
    .health = mem_health,
    .folder = mem_folder,
    .close = mem_close,
};

enum err store_open_mem(const struct store_options *options, struct store **out_store,
                        struct fault *fault)
{
    struct store_mem *mem = mem_alloc(sizeof(*mem));

    (void)fault; /* memory only: nothing can fail */
    store_init(&mem->store, &backend);
    pthread_mutex_init(&mem->lock, NULL);
    mem->wall_us = options->wall_us ? options->wall_us : clock_wall_us;
    mem->quota_bytes = options->quota_bytes;
    *out_store = &mem->store;
    return ERR_OK;
}
