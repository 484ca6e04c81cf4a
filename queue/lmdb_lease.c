/*
 * lmdb_lease.c - which recipients a claim may have. With the lock held.
 */
#include "queue/lmdb_cold.h"

#include <stdlib.h>

uint32_t *cold_copy(const uint32_t *indexes, size_t count)
{
    uint32_t *copy = mem_alloc((count + 1) * sizeof(*copy));

    if (count)
        memcpy(copy, indexes, count * sizeof(*copy));
    return copy;
}

void cold_lease(struct part *part, const uint32_t *indexes, size_t count)
{
    part_unread(part);
    free(part->indexes);
    part->indexes = cold_copy(indexes, count);
    part->count = count;
    part_lease(part);
}

/* LEASED or WINDOW: will it be sent from there? READING: did others' leases end with it? */
static bool has_recipient(const struct part *part, uint32_t index)
{
    if (part->state == PART_WINDOW) {
        const struct envelope *envelope = &part->message->envelope;
        return index < envelope->recipient_count &&
               str_eq(envelope->recipients[index].lane, str_of(part->lane->name));
    }
    for (size_t i = 0; i < part->count; i++)
        if (part->indexes[i] == index)
            return true;
    return false;
}

static size_t without(const struct part *part, uint32_t *indexes, size_t count)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++)
        if (!has_recipient(part, indexes[i]))
            indexes[kept++] = indexes[i];
    return kept;
}

/* Those that nobody else has, or had since the part was made. None, when somebody changed
 * the message since: what was held or dropped is not claimed once that was answered. */
size_t lease_ours(struct lmdb *l, struct part *mine, uint32_t *indexes, size_t count)
{
    if (mine->is_stale) {
        index_add(l, mine->lane, mine->due_at); /* looked at again, at once */
        return 0;
    }
    size_t kept = without(mine, indexes, count);

    if (kept < count)
        index_add(l, mine->lane, mine->due_at);
    /* Another lane's part has a recipient of ours only when that was moved. */
    struct part *others = mine->kin->was_moved ? mine->kin->first : NULL;
    for (struct part *part = others; part && kept > 0; part = part->next_same_id) {
        count = kept;
        if (part->state == PART_LEASED || part->state == PART_WINDOW)
            kept = without(part, indexes, count);
        if (kept < count)
            part_block(part, mine->lane);
    }
    return kept;
}
