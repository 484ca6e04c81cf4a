/*
 * lmdb_change.c - hold, release, retry, drop, reroute: one page of records in a
 * transaction of its own.
 *
 * A message that is touched gets its index entries first, so that memory holds
 * no second truth about it. Its leases go on; the settle merges (store_rules).
 */
#include "queue/lmdb_store.h"

#include "relay/mail/local.h"

#include <stdlib.h>

#define EXAMINE 4096 /* records looked at in one page */

struct page {
    struct store_change *change;
    struct msgid ids[LMDB_PAGE_IDLE];
    size_t count, at, max;
    struct msgid reached;
    bool is_last;
    bool has_unreadable; /* dropped */
    uint64_t recipients, leased, messages, examined;
    bool is_changed[LMDB_PAGE_IDLE]; /* of ids */
};

/* ---- finding them ---------------------------------------------------------------------- */

static bool is_wanted(struct lmdb *l, const struct store_change *change, const struct msgid *id,
                      struct str bytes, bool *out_waits)
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
    if (out_waits)
        *out_waits = rc || rules_waits(&envelope);
    envelope_clear(&envelope);
    return wanted;
}

static void find_one(struct lmdb *l, struct page *page)
{
    struct msgid id = page->change->filter.id;
    MDB_val key = { MSGID_BYTES, id.bytes }, value;

    page->is_last = true;
    if (mdb_get(l->batch.txn, l->dbi_msg, &key, &value) == 0 &&
        is_wanted(l, page->change, &id, str_make(value.mv_data, value.mv_size), NULL))
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
    for (size_t n = 0; !rc && n < EXAMINE && page->count < page->max;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct msgid id;
        if (!lmdb_message_key(&key, &start, &id))
            continue;
        if (msgid_cmp(&id, &l->change_last) > 0) {
            rc = MDB_NOTFOUND;
            break;
        }
        if (is_wanted(l, page->change, &id, str_make(value.mv_data, value.mv_size), NULL))
            page->ids[page->count++] = id;
        page->reached = id;
        page->examined++;
        n++;
    }
    if (cursor)
        mdb_cursor_close(cursor);
    page->is_last = rc == MDB_NOTFOUND;
    return rc && !page->is_last ? lmdb_fault(fault, rc, "cannot read the queue") : ERR_OK;
}

/* Those that wait for an address, without a look at the others. */
static void find_waiting(struct lmdb *l, struct page *page)
{
    struct msgid id;

    page->reached = l->change_after;
    page->is_last = true;
    for (size_t n = 0; waiting_next(l, &page->reached, &id) && msgid_cmp(&id, &l->change_last) <= 0;
         n++) {
        MDB_val key = { MSGID_BYTES, id.bytes }, value;
        page->is_last = n < EXAMINE && page->count < page->max;
        if (!page->is_last)
            return;
        bool waits = false;
        page->examined++;
        page->reached = id;
        if (mdb_get(l->batch.txn, l->dbi_msg, &key, &value) == 0 &&
            is_wanted(l, page->change, &id, str_make(value.mv_data, value.mv_size), &waits))
            page->ids[page->count++] = id;
        else if (!waits) /* dropped, or it has its addresses */
            waiting_forget(l, &id);
    }
}

/* ---- changing one ------------------------------------------------------------------------ */

/* Which recipients are out. */
static bool *leased_recipients(struct lmdb *l, const struct msgid *id, size_t recipients)
{
    bool *is_leased = arena_alloc(&l->batch.arena, recipients + 1);

    pthread_mutex_lock(&l->lock);
    for (struct part *part = part_first(l, id); part; part = part->next_same_id) {
        for (size_t i = 0; part->state == PART_LEASED && i < part->count; i++)
            is_leased[part->indexes[i]] = true;
    }
    pthread_mutex_unlock(&l->lock);
    return is_leased;
}

/* Every part of the message moves to the index. */
static void take_parts(struct lmdb *l, const struct msgid *id, enum store_change_kind kind)
{
    pthread_mutex_lock(&l->lock);
    for (struct part *part = part_first(l, id); part; part = part->next_same_id) {
        if (part->state == PART_LEASED && kind == STORE_RETRY)
            part->retry = true;
        part->kin->was_moved |= l->is_moving;
        batch_spill(l, part);
    }
    pthread_mutex_unlock(&l->lock);
}

