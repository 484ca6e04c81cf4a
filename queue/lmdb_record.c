/*
 * lmdb_record.c - one message in a transaction: record, content, index entries.
 *
 *   msg      id (16 bytes)           -> slice 0 of the record
 *            id, slice number BE16   -> the others (messages with many recipients)
 *   content  id, chunk number BE32   -> head and inline body as one run, cut in pages
 *   due      lane, 00, bucket, due BE64 s, id -> nothing
 */
#include "queue/lmdb_opened.h"

#include <stdlib.h>

/* ---- index entries --------------------------------------------------------- */

size_t lmdb_due_key(char out[LMDB_DUE_KEY_MAX], struct str lane, unsigned bucket, int64_t due_at,
                    const struct msgid *id)
{
    size_t len = lane.len < LANE_MAX ? lane.len : LANE_MAX;
    uint64_t due = due_at > 0 ? (uint64_t)due_at : 0;

    memcpy(out, lane.at, len);
    out[len++] = '\0';
    out[len++] = (char)(uint8_t)bucket;
    for (int shift = 56; shift >= 0; shift -= 8)
        out[len++] = (char)(uint8_t)(due >> shift);
    memcpy(out + len, id->bytes, MSGID_BYTES);
    return len + MSGID_BYTES;
}

bool lmdb_due_parse(struct str key, struct str *out_lane, unsigned *out_bucket, int64_t *out_due,
                    struct msgid *out_id)
{
    size_t lane_len = str_chr(key, '\0');
    uint64_t due = 0;

    if (key.len != lane_len + 1 + 1 + 8 + MSGID_BYTES)
        return false;
    *out_lane = str_head(key, lane_len);
    *out_bucket = (uint8_t)key.at[lane_len + 1];
    for (size_t i = 0; i < 8; i++)
        due = due << 8 | (uint8_t)key.at[lane_len + 2 + i];
    *out_due = (int64_t)due;
    memcpy(out_id->bytes, key.at + lane_len + 10, MSGID_BYTES);
    return true;
}

static int key_order(const void *a, const void *b)
{
    const struct due_key *x = a, *y = b;
    int order = str_cmp(x->lane, y->lane);

    if (order != 0)
        return order;
    return x->due_at < y->due_at ? -1 : x->due_at > y->due_at;
}

void lmdb_due_sort(struct due_key *keys, size_t count)
{
    if (count > 1)
        qsort(keys, count, sizeof(*keys), key_order);
}

struct due_key *lmdb_due_keys(const struct envelope *envelope, struct arena *arena,
                              size_t *out_count)
{
    return lmdb_due_keys_among(envelope, NULL, envelope->recipient_count, arena, out_count);
}

/* Without indexes: the first index_count. */
struct due_key *lmdb_due_keys_among(const struct envelope *envelope, const uint32_t *indexes,
                                    size_t index_count, struct arena *arena, size_t *out_count)
{
    struct due_key *keys = arena_alloc(arena, (index_count + 1) * sizeof(*keys));
    size_t count = 0, kept = 0;

    for (size_t i = 0; i < index_count; i++) {
        const struct recipient *r = &envelope->recipients[indexes ? indexes[i] : i];
        if (r->state == RECIPIENT_QUEUED)
            keys[count++] = (struct due_key){ r->lane, r->due_at };
    }
    lmdb_due_sort(keys, count);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || key_order(&keys[kept - 1], &keys[i]) != 0)
            keys[kept++] = keys[i];
    }
    *out_count = kept;
    return keys;
}

bool lmdb_due_has(const struct due_key *keys, size_t count, struct due_key key)
{
    return count > 0 && bsearch(&key, keys, count, sizeof(*keys), key_order);
}

enum err lmdb_put_due(struct lmdb *l, MDB_txn *txn, const struct envelope *envelope,
                      struct due_key key, struct fault *fault)
{
    char bytes[LMDB_DUE_KEY_MAX];
    MDB_val at = { 0, bytes }, nothing = { 0, bytes };

    at.mv_size = lmdb_due_key(bytes, key.lane, rules_bucket(envelope), key.due_at, &envelope->id);
    int rc = mdb_put(txn, l->dbi_due, &at, &nothing, MDB_NOOVERWRITE);
    if (rc && rc != MDB_KEYEXIST)
        return lmdb_fault(fault, rc, "cannot write to the queue's index");
    lmdb_point(l);
    return ERR_OK;
}

