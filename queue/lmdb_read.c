/*
 * lmdb_read.c - get and lanes: on the disk class, in short read transactions.
 */
#include "queue/lmdb_store.h"

#include <stdlib.h>

struct read_job {
    struct job job;
    struct lmdb *l;
    struct store_request *request;
    enum err (*run)(struct lmdb *l, struct store_request *request);
};

void lmdb_job_done(struct lmdb *l) { atomic_fetch_sub(&l->jobs, 1); }

void lmdb_job(struct lmdb *l, struct job *job)
{
    job->reply_to = &l->in;
    atomic_fetch_add(&l->jobs, 1);
    if (l->pool && !l->read_only) {
        pool_post(l->pool, POOL_DISK, job); /* this class has no bound: it takes everything */
        return;
    }
    job->run(job);
    job->done(job);
}

static void read_run(struct job *job)
{
    struct read_job *read = (struct read_job *)(void *)job;

    store_answer(read->request, read->run(read->l, read->request));
}

static void read_done(struct job *job)
{
    struct read_job *read = (struct read_job *)(void *)job;

    lmdb_job_done(read->l);
    free(read);
}

static void post(struct store *store, struct store_request *request,
                 enum err (*run)(struct lmdb *, struct store_request *))
{
    struct read_job *read = mem_alloc(sizeof(*read));

    read->l = lmdb_of(store);
    read->request = request;
    read->run = run;
    read->job = (struct job){ .run = read_run, .done = read_done };
    lmdb_job(read->l, &read->job);
}

/* ---- get ---------------------------------------------------------------------------------- */

static enum err run_get(struct lmdb *l, struct store_request *request)
{
    struct store_get *get = (struct store_get *)(void *)request;
    MDB_txn *txn = NULL;
    int rc = lmdb_look_begin(l, &txn);

    if (rc)
        return lmdb_fault(&request->fault, rc, "cannot read the queue");
    enum err err =
        lmdb_load_message(l, txn, &get->id, get->with_content, &get->message, &request->fault);
    lmdb_look_end(l, txn);
    return err;
}

void lmdb_get(struct store *store, struct store_get *request)
{
    post(store, &request->request, run_get);
}

/* ---- lanes -------------------------------------------------------------------------------- */

static struct lane_info info_of(const struct lane *lane)
{
    return (struct lane_info){
        .lane = str_dup(str_make(lane->name, lane->name_len)),
        .queued = lane->queued,
        .held = lane->held,
        .next_due = index_lane_due(lane),
        .leased = lane->leased > 0,
    };
}

/* The last in order goes when a better one comes: no copy of all lanes is made. */
static void keep_least(struct store_lanes *lanes, const struct lane *lane)
{
    struct lane_info *all = lanes->lanes;
    size_t low = 0, high = lanes->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(all[middle].lane, lane->name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > lanes->max)
        return;
    if (lanes->count > lanes->max)
        free(all[--lanes->count].lane);
    memmove(all + low + 1, all + low, (lanes->count - low) * sizeof(*all));
    all[low] = info_of(lane);
    lanes->count++;
}

/* Arrival of the oldest among the entries that are due first, one of each group. */
static int64_t oldest_in(MDB_cursor *cursor, struct str lane)
{
    static const struct msgid nil;
    int64_t oldest = 0;

    for (unsigned bucket = 0; bucket < STORE_BUCKETS; bucket++) {
        char start[LMDB_DUE_KEY_MAX];
        MDB_val key = { lmdb_due_key(start, lane, bucket, 0, &nil), start }, nothing;
        struct str name;
        unsigned in_bucket;
        struct msgid id;
        int64_t due;
        if (mdb_cursor_get(cursor, &key, &nothing, MDB_SET_RANGE) ||
            !lmdb_due_parse(str_make(key.mv_data, key.mv_size), &name, &in_bucket, &due, &id) ||
            !str_eq(name, lane))
            break;
        int64_t arrived = msgid_wall_ms(&id) / 1000;
        oldest = !oldest || arrived < oldest ? arrived : oldest;
        bucket = in_bucket; /* those between are empty */
    }
    return oldest;
}

static int64_t oldest_in_window(const struct lane *lane)
{
    int64_t oldest = 0;

    for (size_t i = 0; lane->window && i < STORE_BUCKETS; i++) {
        const struct part *part = lane->window[i].first;
        int64_t arrived = part ? msgid_wall_ms(&part->id) / 1000 : 0;
        if (part && (!oldest || arrived < oldest))
            oldest = arrived;
    }
    return oldest;
}

static void collect_lanes(struct lmdb *l, struct store_lanes *lanes)
{
    pthread_mutex_lock(&l->lock);
    for (struct lane *lane = l->lanes; lane; lane = lane->hh.next) {
        if (!lanes->after || strcmp(lane->name, lanes->after) > 0)
            keep_least(lanes, lane);
    }
    for (size_t i = 0; i < lanes->count; i++)
        lanes->lanes[i].oldest =
            oldest_in_window(index_lane(l, str_of(lanes->lanes[i].lane), false));
    pthread_mutex_unlock(&l->lock);
}

static enum err add_oldest(struct lmdb *l, struct store_lanes *lanes, struct fault *fault)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    int rc = lmdb_look_begin(l, &txn);

    if (!rc)
        rc = mdb_cursor_open(txn, l->dbi_due, &cursor);
    for (size_t i = 0; !rc && i < lanes->count; i++) {
        struct lane_info *info = &lanes->lanes[i];
        int64_t oldest = oldest_in(cursor, str_of(info->lane));
        if (oldest && (!info->oldest || oldest < info->oldest))
            info->oldest = oldest;
    }
    if (cursor)
        mdb_cursor_close(cursor);
    if (txn)
        lmdb_look_end(l, txn);
    return rc ? lmdb_fault(fault, rc, "cannot read the queue's index") : ERR_OK;
}

static enum err run_lanes(struct lmdb *l, struct store_request *request)
{
    struct store_lanes *lanes = (struct store_lanes *)(void *)request;

    lanes->lanes = mem_alloc((lanes->max + 2) * sizeof(lanes->lanes[0]));
    collect_lanes(l, lanes);
    lanes->more = lanes->count > lanes->max;
    if (lanes->more)
        free(lanes->lanes[--lanes->count].lane);
    return add_oldest(l, lanes, &request->fault);
}

void lmdb_lanes(struct store *store, struct store_lanes *request)
{
    post(store, &request->request, run_lanes);
}
