/*
 * lmdb_aged.c - a look for old mail among that which is due but not sent.
 *
 * The id in an entry's key tells its age, so that the records of young mail are not
 * read, nor the contents of what needs nothing done. In pieces: a lane may have a
 * million entries.
 */
#include "queue/lmdb_cold.h"

#define LOOK_KEYS 10000 /* in one snapshot; a long one would keep the writer's pages */

/* The id tells when a message came, near enough to leave its record alone. It is
 * made a little before the arrival. */
static bool may_be_old(const struct claim_look *look, const struct msgid *id)
{
    int64_t since = msgid_wall_ms(id) / 1000;

    return since < look->expired_before || since < look->late_before;
}

static size_t place_key(const struct cold *cold, const struct claim_place *place,
                        char out[LMDB_DUE_KEY_MAX])
{
    struct str lane = str_make(cold->lane->name, cold->lane->name_len);

    return lmdb_due_key(out, lane, place->bucket, place->due_at, &place->id);
}

/* Behind the entries of this group that are not due yet. */
static int skip_group(struct cold *cold, MDB_cursor *cursor, MDB_val *key, unsigned bucket)
{
    struct claim_place next = { .bucket = bucket + 1 };
    char bytes[LMDB_DUE_KEY_MAX];
    MDB_val at = { place_key(cold, &next, bytes), bytes }, nothing;
    int rc = mdb_cursor_get(cursor, &at, &nothing, MDB_SET_RANGE);

    *key = at;
    return rc;
}

int aged_look(struct cold *cold, MDB_cursor *cursor, struct store_claim *request)
{
    struct claim_place *place = &request->look.place;
    struct str lane = str_make(cold->lane->name, cold->lane->name_len);
    char start[LMDB_DUE_KEY_MAX];
    MDB_val key = { place_key(cold, place, start), start }, nothing;
    int rc = mdb_cursor_get(cursor, &key, &nothing, MDB_SET_RANGE);

    for (size_t n = 0; !rc && n < LOOK_KEYS && cold->found_count < request->max; n++) {
        struct claim_place at = { .is_begun = true };
        struct str name;
        if (!lmdb_due_parse(str_make(key.mv_data, key.mv_size), &name, &at.bucket, &at.due_at,
                            &at.id) ||
            !str_eq(name, lane)) {
            rc = MDB_NOTFOUND;
        } else if (at.due_at > request->now_s) {
            rc = skip_group(cold, cursor, &key, at.bucket);
        } else {
            bool is_new = !place->is_begun || msgid_cmp(&at.id, &place->id) != 0 ||
                          at.due_at != place->due_at || at.bucket != place->bucket;
            if (is_new && may_be_old(&request->look, &at.id))
                cold_add(cold, &(struct candidate){
                                   .id = at.id, .due_at = at.due_at, .bucket = at.bucket });
            *place = at;
            rc = mdb_cursor_get(cursor, &key, &nothing, MDB_NEXT);
        }
    }
    place->is_begun = true;
    request->more = !rc;
    cold->chosen = cold->found_count;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

bool aged_is_young(struct cold *cold, MDB_txn *txn, const struct candidate *c,
                   const struct store_claim *request)
{
    struct str lane = str_make(cold->lane->name, cold->lane->name_len);
    struct record_content content;
    struct envelope envelope;

    if (!request->look.is_on)
        return false;
    envelope_init(&envelope);
    bool is_young = lmdb_load(cold->l, txn, &c->id, &envelope, &content, NULL) == ERR_OK &&
                    !rules_is_looked_for(&request->look, &envelope, lane, request->now_s);
    envelope_clear(&envelope);
    return is_young;
}
