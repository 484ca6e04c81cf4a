/*
 * store_moved_test.c - recipients that are moved to another lane while claims of both lanes
 * are under way: each is with one claim at a time, is sent once, and is not forgotten.
 *
 * The linker puts the functions of this file in front of LMDB's, so that others act while a
 * claim is between its lease and its snapshot, or between that and its reading; and so that
 * the writer waits between a commit and telling memory of it. There is no pool: claims run
 * on the test's own thread.
 */
#include "store_rig.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#define OLD "direct/old.test"
#define NEW "direct/new.test"

/* ---- what happens meanwhile ------------------------------------------------------------- */

static struct rig *rig;
static struct claim *other; /* of the old lane */

/* Each once, by the next claim from the index. */
static void (*before_snapshot)(void);
static void (*after_snapshot)(void);

static atomic_bool stops; /* the writer, after its next commit */
static sem_t stopped, go_on;

int __real_mdb_txn_renew(MDB_txn *txn);
int __wrap_mdb_txn_renew(MDB_txn *txn);
int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);

int __wrap_mdb_txn_renew(MDB_txn *txn)
{
    void (*before)(void) = before_snapshot;
    void (*after)(void) = after_snapshot;

    before_snapshot = after_snapshot = NULL;
    if (before)
        before();
    int rc = __real_mdb_txn_renew(txn);
    if (after)
        after();
    return rc;
}

int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    int rc = __real_mdb_txn_commit(txn);

    if (atomic_exchange(&stops, false)) {
        sem_post(&stopped);
        sem_wait(&go_on);
    }
    return rc;
}

static const char *target; /* where recipients are moved to */

static void to_target(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                      char lane[LANE_MAX])
{
    (void)arg, (void)envelope, (void)recipient;
    snprintf(lane, LANE_MAX, "%s", target);
}

/* 1@there.test is moved, and others stay. */
static struct store_change moving(const char *lane)
{
    target = lane;
    return (struct store_change){ .request = rig_request(rig),
                                  .kind = STORE_REROUTE,
                                  .filter = { .any_state = true, .recipient = STR("1@there.test") },
                                  .reroute = to_target };
}

static void move(const char *lane)
{
    struct store_change change = moving(lane);

    store_change(rig->store, &change);
    rig_wait(rig, &change.request);
    assert_int_equal(change.recipients, 1);
}

static void claim_other(void)
{
    other = rig_claim(rig, OLD, 1);
    assert_int_equal(rig_count(other), 1);
}

static void deliver_other(void) { rig_settle(rig, other, RECIPIENT_DELIVERED, 0); }

static void put_other_off(void) { rig_settle(rig, other, RECIPIENT_QUEUED, NOW + 10); }

static void give_other_back(void) { store_unclaim(rig->store, &other); }

static void claim_other_and_move_it(void)
{
    claim_other();
    move(NEW);
}

static void move_back_and_deliver(void)
{
    move(OLD);
    claim_other();
    deliver_other();
}

static void hold_all(void)
{
    struct store_filter everything = { .any_state = true };

    assert_int_equal(rig_change(rig, STORE_HOLD, everything).leased, 0);
}

/* ---- the tests -------------------------------------------------------------------------- */

static void begin(void)
{
    rig = rig_new(true);
    rig->options.pool = NULL;
    rig_open(rig);
    sem_init(&stopped, 0, 0);
    sem_init(&go_on, 0, 0);
}

/* A message that is in the index alone. */
static void begin_with(const char *to)
{
    begin();
    rig_put(rig, "a@here.test", to);
    rig_reopen(rig);
}

static void end(void)
{
    assert_null(rig_claim(rig, OLD, 5));
    assert_null(rig_claim(rig, NEW, 5));
    assert_int_equal(rig_health(rig).messages, 0);
    rig_free(rig);
    sem_destroy(&stopped);
    sem_destroy(&go_on);
}

static void what_the_other_lane_delivered_is_not_sent_again(void **state)
{
    (void)state;
    begin_with("1@there.test " OLD);
    claim_other_and_move_it();
    after_snapshot = deliver_other;
    assert_null(rig_claim(rig, NEW, 5));
    end();
}

static void what_the_other_lane_put_off_waits(void **state)
{
    (void)state;
    begin_with("1@there.test " OLD);
    claim_other_and_move_it();
    after_snapshot = put_other_off;
    assert_null(rig_claim(rig, NEW, 5));
    assert_int_equal(rig_claim_at(rig, NEW, 5, NOW).next_due, NOW + 10);
    rig_wall_s = NOW + 10;
    rig_deliver(rig, NEW);
    end();
}

static void what_the_other_lane_gave_back_is_due(void **state)
{
    (void)state;
    begin_with("1@there.test " OLD);
    claim_other_and_move_it();
    after_snapshot = give_other_back;
    struct store_claim claim = rig_claim_at(rig, NEW, 5, NOW);
    assert_true(claim.claims || claim.more);
    if (!claim.claims)
        claim.claims = rig_claim(rig, NEW, 5);
    assert_int_equal(rig_count(claim.claims), 1);
    rig_settle(rig, claim.claims, RECIPIENT_DELIVERED, 0);
    end();
}

