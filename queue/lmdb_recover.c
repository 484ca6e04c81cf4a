/*
 * lmdb_recover.c - what an open does before anybody may ask: mail that was only
 * in memory gets its index entries (when it is much, the rest of it later, in
 * pages), the lanes are found, side files without a record go.
 */
#include "queue/lmdb_store.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- mail that had no index entries ---------------------------------------------------- */

#define AT_OPEN 4096 /* messages looked at before the open returns; the rest goes in pages */

struct recovery {
    struct msgid *ids;
    size_t count, max;
    struct msgid after;
    bool is_last;
};

static enum err next_ids(struct lmdb *l, struct recovery *recovery, struct fault *fault)
{
    struct msgid start = l->recover_at;
    MDB_cursor *cursor = NULL;
    MDB_val key = { MSGID_BYTES, start.bytes }, value;
    int rc = mdb_cursor_open(l->batch.txn, l->dbi_msg, &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; !rc && recovery->count < recovery->max;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct msgid *id = &recovery->ids[recovery->count];
        if (key.mv_size != MSGID_BYTES)
            continue;
        memcpy(id->bytes, key.mv_data, MSGID_BYTES);
        if (msgid_cmp(id, &l->recover_last) > 0)
            rc = MDB_NOTFOUND; /* accepted since */
        else if (msgid_cmp(id, &start) > 0)
            recovery->count++;
        if (rc)
            break;
    }
    if (cursor)
        mdb_cursor_close(cursor);
    recovery->after = recovery->count > 0 ? recovery->ids[recovery->count - 1] : start;
    recovery->is_last = rc == MDB_NOTFOUND;
    return rc && !recovery->is_last ? lmdb_fault(fault, rc, "cannot read the queue") : ERR_OK;
}

/* After the clock was set back a message accepted since may have an older id. */
static bool is_in_window(struct lmdb *l, const struct msgid *id, struct str lane)
{
    pthread_mutex_lock(&l->lock);
    struct lane *known = part_first(l, id) ? index_lane(l, lane, false) : NULL;
    struct part *part = known ? part_find(l, id, known) : NULL;
    bool in_window = part && !part->indexed;
    pthread_mutex_unlock(&l->lock);
    return in_window;
}

static enum err index_one(struct lmdb *l, const struct msgid *id, struct fault *fault)
{
    struct record_content content;
    struct envelope envelope;
    size_t count = 0;
    struct due_key *keys = NULL;

    envelope_init(&envelope);
    enum err rc = lmdb_load(l, l->batch.txn, id, &envelope, &content, fault);
    if (!rc)
        keys = lmdb_due_keys(&envelope, &l->batch.arena, &count);
    else if (rc == ERR_CORRUPT || rc == ERR_VERSION)
        batch_quarantine(l, id, fault->text);
    if (rc == ERR_CORRUPT || rc == ERR_VERSION)
        rc = ERR_OK;
    for (size_t i = 0; i < count && !rc; i++) {
        if (is_in_window(l, id, keys[i].lane))
            continue;
        rc = lmdb_put_due(l, l->batch.txn, &envelope, keys[i], fault);
        batch_due(l, keys[i].lane, keys[i].due_at);
    }
    envelope_clear(&envelope);
    return rc;
}

/* A crash goes on from here: behind what is done, but before all that is in a window. */
static void move_watermark(struct lmdb *l, const struct msgid *done)
{
    pthread_mutex_lock(&l->lock);
    l->batch.state.fresh_low_ms = part_low(l->oldest, msgid_wall_ms(done));
    pthread_mutex_unlock(&l->lock);
}

static enum err index_page(struct lmdb *l, struct recovery *recovery, struct fault *fault)
{
    enum err rc = batch_begin(l, fault);

    if (rc)
        return rc;
    rc = next_ids(l, recovery, fault);
    for (size_t i = 0; i < recovery->count && !rc; i++)
        rc = index_one(l, &recovery->ids[i], fault);
    if (recovery->count > 0)
        move_watermark(l, &recovery->after);
    if (!rc && recovery->count > 0)
        return batch_commit(l, fault);
    batch_abort(l);
    return rc;
}

enum err recover_page(struct lmdb *l, size_t max, struct fault *fault)
{
    struct recovery recovery = { .max = max, .ids = mem_alloc(max * sizeof(struct msgid)) };
    enum err rc = index_page(l, &recovery, fault);

    if (!rc) {
        l->recover_at = recovery.after;
        pthread_mutex_lock(&l->lock);
        l->is_recovering = !recovery.is_last;
        pthread_mutex_unlock(&l->lock);
    }
    free(recovery.ids);
    return rc;
}

/* Before the first possible id of the watermark's millisecond. */
static struct msgid below(int64_t ms)
{
    struct msgid id = { { 0 } };
    uint64_t value = ms > 0 ? (uint64_t)ms - 1 : 0;

    for (int i = 5; i >= 0; i--, value >>= 8)
        id.bytes[i] = (uint8_t)value;
    memset(id.bytes + 6, ms > 0 ? 0xFF : 0, MSGID_BYTES - 6);
    return id;
}

/* What was accepted in the last half minute before a crash may be more than
 * anybody wants to wait for: the first of it is indexed now, the rest between the
 * batches of the writer, while what is indexed leaves already. */
