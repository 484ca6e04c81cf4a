/*
 * lmdb_apply.c - accepts and settles in the writer's transaction.
 *
 * An error of LMDB spoils the whole batch and is returned; an error of one
 * accept (known id, over quota) is its own and stands in its slot.
 */
#include "queue/lmdb_store.h"

#include <assert.h>
#include <stdlib.h>

/* ---- accept ------------------------------------------------------------------------ */

/* The queued recipients in order of lane, so that each lane is one run. */
static int lane_order(const void *a, const void *b, void *arg)
{
    const struct recipient *recipients = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int order = str_cmp(recipients[x].lane, recipients[y].lane);

    return order ? order : (x > y) - (x < y);
}

static uint32_t *by_lane(const struct envelope *envelope, struct arena *arena, size_t *out_count)
{
    uint32_t *order = arena_alloc(arena, (envelope->recipient_count + 1) * sizeof(*order));
    size_t count = 0;

    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (envelope->recipients[i].state == RECIPIENT_QUEUED)
            order[count++] = (uint32_t)i;
    }
    if (count > 1)
        qsort_r(order, count, sizeof(*order), lane_order, envelope->recipients);
    *out_count = count;
    return order;
}

/* Buffers grow by doubling: what they hold is up to twice what they say. */
static size_t room_of(size_t len)
{
    size_t room = 256;

    while (room < len && room < SIZE_MAX / 2)
        room *= 2;
    return room;
}

static size_t memory_of(const struct message *message)
{
    struct str body = STR_EMPTY;

    body_is_inline(message->body, &body);
    return sizeof(struct part) + sizeof(*message) + room_of(message->head_len + 1) +
           room_of(body.len + 1) + arena_room(&message->envelope.arena);
}

/* Into the lane's window, when all of it is due and there is room. */
static bool try_window(struct lmdb *l, struct message *message, const uint32_t *run, size_t count,
                       size_t bytes)
{
    const struct envelope *envelope = &message->envelope;
    struct str name = envelope->recipients[run[0]].lane;
    unsigned bucket = rules_bucket(envelope);
    int64_t due_at = INT64_MAX;

    /* Older than the watermark: recovery would not look for it. */
    if (msgid_wall_ms(&envelope->id) < l->batch.state.fresh_low_ms)
        return false;
    for (size_t i = 0; i < count; i++) {
        int64_t due = envelope->recipients[run[i]].due_at;
        if (due > l->batch.now_s)
            return false;
        due_at = due < due_at ? due : due_at;
    }
    pthread_mutex_lock(&l->lock);
    struct lane *lane = index_lane(l, name, true);
    bool has_room = part_has_room(l, lane, bucket, bytes);
    if (has_room) {
        struct part *part = part_new(l, &envelope->id, lane, PART_LOOSE);
        part->message = message_ref(message);
        part->bucket = bucket;
        part->due_at = due_at > 0 ? due_at : 1;
        part->bytes = bytes;
        l->window_bytes += bytes;
        batch_fresh(l, part);
    }
    pthread_mutex_unlock(&l->lock);
    if (has_room)
        batch_touch(l, name);
    return has_room;
}

static enum err put_run(struct lmdb *l, const struct envelope *envelope, const uint32_t *run,
                        size_t count, struct fault *fault)
{
    enum err rc = ERR_OK;

    for (size_t i = 0; i < count && !rc; i++) {
        const struct recipient *r = &envelope->recipients[run[i]];
        rc = lmdb_put_due(l, l->batch.txn, envelope, (struct due_key){ r->lane, r->due_at }, fault);
        batch_due(l, r->lane, r->due_at);
    }
    return rc;
}

static enum err place_lanes(struct lmdb *l, struct message *message, struct fault *fault)
{
    const struct envelope *envelope = &message->envelope;
    size_t count, next;
    uint32_t *order = by_lane(envelope, &l->batch.arena, &count);
    size_t bytes = memory_of(message);
    enum err rc = ERR_OK;

    for (size_t i = 0; i < count && !rc; i = next) {
        struct str lane = envelope->recipients[order[i]].lane;
        for (next = i + 1; next < count; next++) {
            if (!str_eq(envelope->recipients[order[next]].lane, lane))
                break;
        }
        if (!try_window(l, message, order + i, next - i, bytes))
            rc = put_run(l, envelope, order + i, next - i, fault);
        bytes = sizeof(struct part); /* its bytes are counted once */
    }
    return rc;
}

