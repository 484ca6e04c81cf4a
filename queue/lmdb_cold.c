/*
 * lmdb_cold.c - due mail found in the index.
 *
 * A cold claim looks twice. The first look finds candidates; each gets a part
 * (READING). The second look, in a snapshot that is younger than the part, tells what
 * of them is due. A recipient is leased then, unless another claim has it, or had it
 * and the snapshot may not show what became of it. The writer ends a lease after the
 * commit that settles it, so a lease that ended
 *
 *   before our part was made   is settled in the snapshot
 *   since                      has left its recipients in our part
 *   not yet                    is there at the end, under the lock that makes our lease
 *
 * Our own lane has no other part of the message meanwhile. Another lane's has a
 * recipient of ours when that was moved, to us before the snapshot or away from us
 * after it; so such a lease may also begin when our part is there already. Two claims
 * that are both reading have nothing yet: the first to end has it, the other finds the
 * lease. A part that waits in another lane's window counts as a lease: until memory
 * follows the commit that moved the recipient it can be claimed as it was before.
 *
 * When an operator changed the message after our part was made, nothing is leased: the
 * snapshot may be the one from before, and it was answered maybe that all is held.
 *
 * What stays behind is not forgotten: the lane looks again when that lease or window
 * part goes, at once when the lease is over already.
 */
#include "queue/lmdb_cold.h"
#include "queue/lmdb_loaded.h"

#include <stdlib.h>

uint32_t *cold_indexes(const struct envelope *envelope, struct str lane, int64_t now_s,
                       size_t *out_count)
{
    uint32_t *indexes = mem_alloc((envelope->recipient_count + 1) * sizeof(*indexes));
    size_t count = 0;

    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct recipient *r = &envelope->recipients[i];
        if (r->state == RECIPIENT_QUEUED && r->due_at <= now_s && str_eq(r->lane, lane))
            indexes[count++] = (uint32_t)i;
    }
    *out_count = count;
    return indexes;
}

struct claim **cold_tail(struct store_claim *request, size_t *out_count)
{
    struct claim **last = &request->claims;

    for (*out_count = 0; *last; (*out_count)++)
        last = &(*last)->next;
    return last;
}

void cold_lower(int64_t *least, int64_t due)
{
    if (due < 1)
        due = 1;
    if (!*least || due < *least)
        *least = due;
}

/* ---- from the index: the first look ------------------------------------------------ */

void cold_add(struct cold *cold, const struct candidate *candidate)
{
    if (cold->found_count == cold->found_cap) {
        cold->found_cap = cold->found_cap ? cold->found_cap * 2 : 64;
        cold->found = mem_realloc(cold->found, cold->found_cap * sizeof(cold->found[0]));
    }
    cold->found[cold->found_count++] = *candidate;
}

#define LOOK 32 /* entries read between two looks at the leases */

/* Drop those that memory knows of. Returns how many are left. */
static size_t filter_known(struct cold *cold, struct candidate *some, size_t count)
{
    size_t kept = 0;

    pthread_mutex_lock(&cold->l->lock);
    for (size_t i = 0; i < count; i++) {
        if (!part_find(cold->l, &some[i].id, cold->lane))
            some[kept++] = some[i];
    }
    pthread_mutex_unlock(&cold->l->lock);
    return kept;
}

/* Read up to LOOK entries of the bucket from the cursor's place on; *rc tells why it ended. */
static size_t read_some(MDB_cursor *cursor, MDB_val *key, struct str lane, unsigned bucket,
                        struct candidate *some, int *rc)
{
    size_t count = 0;

    while (!*rc && count < LOOK) {
        struct candidate c = { .bucket = bucket };
        struct str name;
        unsigned in_bucket;
        MDB_val nothing;
        if (!lmdb_due_parse(str_make(key->mv_data, key->mv_size), &name, &in_bucket, &c.due_at,
                            &c.id) ||
            in_bucket != bucket || !str_eq(name, lane))
            *rc = MDB_NOTFOUND;
        else
            some[count++] = c;
        if (!*rc)
            *rc = mdb_cursor_get(cursor, key, &nothing, MDB_NEXT);
    }
    return count;
}

