/*
 * store_trouble_test.c - claims while reading or writing fails for a moment: what is due is
 * not forgotten.
 *
 * The linker puts the functions of this file in front of LMDB's. There is no pool, so claims
 * run on the test's own thread; all else is the writer's.
 */
#include "store_rig.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define LANE "direct/there.test"
#define TO "b@there.test " LANE

/* ---- what LMDB gives ------------------------------------------------------------------ */

static pthread_t test_thread;
static struct msgid bad_id; /* what claims cannot read of it, each once: */
static int record_gives;    /* errors; 0: none */
static int entry_gives;
static bool is_spoiled;          /* the claim's transaction: LMDB reads no more in it */
static atomic_int writing_gives; /* the writer's transactions cannot begin */

int __real_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn);
int __wrap_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn);
int __real_mdb_txn_renew(MDB_txn *txn);
int __wrap_mdb_txn_renew(MDB_txn *txn);
int __real_mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value);
int __wrap_mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value);

static bool is_claiming(void) { return pthread_equal(pthread_self(), test_thread); }

int __wrap_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn)
{
    int rc = flags & MDB_RDONLY || is_claiming() ? 0 : atomic_load(&writing_gives);

    if (is_claiming())
        is_spoiled = false;
    return rc ? rc : __real_mdb_txn_begin(env, parent, flags, txn);
}

int __wrap_mdb_txn_renew(MDB_txn *txn)
{
    is_spoiled = false;
    return __real_mdb_txn_renew(txn);
}

static int take(int *error)
{
    int rc = *error;

    *error = 0;
    return rc;
}

int __wrap_mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value)
{
    const char *end = (const char *)key->mv_data + key->mv_size;
    int rc = 0;

    if (is_claiming() && is_spoiled)
        return MDB_BAD_TXN;
    if (is_claiming() && key->mv_size >= MSGID_BYTES &&
        memcmp(end - MSGID_BYTES, bad_id.bytes, MSGID_BYTES) == 0)
        rc = take(key->mv_size == MSGID_BYTES ? &record_gives : &entry_gives);
    if (rc)
        is_spoiled = true;
    return rc ? rc : __real_mdb_get(txn, dbi, key, value);
}

/* ---- the tests ------------------------------------------------------------------------ */

static atomic_int told; /* seconds from NOW; negative: nothing */

static void hear(void *arg, const char *lane, int64_t due_at, struct mailbox *near)
{
    (void)arg, (void)lane, (void)near;
    atomic_store(&told, (int)(due_at - NOW));
}

/* Three messages of a lane, in the index alone. */
static struct rig *rig_of_three(struct msgid ids[3])
{
    struct rig *rig = rig_new(true);

    test_thread = pthread_self();
    is_spoiled = false;
    rig->options.pool = NULL;
    rig_open(rig);
    for (int i = 0; i < 3; i++)
        ids[i] = rig_put(rig, "a@here.test", TO);
    rig_reopen(rig);
    return rig;
}

static void one_that_cannot_be_read_keeps_no_others(void **state)
{
    struct msgid ids[3];
    struct rig *rig = rig_of_three(ids);
    (void)state;

    bad_id = ids[0];
    record_gives = MDB_PAGE_NOTFOUND;
    struct claim *claims = rig_claim(rig, LANE, 5);
    assert_int_equal(rig_count(claims), 2);
    assert_int_equal(msgid_cmp(&claims->message->envelope.id, &ids[1]), 0);
    store_unclaim(rig->store, &claims);
    rig_free(rig);
}

static void an_entry_that_cannot_be_read_is_looked_at_again(void **state)
{
    struct msgid ids[3];
    struct rig *rig = rig_of_three(ids);
    (void)state;

    bad_id = ids[2];
    entry_gives = MDB_PAGE_NOTFOUND;
    struct store_claim claim = rig_claim_at(rig, LANE, 5, NOW);
    assert_int_equal(rig_count(claim.claims), 2);
    assert_int_equal(claim.next_due, NOW + 60);
    rig_free_claims(claim.claims);
    rig_wall_s = NOW + 60;
    struct claim *last = rig_claim(rig, LANE, 5);
    assert_int_equal(rig_count(last), 1);
    rig_settle(rig, last, RECIPIENT_DELIVERED, 0);
    rig_free(rig);
}

static void what_cannot_be_mended_is_told_again(void **state)
{
    struct msgid ids[3];
    struct rig *rig = rig_of_three(ids);
    (void)state;

    bad_id = ids[0];
    record_gives = MDB_PAGE_NOTFOUND;
    atomic_store(&writing_gives, EIO);
    store_watch(rig->store, hear, NULL);
    atomic_store(&told, -1);
    struct store_claim claim = rig_claim_at(rig, LANE, 5, NOW);
    rig_free_claims(claim.claims);
    bool is_answered = claim.next_due == NOW + 60; /* the writer was quicker than the claim */
    for (int i = 0; i < 60000 && !is_answered && atomic_load(&told) < 0; i++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    assert_int_equal(is_answered ? 60 : atomic_load(&told), 60);
    atomic_store(&writing_gives, 0);
    rig_wall_s = NOW + 60;
    struct claim *claims = rig_claim(rig, LANE, 5);
    assert_int_equal(rig_count(claims), 1);
    assert_int_equal(msgid_cmp(&claims->message->envelope.id, &ids[0]), 0);
    rig_free_claims(claims);
    rig_free(rig);
}

/* A start with a store that cannot write: what changed is found once it can. */
static void a_next_hop_is_not_known_before_its_mail_is_due(void **state)
{
    struct msgid ids[3];
    struct rig *rig = rig_of_three(ids);
    uint64_t due;
    (void)state;

    for (int i = 0; i < 3; i++)
        rig_settle(rig, rig_claim(rig, LANE, 1), RECIPIENT_QUEUED, NOW + 3600);
    assert_int_equal(rig_tell_hops(rig, 1, 5, &due), ERR_OK);
    rig_reopen(rig);
    atomic_store(&writing_gives, EIO);
    assert_int_equal(rig_tell_hops(rig, 1, 6, &due), ERR_IO);
    atomic_store(&writing_gives, 0);
    assert_int_equal(rig_tell_hops(rig, 1, 6, &due), ERR_OK);
    assert_int_equal(due, 3);
    assert_int_equal(rig_tell_hops(rig, 1, 6, &due), ERR_OK);
    assert_int_equal(due, 0);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_cannot_be_read_keeps_no_others),
        cmocka_unit_test(an_entry_that_cannot_be_read_is_looked_at_again),
        cmocka_unit_test(what_cannot_be_mended_is_told_again),
        cmocka_unit_test(a_next_hop_is_not_known_before_its_mail_is_due),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