static int64_t cost_of(const struct envelope *envelope, const struct record_content *content)
{
    return (int64_t)rules_cost(envelope, content->head_len + content->body_len);
}

static enum err accept_one(struct lmdb *l, struct writer_accept *slot, struct fault *fault)
{
    struct message *message = slot->message;
    struct fault *own = slot->request ? &slot->request->request.fault : NULL;
    uint64_t cost = rules_cost(&message->envelope, message->head_len + body_size(message->body));
    enum err rc;

    /* A report comes out of a settle, which must never fail for want of room. */
    slot->err = slot->request ? space_admit(l, cost, own) : ERR_OK;
    if (slot->err)
        return ERR_OK;
    rc = lmdb_put_message(l, &l->batch, message, fault);
    if (rc == ERR_EXISTS) {
        slot->err = rc;
        if (own)
            *own = *fault;
        return ERR_OK;
    }
    if (!rc)
        rc = place_lanes(l, message, fault);
    if (rc)
        return rc;
    batch_count(l, &message->envelope, 1);
    l->batch.state.messages++;
    batch_cost(l, &message->envelope, (int64_t)cost);
    l->batch.new_bytes += cost;
    return ERR_OK;
}

static int id_order(const void *a, const void *b)
{
    const struct writer_accept *x = a, *y = b;

    return msgid_cmp(&x->message->envelope.id, &y->message->envelope.id);
}

static bool above_all(struct lmdb *l, const struct msgid *least)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;

    if (mdb_cursor_open(l->batch.txn, l->dbi_msg, &cursor))
        return false;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    bool above = rc == MDB_NOTFOUND || (!rc && key.mv_size >= MSGID_BYTES &&
                                        memcmp(least->bytes, key.mv_data, MSGID_BYTES) > 0);
    mdb_cursor_close(cursor);
    return above;
}

/* In order of id, so that the B-trees are written from left to right. */
enum err apply_accepts(struct lmdb *l, struct fault *fault)
{
    enum err rc = ERR_OK;

    if (l->accept_count == 0)
        return ERR_OK;
    qsort(l->accepts, l->accept_count, sizeof(l->accepts[0]), id_order);
    l->batch.append = above_all(l, &l->accepts[0].message->envelope.id);
    for (size_t i = 0; i < l->accept_count && !rc; i++) {
        struct store_accept *request = l->accepts[i].request;
        l->batch.near = request ? request->request.reply_to : NULL;
        rc = accept_one(l, &l->accepts[i], fault);
    }
    l->batch.near = NULL;
    return rc;
}

/* ---- settle ------------------------------------------------------------------------- */

/* Index entries as the envelope wants them now: those it had and wants no more
 * go, those it wants are there. */
enum err apply_keys(struct lmdb *l, const struct envelope *envelope, const struct due_key *before,
                    size_t before_count, struct fault *fault)
{
    size_t count;
    struct due_key *after = lmdb_due_keys(envelope, &l->batch.arena, &count);
    enum err rc = ERR_OK;

    for (size_t i = 0; i < before_count && !rc; i++) {
        if (!lmdb_due_has(after, count, before[i]))
            rc = lmdb_del_due(l, l->batch.txn, envelope, before[i], fault);
    }
    return rc;
}

struct settling {
    const struct settlement *settlement;
    struct part *part; /* NULL: it was not leased */
    struct envelope envelope;
    struct record_content content;
    struct due_key *before; /* of the recipients that are settled */
    size_t before_count;
};

static void remember_keys(struct lmdb *l, struct settling *s)
{
    const struct settlement *settlement = s->settlement;

    s->before = arena_alloc(&l->batch.arena, (settlement->verdict_count + 1) * sizeof(*s->before));
    for (size_t i = 0; i < settlement->verdict_count; i++) {
        const struct recipient *r = &s->envelope.recipients[settlement->verdicts[i].index];
        struct due_key key = { r->lane, r->due_at };
        if (r->state != RECIPIENT_QUEUED)
            continue;
        if (s->before_count == 0 || s->before[s->before_count - 1].due_at != key.due_at ||
            !str_eq(s->before[s->before_count - 1].lane, key.lane))
            s->before[s->before_count++] = key;
    }
}

