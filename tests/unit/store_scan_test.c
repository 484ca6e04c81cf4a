/*
 * store_scan_test.c - the count after a start: what reading gives may be an error, for a
 * while or for good, and only the end of the queue is its end.
 *
 * The linker puts functions of this file in front of LMDB's: reading transactions of the
 * writer, which are those of the count, cannot be begun or cannot read one record.
 * There is no pool here, so claims and lists run on the test's own thread, and are spared.
 */
#include "store_rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define A "direct/a.test"
#define Z "direct/z.test"

/* ---- what LMDB gives ------------------------------------------------------------------ */

static pthread_t test_thread;
static atomic_int begin_gives, read_gives, get_gives; /* errors; 0: none */
static uint64_t failing_ms;                           /* since when */
static struct msgid unreadable;   /* by read_gives; set while the store is closed */
static atomic_uint begun, failed; /* reading transactions of the writer; errors given */
static _Thread_local bool is_counting;

int __real_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn);
int __wrap_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn);
int __real_mdb_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op);
int __wrap_mdb_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op);
int __real_mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value);
int __wrap_mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value);

static int give(atomic_int *error)
{
    int rc = atomic_load(error);

    if (rc)
        atomic_fetch_add(&failed, 1);
    return rc;
}

int __wrap_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn)
{
    is_counting = (flags & MDB_RDONLY) && !pthread_equal(pthread_self(), test_thread);
    if (is_counting)
        atomic_fetch_add(&begun, 1);
    int rc = is_counting ? give(&begin_gives) : 0;
    return rc ? rc : __real_mdb_txn_begin(env, parent, flags, txn);
}

int __wrap_mdb_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op)
{
    int rc = __real_mdb_cursor_get(cursor, key, value, op);

    if (!rc && is_counting && key->mv_size == MSGID_BYTES &&
        memcmp(key->mv_data, unreadable.bytes, MSGID_BYTES) == 0)
        rc = give(&read_gives);
    return rc;
}

int __wrap_mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value)
{
    int rc = is_counting ? give(&get_gives) : 0;

    return rc ? rc : __real_mdb_get(txn, dbi, key, value);
}

/* ---- a store whose count fails ---------------------------------------------------------- */

static struct hops *hops;
static unsigned alarms, ends;

static void on_hop(void *arg, const struct hop *hop, struct str encoded)
{
    (void)arg, (void)encoded;
    if (hop->weight == HOP_ALARM && str_starts(hop->fault, STR("cannot read ")))
        alarms++;
    if (hop->weight == HOP_EVENT && str_eq(hop->text, STR("all that is queued is counted")))
        ends++;
}

static struct rig *rig_without_pool(void)
{
    struct rig *rig = rig_new(true);

    test_thread = pthread_self();
    rig->options.pool = NULL;
    hops = hops_new(65536);
    hops_tap(hops, on_hop, NULL, NULL);
    rig->options.ring = hops_ring(hops);
    alarms = ends = 0;
    rig_open(rig);
    return rig;
}

static void end(struct rig *rig)
{
    rig_free(rig);
    hops_free(&hops);
}

struct errors {
    int begin, read, get;
    struct msgid id; /* for read */
};

/* Given to the count of this open. */
static void reopen_failing(struct rig *rig, struct errors errors)
{
    store_close(&rig->store);
    unreadable = errors.id;
    atomic_store(&begin_gives, errors.begin);
    atomic_store(&read_gives, errors.read);
    atomic_store(&get_gives, errors.get);
    atomic_store(&begun, 0);
    atomic_store(&failed, 0);
    failing_ms = clock_mono_ms();
    rig_open(rig);
}

static bool is_counted(struct rig *rig)
{
    struct lmdb *l = lmdb_of(rig->store);

    pthread_mutex_lock(&l->lock);
    bool is_done = l->scan_done;
    pthread_mutex_unlock(&l->lock);
    return is_done;
}

static void pause_ms(long ms) { nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL); }

/* Errors, no more than one a second: the count was tried again. */
static void await_failures(struct rig *rig)
{
    for (int i = 0; i < 60000 && atomic_load(&failed) < 2 && !is_counted(rig); i++)
        pause_ms(1);
    assert_false(is_counted(rig));
    unsigned errors = atomic_load(&failed);
    assert_in_range(errors, 2, 1 + (clock_mono_ms() - failing_ms) / 1000);
}

static void heal(struct rig *rig)
{
    atomic_store(&begin_gives, 0);
    atomic_store(&read_gives, 0);
    atomic_store(&get_gives, 0);
    for (int i = 0; i < 60000 && !is_counted(rig); i++)
        pause_ms(1);
    assert_true(is_counted(rig));
}

static void expect_told(unsigned want_alarms, unsigned want_ends)
{
    hops_drain(hops);
    assert_int_equal(alarms, want_alarms);
    assert_int_equal(ends, want_ends);
}

static void expect_lane(struct rig *rig, const char *name, uint64_t queued, uint64_t held)
{
    struct store_lanes lanes = { .request = rig_request(rig), .max = 10 };
    const struct lane_info *found = NULL;

    store_lanes(rig->store, &lanes);
    rig_wait(rig, &lanes.request);
    for (size_t i = 0; i < lanes.count; i++)
        if (strcmp(lanes.lanes[i].lane, name) == 0)
            found = &lanes.lanes[i];
    assert_int_equal(found ? found->queued : 0, queued);
    assert_int_equal(found ? found->held : 0, held);
    store_lanes_clear(&lanes);
}

