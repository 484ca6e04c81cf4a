/*
 * lmdb_loaded.c - a message that a claim read, for the claims of its other lanes.
 *
 * A list mail has thousands of lanes, and a retry of them all would read, decode and hold
 * the whole message for each. While any of it is in memory, and for a while after, what
 * one claim read serves the others too.
 *
 * It is as old as the snapshot it came from, so it is used for recipients only that are in
 * the store as they were then: none of their leases has ended since, and no operator has
 * changed the message. What ended between the snapshot and the offer has left its mark in
 * the part of the claim that read (part_read). The index entry that a claim found is looked
 * for in a snapshot of its own, whatever is loaded.
 *
 * What is shared is bounded by SHARING_BYTES, also while parts of the messages are in
 * memory: those that were not used for longest go. Claims that have them keep them.
 *
 * Every function but loaded_new() and loaded_free(): with the lock held.
 */
#include "queue/lmdb_loaded.h"

#include "relay/base/clock.h"

#include <stdlib.h>
#include <utlist.h>

#define SHARING_BYTES ((size_t)16 << 20) /* but for the last one */

struct loaded {
    struct message *message;
    uint32_t *by_lane;
    bool *is_over; /* recipients that may be otherwise by now */
    size_t bytes;
    uint64_t rests_ms; /* since when, while its kin has no part */
};

static bool has_one_lane(const struct envelope *envelope, const uint32_t *by_lane)
{
    const struct recipient *recipients = envelope->recipients;

    return str_eq(recipients[by_lane[0]].lane,
                  recipients[by_lane[envelope->recipient_count - 1]].lane);
}

struct loaded *loaded_new(struct message *message)
{
    const struct envelope *envelope = &message->envelope;
    struct str body = STR_EMPTY;
    struct loaded *loaded;

    if (envelope->recipient_count <= RECORD_SLICE) /* read again as cheaply */
        return NULL;
    loaded = mem_alloc(sizeof(*loaded));
    loaded->message = message_ref(message);
    (void)body_is_inline(message->body, &body);
    loaded->bytes =
        arena_room(&envelope->arena) + message->head_len + body.len +
        envelope->recipient_count * (sizeof(*loaded->is_over) + sizeof(*loaded->by_lane));
    loaded->is_over = mem_alloc(envelope->recipient_count * sizeof(*loaded->is_over));
    loaded->by_lane = mem_alloc(envelope->recipient_count * sizeof(*loaded->by_lane));
    for (size_t i = 0; i < envelope->recipient_count; i++)
        loaded->by_lane[i] = (uint32_t)i;
    lane_sort(envelope, loaded->by_lane, envelope->recipient_count);
    if (has_one_lane(envelope, loaded->by_lane)) /* nobody to share it with */
        loaded_free(&loaded);
    return loaded;
}

void loaded_free(struct loaded **loaded)
{
    struct loaded *l = *loaded;

    *loaded = NULL;
    if (!l)
        return;
    message_unref(&l->message);
    free(l->by_lane);
    free(l->is_over);
    free(l);
}

void loaded_over(struct loaded *loaded, const struct part *part)
{
    for (size_t i = 0; loaded && i < part->count; i++)
        if (part->indexes[i] < loaded->message->envelope.recipient_count)
            loaded->is_over[part->indexes[i]] = true;
}

/* ---- what is shared, in order of last use ---- */

static void add(struct lmdb *l, struct kin *kin, struct loaded *loaded)
{
    kin->loaded = loaded;
    DL_APPEND(l->sharing, kin);
    l->sharing_bytes += loaded->bytes;
}

static struct loaded *take(struct lmdb *l, struct kin *kin)
{
    struct loaded *loaded = kin->loaded;

    if (loaded) {
        DL_DELETE(l->sharing, kin);
        l->sharing_bytes -= loaded->bytes;
        kin->loaded = NULL;
    }
    return loaded;
}

static void used(struct lmdb *l, struct kin *kin)
{
    DL_DELETE(l->sharing, kin);
    DL_APPEND(l->sharing, kin);
}

static void forget(struct lmdb *l, struct kin *kin)
{
    struct loaded *loaded = take(l, kin);

    loaded_free(&loaded);
    if (!kin->first)
        kin_free(l, kin);
}

void loaded_offer(struct lmdb *l, struct part *reader, struct loaded **loaded)
{
    struct kin *kin = reader->kin;

    if (!*loaded || reader->is_stale)
        return;
    loaded_over(*loaded, reader);
    struct loaded *before = take(l, kin);
    add(l, kin, *loaded);
    *loaded = before; /* the caller frees it, without the lock */
    while (l->sharing != kin && l->sharing_bytes > SHARING_BYTES)
        forget(l, l->sharing);
}

struct message *loaded_due(struct lmdb *l, const struct part *reader, int64_t now_s,
                           uint32_t **out_indexes, size_t *out_count)
{
    const struct loaded *loaded = reader->kin->loaded;
    struct str lane = str_make(reader->lane->name, reader->lane->name_len);
    size_t count, due = 0;

    if (!loaded)
        return NULL;
    used(l, reader->kin);
    const struct envelope *envelope = &loaded->message->envelope;
    const uint32_t *run =
        lane_run_of(envelope, loaded->by_lane, envelope->recipient_count, lane, &count);
    uint32_t *indexes = mem_alloc((count + 1) * sizeof(*indexes));
    for (size_t i = 0; i < count; i++) {
        const struct recipient *r = &envelope->recipients[run[i]];
        if (loaded->is_over[run[i]]) { /* it says nothing of them */
            due = 0;
            break;
        }
        if (r->state == RECIPIENT_QUEUED && r->due_at <= now_s)
            indexes[due++] = run[i];
    }
    if (due == 0) {
        free(indexes);
        return NULL;
    }
    *out_indexes = indexes;
    *out_count = due;
    return loaded->message;
}

/* ---- when no part of the message is in memory ---- */

bool loaded_rest(struct lmdb *l, struct kin *kin)
{
    if (!kin->loaded)
        return false;
    kin->loaded->rests_ms = clock_mono_ms();
    used(l, kin);
    return true;
}

size_t loaded_sweep(struct lmdb *l, uint64_t now_ms, uint64_t rest_ms)
{
    struct kin *kin, *next;
    size_t bytes = 0;

    DL_FOREACH_SAFE(l->sharing, kin, next)
    {
        if (kin->first || kin->loaded->rests_ms + rest_ms > now_ms)
            continue;
        bytes += kin->loaded->bytes;
        forget(l, kin);
    }
    return bytes;
}

void loaded_changed(struct lmdb *l, const struct msgid *id)
{
    struct kin *kin = kin_find(l, id);

    if (!kin)
        return;
    for (struct part *reader = kin->readers; reader; reader = reader->next)
        reader->is_stale = true;
    forget(l, kin);
}