/* Two entries of one message, and the first is gone when it is looked at again. */
static void who_is_due_behind_a_settled_one_is_not_forgotten(void **state)
{
    (void)state;
    begin_with("1@there.test " OLD ",2@there.test " NEW);
    rig_settle(rig, rig_claim(rig, NEW, 1), RECIPIENT_QUEUED, NOW + 5);
    rig_wall_s = NOW + 5;
    claim_other_and_move_it();
    before_snapshot = deliver_other;
    struct claim *claim = rig_claim(rig, NEW, 5);
    assert_int_equal(rig_count(claim), 1);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
    end();
}

/* Claimed by the other lane after this claim had its part, and settled before this claim
 * has read what it saw. */
static void what_another_lane_takes_away_is_not_sent(void **state)
{
    (void)state;
    begin_with("1@there.test " NEW);
    after_snapshot = move_back_and_deliver;
    assert_null(rig_claim(rig, NEW, 5));
    end();
}

static void what_came_from_a_later_claim_is_not_sent_again(void **state)
{
    (void)state;
    begin_with("1@there.test " OLD ",2@there.test " NEW);
    before_snapshot = claim_other_and_move_it;
    after_snapshot = deliver_other;
    struct store_claim asked = rig_claim_at(rig, NEW, 5, NOW);
    assert_true(asked.claims || asked.more);
    struct claim *claim = asked.claims ? asked.claims : rig_claim(rig, NEW, 5);
    assert_int_equal(rig_count(claim), 1);
    assert_int_equal(claim->count, 1);
    assert_int_equal(claim->indexes[0], 1);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
    end();
}

static void who_was_not_moved_does_not_wait_for_other_lanes(void **state)
{
    (void)state;
    begin_with("1@there.test " OLD ",2@there.test " NEW);
    claim_other();
    after_snapshot = deliver_other;
    struct store_claim claim = rig_claim_at(rig, NEW, 5, NOW);
    assert_int_equal(rig_count(claim.claims), 1);
    assert_false(claim.more);
    rig_settle(rig, claim.claims, RECIPIENT_DELIVERED, 0);
    end();
}

/* Moved on disk, and still in the old lane's window. */
static void what_is_moved_from_a_window_is_claimed_once(void **state)
{
    (void)state;
    begin_with("2@there.test " NEW); /* this lane has a reason to look */
    rig_put(rig, "a@here.test", "1@there.test " OLD);
    struct store_change change = moving(NEW);
    atomic_store(&stops, true);
    store_change(rig->store, &change);
    sem_wait(&stopped);
    struct claim *claims = rig_claim(rig, NEW, 5);
    claim_other();
    sem_post(&go_on);
    rig_wait(rig, &change.request);
    assert_int_equal(rig_count(claims), 1);
    rig_settle(rig, claims, RECIPIENT_DELIVERED, 0);
    assert_null(rig_claim(rig, NEW, 5));
    give_other_back();
    rig_deliver(rig, NEW);
    end();
}

/* Held, and that was answered, while a claim had seen it as it was. */
static void what_was_held_is_not_claimed_any_more(void **state)
{
    (void)state;
    begin_with("1@there.test " OLD);
    after_snapshot = hold_all;
    assert_null(rig_claim(rig, OLD, 5));
    assert_null(rig_claim(rig, OLD, 5));
    struct store_filter everything = { .any_state = true };
    assert_int_equal(rig_change(rig, STORE_RELEASE, everything).recipients, 1);
    rig_deliver(rig, OLD);
    end();
}

/* Written, and memory has not followed: it is attempted, and who drops it hears that. */
static void who_is_claimed_while_it_is_dropped_is_under_way(void **state)
{
    (void)state;
    begin();
    rig_put(rig, "a@here.test", "1@there.test " OLD ",2@there.test " NEW);
    struct store_change change = { .request = rig_request(rig),
                                   .kind = STORE_DROP,
                                   .filter = { .any_state = true } };
    atomic_store(&stops, true);
    store_change(rig->store, &change);
    sem_wait(&stopped);
    claim_other();
    sem_post(&go_on);
    rig_wait(rig, &change.request);
    assert_int_equal(change.recipients, 2);
    assert_int_equal(change.leased, 1);
    deliver_other();
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_other_lane_delivered_is_not_sent_again),
        cmocka_unit_test(what_the_other_lane_put_off_waits),
        cmocka_unit_test(what_the_other_lane_gave_back_is_due),
        cmocka_unit_test(who_is_due_behind_a_settled_one_is_not_forgotten),
        cmocka_unit_test(what_another_lane_takes_away_is_not_sent),
        cmocka_unit_test(what_came_from_a_later_claim_is_not_sent_again),
        cmocka_unit_test(who_was_not_moved_does_not_wait_for_other_lanes),
        cmocka_unit_test(what_is_moved_from_a_window_is_claimed_once),
        cmocka_unit_test(what_was_held_is_not_claimed_any_more),
        cmocka_unit_test(who_is_claimed_while_it_is_dropped_is_under_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
