/*
 * lmdb_list.c - a page of the queue, oldest first.
 *
 * Where the index tells which messages a filter can mean (lmdb_narrow.c), only their
 * records are read. Otherwise every record is, which with a million takes seconds: in
 * short transactions, so that the writer's freed pages do not wait for it, and some at
 * a time, so that claims have their turn at the disk workers in between.
 */
#include "queue/lmdb_store.h"

#include <stdlib.h>

#define LOOK ((size_t)500) /* records in one read transaction */
#define TURN (LOOK * 8)    /* records before others have the worker */

struct list_job {
    struct job job;
    struct lmdb *l;
    struct store_list *list;
    struct msgid after;
    bool is_begun, is_narrow;
    struct msgid *ids; /* is_narrow: what to read */
    size_t id_count, id_at;
};

/* ---- one record --------------------------------------------------------------------------- */

static void list_corrupt(struct store_list *list, const struct msgid *id)
{
    struct store_filter plain = list->filter;

    plain.id = *id;
    if (!list->filter.any_state || !rules_is_by_id(&plain) ||
        (!msgid_is_nil(&list->filter.id) && msgid_cmp(&list->filter.id, id) != 0))
        return;
    list->is_corrupt[list->count] = true;
    envelope_init(&list->envelopes[list->count]);
    list->envelopes[list->count++].id = *id;
}

static void list_record(struct lmdb *l, MDB_txn *txn, struct store_list *list,
                        const struct msgid *id)
{
    struct envelope *out = &list->envelopes[list->count];
    struct record_content content;

    envelope_init(out);
    enum err rc = lmdb_load(l, txn, id, out, &content, NULL);
    if (!rc && rules_matches(&list->filter, out)) {
        list->is_corrupt[list->count++] = false;
        list->recipients += out->recipient_count;
        return;
    }
    envelope_clear(out);
    if (rc && rc != ERR_NOT_FOUND) /* it left between two looks */
        list_corrupt(list, id);
}

/* One more than was asked for is looked up, to say whether there are more; so is one behind
 * those whose recipients are many. */
static bool is_full(const struct store_list *list)
{
    size_t last = list->count > 0 ? list->envelopes[list->count - 1].recipient_count : 0;

    return list->count > list->max || list->recipients - last >= STORE_LIST_RECIPIENTS;
}

/* ---- one transaction ------------------------------------------------------------------------ */

/* Up to LOOK records behind `after`. Ends with MDB_NOTFOUND at the end of the queue. */
static int list_some(struct list_job *job, MDB_txn *txn)
{
    struct store_list *list = job->list;
    struct msgid start = job->after;
    MDB_cursor *cursor = NULL;
    MDB_val key = { MSGID_BYTES, start.bytes }, value;
    int rc = mdb_cursor_open(txn, job->l->dbi_msg, &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (size_t n = 0; !rc && n < LOOK && !is_full(list);
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct msgid id;
        if (!lmdb_message_key(&key, &start, &id))
            continue;
        list_record(job->l, txn, list, &id);
        job->after = id;
        n++;
    }
    if (cursor)
        mdb_cursor_close(cursor);
    return rc;
}

static int list_ids(struct list_job *job, MDB_txn *txn)
{
    for (size_t n = 0; n < LOOK && job->id_at < job->id_count && !is_full(job->list); n++)
        list_record(job->l, txn, job->list, &job->ids[job->id_at++]);
    return job->id_at < job->id_count ? 0 : MDB_NOTFOUND;
}

static int list_by_id(struct list_job *job, MDB_txn *txn)
{
    struct store_list *list = job->list;
    MDB_val key = { MSGID_BYTES, list->filter.id.bytes }, value;

    if (msgid_cmp(&list->filter.id, &job->after) > 0 &&
        mdb_get(txn, job->l->dbi_msg, &key, &value) == 0)
        list_record(job->l, txn, list, &list->filter.id);
    return MDB_NOTFOUND;
}

static int list_page(struct list_job *job)
{
    MDB_txn *txn = NULL;
    int rc = lmdb_look_begin(job->l, &txn);

    if (rc)
        return rc;
    if (!msgid_is_nil(&job->list->filter.id))
        rc = list_by_id(job, txn);
    else if (job->is_narrow)
        rc = list_ids(job, txn);
    else
        rc = list_some(job, txn);
    lmdb_look_end(job->l, txn);
    return rc;
}

/* ---- the job ---------------------------------------------------------------------------------- */

static void begin(struct list_job *job)
{
    struct store_list *list = job->list;

    job->is_begun = true;
    list->envelopes = mem_alloc((list->max + 2) * sizeof(list->envelopes[0]));
    list->is_corrupt = mem_alloc(list->max + 2);
    job->is_narrow = narrow_ids(job->l, list, &job->ids, &job->id_count);
}

static void finish(struct list_job *job, int rc)
{
    struct store_list *list = job->list;
    enum err err = ERR_OK;

    if (rc && rc != MDB_NOTFOUND) {
        err = lmdb_fault(&list->request.fault, rc, "cannot read the queue");
    } else {
        list->more = is_full(list);
        if (list->more)
            envelope_clear(&list->envelopes[--list->count]);
    }
    free(job->ids);
    job->ids = NULL;
    store_answer(&list->request, err);
}

static void list_run(struct job *base);

static void list_done(struct job *base)
{
    struct list_job *job = (struct list_job *)(void *)base;

    lmdb_job_done(job->l);
    free(job);
}

/* The rest as another job, behind those that wait now. This one's letter is still to come. */
static void go_on(struct list_job *job)
{
    struct list_job *next = mem_alloc(sizeof(*next));

    *next = *job;
    next->job = (struct job){ .run = list_run, .done = list_done };
    job->ids = NULL;
    lmdb_job(next->l, &next->job);
}

static void list_run(struct job *base)
{
    struct list_job *job = (struct list_job *)(void *)base;
    bool has_workers = job->l->pool && !job->l->read_only;
    int rc = 0;

    if (!job->is_begun)
        begin(job);
    for (size_t n = 0; !rc && !is_full(job->list); n += LOOK) {
        if (has_workers && n >= TURN) {
            go_on(job);
            return;
        }
        rc = list_page(job);
    }
    finish(job, rc);
}

void lmdb_list(struct store *store, struct store_list *request)
{
    struct list_job *job = mem_alloc(sizeof(*job));

    job->l = lmdb_of(store);
    job->list = request;
    job->after = request->after;
    job->job = (struct job){ .run = list_run, .done = list_done };
    lmdb_job(job->l, &job->job);
}
