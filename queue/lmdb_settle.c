/*
 * lmdb_settle.c - what became of claims, in the writer's transaction.
 *
 * An error of LMDB spoils the whole batch and is returned. What a settlement costs are
 * the recipients that it settles and those that wait in the same lane, however many the
 * message has (lmdb_opened.c).
 */
#include "queue/lmdb_opened.h"

#include <assert.h>

static enum err drop_keys(struct lmdb *l, const struct envelope *envelope,
                          const struct due_key *before, size_t before_count,
                          const struct due_key *after, size_t after_count, struct fault *fault)
{
    enum err rc = ERR_OK;

    for (size_t i = 0; i < before_count && !rc; i++) {
        if (!lmdb_due_has(after, after_count, before[i]))
            rc = lmdb_del_due(l, l->batch.txn, envelope, before[i], fault);
    }
    return rc;
}

/* Index entries as the envelope wants them now: those it had and wants no more
 * go, those it wants are there. */
enum err apply_keys(struct lmdb *l, const struct envelope *envelope, const struct due_key *before,
                    size_t before_count, struct fault *fault)
{
    size_t count;
    struct due_key *after = lmdb_due_keys(envelope, &l->batch.arena, &count);

    return drop_keys(l, envelope, before, before_count, after, count, fault);
}

struct settling {
    const struct settlement *settlement;
    struct part *part; /* NULL: it was not leased */
    struct opened *opened;
    struct due_key *before; /* of the recipients that are settled */
    size_t before_count;
};

static const struct recipient *settled(const struct settling *s, size_t i)
{
    return &s->opened->envelope.recipients[s->settlement->verdicts[i].index];
}

static void remember_keys(struct lmdb *l, struct settling *s)
{
    const struct settlement *settlement = s->settlement;

    s->before = arena_alloc(&l->batch.arena, (settlement->verdict_count + 1) * sizeof(*s->before));
    for (size_t i = 0; i < settlement->verdict_count; i++) {
        const struct recipient *r = settled(s, i);
        struct due_key key = { r->lane, r->due_at };
        if (r->state != RECIPIENT_QUEUED)
            continue;
        if (s->before_count == 0 || s->before[s->before_count - 1].due_at != key.due_at ||
            !str_eq(s->before[s->before_count - 1].lane, key.lane))
            s->before[s->before_count++] = key;
    }
}

/* Of one lane's entries those that nobody in it wants any more go. */
static enum err drop_entries(struct lmdb *l, struct settling *s, const struct due_key *before,
                             size_t before_count, struct fault *fault)
{
    const struct envelope *envelope = &s->opened->envelope;
    size_t count, key_count;
    const uint32_t *indexes = opened_lane(s->opened, before[0].lane, &count);
    struct due_key *keys =
        lmdb_due_keys_among(envelope, indexes, count, &l->batch.arena, &key_count);

    return drop_keys(l, envelope, before, before_count, keys, key_count, fault);
}

/* The settled ones may be of several lanes: some were moved meanwhile. */
static enum err drop_settled(struct lmdb *l, struct settling *s, struct fault *fault)
{
    enum err rc = ERR_OK;
    size_t next;

    lmdb_due_sort(s->before, s->before_count);
    for (size_t i = 0; i < s->before_count && !rc; i = next) {
        for (next = i + 1; next < s->before_count; next++)
            if (!str_eq(s->before[next].lane, s->before[i].lane))
                break;
        rc = drop_entries(l, s, s->before + i, next - i, fault);
    }
    return rc;
}

static enum err put_settled(struct lmdb *l, struct settling *s, struct fault *fault)
{
    const struct settlement *settlement = s->settlement;
    struct due_key last = { STR_EMPTY, 0 };
    enum err rc = ERR_OK;

    for (size_t i = 0; i < settlement->verdict_count && !rc; i++) {
        const struct recipient *r = settled(s, i);
        struct due_key key = { r->lane, r->due_at };
        if (r->state != RECIPIENT_QUEUED ||
            (key.due_at == last.due_at && str_eq(key.lane, last.lane)))
            continue;
        rc = lmdb_put_due(l, l->batch.txn, &s->opened->envelope, key, fault);
        batch_due(l, key.lane, key.due_at);
        last = key;
    }
    return rc;
}

/* Verdicts come in order of their recipients; in another, a slice is written twice. */
static enum err put_slices(struct lmdb *l, struct settling *s, struct fault *fault)
{
    const struct settlement *settlement = s->settlement;
    const struct opened *opened = s->opened;
    size_t last = SIZE_MAX;
    enum err rc = ERR_OK;

    for (size_t i = 0; i < settlement->verdict_count && !rc; i++) {
        size_t slice = settlement->verdicts[i].index / RECORD_SLICE;
        if (slice != last)
            rc = lmdb_put_slice(l, &l->batch, &opened->envelope, &opened->content, slice, 0, fault);
        last = slice;
    }
    return rc;
}

/* Looks passed over the message while it was out: what else of it is queued in
 * this lane, maybe due by now, has to be found again. */