static int look_bucket(struct cold *cold, MDB_cursor *cursor, MDB_val key, unsigned bucket,
                       size_t want, int64_t now_s)
{
    struct str lane = str_make(cold->lane->name, cold->lane->name_len);
    bool enough = false;
    size_t mine = 0;
    int rc = 0;

    while (!rc && !enough) {
        struct candidate some[LOOK];
        size_t count = read_some(cursor, &key, lane, bucket, some, &rc);
        count = filter_known(cold, some, count);
        for (size_t i = 0; i < count && !enough; i++) {
            enough = some[i].due_at > now_s || mine == want;
            if (enough)
                cold_lower(&cold->next_due, some[i].due_at);
            else
                cold_add(cold, &some[i]), mine++;
        }
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The first group of the lane from *bucket on that has entries: most lanes have one. */
static int seek_bucket(struct cold *cold, MDB_cursor *cursor, MDB_val *key, unsigned *bucket)
{
    struct str lane = str_make(cold->lane->name, cold->lane->name_len), name;
    struct msgid id = { { 0 } };
    char start[LMDB_DUE_KEY_MAX];
    MDB_val at = { lmdb_due_key(start, lane, *bucket, 0, &id), start }, nothing;
    unsigned found;
    int64_t due;
    int rc = mdb_cursor_get(cursor, &at, &nothing, MDB_SET_RANGE);

    if (rc)
        return rc;
    *key = at;
    if (!lmdb_due_parse(str_make(at.mv_data, at.mv_size), &name, &found, &due, &id))
        return 0; /* damage hides no more than its own group */
    if (!str_eq(name, lane))
        return MDB_NOTFOUND;
    *bucket = found;
    return 0;
}

static int look_for_due(struct cold *cold, MDB_cursor *cursor, size_t want, int64_t now_s)
{
    int rc = 0;

    for (unsigned bucket = 0; bucket < STORE_BUCKETS && !rc; bucket++) {
        MDB_val key;
        rc = seek_bucket(cold, cursor, &key, &bucket);
        if (!rc)
            rc = look_bucket(cold, cursor, key, bucket, want, now_s);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* ---- choosing: one of each group in turn ------------------------------------------- */

/* `found` is sorted by bucket. Moves the chosen ones to its front. */
static void choose(struct cold *cold, size_t want, unsigned *turn)
{
    size_t at[STORE_BUCKETS + 1] = { 0 }, total = cold->found_count, n = 0;
    struct candidate *chosen = mem_alloc((total + 1) * sizeof(*chosen));

    for (size_t i = 0; i < total; i++)
        at[cold->found[i].bucket + 1] = i + 1; /* end of the bucket */
    size_t end[STORE_BUCKETS], start = 0;
    for (size_t b = 0; b < STORE_BUCKETS; b++) {
        end[b] = at[b + 1] > start ? at[b + 1] : start;
        at[b] = start;
        start = end[b];
    }
    for (unsigned idle = 0; n < want && idle < STORE_BUCKETS; (*turn)++) {
        unsigned b = *turn % STORE_BUCKETS;
        idle = at[b] < end[b] ? 0 : idle + 1;
        if (at[b] < end[b])
            chosen[n++] = cold->found[at[b]++];
    }
    for (size_t b = 0; b < STORE_BUCKETS; b++) {
        if (at[b] < end[b])
            cold_lower(&cold->next_due, cold->found[at[b]].due_at);
    }
    if (n)
        memcpy(cold->found, chosen, n * sizeof(*chosen));
    cold->chosen = n;
    free(chosen);
}

static int look(struct cold *cold, MDB_txn *txn, struct store_claim *request, size_t want,
                unsigned *turn)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(txn, cold->l->dbi_due, &cursor);

    cold->found_count = cold->chosen = 0;
    cold->next_due = 0;
    if (!rc && request->look.is_on)
        rc = aged_look(cold, cursor, request);
    else if (!rc)
        rc = look_for_due(cold, cursor, want, request->now_s);
    if (cursor)
        mdb_cursor_close(cursor);
    if (!rc && !request->look.is_on)
        choose(cold, want, turn);
    return rc;
}

static void reserve_chosen(struct cold *cold)
{
    for (size_t i = 0; i < cold->chosen; i++) {
        struct candidate *c = &cold->found[i];
        c->part = NULL;
        if (part_find(cold->l, &c->id, cold->lane)) /* claimed while we were choosing */
            continue;
        c->part = part_new(cold->l, &c->id, cold->lane, PART_LOOSE);
        part_read(c->part);
        c->part->indexed = true;
        c->part->bucket = c->bucket;
        c->part->due_at = c->due_at;
    }
}

/* ---- from the index: the second look ----------------------------------------------- */

static int find_entry(struct cold *cold, MDB_txn *txn, const struct candidate *c)
{
    char bytes[LMDB_DUE_KEY_MAX];
    struct str lane = str_make(cold->lane->name, cold->lane->name_len);
    MDB_val key = { lmdb_due_key(bytes, lane, c->bucket, c->due_at, &c->id), bytes }, nothing;

    return mdb_get(txn, cold->l->dbi_due, &key, &nothing);
}

static void give_back(struct lmdb *l, struct part *part)
{
    pthread_mutex_lock(&l->lock);
    part_free(l, part);
    pthread_mutex_unlock(&l->lock);
}

/* Bad record or bad entry: the writer looks at it, and until then nobody claims it. */
static void mend(struct cold *cold, struct candidate *c)
{
    struct lmdb *l = cold->l;

    pthread_mutex_lock(&l->lock);
    part_unread(c->part);
    c->part->state = PART_MENDING;
    pthread_mutex_unlock(&l->lock);
    lmdb_mend(l, c->part,
              (struct due_key){ str_make(cold->lane->name, cold->lane->name_len), c->due_at });
}

static struct claim *make_claim(struct cold *cold, struct candidate *c, struct message *message,
                                int64_t now_s)
{
    struct str lane = str_make(cold->lane->name, cold->lane->name_len);
    struct lmdb *l = cold->l;
    size_t count;
    uint32_t *indexes = cold_indexes(&message->envelope, lane, now_s, &count);
    struct loaded *loaded = loaded_new(message);
    bool was_due = count > 0;

    pthread_mutex_lock(&l->lock);
    loaded_offer(l, c->part, &loaded);
    count = lease_ours(l, c->part, indexes, count);
    if (count > 0)
        cold_lease(c->part, indexes, count);
    pthread_mutex_unlock(&l->lock);
    loaded_free(&loaded);
    if (count > 0)
        return claim_new(message, lane, indexes, count, c->due_at);
    free(indexes);
    message_unref(&message);
    if (was_due)
        give_back(l, c->part);
    else
        mend(cold, c);
    return NULL;
}

/* From what another lane's claim read; NULL: it has to be read. */
static struct claim *claim_loaded(struct cold *cold, struct candidate *c, int64_t now_s)
{
    struct lmdb *l = cold->l;
    uint32_t *indexes = NULL;
    size_t count = 0;

    pthread_mutex_lock(&l->lock);
    struct message *message = loaded_due(l, c->part, now_s, &indexes, &count);
    if (message)
        count = lease_ours(l, c->part, indexes, count);
    if (count > 0) {
        cold_lease(c->part, indexes, count);
        message = message_ref(message);
    }
    pthread_mutex_unlock(&l->lock);
    if (count > 0)
        return claim_new(message, str_of(cold->lane->name), indexes, count, c->due_at);
    free(indexes);
    return NULL;
}

/* The entry is gone: its recipients were settled or changed. Another entry of the message,
 * passed over for this one, may still be good. */
static void pass_on(struct cold *cold, struct candidate *c)
{
    for (struct candidate *next = c + 1; next < cold->found + cold->chosen; next++) {
        if (msgid_cmp(&next->id, &c->id) == 0) {
            next->part = c->part;
            return;
        }
    }
    give_back(cold->l, c->part);
}

/* An error may spoil the transaction for all that follow. A younger one does for them. */
static void renew(struct lmdb *l, MDB_txn *txn)
{
    mdb_txn_reset(txn);
    (void)lmdb_renew(l, txn); /* otherwise each of them says so, and is put off */
}

static struct claim *load_one(struct cold *cold, MDB_txn *txn, struct candidate *c,
                              const struct store_claim *request)
{
    struct message *message = NULL;

    if (!c->part)
        return NULL;
    int rc = find_entry(cold, txn, c);
    if (rc == MDB_NOTFOUND) {
        pass_on(cold, c);
        return NULL;
    }
    if (rc)
        cold_lower(&cold->next_due, request->now_s + LMDB_RETRY_S);
    if (rc || aged_is_young(cold, txn, c, request)) {
        give_back(cold->l, c->part);
        return NULL;
    }
    struct claim *claim = claim_loaded(cold, c, request->now_s);
    if (claim)
        return claim;
    if (!lmdb_load_message(cold->l, txn, &c->id, true, &message, NULL))
        return make_claim(cold, c, message, request->now_s);
    mend(cold, c);
    renew(cold->l, txn);
    return NULL;
}

static void load_chosen(struct cold *cold, MDB_txn *txn, struct store_claim *request)
{
    size_t count;
    struct claim **last = cold_tail(request, &count);

    for (size_t i = 0; i < cold->chosen; i++) {
        *last = load_one(cold, txn, &cold->found[i], request);
        if (*last)
            last = &(*last)->next;
    }
}

enum err cold_claim(struct cold *cold, struct store_claim *request, struct fault *fault)
{
    struct lmdb *l = cold->l;
    MDB_txn *txn = NULL;
    size_t have;

    cold_tail(request, &have);
    pthread_mutex_lock(&l->lock);
    unsigned turn = cold->lane->turn;
    cold->lane->added_due = 0; /* what is added from here on may be too young for our look */
    pthread_mutex_unlock(&l->lock);
    int rc = lmdb_look_begin(l, &txn);
    if (rc)
        return lmdb_fault(fault, rc, "cannot read the queue");
    rc = look(cold, txn, request, request->max - have, &turn);
    mdb_txn_reset(txn);
    if (!rc) {
        pthread_mutex_lock(&l->lock);
        reserve_chosen(cold);
        cold->lane->turn = turn % STORE_BUCKETS;
        pthread_mutex_unlock(&l->lock);
        rc = lmdb_renew(l, txn);
        if (!rc)
            load_chosen(cold, txn, request);
        for (size_t i = 0; rc && i < cold->chosen; i++) {
            if (cold->found[i].part)
                give_back(l, cold->found[i].part);
        }
    }
    lmdb_look_end(l, txn);
    return rc ? lmdb_fault(fault, rc, "cannot read the queue's index") : ERR_OK;
}