enum err lmdb_del_due(struct lmdb *l, MDB_txn *txn, const struct envelope *envelope,
                      struct due_key key, struct fault *fault)
{
    char bytes[LMDB_DUE_KEY_MAX];
    MDB_val at = { 0, bytes };

    at.mv_size = lmdb_due_key(bytes, key.lane, rules_bucket(envelope), key.due_at, &envelope->id);
    int rc = mdb_del(txn, l->dbi_due, &at, NULL);
    if (rc && rc != MDB_NOTFOUND)
        return lmdb_fault(fault, rc, "cannot delete from the queue's index");
    lmdb_point(l);
    return ERR_OK;
}

/* ---- reading ----------------------------------------------------------------- */

static size_t slice_key(char out[MSGID_BYTES + 2], const struct msgid *id, size_t slice)
{
    memcpy(out, id->bytes, MSGID_BYTES);
    if (slice == 0)
        return MSGID_BYTES;
    out[MSGID_BYTES] = (char)(uint8_t)(slice >> 8);
    out[MSGID_BYTES + 1] = (char)(uint8_t)slice;
    return MSGID_BYTES + 2;
}

static enum err get_slice(struct lmdb *l, MDB_txn *txn, const struct msgid *id, size_t slice,
                          struct arena *arena, struct str *out_bytes, struct fault *fault)
{
    char bytes[MSGID_BYTES + 2];
    MDB_val key = { slice_key(bytes, id, slice), bytes }, value;
    int rc = mdb_get(txn, l->dbi_msg, &key, &value);

    atomic_fetch_add_explicit(&l->slices, 1, memory_order_relaxed);
    if (rc == MDB_NOTFOUND && slice > 0)
        return fault_set(fault, ERR_CORRUPT, "a part of the stored envelope is missing");
    if (rc == MDB_NOTFOUND)
        return fault_set(fault, ERR_NOT_FOUND, "no message with this id is in the queue");
    if (rc)
        return lmdb_fault(fault, rc, "cannot read a message's record");
    /* Most messages have one recipient, and thousands of them wait in memory for their turn. */
    arena_expect(arena, value.mv_size + 1 + _Alignof(max_align_t) + sizeof(struct recipient));
    /* Out of the map: the next write in this transaction may move the page. */
    *out_bytes = arena_str(arena, str_make(value.mv_data, value.mv_size));
    return ERR_OK;
}

enum err lmdb_last_id(struct lmdb *l, struct msgid *out_id, struct fault *fault)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int rc = lmdb_begin(l, MDB_RDONLY, &txn);

    memset(out_id, 0, sizeof(*out_id));
    if (!rc)
        rc = mdb_cursor_open(txn, l->dbi_msg, &cursor);
    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    if (!rc && key.mv_size >= MSGID_BYTES)
        memcpy(out_id->bytes, key.mv_data, MSGID_BYTES);
    if (cursor)
        mdb_cursor_close(cursor);
    if (txn)
        mdb_txn_abort(txn);
    return rc && rc != MDB_NOTFOUND ? lmdb_fault(fault, rc, "cannot read the queue") : ERR_OK;
}

enum err lmdb_load(struct lmdb *l, MDB_txn *txn, const struct msgid *id, struct envelope *envelope,
                   struct record_content *content, struct fault *fault)
{
    struct str bytes = STR_EMPTY;
    enum err rc = get_slice(l, txn, id, 0, &envelope->arena, &bytes, fault);

    if (!rc)
        rc = record_decode(bytes, envelope, content, fault);
    if (rc)
        return rc;
    if (msgid_cmp(&envelope->id, id) != 0)
        return fault_set(fault, ERR_CORRUPT, "a stored record is not the one of its id");
    for (size_t slice = 1; slice < record_slices(envelope) && !rc; slice++) {
        rc = get_slice(l, txn, id, slice, &envelope->arena, &bytes, fault);
        if (!rc)
            rc = record_decode_slice(bytes, slice, envelope, fault);
    }
    return rc;
}

static size_t chunk_key(char out[MSGID_BYTES + 4], const struct msgid *id, size_t chunk)
{
    memcpy(out, id->bytes, MSGID_BYTES);
    for (int i = 0; i < 4; i++)
        out[MSGID_BYTES + i] = (char)(uint8_t)(chunk >> (24 - 8 * i));
    return MSGID_BYTES + 4;
}