static enum err put_settled(struct lmdb *l, struct settling *s, struct fault *fault)
{
    const struct settlement *settlement = s->settlement;
    struct due_key last = { STR_EMPTY, 0 };
    enum err rc = ERR_OK;

    for (size_t i = 0; i < settlement->verdict_count && !rc; i++) {
        const struct recipient *r = &s->envelope.recipients[settlement->verdicts[i].index];
        struct due_key key = { r->lane, r->due_at };
        if (r->state != RECIPIENT_QUEUED ||
            (key.due_at == last.due_at && str_eq(key.lane, last.lane)))
            continue;
        rc = lmdb_put_due(l, l->batch.txn, &s->envelope, key, fault);
        batch_due(l, key.lane, key.due_at);
        last = key;
    }
    return rc;
}

static enum err put_slices(struct lmdb *l, struct settling *s, struct fault *fault)
{
    const struct settlement *settlement = s->settlement;
    size_t slices = record_slices(&s->envelope);
    bool *is_dirty = arena_alloc(&l->batch.arena, slices);
    enum err rc = ERR_OK;

    for (size_t i = 0; i < settlement->verdict_count; i++)
        is_dirty[settlement->verdicts[i].index / RECORD_SLICE] = true;
    for (size_t slice = 0; slice < slices && !rc; slice++) {
        if (is_dirty[slice])
            rc = lmdb_put_slice(l, &l->batch, &s->envelope, &s->content, slice, 0, fault);
    }
    return rc;
}

/* Looks passed over the message while it was out: what else of it is queued in
 * this lane, maybe due by now, has to be found again. */
static void tell_rest(struct lmdb *l, const struct settling *s)
{
    struct str lane = str_of(s->settlement->claim->lane);

    for (size_t i = 0; i < s->envelope.recipient_count; i++) {
        const struct recipient *r = &s->envelope.recipients[i];
        if (r->state == RECIPIENT_QUEUED && str_eq(r->lane, lane))
            batch_due(l, lane, r->due_at);
    }
}

static enum err write_settled(struct lmdb *l, struct settling *s, struct fault *fault)
{
    bool has_entries = !s->part || s->part->indexed;
    enum err rc;

    if (!rules_is_open(&s->envelope)) {
        rc = lmdb_del_message(l, &l->batch, &s->envelope, &s->content, fault);
        l->batch.state.messages--;
        batch_cost(l, &s->envelope, -cost_of(&s->envelope, &s->content));
    } else {
        rc = put_slices(l, s, fault);
        tell_rest(l, s);
    }
    if (!rc && has_entries)
        rc = apply_keys(l, &s->envelope, s->before, s->before_count, fault);
    return rc ? rc : put_settled(l, s, fault);
}

static enum err merge_verdicts(struct lmdb *l, struct settling *s, struct fault *fault)
{
    const struct settlement *settlement = s->settlement;

    for (size_t i = 0; i < settlement->verdict_count; i++)
        assert(settlement->verdicts[i].index < s->envelope.recipient_count);
    batch_count(l, &s->envelope, -1);
    remember_keys(l, s);
    for (size_t i = 0; i < settlement->verdict_count; i++) {
        const struct verdict *verdict = &settlement->verdicts[i];
        rules_settle(&s->envelope.recipients[verdict->index], verdict, l->batch.now_s,
                     s->part && s->part->retry);
    }
    batch_count(l, &s->envelope, 1);
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
    pthread_mutex_unlock(&l->lock);
    return part && part->state == PART_LEASED ? part : NULL;
}

/* Its record went bad while it was out: all that can be done is to ask no more for it. */
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

    envelope_init(&s.envelope);
    rc = lmdb_load(l, l->batch.txn, id, &s.envelope, &s.content, fault);
    bool is_there = rc == ERR_OK;
    if (is_there) {
        rc = merge_verdicts(l, &s, fault);
    } else if (rc == ERR_CORRUPT || rc == ERR_VERSION) {
        rc = settle_corrupt(l, &s, fault->text, fault);
    } else if (rc == ERR_NOT_FOUND) {
        remove_dsns(settlement);
        rc = ERR_OK;
    }
    envelope_clear(&s.envelope);
    if (rc)
        return rc;
    if (s.part)
        batch_ended(l, s.part);
    for (size_t i = 0; is_there && i < settlement->dsn_count; i++)
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
