/*
 * lmdb_batch.c - one write transaction, and what memory learns when it is durable.
 *
 * While it is being filled, nothing that others can see changes. After the
 * commit its effects are applied under the lock in one go.
 */
#include "queue/lmdb_loaded.h"
#include "queue/lmdb_opened.h"

#include "relay/base/clock.h"

#include <stdlib.h>

/* The arrays are kept from batch to batch. */
void *batch_grow(void *items, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return items;
    *cap = *cap ? *cap * 2 : 64;
    return mem_realloc(items, *cap * size);
}

/* ---- what a batch collects -------------------------------------------------------- */

static struct effect *effect_on(struct lmdb *l, struct str lane)
{
    struct batch *batch = &l->batch;

    /* Neighbours are often alike: a newsletter through one smarthost is one effect. */
    if (!batch->effect_count || !str_eq(batch->effects[batch->effect_count - 1].lane, lane)) {
        batch->effects = batch_grow(batch->effects, batch->effect_count, &batch->effect_cap,
                                    sizeof(batch->effects[0]));
        batch->effects[batch->effect_count++] =
            (struct effect){ .lane = arena_str(&batch->arena, lane) };
    }
    struct effect *effect = &batch->effects[batch->effect_count - 1];
    if (batch->near)
        effect->near = batch->near;
    return effect;
}

/* The scan has passed it: what it has not, it will find as it is then. */
static bool is_counted(const struct lmdb *l, const struct envelope *envelope)
{
    return l->scan_done || msgid_cmp(&envelope->id, &l->scan_at) <= 0;
}

void batch_count_one(struct lmdb *l, const struct envelope *envelope, const struct recipient *r,
                     int64_t by)
{
    struct lmdb_state *state = &l->batch.state;
    bool is_held = r->state == RECIPIENT_HELD;

    if (!is_held && r->state != RECIPIENT_QUEUED)
        return;
    if (by > 0 && rules_recipient_waits(r))
        waiting_note(l, &envelope->id);
    *(is_held ? &state->held : &state->queued) += (uint64_t)by;
    if (!is_counted(l, envelope))
        return;
    *(is_held ? &state->counted.held : &state->counted.queued) += (uint64_t)by;
    struct effect *effect = effect_on(l, r->lane);
    *(is_held ? &effect->held : &effect->queued) += by;
}

void batch_count(struct lmdb *l, const struct envelope *envelope, int64_t by)
{
    for (size_t i = 0; i < envelope->recipient_count; i++)
        batch_count_one(l, envelope, &envelope->recipients[i], by);
}

void batch_cost(struct lmdb *l, const struct envelope *envelope, int64_t by)
{
    l->batch.state.queued_bytes += (uint64_t)by;
    if (is_counted(l, envelope))
        l->batch.state.counted.bytes += (uint64_t)by;
}

void batch_due(struct lmdb *l, struct str lane, int64_t due_at)
{
    struct effect *effect = effect_on(l, lane);
    int64_t due = due_at > 0 ? due_at : 1;

    if (!effect->due_at || due < effect->due_at)
        effect->due_at = due;
}

void batch_touch(struct lmdb *l, struct str lane) { effect_on(l, lane); }

static void add_part(struct part ***parts, size_t *count, size_t *cap, struct part *part)
{
    *parts = batch_grow(*parts, *count, cap, sizeof(struct part *));
    (*parts)[(*count)++] = part;
}

void batch_fresh(struct lmdb *l, struct part *part)
{
    struct batch *batch = &l->batch;

    add_part(&batch->fresh, &batch->fresh_count, &batch->fresh_cap, part);
}

void batch_ended(struct lmdb *l, struct part *part)
{
    struct batch *batch = &l->batch;

    add_part(&batch->ended, &batch->ended_count, &batch->ended_cap, part);
    /* Maybe the lane's last, and its recipients wait in another: then no count says so. */
    batch_touch(l, str_make(part->lane->name, part->lane->name_len));
}

void batch_changed(struct lmdb *l, const struct msgid *id, const bool *recipients, size_t count)
{
    struct batch *batch = &l->batch;

    batch->changed = batch_grow(batch->changed, batch->changed_count, &batch->changed_cap,
                                sizeof(batch->changed[0]));
    batch->changed[batch->changed_count++] = (struct changed){ *id, recipients, count };
}