static enum err read_chunks(struct lmdb *l, MDB_txn *txn, const struct msgid *id, char *out,
                            size_t len, struct fault *fault)
{
    for (size_t at = 0, chunk = 0; at < len; chunk++) {
        size_t want = len - at < LMDB_CHUNK ? len - at : LMDB_CHUNK;
        char bytes[MSGID_BYTES + 4];
        MDB_val key = { chunk_key(bytes, id, chunk), bytes }, value;
        int rc = mdb_get(txn, l->dbi_content, &key, &value);
        if (rc && rc != MDB_NOTFOUND)
            return lmdb_fault(fault, rc, "cannot read a message's content");
        if (rc || value.mv_size != want)
            return fault_set(fault, ERR_CORRUPT, "a piece of the stored content is missing");
        memcpy(out + at, value.mv_data, want);
        at += want;
    }
    return ERR_OK;
}

static enum err load_content(struct lmdb *l, MDB_txn *txn, struct message *message,
                             const struct record_content *content, struct fault *fault)
{
    bool is_inline = content->file.len == 0;
    uint64_t len = content->head_len + (is_inline ? content->body_len : 0);

    /* A length that cannot be is damage: it must not become an allocation. */
    if (len > l->map_bytes || len > SIZE_MAX / 2)
        return fault_set(fault, ERR_CORRUPT, "the stored content has an impossible length");
    char *bytes = mem_alloc((size_t)len + 1);
    enum err rc = read_chunks(l, txn, &message->envelope.id, bytes, (size_t)len, fault);
    if (rc) {
        free(bytes);
        return rc;
    }
    if (is_inline)
        message->body =
            body_of_bytes(str_make(bytes + content->head_len, (size_t)content->body_len));
    else
        message->body = body_of_file(l->bodies, content->file, content->body_len);
    bytes[content->head_len] = '\0'; /* and the body is not kept twice */
    message->head = mem_realloc(bytes, (size_t)content->head_len + 1);
    message->head_len = (size_t)content->head_len;
    return ERR_OK;
}

enum err lmdb_load_message(struct lmdb *l, MDB_txn *txn, const struct msgid *id, bool with_content,
                           struct message **out_message, struct fault *fault)
{
    struct message *message = message_new();
    struct record_content content = { 0 };
    enum err rc = lmdb_load(l, txn, id, &message->envelope, &content, fault);

    message->own_signatures = content.own_signatures;
    if (!rc && with_content)
        rc = load_content(l, txn, message, &content, fault);
    if (rc) {
        message_unref(&message);
        return rc;
    }
    *out_message = message;
    return ERR_OK;
}

/* ---- writing ------------------------------------------------------------------ */

/* MDB_APPEND fills pages to the brim and skips the search, but refuses what is
 * not above the last key: then put it where it belongs. */
static int put(struct lmdb *l, MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value,
               unsigned flags)
{
    int rc = mdb_put(txn, dbi, key, value, flags);

    if (rc == MDB_KEYEXIST && (flags & MDB_APPEND))
        rc = mdb_put(txn, dbi, key, value, flags & ~(unsigned)MDB_APPEND);
    lmdb_point(l);
    return rc;
}

enum err lmdb_put_slice(struct lmdb *l, struct batch *batch, const struct envelope *envelope,
                        const struct record_content *content, size_t slice, unsigned flags,
                        struct fault *fault)
{
    char bytes[MSGID_BYTES + 2];

    opened_written(l, &envelope->id);
    buf_reset(&l->scratch);
    record_encode(envelope, content, slice, &l->scratch);
    MDB_val key = { slice_key(bytes, &envelope->id, slice), bytes };
    MDB_val value = { l->scratch.len, l->scratch.at };
    int rc = put(l, batch->txn, l->dbi_msg, &key, &value, flags);
    if (rc == MDB_KEYEXIST)
        return fault_set(fault, ERR_EXISTS, "the queue has a message with this id");
    return rc ? lmdb_fault(fault, rc, "cannot write a message's record") : ERR_OK;
}

/* The run head + inline body, from `at` on. */
static void copy_run(char *to, size_t len, size_t at, struct str head, struct str body)
{
    if (at < head.len) {
        struct str piece = str_head(str_from(head, at), len);
        memcpy(to, piece.at, piece.len);
        to += piece.len;
        len -= piece.len;
        at = head.len;
    }
    if (len > 0)
        memcpy(to, body.at + (at - head.len), len);
}

