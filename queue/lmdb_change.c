/*
 * lmdb_change.c - hold, release, retry, drop, reroute: one page of records in a
 * transaction of its own.
 *
 * A message that is touched gets its index entries first, so that memory holds
 * no second truth about it. Its leases go on; the settle merges (store_rules).
 */
#include "queue/lmdb_store.h"

#include <stdlib.h>

#define EXAMINE 2000 /* records looked at in one page */

struct page {
    struct store_change *change;
    struct msgid ids[LMDB_PAGE];
    size_t count, at;
    struct msgid reached;
    bool is_last;
    uint64_t recipients, messages;
    bool is_changed[LMDB_PAGE]; /* of ids */
};

/* ---- finding them ---------------------------------------------------------------------- */

static bool is_wanted(struct lmdb *l, const struct store_change *change, const struct msgid *id,
                      struct str bytes)
{
    struct record_content content;
    struct envelope envelope;

    envelope_init(&envelope);
    enum err rc = record_decode(bytes, &envelope, &content, NULL);
    if (!rc && record_slices(&envelope) > 1) {
        envelope_clear(&envelope);
        rc = lmdb_load(l, l->batch.txn, id, &envelope, &content, NULL);
    }
    bool wanted = rc ? change->kind == STORE_DROP && rules_is_by_id(&change->filter)
                     : rules_matches(&change->filter, &envelope);
    envelope_clear(&envelope);
    return wanted;
}

static void find_one(struct lmdb *l, struct page *page)
{
    struct msgid id = page->change->filter.id;
    MDB_val key = { MSGID_BYTES, id.bytes }, value;

    page->is_last = true;
    if (mdb_get(l->batch.txn, l->dbi_msg, &key, &value) == 0 &&
        is_wanted(l, page->change, &id, str_make(value.mv_data, value.mv_size)))
        page->ids[page->count++] = id;
}

static enum err find_page(struct lmdb *l, struct page *page, struct fault *fault)
{
    struct msgid start = l->change_after;
    MDB_cursor *cursor = NULL;
    MDB_val key = { MSGID_BYTES, start.bytes }, value;
    int rc = mdb_cursor_open(l->batch.txn, l->dbi_msg, &cursor);

    page->reached = start;
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (size_t n = 0; !rc && n < EXAMINE && page->count < LMDB_PAGE;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct msgid id;
        if (key.mv_size != MSGID_BYTES)
            continue;
        memcpy(id.bytes, key.mv_data, MSGID_BYTES);
        if (msgid_cmp(&id, &start) <= 0)
            continue;
        if (msgid_cmp(&id, &l->change_last) > 0) {
            rc = MDB_NOTFOUND;
            break;
        }
        if (is_wanted(l, page->change, &id, str_make(value.mv_data, value.mv_size)))
            page->ids[page->count++] = id;
        page->reached = id;
        n++;
    }
    if (cursor)
        mdb_cursor_close(cursor);
    page->is_last = rc == MDB_NOTFOUND;
    return rc && !page->is_last ? lmdb_fault(fault, rc, "cannot read the queue") : ERR_OK;
}

/* ---- changing one ------------------------------------------------------------------------ */

/* Which recipients are out; every part of the message moves to the index. */
static bool *take_parts(struct lmdb *l, const struct msgid *id, size_t recipients, bool is_retry)
{
    bool *is_leased = arena_alloc(&l->batch.arena, recipients + 1);

    pthread_mutex_lock(&l->lock);
    for (struct part *part = part_first(l, id); part; part = part->next_same_id) {
        for (size_t i = 0; part->state == PART_LEASED && i < part->count; i++)
            is_leased[part->indexes[i]] = true;
        if (part->state == PART_LEASED && is_retry)
            part->retry = true;
        batch_spill(l, part);
    }
    pthread_mutex_unlock(&l->lock);
    return is_leased;
}

static uint64_t change_recipients(struct lmdb *l, const struct store_change *change,
                                  struct envelope *envelope, const bool *is_leased, bool *is_dirty)
{
    uint64_t changed = 0;

    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct recipient *r = &envelope->recipients[i];
        char lane[LANE_MAX];
        if (!rules_change(change, envelope, r, is_leased[i], l->batch.now_s, lane))
            continue;
        r->lane = arena_str(&envelope->arena, r->lane);
        is_dirty[i / RECORD_SLICE] = true;
        changed++;
    }
    return changed;
}

static enum err write_changed(struct lmdb *l, const struct envelope *envelope,
                              const struct record_content *content, const bool *is_dirty,
                              struct fault *fault)
{
    size_t count;
    struct due_key *keys = lmdb_due_keys(envelope, &l->batch.arena, &count);
    enum err rc = ERR_OK;