static size_t listed(struct rig *rig, const char *lane)
{
    struct store_list list =
        rig_list(rig, (struct store_filter){ .lane = str_of(lane), .state = RECIPIENT_QUEUED }, 50,
                 (struct msgid){ { 0 } });
    size_t count = list.count;

    store_list_clear(&list);
    return count;
}

static struct msgid put_lanes(struct rig *rig)
{
    struct msgid first_z = { { 0 } };

    for (int i = 0; i < 20; i++) {
        struct msgid id = rig_put(rig, "a@here.test", i < 10 ? "1@a.test " A : "1@z.test " Z);
        first_z = i == 10 ? id : first_z;
    }
    return first_z;
}

/* ---- the tests ------------------------------------------------------------------------------ */

static void mail_that_is_not_counted_leaves_all_the_same(void **state)
{
    struct rig *rig = rig_without_pool();
    (void)state;

    reopen_failing(rig, (struct errors){ .read = MDB_PAGE_NOTFOUND, .id = put_lanes(rig) });
    await_failures(rig);
    expect_told(1, 0);
    expect_lane(rig, A, 10, 0);
    expect_lane(rig, Z, 0, 0); /* none of it is counted */
    assert_int_equal(listed(rig, Z), 10);
    for (int i = 0; i < 9; i++)
        rig_deliver(rig, Z);
    rig_deliver(rig, A);
    rig_put(rig, "a@here.test", "2@a.test " A);
    assert_int_equal(rig_health(rig).state, STORE_FINE);
    heal(rig);
    expect_told(1, 1);
    expect_lane(rig, A, 10, 0);
    expect_lane(rig, Z, 1, 0);
    assert_int_equal(listed(rig, Z), 1);
    end(rig);
}

static void a_count_that_cannot_begin_waits(void **state)
{
    struct rig *rig = rig_without_pool();
    (void)state;

    rig_put(rig, "a@here.test", "1@z.test " Z);
    reopen_failing(rig, (struct errors){ .begin = MDB_READERS_FULL });
    await_failures(rig);
    unsigned tries = atomic_load(&begun); /* this before those: more may fail meanwhile */
    assert_in_range(tries, 2, atomic_load(&failed) + 1);
    expect_told(1, 0);
    heal(rig);
    expect_told(1, 1);
    expect_lane(rig, Z, 1, 0);
    rig_deliver(rig, Z);
    end(rig);
}

/* Of its record only the first slice is under the cursor. */
static void a_message_is_not_set_aside_for_an_error_that_passes(void **state)
{
    struct rig *rig = rig_without_pool();
    char to[20 * 32] = "";
    (void)state;

    rig_many(to, sizeof(to), 20, "@z.test " Z);
    rig_put(rig, "a@here.test", to);
    reopen_failing(rig, (struct errors){ .get = MDB_BAD_TXN });
    await_failures(rig);
    expect_told(1, 0);
    assert_int_equal(rig_health(rig).corrupt, 0);
    heal(rig);
    expect_told(1, 1);
    assert_int_equal(rig_health(rig).corrupt, 0);
    expect_lane(rig, Z, 20, 0);
    end(rig);
}

/* Of both lanes, one of them counted and one not; then some that are new. */
static void change_much(struct rig *rig)
{
    static const char *const lanes[] = { A, Z };

    for (int i = 0; i < 2; i++) {
        rig_deliver(rig, lanes[i]);
        rig_settle(rig, rig_claim(rig, lanes[i], 1), RECIPIENT_QUEUED, NOW + 60);
    }
    rig_put(rig, "a@here.test", "2@a.test " A ",2@z.test " Z);
    rig_wall_s = NOW - 60; /* in front of those that are counted */
    rig_put(rig, "a@here.test", "3@a.test " A ",3@z.test " Z);
    rig_put(rig, "a@here.test", "5@a.test " A);
    rig_wall_s = NOW;
    rig_change(rig, STORE_HOLD, (struct store_filter){ .recipient = STR("3@z.test") });
    rig_change(rig, STORE_HOLD, (struct store_filter){ .recipient = STR("1@a.test") });
    rig_change(rig, STORE_DROP, (struct store_filter){ .recipient = STR("2@z.test") });
    rig_change(rig, STORE_DROP, (struct store_filter){ .recipient = STR("5@a.test") });
}

static void what_changes_while_it_is_counted_is_counted_once(void **state)
{
    struct rig *rig = rig_without_pool();
    (void)state;

    reopen_failing(rig, (struct errors){ .read = MDB_PAGE_NOTFOUND, .id = put_lanes(rig) });
    await_failures(rig);
    change_much(rig);
    struct store_health before = rig_health(rig);
    assert_int_equal(before.recipients_queued, 2 + 9);
    assert_int_equal(before.recipients_held, 9 + 1);
    heal(rig);
    struct store_health after = rig_health(rig);
    assert_int_equal(after.queued_bytes, before.queued_bytes);
    assert_int_equal(after.recipients_queued, before.recipients_queued);
    assert_int_equal(after.recipients_held, before.recipients_held);
    expect_lane(rig, A, 2, 9);
    expect_lane(rig, Z, 9, 1);
    rig_change(rig, STORE_DROP, (struct store_filter){ .any_state = true });
    after = rig_health(rig);
    assert_int_equal(after.queued_bytes + after.recipients_queued + after.recipients_held, 0);
    end(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_that_is_not_counted_leaves_all_the_same),
        cmocka_unit_test(a_count_that_cannot_begin_waits),
        cmocka_unit_test(a_message_is_not_set_aside_for_an_error_that_passes),
        cmocka_unit_test(what_changes_while_it_is_counted_is_counted_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