static enum err put_content(struct lmdb *l, struct batch *batch, const struct message *message,
                            struct fault *fault)
{
    struct str head = str_make(message->head, message->head_len), body = STR_EMPTY;
    unsigned flags = MDB_RESERVE | (batch->append ? MDB_APPEND : 0);

    body_is_inline(message->body, &body);
    size_t len = head.len + body.len;
    for (size_t at = 0, chunk = 0; at < len; at += LMDB_CHUNK, chunk++) {
        size_t size = len - at < LMDB_CHUNK ? len - at : LMDB_CHUNK;
        char bytes[MSGID_BYTES + 4];
        MDB_val key = { chunk_key(bytes, &message->envelope.id, chunk), bytes };
        MDB_val value = { size, NULL };
        int rc = put(l, batch->txn, l->dbi_content, &key, &value, flags);
        if (rc)
            return lmdb_fault(fault, rc, "cannot write a message's content");
        copy_run(value.mv_data, size, at, head, body);
    }
    return ERR_OK;
}

enum err lmdb_put_message(struct lmdb *l, struct batch *batch, const struct message *message,
                          struct fault *fault)
{
    const struct envelope *envelope = &message->envelope;
    struct record_content content = {
        .head_len = message->head_len,
        .body_len = body_size(message->body),
        .own_signatures = message->own_signatures,
        .file = str_of(body_file(message->body)),
    };
    unsigned flags = MDB_NOOVERWRITE | (batch->append ? MDB_APPEND : 0);
    enum err rc = ERR_OK;

    for (size_t slice = 0; slice < record_slices(envelope) && !rc; slice++)
        rc = lmdb_put_slice(l, batch, envelope, &content, slice, flags, fault);
    return rc ? rc : put_content(l, batch, message, fault);
}

static enum err delete_key(struct lmdb *l, MDB_txn *txn, MDB_dbi dbi, MDB_val key,
                           struct fault *fault)
{
    int rc = mdb_del(txn, dbi, &key, NULL);

    if (rc && rc != MDB_NOTFOUND)
        return lmdb_fault(fault, rc, "cannot delete a message");
    lmdb_point(l);
    return ERR_OK;
}

enum err lmdb_del_message(struct lmdb *l, struct batch *batch, const struct envelope *envelope,
                          const struct record_content *content, struct fault *fault)
{
    char bytes[MSGID_BYTES + 4];
    uint64_t len = content->head_len + (content->file.len ? 0 : content->body_len);
    enum err rc = ERR_OK;

    opened_written(l, &envelope->id);
    for (size_t slice = 0; slice < record_slices(envelope) && !rc; slice++) {
        MDB_val key = { slice_key(bytes, &envelope->id, slice), bytes };
        rc = delete_key(l, batch->txn, l->dbi_msg, key, fault);
    }
    for (size_t chunk = 0; chunk * LMDB_CHUNK < len && !rc; chunk++) {
        MDB_val key = { chunk_key(bytes, &envelope->id, chunk), bytes };
        rc = delete_key(l, batch->txn, l->dbi_content, key, fault);
    }
    if (!rc)
        batch_file(l, content);
    return rc;
}

static enum err delete_prefix(struct batch *batch, MDB_dbi dbi, const struct msgid *id,
                              struct fault *fault)
{
    struct msgid prefix = *id;
    MDB_cursor *cursor = NULL;
    MDB_val key = { MSGID_BYTES, prefix.bytes }, value;
    int rc = mdb_cursor_open(batch->txn, dbi, &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!rc && key.mv_size >= MSGID_BYTES && memcmp(key.mv_data, id->bytes, MSGID_BYTES) == 0) {
        rc = mdb_cursor_del(cursor, 0);
        if (!rc)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    return rc && rc != MDB_NOTFOUND ? lmdb_fault(fault, rc, "cannot delete a message") : ERR_OK;
}

/* Its side file, if it has one, goes at the next start, as one without a record. */
enum err lmdb_del_raw(struct lmdb *l, struct batch *batch, const struct msgid *id,
                      struct fault *fault)
{
    opened_written(l, id);
    enum err rc = delete_prefix(batch, l->dbi_msg, id, fault);

    return rc ? rc : delete_prefix(batch, l->dbi_content, id, fault);
}

bool lmdb_message_key(const MDB_val *key, const struct msgid *after, struct msgid *out_id)
{
    if (key->mv_size != MSGID_BYTES)
        return false;
    memcpy(out_id->bytes, key->mv_data, MSGID_BYTES);
    return msgid_cmp(out_id, after) > 0;
}
