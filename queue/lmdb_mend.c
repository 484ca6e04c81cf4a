/*
 * lmdb_mend.c - what a claim found but could not use: an index entry without
 * reason, a record or a content that cannot be read.
 *
 * The claim cannot write, so it leaves the part to the writer, which looks again
 * in its own transaction and takes the entry away, or the lane would offer it
 * for ever.
 */
#include "queue/lmdb_store.h"

#include <stdlib.h>

struct mending {
    struct letter letter;
    struct lmdb *l;
    struct part *part;
    int64_t due_at;
};

/* The record is good, its content is not: an operator must decide. */
static enum err hold_all(struct lmdb *l, struct envelope *envelope,
                         const struct record_content *content, struct fault *fault)
{
    size_t count;
    struct due_key *keys = lmdb_due_keys(envelope, &l->batch.arena, &count);
    enum err rc = ERR_OK;

    batch_count(l, envelope, -1);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct recipient *r = &envelope->recipients[i];
        if (r->state != RECIPIENT_QUEUED)
            continue;
        r->state = RECIPIENT_HELD;
        r->due_at = l->batch.now_s;
        r->cause = STR("the stored content cannot be read");
        r->fix = STR("look at the disk's health; drop the message");
    }
    batch_count(l, envelope, 1);
    batch_changed(l, &envelope->id, NULL, 0);
    for (size_t slice = 0; slice < record_slices(envelope) && !rc; slice++)
        rc = lmdb_put_slice(l, &l->batch, envelope, content, slice, 0, fault);
    return rc ? rc : apply_keys(l, envelope, keys, count, fault);
}

static enum err mend_content(struct lmdb *l, const struct msgid *id, struct envelope *envelope,
                             const struct record_content *content, struct fault *fault)
{
    struct message *message = NULL;
    struct fault why;
    enum err rc = lmdb_load_message(l, l->batch.txn, id, true, &message, &why);

    message_unref(&message);
    if (rc != ERR_CORRUPT)
        return rc; /* it was a passing trouble */
    batch_quarantine(l, id, why.text);
    return hold_all(l, envelope, content, fault);
}

static enum err mend_entry(struct lmdb *l, const struct mending *m, struct fault *fault)
{
    struct lane *lane = m->part->lane;
    struct due_key key = { str_make(lane->name, lane->name_len), m->due_at };
    struct record_content content;
    struct envelope envelope;
    size_t count = 0;
    struct due_key *keys = NULL;
    char bytes[LMDB_DUE_KEY_MAX];
    MDB_val at = { lmdb_due_key(bytes, key.lane, m->part->bucket, m->due_at, &m->part->id), bytes };
    int gone = 0;

    envelope_init(&envelope);
    enum err rc = lmdb_load(l, l->batch.txn, &m->part->id, &envelope, &content, fault);
    if (!rc)
        keys = lmdb_due_keys(&envelope, &l->batch.arena, &count);
    if (rc == ERR_CORRUPT || rc == ERR_VERSION)
        batch_quarantine(l, &m->part->id, fault->text);
    /* Looks pass over the message meanwhile, also over its other entries. */
    for (size_t i = 0; !rc && i < count; i++)
        if (str_eq(keys[i].lane, key.lane))
            batch_due(l, key.lane, keys[i].due_at);
    if (!rc && lmdb_due_has(keys, count, key)) {
        rc = mend_content(l, &m->part->id, &envelope, &content, fault);
    } else if (!rc || rc == ERR_CORRUPT || rc == ERR_VERSION || rc == ERR_NOT_FOUND) {
        gone = mdb_del(l->batch.txn, l->dbi_due, &at, NULL);
        rc = gone && gone != MDB_NOTFOUND ? lmdb_fault(fault, gone, "cannot mend the index")
                                          : ERR_OK;
    }
    envelope_clear(&envelope);
    return rc;
}

/* Nothing was mended: found again, but not at once, and the lane has to hear of it. */
static void put_off(struct lmdb *l, struct part *part)
{
    struct lane *lane = part->lane;

    pthread_mutex_lock(&l->lock);
    part_free(l, part);
    index_add(l, lane, l->wall_us() / 1000000 + LMDB_RETRY_S);
    index_tell(l, lane, NULL);
    pthread_mutex_unlock(&l->lock);
}

static void open_mending(struct letter *letter)
{
    struct mending *m = (struct mending *)(void *)letter;
    struct lmdb *l = m->l;
    struct fault fault;
    enum err rc = batch_begin(l, &fault);

    if (!rc) {
        rc = mend_entry(l, m, &fault);
        if (!rc) {
            batch_ended(l, m->part);
            rc = batch_commit(l, &fault);
        } else {
            batch_abort(l);
        }
    }
    if (rc) {
        put_off(l, m->part);
        space_failed(l, rc, &fault);
    }
    lmdb_job_done(l);
    free(m);
}

void lmdb_mend(struct lmdb *l, struct part *part, struct due_key key)
{
    struct mending *m = mem_alloc(sizeof(*m));

    m->l = l;
    m->part = part;
    m->due_at = key.due_at;
    m->letter.open = open_mending;
    atomic_fetch_add(&l->jobs, 1);
    mailbox_post(&l->in, &m->letter);
}
