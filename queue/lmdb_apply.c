/*
 * lmdb_apply.c - accepts in the writer's transaction.
 *
 * An error of LMDB spoils the whole batch and is returned; an error of one
 * accept (known id, over quota) is its own and stands in its slot.
 */
#include "queue/lmdb_store.h"

#include <stdlib.h>

/* The queued recipients. */
static uint32_t *by_lane(const struct envelope *envelope, struct arena *arena, size_t *out_count)
{
    uint32_t *order = arena_alloc(arena, (envelope->recipient_count + 1) * sizeof(*order));
    size_t count = 0;

    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (envelope->recipients[i].state == RECIPIENT_QUEUED)
            order[count++] = (uint32_t)i;
    }
    lane_sort(envelope, order, count);
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
    bytes += count * sizeof(*run);
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
        part->indexes = memcpy(mem_alloc(count * sizeof(*run)), run, count * sizeof(*run));
        part->count = count;
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
