/*
 * lmdb_loaded.c - a message that a claim read, for the claims of its other lanes.
 *
 * A list mail has thousands of lanes, and a retry of them all would read, decode and hold
 * the whole message for each. While any of it is in memory, what one claim read serves the
 * others too.
 *
 * It is as old as the snapshot it came from, so it is used for recipients only that are in
 * the store as they were then: none of their leases has ended since, and no operator has
 * changed the message. What ended between the snapshot and the offer has left its mark in
 * the part of the claim that read (part_read). The index entry that a claim found is looked
 * for in a snapshot of its own, whatever is loaded.
 *
 * Every function but loaded_new() and loaded_free(): with the lock held.
 */
#include "queue/lmdb_cold.h"

#include <stdlib.h>

struct loaded {
    struct message *message;
    uint32_t *by_lane;
    bool *is_over; /* recipients that may be otherwise by now */
};

struct loaded *loaded_new(struct message *message)
{
    const struct envelope *envelope = &message->envelope;
    struct loaded *loaded;

    if (envelope->recipient_count <= RECORD_SLICE) /* read again as cheaply */
        return NULL;
    loaded = mem_alloc(sizeof(*loaded));
    loaded->message = message_ref(message);
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

void loaded_changed(struct lmdb *l, const struct msgid *id)
{
    struct part *first = part_first(l, id);

    if (!first)
        return;
    loaded_free(&first->kin->loaded);
    for (struct part *reader = first->kin->readers; reader; reader = reader->next)
        reader->is_stale = true;
}
