/*
 * lmdb_scan.c - what each lane holds, counted after the start by reading every record.
 *
 * In pages, between the batches. Until all is counted nobody takes the figures for the
 * whole: no lane is forgotten, lists read the records, and so does who looks for names
 * that wait.
 *
 * What all lanes hold together stands in every commit, and is right without this. But a
 * record that cannot be read takes with it what it added: once the last such one is
 * dropped, the figures are put right by what was counted. Not before: it may be read
 * again one day, and what is taken off for it then must have been in them.
 */
#include "queue/lmdb_store.h"

#include "relay/base/clock.h"

#define SCAN_FIRST 4096    /* records counted at once */
#define SCAN_AFTER_MS 3000 /* the others when what is due has begun to leave */
#define SCAN_RETRY_MS 1000
#define SCAN_TELL_MS ((uint64_t)3600 * 1000) /* what goes on is told again */

uint64_t scan_wait_ms(const struct lmdb *l)
{
    uint64_t now_ms = clock_mono_ms(), at_ms = l->scan_ms;

    if (l->scan_done)
        return UINT64_MAX;
    if (l->scanned >= SCAN_FIRST && at_ms < l->opened_ms + SCAN_AFTER_MS)
        at_ms = l->opened_ms + SCAN_AFTER_MS;
    return now_ms >= at_ms ? 0 : at_ms - now_ms;
}

static void count_envelope(struct lmdb *l, const struct envelope *envelope,
                           const struct record_content *content)
{
    struct lmdb_counted *counted = &l->state.counted;

    counted->bytes += rules_cost(envelope, content->head_len + content->body_len);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct recipient *r = &envelope->recipients[i];
        bool is_held = r->state == RECIPIENT_HELD;
        if (!is_held && r->state != RECIPIENT_QUEUED)
            continue;
        *(is_held ? &counted->held : &counted->queued) += 1;
        batch_count_lane(l, r->lane, is_held);
    }
    if (rules_waits(envelope))
        waiting_note(l, &envelope->id);
}

/* What is damaged is set aside. Another error says nothing about the message: if it were
 * passed over, its lane could be taken for empty and forgotten. */
static enum err count_record(struct lmdb *l, MDB_txn *txn, const struct msgid *id, struct str bytes,
                             struct fault *fault)
{
    struct envelope envelope;
    struct record_content content;

    envelope_init(&envelope);
    enum err rc = record_decode(bytes, &envelope, &content, fault);
    if (!rc && record_slices(&envelope) > 1) {
        envelope_clear(&envelope);
        rc = lmdb_load(l, txn, id, &envelope, &content, fault);
    }
    bool is_damaged = rc == ERR_CORRUPT || rc == ERR_VERSION;
    if (is_damaged)
        batch_quarantine(l, id, fault->text);
    else if (!rc)
        count_envelope(l, &envelope, &content);
    l->scan_missed |= is_damaged;
    envelope_clear(&envelope);
    return is_damaged ? ERR_OK : rc;
}

static enum err scan_records(struct lmdb *l, MDB_txn *txn, bool *out_is_last, struct fault *fault)
{
    struct msgid after = l->scan_at;
    MDB_cursor *cursor = NULL;
    MDB_val key = { MSGID_BYTES, after.bytes }, value;
    enum err err = ERR_OK;
    int rc = mdb_cursor_open(txn, l->dbi_msg, &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (size_t n = 0; !rc && n < LMDB_PAGE; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct msgid id;
        if (!lmdb_message_key(&key, &l->scan_at, &id))
            continue;
        err = count_record(l, txn, &id, str_make(value.mv_data, value.mv_size), fault);
        if (err)
            break;
        l->scan_at = id;
        l->scanned++;
        n++;
    }
    if (cursor)
        mdb_cursor_close(cursor);
    *out_is_last = rc == MDB_NOTFOUND;
    return rc && !*out_is_last ? lmdb_fault(fault, rc, "cannot read the queue") : err;
}

static enum err scan_some(struct lmdb *l, bool *out_is_last, struct fault *fault)
{
    MDB_txn *txn = NULL;
    int rc = lmdb_begin(l, MDB_RDONLY, &txn);

    if (rc)
        return lmdb_fault(fault, rc, "cannot read the queue");
    enum err err = scan_records(l, txn, out_is_last, fault);
    mdb_txn_abort(txn);
    batch_apply_counts(l);
    return err;
}

/* Nothing was written and nothing is lost, so mail is still taken: not for space_failed().
 * A damaged page gives its error each second, for years. */
static void put_off(struct lmdb *l, enum err err, const struct fault *fault)
{
    uint64_t now_ms = clock_mono_ms();

    l->scan_ms = now_ms + SCAN_RETRY_MS;
    if (err == l->scan_err && now_ms - l->scan_told_ms < SCAN_TELL_MS)
        return;
    l->scan_err = err;
    l->scan_told_ms = now_ms;
    space_tell(l, HOP_ALARM, fault->text,
               "not all that is queued is counted: the lanes' figures are too low; what can be "
               "read is delivered",
               "look at the disk's health and the kernel's log");
}

/* The next commit takes them along. */
static void correct_sums(struct lmdb *l)
{
    l->state.queued_bytes = l->state.counted.bytes;
    l->state.queued = l->state.counted.queued;
    l->state.held = l->state.counted.held;
    pthread_mutex_lock(&l->lock);
    space_publish(l);
    pthread_mutex_unlock(&l->lock);
    space_judge(l);
}

static void finish_scan(struct lmdb *l)
{
    struct lane *lane, *next;

    if (l->scan_err)
        space_tell(l, HOP_EVENT, "all that is queued is counted", "", "");
    l->scan_err = ERR_OK;
    if (!l->scan_missed)
        correct_sums(l);
    pthread_mutex_lock(&l->lock);
    l->scan_done = true;
    HASH_ITER (hh, l->lanes, lane, next)
        index_sweep(l, lane);
    pthread_mutex_unlock(&l->lock);
}

void scan_page(struct lmdb *l)
{
    bool is_last = false;
    struct fault fault;
    enum err rc = scan_some(l, &is_last, &fault);

    if (rc)
        put_off(l, rc, &fault);
    else if (is_last)
        finish_scan(l);
}

void scan_again(struct lmdb *l)
{
    pthread_mutex_lock(&l->lock);
    l->scan_done = false;
    for (struct lane *lane = l->lanes; lane; lane = lane->hh.next)
        lane->queued = lane->held = 0;
    pthread_mutex_unlock(&l->lock);
    memset(&l->scan_at, 0, sizeof(l->scan_at));
    l->scanned = 0;
    l->scan_missed = false;
    memset(&l->state.counted, 0, sizeof(l->state.counted));
}