void batch_file(struct lmdb *l, const struct record_content *content)
{
    struct batch *batch = &l->batch;

    if (content->file.len == 0)
        return;
    batch->files =
        batch_grow(batch->files, batch->file_count, &batch->file_cap, sizeof(struct body *));
    batch->files[batch->file_count++] = body_of_file(l->bodies, content->file, 0);
}

/* With the lock held. */
void batch_spill(struct lmdb *l, struct part *part)
{
    struct batch *batch = &l->batch;

    if (part->indexed)
        return;
    add_part(&batch->spilled, &batch->spilled_count, &batch->spilled_cap, part);
}

void batch_quarantine(struct lmdb *l, const struct msgid *id, const char *why)
{
    pthread_mutex_lock(&l->lock);
    bool is_new = index_corrupt(l, id);
    pthread_mutex_unlock(&l->lock);
    if (!is_new)
        return;
    struct hop hop = {
        .id = *id,
        .began_us = l->wall_us(),
        .ended_us = l->wall_us(),
        .weight = HOP_ALARM,
        .stage = STAGE_ALARM,
        .result = RESULT_FAILED,
        .scope = SCOPE_US,
        .fault = str_of(why),
        .cause = STR("a stored message cannot be read and was set aside; the others go on"),
        .fix = STR("check the disk; `waypost queue drop` with this id removes it"),
    };
    hop_emit(l->ring, &hop);
}

/* ---- its end ------------------------------------------------------------------------ */

static void reset(struct batch *batch)
{
    for (size_t i = 0; i < batch->file_count; i++)
        body_unref(&batch->files[i]);
    arena_clear(&batch->arena);
    batch->txn = NULL;
    batch->new_bytes = 0;
    batch->effect_count = batch->fresh_count = batch->spilled_count = 0;
    batch->ended_count = batch->changed_count = batch->file_count = 0;
}

/* The first id in the store is the oldest message's. */
static int64_t oldest_of(struct lmdb *l, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    struct msgid id;
    int64_t oldest_s = 0;

    if (mdb_cursor_open(txn, l->dbi_msg, &cursor))
        return 0;
    if (mdb_cursor_get(cursor, &key, &value, MDB_FIRST) == 0 && key.mv_size >= MSGID_BYTES) {
        memcpy(id.bytes, key.mv_data, MSGID_BYTES);
        oldest_s = msgid_wall_ms(&id) / 1000;
    }
    mdb_cursor_close(cursor);
    return oldest_s;
}

enum err batch_begin(struct lmdb *l, struct fault *fault)
{
    struct batch *batch = &l->batch;
    int rc = lmdb_begin(l, 0, &batch->txn);

    if (rc == MDB_PANIC) {
        enum err err = lmdb_reopen(l, fault);
        if (err)
            return err;
        rc = lmdb_begin(l, 0, &batch->txn);
    }
    if (rc)
        return lmdb_fault(fault, rc, "cannot begin writing to the queue");
    batch->state = l->state;
    batch->now_s = l->wall_us() / 1000000;
    batch->append = false;
    batch->leased = 0;
    return ERR_OK;
}

static void apply_effect(struct lmdb *l, const struct effect *effect)
{
    bool is_news = effect->due_at || effect->queued > 0 || effect->held > 0;
    struct lane *lane = index_lane(l, effect->lane, is_news);

    if (!lane)
        return;
    lane->queued += (uint64_t)effect->queued;
    lane->held += (uint64_t)effect->held;
    if (effect->due_at)
        index_add(l, lane, effect->due_at);
}

void batch_count_lane(struct lmdb *l, struct str lane, bool is_held)
{
    struct effect *effect = effect_on(l, lane);

    (is_held ? &effect->held : &effect->queued)[0]++;
}

void batch_apply_counts(struct lmdb *l)
{
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->batch.effect_count; i++)
        apply_effect(l, &l->batch.effects[i]);
    pthread_mutex_unlock(&l->lock);
    reset(&l->batch);
}

/* Moved to the index. It stayed to be claimed while that was written: in a
 * window it goes, leased it is known as indexed. */