    if (!rules_is_open(envelope)) {
        l->batch.state.messages--;
        l->batch.state.queued_bytes -= rules_cost(envelope, content->head_len + content->body_len);
        return lmdb_del_message(l, &l->batch, envelope, content, fault);
    }
    for (size_t slice = 0; slice < record_slices(envelope) && !rc; slice++) {
        if (is_dirty[slice])
            rc = lmdb_put_slice(l, &l->batch, envelope, content, slice, 0, fault);
    }
    for (size_t i = 0; i < count && !rc; i++) {
        rc = lmdb_put_due(l, l->batch.txn, envelope, keys[i], fault);
        batch_due(l, keys[i].lane, keys[i].due_at);
    }
    return rc;
}

static enum err change_loaded(struct lmdb *l, struct page *page, struct envelope *envelope,
                              const struct record_content *content, struct fault *fault)
{
    size_t before_count;
    struct due_key *before = lmdb_due_keys(envelope, &l->batch.arena, &before_count);
    bool *is_dirty = arena_alloc(&l->batch.arena, record_slices(envelope));
    bool *is_leased =
        take_parts(l, &envelope->id, envelope->recipient_count, page->change->kind == STORE_RETRY);
    enum err rc;

    batch_count(l, envelope, -1);
    uint64_t changed = change_recipients(l, page->change, envelope, is_leased, is_dirty);
    batch_count(l, envelope, 1);
    page->recipients += changed;
    page->messages += changed > 0;
    page->is_changed[page->at] = changed > 0;
    rc = write_changed(l, envelope, content, is_dirty, fault);
    return rc ? rc : apply_keys(l, envelope, before, before_count, fault);
}

static enum err drop_unreadable(struct lmdb *l, struct page *page, const struct msgid *id,
                                struct fault *fault)
{
    enum err rc = lmdb_del_raw(l, &l->batch, id, fault);

    if (rc)
        return rc;
    l->batch.state.messages--;
    page->messages++;
    page->is_changed[page->at] = true;
    pthread_mutex_lock(&l->lock);
    index_mended(l, id);
    pthread_mutex_unlock(&l->lock);
    return ERR_OK;
}

static enum err change_one(struct lmdb *l, struct page *page, const struct msgid *id,
                           struct fault *fault)
{
    struct record_content content;
    struct envelope envelope;

    envelope_init(&envelope);
    enum err rc = lmdb_load(l, l->batch.txn, id, &envelope, &content, fault);
    if (!rc)
        rc = change_loaded(l, page, &envelope, &content, fault);
    else if (rc == ERR_CORRUPT || rc == ERR_VERSION)
        rc = drop_unreadable(l, page, id, fault);
    envelope_clear(&envelope);
    return rc;
}

/* ---- a page -------------------------------------------------------------------------------- */

static enum err run_page(struct lmdb *l, struct page *page, struct fault *fault)
{
    enum err rc = batch_begin(l, fault);

    if (rc)
        return rc;
    if (msgid_is_nil(&page->change->filter.id))
        rc = find_page(l, page, fault);
    else
        find_one(l, page);
    for (page->at = 0; page->at < page->count && !rc; page->at++)
        rc = change_one(l, page, &page->ids[page->at], fault);
    if (!rc && page->count > 0)
        return batch_commit(l, fault);
    batch_abort(l);
    return rc;
}

static void begin_change(struct lmdb *l)
{
    if (!msgid_is_nil(&l->change_last))
        return;
    /* What is accepted from now on is not meant. */
    memset(l->change_last.bytes, 0xFF, MSGID_BYTES);
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    if (mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn))
        return;
    if (mdb_cursor_open(txn, l->dbi_msg, &cursor) == 0) {
        if (mdb_cursor_get(cursor, &key, &value, MDB_LAST) == 0 && key.mv_size >= MSGID_BYTES)
            memcpy(l->change_last.bytes, key.mv_data, MSGID_BYTES);
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
}

static void end_change(struct lmdb *l, enum err err)
{
    struct store_change *change = l->changes;

    l->changes = (struct store_change *)(void *)change->request.letter.next;
    if (!l->changes)
        l->changes_last = &l->changes;
    memset(&l->change_after, 0, sizeof(l->change_after));
    memset(&l->change_last, 0, sizeof(l->change_last));
    store_answer(&change->request, err);
}

static void tell_page(struct store_change *change, const struct page *page)
{
    uint64_t told = change->messages;

    for (size_t i = 0; i < page->count && told < change->ids_max; i++)
        if (page->is_changed[i])
            change->ids[told++] = page->ids[i];
    change->recipients += page->recipients;
    change->messages += page->messages;
}

void change_page(struct lmdb *l)
{
    struct store_change *change = l->changes;
    struct page *page = mem_alloc(sizeof(*page));

    begin_change(l);
    page->change = change;
    enum err rc = run_page(l, page, &change->request.fault);
    if (rc)
        space_failed(l, rc, &change->request.fault);
    else
        l->is_broken = false;
    if (!rc) {
        tell_page(change, page);
        l->change_after = page->reached;
    }
    bool is_last = page->is_last;
    free(page);
    if (rc || is_last)
        end_change(l, rc);
}
