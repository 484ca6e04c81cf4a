/*
 * mem_store.c - lanes and messages of the store in memory.
 *
 * A lane has a heap of due items for each group of senders; an item stands for
 * all waiting recipients of one message in that lane. After every change of a
 * message its items are simply made anew.
 */
#include "queue/mem_store.h"

#include <stdlib.h>

/* ---- lanes --------------------------------------------------------------- */

struct mem_lane *mem_lane(struct store_mem *mem, struct str name, bool make)
{
    struct mem_lane *lane;

    HASH_FIND(hh, mem->lanes, name.at, name.len, lane);
    if (lane || !make)
        return lane;
    lane = mem_alloc(sizeof(*lane));
    lane->name = str_dup(name);
    for (size_t i = 0; i < STORE_BUCKETS; i++)
        timers_init(&lane->due[i]);
    HASH_ADD_KEYPTR(hh, mem->lanes, lane->name, name.len, lane);
    return lane;
}

void mem_lane_free(struct store_mem *mem, struct mem_lane *lane)
{
    HASH_DELETE(hh, mem->lanes, lane);
    for (size_t i = 0; i < STORE_BUCKETS; i++)
        timers_clear(&lane->due[i]);
    free(lane->name);
    free(lane);
}

struct mem_item *mem_bucket_first(const struct mem_lane *lane, size_t bucket)
{
    const struct timers *due = &lane->due[bucket];

    return due->count ? (struct mem_item *)(void *)due->heap[0] : NULL;
}

int64_t mem_lane_due(const struct mem_lane *lane)
{
    int64_t least = 0;

    for (size_t i = 0; i < STORE_BUCKETS; i++) {
        struct mem_item *item = mem_bucket_first(lane, i);
        int64_t due = item ? (int64_t)item->timer.due_ms : 0;
        if (item && (!least || due < least))
            least = due ? due : 1;
    }
    return least;
}

void mem_lane_tell(struct store_mem *mem, struct mem_lane *lane)
{
    int64_t due = mem_lane_due(lane);

    if (due && (!lane->told || due < lane->told) && mem->ready)
        mem->ready(mem->ready_arg, lane->name, due, NULL);
    lane->told = due;
}

/* ---- entries ------------------------------------------------------------- */

static void drop_items(struct mem_entry *entry)
{
    unsigned bucket = rules_bucket(&entry->message->envelope);

    while (entry->items) {
        struct mem_item *item = entry->items;
        entry->items = item->next;
        timer_stop(&item->lane->due[bucket], &item->timer);
        free(item);
    }
}

static struct mem_item *item_for(struct mem_entry *entry, struct mem_lane *lane)
{
    struct mem_item *item = entry->items;

    while (item && item->lane != lane)
        item = item->next;
    if (item)
        return item;
    item = mem_alloc(sizeof(*item));
    item->lane = lane;
    item->entry = entry;
    item->next = entry->items;
    entry->items = item;
    return item;
}

static void make_items(struct store_mem *mem, struct mem_entry *entry)
{
    const struct envelope *envelope = &entry->message->envelope;
    unsigned bucket = rules_bucket(envelope);

    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct recipient *r = &envelope->recipients[i];
        if (r->state != RECIPIENT_QUEUED || entry->leased[i])
            continue;
        struct mem_lane *lane = mem_lane(mem, r->lane, true);
        struct mem_item *item = item_for(entry, lane);
        uint64_t due = r->due_at > 0 ? (uint64_t)r->due_at : 0;
        if (!timer_is_running(&item->timer) || due < item->timer.due_ms)
            timer_start(&lane->due[bucket], &item->timer, due, NULL, NULL);
    }
}

/* Count the entry's recipients in (by 1) or out (by -1). */
static void tally(struct store_mem *mem, struct mem_entry *entry, int64_t by)
{
    const struct envelope *envelope = &entry->message->envelope;

    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct recipient *r = &envelope->recipients[i];
        if (r->state != RECIPIENT_QUEUED && r->state != RECIPIENT_HELD)
            continue;
        struct mem_lane *lane = mem_lane(mem, r->lane, true);
        bool is_held = r->state == RECIPIENT_HELD;
        *(is_held ? &lane->held : &lane->queued) += (uint64_t)by;
        *(is_held ? &mem->held : &mem->queued) += (uint64_t)by;
        if (entry->leased[i])
            lane->leased += (uint64_t)by;
    }
}