static void finish_spilled(struct lmdb *l, struct part *part)
{
    part_forget(l, part);
    if (part->state != PART_WINDOW)
        return;
    index_add(l, part->lane, part->due_at);
    part_free(l, part);
}

/* From here on nobody claims the message as it was before. Who did so until now, also
 * while the change was being written, attempts it. */
static void apply_changed(struct lmdb *l, const struct changed *changed)
{
    const struct part *part = changed->recipients ? part_first(l, &changed->id) : NULL;

    for (; part; part = part->next_same_id)
        for (size_t i = 0; part->state == PART_LEASED && i < part->count; i++)
            if (part->indexes[i] < changed->count)
                l->batch.leased += changed->recipients[part->indexes[i]];
    loaded_changed(l, &changed->id);
}

/* Parts first: the lanes hear of index entries when no part hides them any more. */
static void apply_effects(struct lmdb *l)
{
    struct batch *batch = &l->batch;

    for (size_t i = 0; i < batch->spilled_count; i++)
        finish_spilled(l, batch->spilled[i]);
    for (size_t i = 0; i < batch->changed_count; i++)
        apply_changed(l, &batch->changed[i]);
    for (size_t i = 0; i < batch->ended_count; i++) {
        loaded_over(batch->ended[i]->kin->loaded, batch->ended[i]);
        part_free(l, batch->ended[i]);
    }
    for (size_t i = 0; i < batch->fresh_count; i++)
        part_enter(l, batch->fresh[i], false);
    for (size_t i = 0; i < batch->effect_count; i++)
        apply_effect(l, &batch->effects[i]);
}

static void tell_lanes(struct lmdb *l)
{
    struct batch *batch = &l->batch;

    for (size_t i = 0; i < batch->effect_count; i++) {
        struct lane *lane = index_lane(l, batch->effects[i].lane, false);
        if (!lane)
            continue;
        index_tell(l, lane, batch->effects[i].near);
        index_sweep(l, lane);
    }
}

static void publish(struct lmdb *l, uint64_t commit_ns)
{
    struct batch *batch = &l->batch;

    l->state = batch->state;
    l->used_since += batch->new_bytes;
    pthread_mutex_lock(&l->lock);
    apply_effects(l);
    tell_lanes(l);
    l->health.commits++;
    l->health.commit_ns_sum += commit_ns;
    l->health.oldest_s = batch->oldest_s;
    l->health.batch_sum += batch->ops;
    batch->ops = 0;
    space_publish(l);
    pthread_mutex_unlock(&l->lock);
}

/* After the commit: a crash before this leaves files without a record, which
 * the next start removes. The other order would lose a body on a failed commit. */
static void remove_files(struct lmdb *l)
{
    for (size_t i = 0; i < l->batch.file_count; i++) {
        lmdb_point(l);
        body_remove(l->batch.files[i]);
    }
}

enum err batch_commit(struct lmdb *l, struct fault *fault)
{
    struct batch *batch = &l->batch;
    uint64_t began = clock_mono_ns();
    enum err err = lmdb_state_save(l, batch->txn, &batch->state, fault);

    if (err) {
        batch_abort(l);
        return err;
    }
    batch->oldest_s = oldest_of(l, batch->txn);
    lmdb_point(l);
    uint64_t number = mdb_txn_id(batch->txn);
    int rc = mdb_txn_commit(batch->txn);
    batch->txn = NULL; /* gone, whatever happened */
    if (rc) {
        err = lmdb_fault(fault, rc, "cannot write the queue to disk");
        batch_abort(l);
        return err;
    }
    l->last_txn = number;
    lmdb_point(l);
    publish(l, clock_mono_ns() - began);
    remove_files(l);
    reset(batch);
    return ERR_OK;
}

void batch_abort(struct lmdb *l)
{
    struct batch *batch = &l->batch;

    if (batch->txn)
        mdb_txn_abort(batch->txn);
    opened_forget_all(l);
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < batch->fresh_count; i++) {
        struct lane *lane = batch->fresh[i]->lane;
        part_free(l, batch->fresh[i]);
        index_sweep(l, lane);
    }
    pthread_mutex_unlock(&l->lock);
    reset(batch);
}