static void tell_rest(struct lmdb *l, const struct settling *s)
{
    struct str lane = str_of(s->settlement->claim->lane);
    size_t count;
    const uint32_t *indexes = opened_lane(s->opened, lane, &count);

    for (size_t i = 0; i < count; i++) {
        const struct recipient *r = &s->opened->envelope.recipients[indexes[i]];
        if (r->state == RECIPIENT_QUEUED)
            batch_due(l, lane, r->due_at);
    }
}

static enum err end_message(struct lmdb *l, const struct opened *opened, struct fault *fault)
{
    const struct envelope *envelope = &opened->envelope;
    const struct record_content *content = &opened->content;

    l->batch.state.messages--;
    batch_cost(l, envelope, -(int64_t)rules_cost(envelope, content->head_len + content->body_len));
    return lmdb_del_message(l, &l->batch, envelope, content, fault);
}

static enum err write_settled(struct lmdb *l, struct settling *s, struct fault *fault)
{
    bool has_entries = !s->part || s->part->indexed;
    enum err rc;

    if (s->opened->open == 0) {
        rc = end_message(l, s->opened, fault);
    } else {
        rc = put_slices(l, s, fault);
        tell_rest(l, s);
    }
    if (!rc && has_entries)
        rc = drop_settled(l, s, fault);
    return rc ? rc : put_settled(l, s, fault);
}

static void count_settled(struct lmdb *l, const struct settling *s, int64_t by)
{
    for (size_t i = 0; i < s->settlement->verdict_count; i++)
        batch_count_one(l, &s->opened->envelope, settled(s, i), by);
}

static enum err merge_verdicts(struct lmdb *l, struct settling *s, struct fault *fault)
{
    const struct settlement *settlement = s->settlement;

    for (size_t i = 0; i < settlement->verdict_count; i++)
        assert(settlement->verdicts[i].index < s->opened->envelope.recipient_count);
    count_settled(l, s, -1);
    remember_keys(l, s);
    for (size_t i = 0; i < settlement->verdict_count; i++)
        opened_settle(l, s->opened, &settlement->verdicts[i], s->part && s->part->retry);
    count_settled(l, s, 1);
    return write_settled(l, s, fault);
}

static void add_dsn(struct lmdb *l, struct message *dsn)
{
    l->accepts = batch_grow(l->accepts, l->accept_count, &l->accept_cap, sizeof(l->accepts[0]));
    l->accepts[l->accept_count++] = (struct writer_accept){ .message = dsn };
}

/* The message was dropped meanwhile: nobody is told, and no record will name these. */
static void remove_dsns(const struct settlement *settlement)
{
    for (size_t i = 0; i < settlement->dsn_count; i++)
        body_remove(settlement->dsns[i]->body);
}

static struct part *leased_part(struct lmdb *l, const struct claim *claim)
{
    pthread_mutex_lock(&l->lock);
    struct lane *lane = index_lane(l, str_of(claim->lane), false);
    struct part *part = lane ? part_find(l, &claim->message->envelope.id, lane) : NULL;
    bool is_leased = part && part->state == PART_LEASED; /* else another claim may free it */
    pthread_mutex_unlock(&l->lock);
    return is_leased ? part : NULL;
}

/* Its record went bad while it was out: all that can be done is to ask no more for it, and
 * to tell its sender what became of it. */
static enum err settle_corrupt(struct lmdb *l, struct settling *s, const char *why,
                               struct fault *fault)
{
    const struct claim *claim = s->settlement->claim;
    const struct envelope *envelope = &claim->message->envelope;
    enum err rc = ERR_OK;

    for (size_t i = 0; i < claim->count && !rc; i++) {
        const struct recipient *r = &envelope->recipients[claim->indexes[i]];
        struct due_key key = { r->lane, r->due_at };
        rc = lmdb_del_due(l, l->batch.txn, envelope, key, fault);
    }
    batch_quarantine(l, &envelope->id, why);
    return rc;
}

static enum err settle_one(struct lmdb *l, const struct settlement *settlement, struct fault *fault)
{
    const struct msgid *id = &settlement->claim->message->envelope.id;
    struct settling s = { .settlement = settlement, .part = leased_part(l, settlement->claim) };
    enum err rc;

    rc = opened_get(l, id, &s.opened, fault);
    bool was_dropped = rc == ERR_NOT_FOUND;
    if (!rc) {
        rc = merge_verdicts(l, &s, fault);
        opened_put(l, s.opened);
    } else if (rc == ERR_CORRUPT || rc == ERR_VERSION) {
        rc = settle_corrupt(l, &s, fault->text, fault);
    } else if (was_dropped) {
        remove_dsns(settlement);
        rc = ERR_OK;
    }
    if (rc)
        return rc;
    if (s.part)
        batch_ended(l, s.part);
    else
        batch_changed(l, id, NULL, 0);
    for (size_t i = 0; !was_dropped && i < settlement->dsn_count; i++)
        add_dsn(l, settlement->dsns[i]);
    return ERR_OK;
}

enum err apply_settle(struct lmdb *l, struct store_settle *request, struct fault *fault)
{
    enum err rc = ERR_OK;

    for (size_t i = 0; i < request->count && !rc; i++)
        rc = settle_one(l, &request->settlements[i], fault);
    return rc;
}
