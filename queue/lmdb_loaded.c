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
 * Every function but loaded_new() and loaded_free(): with the lock held.
 */
#include "queue/lmdb_loaded.h"

#include "relay/base/clock.h"

#include <stdlib.h>
#include <utlist.h>

#define RESTING_BYTES ((size_t)8 << 20) /* but for the last one */

struct loaded {
    struct message *message;
    uint32_t *by_lane;
    bool *is_over; /* recipients that may be otherwise by now */
    size_t bytes;
    uint64_t rests_ms; /* since when */
};

struct loaded *loaded_new(struct message *message)
{
    const struct envelope *envelope = &message->envelope;
    struct loaded *loaded;

    if (envelope->recipient_count <= RECORD_SLICE) /* read again as cheaply */
        return NULL;
    loaded = mem_alloc(sizeof(*loaded));
    loaded->message = message_ref(message);
    loaded->bytes = arena_room(&envelope->arena) + message->head_len + BODY_INLINE_MAX;
    loaded->is_over = mem_alloc(envelope->recipient_count * sizeof(*loaded->is_over));
    loaded->by_lane = mem_alloc(envelope->recipient_count * sizeof(*loaded->by_lane));
    for (size_t i = 0; i < envelope->recipient_count; i++)
        loaded->by_lane[i] = (uint32_t)i;
    lane_sort(envelope, loaded->by_lane, envelope->recipient_count);
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

void loaded_offer(struct part *reader, struct loaded **loaded)
{
    struct kin *kin = reader->kin;

    if (!*loaded || reader->is_stale)
        return;
    loaded_over(*loaded, reader);
    struct loaded *before = kin->loaded;
    kin->loaded = *loaded;
    *loaded = before; /* the caller frees it, without the lock */
}

struct message *loaded_due(const struct part *reader, int64_t now_s, uint32_t **out_indexes,
                           size_t *out_count)
{
    const struct loaded *loaded = reader->kin->loaded;
    struct str lane = str_make(reader->lane->name, reader->lane->name_len);
    size_t count, due = 0;

    if (!loaded)
        return NULL;
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

static void end_rest(struct lmdb *l, struct kin *kin)
{
    DL_DELETE(l->resting, kin);
    l->resting_bytes -= kin->loaded->bytes;
}

static void forget(struct lmdb *l, struct kin *kin)
{
    end_rest(l, kin);
    kin_free(l, kin);
}

bool loaded_rest(struct lmdb *l, struct kin *kin)
{
    if (!kin->loaded)
        return false;
    kin->loaded->rests_ms = clock_mono_ms();
    DL_APPEND(l->resting, kin);
    l->resting_bytes += kin->loaded->bytes;
    while (l->resting != kin && l->resting_bytes > RESTING_BYTES)
        forget(l, l->resting);
    return true;
}

void loaded_wake(struct lmdb *l, struct kin *kin) { end_rest(l, kin); }

size_t loaded_sweep(struct lmdb *l, uint64_t now_ms, uint64_t rest_ms)
{
    size_t bytes = 0;

    while (l->resting && l->resting->loaded->rests_ms + rest_ms <= now_ms) {
        bytes += l->resting->loaded->bytes;
        forget(l, l->resting);
    }
    return bytes;
}

void loaded_changed(struct lmdb *l, const struct msgid *id)
{
    struct kin *kin = kin_find(l, id);

    if (kin && !kin->first) {
        forget(l, kin);
    } else if (kin) {
        loaded_free(&kin->loaded);
        for (struct part *reader = kin->readers; reader; reader = reader->next)
            reader->is_stale = true;
    }
}
