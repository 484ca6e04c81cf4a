/*
 * lmdb_waiting.c - which messages hold a local name that led nowhere.
 *
 * Such names are tried again whenever the alias file changes, and a queue may have a
 * million messages of other kinds. So the writer remembers the ids of those it has
 * seen (accepted, changed, settled, and found by the count after the start), in
 * order, 16 bytes each. When there are too many it gives up, the whole queue is looked
 * through once more, and on that way they are found anew.
 *
 * An id may stand here in vain (dropped, or its transaction came to nothing): who looks
 * at it forgets it. One that is missing would wait for ever, so whatever may make a
 * recipient wait passes batch_count(). The writer's alone.
 */
#include "queue/lmdb_store.h"

#include <stdlib.h>

#define WAITING_MAX 65536 /* 1 MiB */

/* Where it stands, or would. */
static size_t place_of(const struct waiting *waiting, const struct msgid *id)
{
    size_t low = 0, high = waiting->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (msgid_cmp(&waiting->ids[middle], id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool stands_at(const struct waiting *waiting, size_t at, const struct msgid *id)
{
    return at < waiting->count && msgid_cmp(&waiting->ids[at], id) == 0;
}

void waiting_note(struct lmdb *l, const struct msgid *id)
{
    struct waiting *waiting = &l->waiting_names;
    size_t at = place_of(waiting, id);

    if (waiting->is_partial || stands_at(waiting, at, id))
        return;
    if (waiting->count == WAITING_MAX) {
        waiting->is_partial = true;
        waiting->count = 0;
        return;
    }
    if (waiting->count == waiting->cap) {
        waiting->cap = waiting->cap ? waiting->cap * 2 : 16;
        waiting->ids = mem_realloc(waiting->ids, waiting->cap * sizeof(*waiting->ids));
    }
    memmove(&waiting->ids[at + 1], &waiting->ids[at],
            (waiting->count - at) * sizeof(*waiting->ids));
    waiting->ids[at] = *id;
    waiting->count++;
}

void waiting_forget(struct lmdb *l, const struct msgid *id)
{
    struct waiting *waiting = &l->waiting_names;
    size_t at = place_of(waiting, id);

    if (!stands_at(waiting, at, id))
        return;
    waiting->count--;
    memmove(&waiting->ids[at], &waiting->ids[at + 1],
            (waiting->count - at) * sizeof(*waiting->ids));
}

bool waiting_next(const struct lmdb *l, const struct msgid *after, struct msgid *out_id)
{
    const struct waiting *waiting = &l->waiting_names;
    size_t at = place_of(waiting, after);

    if (stands_at(waiting, at, after))
        at++;
    if (at >= waiting->count)
        return false;
    *out_id = waiting->ids[at];
    return true;
}

bool waiting_is_complete(const struct lmdb *l)
{
    return l->scan_done && !l->waiting_names.is_partial && !l->waiting_names.is_rebuilding;
}

void waiting_begin(struct lmdb *l)
{
    struct waiting *waiting = &l->waiting_names;

    waiting->is_rebuilding = waiting->is_partial;
    waiting->is_partial = false;
}

void waiting_end(struct lmdb *l, enum err err)
{
    struct waiting *waiting = &l->waiting_names;

    if (err && waiting->is_rebuilding) {
        waiting->is_partial = true;
        waiting->count = 0;
    }
    waiting->is_rebuilding = false;
}