/* Every change of an entry happens between these two. */
void mem_entry_open(struct store_mem *mem, struct mem_entry *entry)
{
    tally(mem, entry, -1);
    drop_items(entry);
}

void mem_entry_close(struct store_mem *mem, struct mem_entry *entry)
{
    struct mem_item *item;

    tally(mem, entry, 1);
    make_items(mem, entry);
    for (item = entry->items; item; item = item->next)
        mem_lane_tell(mem, item->lane);
}

/* Lanes that an entry has left may be empty now. */
void mem_lane_sweep(struct store_mem *mem, struct str name)
{
    struct mem_lane *lane = mem_lane(mem, name, false);

    if (lane && lane->queued == 0 && lane->held == 0)
        mem_lane_free(mem, lane);
    else if (lane)
        lane->told = mem_lane_due(lane);
}

static void entry_link(struct store_mem *mem, struct mem_entry *entry)
{
    struct mem_entry *before = mem->last;

    while (before && msgid_cmp(&before->id, &entry->id) > 0)
        before = before->prev;
    entry->prev = before;
    entry->next = before ? before->next : mem->first;
    *(entry->next ? &entry->next->prev : &mem->last) = entry;
    *(before ? &before->next : &mem->first) = entry;
    HASH_ADD(hh, mem->entries, id, sizeof(entry->id), entry);
}

uint64_t mem_cost(const struct message *message)
{
    return rules_cost(&message->envelope, message->head_len + body_size(message->body));
}

void mem_entry_add(struct store_mem *mem, struct message *message)
{
    struct mem_entry *entry = mem_alloc(sizeof(*entry));
    size_t count = message->envelope.recipient_count;

    entry->id = message->envelope.id;
    entry->message = message_ref(message);
    entry->leased = mem_alloc(count + 1);
    entry->retry = mem_alloc(count + 1);
    mem->queued_bytes += mem_cost(message);
    entry_link(mem, entry);
    mem_entry_close(mem, entry);
}

/* Opened already (no items, not counted). */
void mem_entry_free(struct store_mem *mem, struct mem_entry *entry)
{
    mem->queued_bytes -= mem_cost(entry->message);
    HASH_DELETE(hh, mem->entries, entry);
    *(entry->prev ? &entry->prev->next : &mem->first) = entry->next;
    *(entry->next ? &entry->next->prev : &mem->last) = entry->prev;
    message_unref(&entry->message);
    free(entry->leased);
    free(entry->retry);
    free(entry);
}

struct mem_entry *mem_entry_find(struct store_mem *mem, const struct msgid *id)
{
    struct mem_entry *entry;

    HASH_FIND(hh, mem->entries, id, sizeof(*id), entry);
    return entry;
}

/* Messages are immutable once others can see them: make a version of our own. */
struct envelope *mem_entry_own(struct mem_entry *entry)
{
    struct message *old = entry->message;
    struct message *own = message_new();

    envelope_copy(&own->envelope, &old->envelope);
    own->head = str_dup(str_make(old->head, old->head_len));
    own->head_len = old->head_len;
    own->body = body_ref(old->body);
    own->own_signatures = old->own_signatures;
    message_unref(&entry->message);
    entry->message = own;
    return &own->envelope;
}

/* An entry was changed: it lives on, or goes. */
void mem_entry_done(struct store_mem *mem, struct mem_entry *entry)
{
    struct message *message = message_ref(entry->message);

    if (rules_is_open(&message->envelope))
        mem_entry_close(mem, entry);
    else
        mem_entry_free(mem, entry);
    for (size_t i = 0; i < message->envelope.recipient_count; i++)
        mem_lane_sweep(mem, message->envelope.recipients[i].lane);
    message_unref(&message);
}
