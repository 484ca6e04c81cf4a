/*
 * lmdb_opened.c - records that the writer has decoded, with their recipients in order
 * of lane.
 *
 * A list mail's lanes are settled one by one, in batches that follow each other closely.
 * A record of several slices stays decoded between them, so that a lane costs the slices
 * it has, however many the message has. The writer is the only one who changes records:
 * what is kept here is what the store holds. A batch that is given up takes all of it
 * along, and so does a write of the record by another way.
 *
 * What is kept is bounded by OPENED_BYTES (but for the last one), and goes when it was not
 * used for a while.
 */
#include "queue/lmdb_opened.h"

#include "relay/base/clock.h"

#include <stdlib.h>

#define OPENED_BYTES ((size_t)8 << 20)
#define TEXTS_BYTES ((size_t)256 << 10) /* what verdicts may add, beside as much again */

/* ---- what is kept ---------------------------------------------------------------------- */

static size_t bytes_of(const struct opened *opened)
{
    return opened->envelope.arena.used_bytes + opened->by_lane_cap * sizeof(*opened->by_lane);
}

static struct opened *find(struct lmdb *l, const struct msgid *id)
{
    struct opened *opened;

    HASH_FIND(hh, l->opened, id, sizeof(*id), opened);
    return opened;
}

/* The last of them is used again for the next record: most have one recipient. */
static void let_go(struct lmdb *l, struct opened *opened)
{
    envelope_clear(&opened->envelope);
    opened->is_ordered = false;
    if (!l->opened_spare && opened->by_lane_cap <= RECORD_SLICE) {
        l->opened_spare = opened;
        return;
    }
    free(opened->by_lane);
    free(opened);
}

static void unkeep(struct lmdb *l, struct opened *opened)
{
    HASH_DELETE(hh, l->opened, opened);
    l->opened_bytes -= opened->kept_bytes;
    opened->kept_bytes = 0;
}

static void forget(struct lmdb *l, struct opened *opened)
{
    unkeep(l, opened);
    let_go(l, opened);
}

/* As the most recently used one. */
static void keep(struct lmdb *l, struct opened *opened)
{
    opened->kept_bytes = bytes_of(opened);
    opened->used_ms = clock_mono_ms();
    HASH_ADD(hh, l->opened, id, sizeof(opened->id), opened);
    l->opened_bytes += opened->kept_bytes;
    while (l->opened != opened && l->opened_bytes > OPENED_BYTES)
        forget(l, l->opened); /* the first is the one that rested longest */
}

/* ---- the writer's ways to it ------------------------------------------------------------- */

static struct opened *fresh_one(struct lmdb *l)
{
    struct opened *opened = l->opened_spare;

    l->opened_spare = NULL;
    if (!opened) {
        opened = mem_alloc(sizeof(*opened));
        envelope_init(&opened->envelope);
    }
    return opened;
}

static enum err load(struct lmdb *l, struct opened *opened, const struct msgid *id,
                     struct fault *fault)
{
    enum err rc = lmdb_load(l, l->batch.txn, id, &opened->envelope, &opened->content, fault);

    if (rc)
        return rc;
    opened->id = *id;
    opened->open = 0;
    opened->loaded_bytes = opened->envelope.arena.used_bytes;
    for (size_t i = 0; i < opened->envelope.recipient_count; i++)
        opened->open += rules_recipient_is_open(&opened->envelope.recipients[i]);
    return ERR_OK;
}

enum err opened_get(struct lmdb *l, const struct msgid *id, struct opened **out_opened,
                    struct fault *fault)
{
    struct opened *opened = find(l, id);
    enum err rc = ERR_OK;

    if (opened) {
        unkeep(l, opened);
    } else {
        opened = fresh_one(l);
        rc = load(l, opened, id, fault);
    }
    if (rc)
        let_go(l, opened);
    else
        *out_opened = opened;
    return rc;
}

void opened_put(struct lmdb *l, struct opened *opened)
{
    size_t most = opened->loaded_bytes * 2 + TEXTS_BYTES;

    /* One slice is read again as cheaply. */
    if (opened->open > 0 && record_slices(&opened->envelope) > 1 &&
        opened->envelope.arena.used_bytes <= most)
        keep(l, opened);
    else
        let_go(l, opened);
}

void opened_settle(struct lmdb *l, struct opened *opened, const struct verdict *verdict, bool retry)
{
    struct recipient *r = &opened->envelope.recipients[verdict->index];
    struct arena *arena = &opened->envelope.arena;

    opened->open -= rules_recipient_is_open(r);
    rules_settle(r, verdict, l->batch.now_s, retry);
    opened->open += rules_recipient_is_open(r);
    if (record_slices(&opened->envelope) == 1)
        return;
    r->status = arena_str(arena, r->status); /* it outlives the verdict */
    r->host = arena_str(arena, r->host);
    r->said = arena_str(arena, r->said);
    r->cause = arena_str(arena, r->cause);
    r->fix = arena_str(arena, r->fix);
}

const uint32_t *opened_lane(struct opened *opened, struct str lane, size_t *out_count)
{
    size_t count = opened->envelope.recipient_count;

    if (!opened->is_ordered) {
        if (count > opened->by_lane_cap) {
            opened->by_lane = mem_realloc(opened->by_lane, count * sizeof(*opened->by_lane));
            opened->by_lane_cap = count;
        }
        for (size_t i = 0; i < count; i++)
            opened->by_lane[i] = (uint32_t)i;
        lane_sort(&opened->envelope, opened->by_lane, count);
        opened->is_ordered = true;
    }
    return lane_run_of(&opened->envelope, opened->by_lane, count, lane, out_count);
}

void opened_written(struct lmdb *l, const struct msgid *id)
{
    struct opened *opened = find(l, id);

    if (opened)
        forget(l, opened);
}

void opened_forget_all(struct lmdb *l)
{
    while (l->opened)
        forget(l, l->opened);
}

void opened_sweep(struct lmdb *l, uint64_t now_ms, uint64_t rest_ms)
{
    while (l->opened && l->opened->used_ms + rest_ms <= now_ms) {
        l->spilled_bytes += l->opened->kept_bytes;
        forget(l, l->opened);
    }
}

void opened_clear(struct lmdb *l)
{
    opened_forget_all(l);
    if (l->opened_spare)
        free(l->opened_spare->by_lane);
    free(l->opened_spare);
    l->opened_spare = NULL;
}