static enum err index_fresh(struct lmdb *l, struct fault *fault)
{
    l->recover_at = below(l->state.fresh_low_ms);
    memset(l->recover_last.bytes, 0xFF, MSGID_BYTES);
    l->is_recovering = true;
    enum err rc = recover_page(l, l->tuning.at_open ? l->tuning.at_open : AT_OPEN, fault);
    if (!rc && l->is_recovering)
        rc = lmdb_last_id(l, &l->recover_last, fault);
    return rc;
}

/* ---- lanes -------------------------------------------------------------------------------- */

/* One seek for each group of each lane, not one step for each entry. */
static int find_lanes(struct lmdb *l, MDB_cursor *cursor)
{
    MDB_val key, nothing;
    int rc = mdb_cursor_get(cursor, &key, &nothing, MDB_FIRST);

    while (!rc) {
        char next[LMDB_DUE_KEY_MAX + 1];
        struct str name;
        unsigned bucket;
        struct msgid id;
        int64_t due;
        if (!lmdb_due_parse(str_make(key.mv_data, key.mv_size), &name, &bucket, &due, &id)) {
            rc = mdb_cursor_get(cursor, &key, &nothing, MDB_NEXT);
            continue;
        }
        index_add(l, index_lane(l, name, true), due);
        /* lane, 00, bucket + 1: or, behind bucket 255, lane, 01 */
        memcpy(next, name.at, name.len);
        next[name.len] = bucket < 255 ? 0 : 1;
        next[name.len + 1] = (char)(uint8_t)(bucket + 1);
        key = (MDB_val){ name.len + 2, next };
        rc = mdb_cursor_get(cursor, &key, &nothing, MDB_SET_RANGE);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static enum err index_lanes(struct lmdb *l, struct fault *fault)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    int rc = lmdb_begin(l, MDB_RDONLY, &txn);

    if (!rc)
        rc = mdb_cursor_open(txn, l->dbi_due, &cursor);
    if (!rc) {
        pthread_mutex_lock(&l->lock);
        rc = find_lanes(l, cursor);
        pthread_mutex_unlock(&l->lock);
        mdb_cursor_close(cursor);
    }
    if (txn)
        mdb_txn_abort(txn);
    return rc ? lmdb_fault(fault, rc, "cannot read the queue's index") : ERR_OK;
}

/* ---- side files ----------------------------------------------------------------------------- */

/* A record that cannot be read may name it: then it stays. */
static bool is_named(struct lmdb *l, MDB_txn *txn, const char *file, const struct msgid *id)
{
    struct record_content content = { 0 };
    struct envelope envelope;

    envelope_init(&envelope);
    enum err rc = lmdb_load(l, txn, id, &envelope, &content, NULL);
    bool named = rc ? rc != ERR_NOT_FOUND : str_eq(content.file, str_of(file));
    envelope_clear(&envelope);
    return named;
}

static void clean_files(struct lmdb *l, DIR *dir, MDB_txn *txn)
{
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct msgid id;
        if (!msgid_parse(str_head(str_of(entry->d_name), MSGID_TEXT), &id) ||
            is_named(l, txn, entry->d_name, &id))
            continue;
        struct body *body = body_of_file(l->bodies, str_of(entry->d_name), 0);
        body_remove(body);
        body_unref(&body);
        l->health.files_removed++;
        lmdb_point(l);
    }
}

/* Not a fault: a crash between the file and its record, or between the record's end and
 * the file's. Many of them tell that crashes are many. */
static void tell_removed(struct lmdb *l)
{
    char text[96];

    if (l->health.files_removed == 0)
        return;
    snprintf(text, sizeof(text), "%llu side files without a message, left by a crash, were removed",
             (unsigned long long)l->health.files_removed);
    struct hop hop = {
        .began_us = l->wall_us(),
        .ended_us = l->wall_us(),
        .weight = HOP_EVENT,
        .stage = STAGE_QUEUE,
        .result = RESULT_OK,
        .scope = SCOPE_US,
        .text = str_of(text),
    };
    hop_emit(l->ring, &hop);
}

static enum err remove_orphans(struct lmdb *l, struct fault *fault)
{
    MDB_txn *txn = NULL;
    DIR *dir = opendir(l->bodies);

    if (!dir)
        return fault_errno(fault, errno, "cannot read the folder %s", l->bodies);
    int rc = lmdb_begin(l, MDB_RDONLY, &txn);
    if (!rc) {
        clean_files(l, dir, txn);
        mdb_txn_abort(txn);
    }
    closedir(dir);
    tell_removed(l);
    return rc ? lmdb_fault(fault, rc, "cannot read the queue") : ERR_OK;
}

enum err lmdb_recover(struct lmdb *l, struct fault *fault)
{
    enum err rc = l->read_only ? ERR_OK : index_fresh(l, fault);

    if (!rc)
        rc = index_lanes(l, fault);
    if (!rc && !l->read_only)
        rc = remove_orphans(l, fault);
    /* When all that is there is indexed: what comes next has younger ids, and is
     * indexed at once where it has not. */
    if (!l->is_recovering)
        l->state.fresh_low_ms = l->wall_us() / 1000;
    return rc;
}
