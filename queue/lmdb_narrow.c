/*
 * lmdb_narrow.c - which messages a list can mean, told by the index.
 *
 * A recipient that waits is in its lane's index entries or in the memory of the index:
 * a lane's few messages are found without reading a million records. Those on hold have
 * neither, and finished ones leave the lane; a list that may mean such reads everything.
 * So does one whose lanes have much of the queue: its page is full soon.
 */
#include "queue/lmdb_store.h"

#include "relay/mail/addr.h"

#include <stdlib.h>

#define LANES_MAX 64 /* asked one by one */
#define FEW 512      /* not worth a comparison with what all records would cost */
#define MANY 65536   /* index entries in one transaction */
#define ALL_PARTS 8  /* of the queue's messages: then reading records is quicker */

struct narrow {
    const struct store_list *list;
    struct str lanes[LANES_MAX]; /* copies */
    size_t lane_count;
    struct msgid *ids;
    size_t count, cap;
};

/* ---- may it be? ------------------------------------------------------------------------------ */

static bool means_queued(const struct store_filter *filter)
{
    return filter->deferred_only || (!filter->any_state && filter->state == RECIPIENT_QUEUED);
}

static bool means_held(const struct store_filter *filter)
{
    return !means_queued(filter) && (filter->any_state || filter->state == RECIPIENT_HELD);
}

/* The domain of a pattern; empty: any. */
static struct str pattern_domain(struct str pattern)
{
    size_t at = pattern.len;

    while (at > 0 && pattern.at[at - 1] != '@')
        at--;
    return str_eq(pattern, STR("*")) ? STR_EMPTY : str_from(pattern, at);
}

static bool is_candidate(const struct store_filter *filter)
{
    if (!msgid_is_nil(&filter->id) || (!means_queued(filter) && !means_held(filter)))
        return false;
    /* A finished recipient may be asked for by its address, not by a lane. */
    return filter->lane.len > 0 ||
           (means_queued(filter) && pattern_domain(filter->recipient).len > 0);
}

/* Can a recipient that matches wait there? A lane is named by the domain, or is a smarthost's. */
static bool lane_is_meant(const struct store_filter *filter, struct str lane)
{
    struct str domain = pattern_domain(filter->recipient);
    char address[LANE_MAX + 1] = "@";

    if (filter->lane.len > 0 && !lane_matches(lane, filter->lane))
        return false;
    if (domain.len == 0 || lane_is_smarthost(lane) || lane.len >= LANE_MAX - 1) /* it was cut */
        return true;
    struct str place = lane_place(lane);
    memcpy(address + 1, place.at, place.len);
    return addr_matches(str_make(address, place.len + 1), domain);
}

/* With the lock held. False: not these, or too many. */
static bool choose_lanes(struct lmdb *l, struct narrow *narrow)
{
    const struct store_filter *filter = &narrow->list->filter;
    uint64_t queued = 0;

    if (!l->scan_done || l->is_recovering) /* some has no index entry, and is not counted */
        return false;
    for (struct lane *lane = l->lanes; lane; lane = lane->hh.next) {
        struct str name = str_make(lane->name, lane->name_len);
        if (!lane_is_meant(filter, name))
            continue;
        queued += lane->queued;
        if ((means_held(filter) && lane->held) || queued > MANY || narrow->lane_count == LANES_MAX)
            return false;
        narrow->lanes[narrow->lane_count++] = str_make(str_dup(name), name.len);
    }
    return queued <= FEW || queued <= l->health.messages / ALL_PARTS;
}

/* ---- collecting -------------------------------------------------------------------------------- */

static void add(struct narrow *narrow, const struct msgid *id)
{
    if (msgid_cmp(id, &narrow->list->after) <= 0)
        return;
    narrow->ids = batch_grow(narrow->ids, narrow->count, &narrow->cap, sizeof(narrow->ids[0]));
    narrow->ids[narrow->count++] = *id;
}

/* With the lock held: waiting in a window, leased, or on its way from one to the other. */
static void add_from_memory(struct lmdb *l, struct narrow *narrow)
{
    for (const struct part *part = l->parts; part; part = part->hh.next) {
        struct str lane = str_make(part->lane->name, part->lane->name_len);
        if (lane_is_meant(&narrow->list->filter, lane))
            add(narrow, &part->id);
    }
}

static int add_lane(MDB_cursor *cursor, struct str lane, struct narrow *narrow)
{
    struct msgid nil = { { 0 } };
    char start[LMDB_DUE_KEY_MAX];
    MDB_val key = { lmdb_due_key(start, lane, 0, 0, &nil), start }, nothing;
    int rc = mdb_cursor_get(cursor, &key, &nothing, MDB_SET_RANGE);

    for (; !rc; rc = mdb_cursor_get(cursor, &key, &nothing, MDB_NEXT)) {
        struct str name, bytes = str_make(key.mv_data, key.mv_size);
        unsigned bucket;
        struct msgid id;
        int64_t due;
        if (bytes.len <= lane.len || !str_starts(bytes, lane) || bytes.at[lane.len] != '\0')
            break; /* another lane; a damaged entry of ours hides no others */
        if (lmdb_due_parse(bytes, &name, &bucket, &due, &id) && str_eq(name, lane))
            add(narrow, &id);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* One snapshot: an entry whose due time changes moves, and none may be passed over. */
static int add_from_index(struct lmdb *l, struct narrow *narrow)
{
    MDB_cursor *cursor = NULL;
    MDB_txn *txn = NULL;
    int rc = lmdb_look_begin(l, &txn);

    if (rc)
        return rc;
    rc = mdb_cursor_open(txn, l->dbi_due, &cursor);
    for (size_t i = 0; i < narrow->lane_count && !rc; i++)
        rc = add_lane(cursor, narrow->lanes[i], narrow);
    if (cursor)
        mdb_cursor_close(cursor);
    lmdb_look_end(l, txn);
    return rc;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static int id_order(const void *a, const void *b) { return msgid_cmp(a, b); }

static void sort(struct narrow *narrow)
{
    size_t kept = 0;

    if (narrow->count > 1)
        qsort(narrow->ids, narrow->count, sizeof(narrow->ids[0]), id_order);
    for (size_t i = 0; i < narrow->count; i++) {
        if (kept == 0 || msgid_cmp(&narrow->ids[kept - 1], &narrow->ids[i]) != 0)
            narrow->ids[kept++] = narrow->ids[i];
    }
    narrow->count = kept;
}

/* Memory first: what leaves it meanwhile was committed before, and the later snapshot has it. */
static bool collect(struct lmdb *l, struct narrow *narrow)
{
    pthread_mutex_lock(&l->lock);
    bool is_narrow = choose_lanes(l, narrow);
    if (is_narrow)
        add_from_memory(l, narrow);
    pthread_mutex_unlock(&l->lock);
    return is_narrow && add_from_index(l, narrow) == 0;
}

bool narrow_ids(struct lmdb *l, const struct store_list *list, struct msgid **out_ids,
                size_t *out_count)
{
    struct narrow *narrow;

    if (l->read_only || !is_candidate(&list->filter)) /* read only: memory knows nothing */
        return false;
    narrow = mem_alloc(sizeof(*narrow));
    narrow->list = list;
    bool is_narrow = collect(l, narrow);
    sort(narrow);
    for (size_t i = 0; i < narrow->lane_count; i++)
        free((char *)narrow->lanes[i].at);
    if (is_narrow) {
        *out_ids = narrow->ids;
        *out_count = narrow->count;
    } else {
        free(narrow->ids);
    }
    free(narrow);
    return is_narrow;
}