/* Recipients may be added; the first slice says how many there are. */
static uint64_t readdress_recipients(struct lmdb *l, const struct store_change *change,
                                     struct envelope *envelope, bool *is_dirty)
{
    size_t before = envelope->recipient_count;
    struct readdressing readdressing;
    uint64_t changed = 0;

    readdressing_begin(&readdressing, change, envelope, l->batch.now_s);
    for (size_t i = 0; i < before; i++) {
        if (envelope->recipient_count + LOCAL_FOUND_MAX > RECORD_RECIPIENTS_MAX ||
            !rules_readdress(&readdressing, i))
            continue;
        is_dirty[i / RECORD_SLICE] = true;
        changed++;
    }
    readdressing_end(&readdressing);
    for (size_t i = before; i < envelope->recipient_count; i++)
        is_dirty[i / RECORD_SLICE] = is_dirty[0] = true;
    return changed;
}

static uint64_t change_recipients(struct lmdb *l, struct page *page, struct envelope *envelope,
                                  const bool *is_leased, bool *is_changed, bool *is_dirty)
{
    const struct store_change *change = page->change;
    uint64_t changed = 0;

    if (change->kind == STORE_READDRESS)
        return readdress_recipients(l, change, envelope, is_dirty);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct recipient *r = &envelope->recipients[i];
        char lane[LANE_MAX];
        if (!rules_change(change, envelope, r, is_leased[i], l->batch.now_s, lane))
            continue;
        r->lane = arena_str(&envelope->arena, r->lane);
        is_dirty[i / RECORD_SLICE] = true;
        is_changed[i] = true;
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
        batch_cost(l, envelope,
                   -(int64_t)rules_cost(envelope, content->head_len + content->body_len));
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

/* At most. */
static size_t slices_after(const struct store_change *change, const struct envelope *envelope)
{
    return change->kind == STORE_READDRESS ? RECORD_RECIPIENTS_MAX / RECORD_SLICE + 1
                                           : record_slices(envelope);
}

static enum err change_loaded(struct lmdb *l, struct page *page, struct envelope *envelope,
                              const struct record_content *content, struct fault *fault)
{
    size_t before_count;
    struct due_key *before = lmdb_due_keys(envelope, &l->batch.arena, &before_count);
    bool *is_dirty = arena_alloc(&l->batch.arena, slices_after(page->change, envelope));
    size_t count = envelope->recipient_count; /* there may be more afterwards */
    bool *is_leased = leased_recipients(l, &envelope->id, count);
    bool *is_changed = arena_alloc(&l->batch.arena, count + 1);
    enum err rc;

    uint64_t content_len = content->head_len + content->body_len;
    int64_t cost_before = (int64_t)rules_cost(envelope, content_len);
    batch_count(l, envelope, -1);
    uint64_t changed = change_recipients(l, page, envelope, is_leased, is_changed, is_dirty);
    batch_count(l, envelope, 1);
    if (changed == 0)
        return ERR_OK; /* it stays where it is, in memory too */
    take_parts(l, &envelope->id, page->change->kind);
    batch_cost(l, envelope, (int64_t)rules_cost(envelope, content_len) - cost_before);
    batch_changed(l, &envelope->id, is_changed, count);
    page->recipients += changed;
    page->messages++;
    page->is_changed[page->at] = true;
    rc = write_changed(l, envelope, content, is_dirty, fault);
    return rc ? rc : apply_keys(l, envelope, before, before_count, fault);
}

/* What it took, and for whom, nobody can say: all the others are counted again for that. */
static enum err drop_unreadable(struct lmdb *l, struct page *page, const struct msgid *id,
                                struct fault *fault)
{
    enum err rc = lmdb_del_raw(l, &l->batch, id, fault);

    if (rc)
        return rc;
    /* What was read of it while that could be done is not sent any more. */
    take_parts(l, id, page->change->kind);
    batch_changed(l, id, NULL, 0);
    l->batch.state.messages--;
    page->messages++;
    page->is_changed[page->at] = true;
    page->has_unreadable = true;
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

/* From before the first change until its effects are known: a claim that begins meanwhile
 * may see the recipients where they were, and another where they are. */
static void set_moving(struct lmdb *l, const struct store_change *change, bool is_moving)
{
    if (change->kind != STORE_REROUTE && change->kind != STORE_READDRESS)
        return;
    pthread_mutex_lock(&l->lock);
    l->is_moving = is_moving;
    pthread_mutex_unlock(&l->lock);
}

static enum err find(struct lmdb *l, struct page *page, struct fault *fault)
{
    struct store_change *change = page->change;
    bool is_wanted = true;
    enum err rc = change->hop_count > 0 ? hops_compare(l, change, &is_wanted, fault) : ERR_OK;

    if (rc || !is_wanted)
        page->is_last = !rc;
    else if (!msgid_is_nil(&change->filter.id))
        find_one(l, page);
    else if (change->kind == STORE_READDRESS && waiting_is_complete(l))
        find_waiting(l, page);
    else
        rc = find_page(l, page, fault);
    return rc;
}

static enum err change_some(struct lmdb *l, struct page *page, struct fault *fault)
{
    bool is_written = false;
    enum err rc = batch_begin(l, fault);

    if (rc)
        return rc;
    rc = find(l, page, fault);
    for (page->at = 0; page->at < page->count && !rc; page->at++)
        rc = change_one(l, page, &page->ids[page->at], fault);
    if (!rc && page->is_last && page->change->hop_count > 0)
        rc = hops_remember(l, page->change, &is_written, fault);
    if (rc || (page->messages == 0 && !is_written)) {
        batch_abort(l);
        return rc;
    }
    rc = batch_commit(l, fault);
    page->leased = l->batch.leased;
    return rc;
}

static enum err run_page(struct lmdb *l, struct page *page, struct fault *fault)
{
    set_moving(l, page->change, true);
    enum err rc = change_some(l, page, fault);
    set_moving(l, page->change, false);
    return rc;
}

/* False: there is nothing to do. */
static bool begin_change(struct lmdb *l, const struct store_change *change)
{
    if (!msgid_is_nil(&l->change_last))
        return true;
    if (change->kind == STORE_REROUTE && change->routes) {
        if (change->routes == l->state.routes && !change->routes_in_doubt)
            return false;
        l->state.routes = 0; /* written with the first that is moved */
    }
    if (change->kind == STORE_READDRESS)
        waiting_begin(l);
    /* What is accepted from now on is not meant. */
    if (lmdb_last_id(l, &l->change_last, NULL) || msgid_is_nil(&l->change_last))
        memset(l->change_last.bytes, 0xFF, MSGID_BYTES);
    return true;
}

/* All is moved: a start with the same routes need not look at it. Without the name
 * it does, and that is all. */
static void name_routes(struct lmdb *l, const struct store_change *change)
{
    struct fault fault;
    enum err rc;

    if (change->kind != STORE_REROUTE || !change->routes)
        return;
    rc = batch_begin(l, &fault);
    if (!rc) {
        l->batch.state.routes = change->routes;
        rc = batch_commit(l, &fault);
    }
    if (rc)
        space_failed(l, rc, &fault);
}

static void end_change(struct lmdb *l, enum err err)
{
    struct store_change *change = l->changes;

    if (change->kind == STORE_READDRESS)
        waiting_end(l, err);
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
    change->leased += page->leased;
    change->examined += page->examined;
    change->messages += page->messages;
}

void change_page(struct lmdb *l)
{
    struct store_change *change = l->changes;
    struct page *page;

    if (!begin_change(l, change)) {
        end_change(l, ERR_OK);
        return;
    }
    page = mem_alloc(sizeof(*page));
    page->change = change;
    page->max = pages_size(l);
    enum err rc = run_page(l, page, &change->request.fault);
    if (rc)
        space_failed(l, rc, &change->request.fault);
    else
        l->is_broken = false;
    if (!rc) {
        if (page->has_unreadable)
            scan_again(l);
        tell_page(change, page);
        l->change_after = page->reached;
    }
    bool is_last = page->is_last;
    free(page);
    if (!rc && is_last)
        name_routes(l, change);
    if (rc || is_last)
        end_change(l, rc);
}
