/*
 * store_lanes_test.c - one message to thousands of lanes: what a lane costs must not grow
 * with their number, and what is kept in memory to that end must never be an older truth.
 * Counted, not timed.
 */
#include "store_rig.h"

#include "queue/lmdb_store.h"

#include <errno.h>
#include <time.h>

#define GROUP 50 /* lanes that are out at once */

static atomic_int fail_commits;

int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);

int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    if (fail_commits == 0)
        return __real_mdb_txn_commit(txn);
    fail_commits--;
    mdb_txn_abort(txn);
    return EIO;
}

/* ---- a list mail ------------------------------------------------------------------- */

static const char *lane_name(size_t i)
{
    static char names[GROUP][40];
    char *name = names[i % GROUP];

    snprintf(name, sizeof(names[0]), "direct/d%zu.test", i);
    return name;
}

static struct rig *rig_with(size_t lanes, struct msgid *out_id)
{
    struct rig *rig = rig_new(true);
    struct message *message = rig_message(rig, "list@here.test", "");
    struct envelope *envelope = &message->envelope;

    for (size_t i = 0; i < lanes; i++) {
        char address[40];
        snprintf(address, sizeof(address), "u@d%zu.test", i);
        struct recipient *r = envelope_add_once(envelope, str_of(address));
        r->lane = arena_str(&envelope->arena, str_of(lane_name(i)));
        r->due_at = rig_wall_s;
    }
    *out_id = envelope->id;
    rig_open(rig);
    assert_int_equal(rig_accept(rig, message), ERR_OK);
    message_unref(&message);
    return rig;
}

/* Of each lane from `from` on its recipient, all asked for at once. */
static struct claim *claim_lanes(struct rig *rig, size_t from, size_t count)
{
    struct store_claim asked[GROUP];
    struct claim *all = NULL;

    for (size_t i = 0; i < count; i++) {
        asked[i] = (struct store_claim){
            .request = rig_request(rig), .lane = lane_name(from + i), .max = 4, .now_s = rig_wall_s
        };
        store_claim(rig->store, &asked[i]);
    }
    for (size_t i = count; i-- > 0;) {
        rig_wait(rig, &asked[i].request);
        assert_int_equal(asked[i].request.err, ERR_OK);
        struct claim *claim = asked[i].claims;
        assert_non_null(claim);
        assert_null(claim->next);
        assert_int_equal(claim->count, 1);
        assert_int_equal(claim->indexes[0], from + i);
        claim->next = all;
        all = claim;
    }
    return all;
}

static enum err settle_lanes(struct rig *rig, struct claim *claims, enum recipient_state state,
                             int64_t due_at)
{
    struct settlement settlements[GROUP];
    struct verdict verdicts[GROUP];
    struct store_settle settle = { .request = rig_request(rig), .settlements = settlements };

    for (struct claim *claim = claims; claim; claim = claim->next) {
        struct verdict *verdict = &verdicts[settle.count];
        *verdict = rig_verdict(claim->indexes[0], state, due_at);
        settlements[settle.count++] =
            (struct settlement){ .claim = claim, .verdicts = verdict, .verdict_count = 1 };
    }
    store_settle(rig->store, &settle);
    rig_wait(rig, &settle.request);
    rig_free_claims(claims);
    return settle.request.err;
}

/* A turn of all lanes; each has been attempted so often before. */
static void attempt_all(struct rig *rig, size_t lanes, uint32_t attempts,
                        enum recipient_state state, int64_t due_at)
{
    for (size_t i = 0; i < lanes; i += GROUP) {
        struct claim *claims = claim_lanes(rig, i, GROUP);
        for (struct claim *claim = claims; claim; claim = claim->next)
            assert_int_equal(claim->message->envelope.recipients[claim->indexes[0]].attempts,
                             attempts);
        assert_int_equal(settle_lanes(rig, claims, state, due_at), ERR_OK);
    }
}

static void expect_none(struct rig *rig)
{
    assert_int_equal(rig_health(rig).messages, 0);
    assert_int_equal(rig_health(rig).recipients_queued, 0);
    assert_int_equal(rig_health(rig).recipients_held, 0);
    assert_int_equal(rig_health(rig).queued_bytes, 0);
    assert_int_equal(rig_health(rig).corrupt, 0);
}

/* ---- what a lane costs ------------------------------------------------------------------ */

static size_t slices_since(struct rig *rig, size_t *before)
{
    size_t now = atomic_load(&lmdb_of(rig->store)->slices), read = now - *before;

    *before = now;
    return read;
}

static void wait_until_written_out(struct rig *rig)
{
    struct lmdb *l = lmdb_of(rig->store);

    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&l->lock);
        bool is_out = !l->oldest;
        pthread_mutex_unlock(&l->lock);
        if (is_out)
            return;
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    fail_msg("the windows were not written out");
}

/* The record is read as a whole a few times in a turn; for each lane, or for each group of
 * them, it would be some thousands of slices. */
static void expect_few(size_t lanes, const char *turn, size_t slices)
{
    if (slices > lanes)
        fail_msg("%s: %zu lanes read %zu slices", turn, lanes, slices);
}

static void turns_of(size_t lanes)
{
    struct msgid id;
    size_t seen = 0;
    struct rig *rig = rig_with(lanes, &id);

    attempt_all(rig, lanes, 0, RECIPIENT_QUEUED, NOW + 60);
    expect_few(lanes, "fresh", slices_since(rig, &seen));
    rig_wall_s = NOW + 60;
    attempt_all(rig, lanes, 1, RECIPIENT_QUEUED, NOW + 120);
    expect_few(lanes, "tried again", slices_since(rig, &seen));
    rig_wall_s = NOW + 120;
    attempt_all(rig, lanes, 2, RECIPIENT_DELIVERED, 0);
    expect_few(lanes, "delivered", slices_since(rig, &seen));
    expect_none(rig);
    rig_free(rig);
}

static void a_lane_costs_the_same_among_many(void **state)
{
    (void)state;
    turns_of(2000);
    turns_of(8000);
}

static void lanes_leave_their_windows_together(void **state)
{
    const size_t lanes = 4000;
    struct msgid id;
    struct rig *rig = rig_with(lanes, &id);
    (void)state;
    store_close(&rig->store);
    rig->tuning.spill_ms = 6;
    rig_open(rig);
    struct message *message = rig_get(rig, id), *again = rig_message(rig, "list@here.test", "");
    struct msgid other = again->envelope.id;
    size_t seen;
    envelope_copy(&again->envelope, &message->envelope);
    again->envelope.id = other;
    message_unref(&message);
    wait_until_written_out(rig);
    slices_since(rig, &seen);
    assert_int_equal(rig_accept(rig, again), ERR_OK);
    message_unref(&again);
    wait_until_written_out(rig);
    expect_few(lanes, "written out", slices_since(rig, &seen));
    rig_free(rig);
}

/* Effects on lanes: their array keeps the size of the biggest batch. */
static void a_settlement_touches_its_own_lane(void **state)
{
    struct msgid id;
    struct rig *rig = rig_with(2000, &id);
    (void)state;
    rig_reopen(rig);
    struct claim *claims = claim_lanes(rig, 700, 1);
    size_t before = lmdb_of(rig->store)->batch.effect_cap;
    assert_int_equal(settle_lanes(rig, claims, RECIPIENT_QUEUED, NOW + 60), ERR_OK);
    assert_true(lmdb_of(rig->store)->batch.effect_cap <= (before > 64 ? before : 64));
    rig_free(rig);
}

/* ---- no older truth ------------------------------------------------------------------------ */

/* One lane stays out, so that what was read of the message stays in memory. */
static struct claim *keep_one_out(struct rig *rig, size_t lane)
{
    struct claim *claims = claim_lanes(rig, lane, 1);

    assert_non_null(claims);
    return claims;
}

static void nothing_in(struct rig *rig, size_t lane)
{
    assert_null(rig_claim(rig, lane_name(lane), 4));
}

static void an_operators_change_is_seen_at_once(void **state)
{
    struct store_filter one = { .any_state = true, .lane = STR("direct/d60.test") };
    struct msgid id;
    struct rig *rig = rig_with(100, &id);
    (void)state;
    rig_reopen(rig); /* all in the index */
    struct claim *out = keep_one_out(rig, 0);
    assert_int_equal(rig_change(rig, STORE_HOLD, (struct store_filter){ .id = id }).recipients,
                     100);
    for (size_t i = 1; i < 100; i++)
        nothing_in(rig, i);
    assert_int_equal(rig_change(rig, STORE_RELEASE, (struct store_filter){ .id = id }).recipients,
                     100);
    struct claim *claims = claim_lanes(rig, 10, GROUP);
    assert_int_equal(rig_change(rig, STORE_HOLD, one).recipients, 1);
    nothing_in(rig, 60);
    assert_int_equal(rig_change(rig, STORE_DROP, one).recipients, 1);
    nothing_in(rig, 60);
    assert_int_equal(settle_lanes(rig, claims, RECIPIENT_DELIVERED, 0), ERR_OK);
    assert_int_equal(rig_health(rig).recipients_queued, 49);
    assert_int_equal(rig_change(rig, STORE_DROP, (struct store_filter){ .id = id }).recipients, 49);
    assert_int_equal(settle_lanes(rig, out, RECIPIENT_DELIVERED, 0), ERR_OK);
    expect_none(rig);
    rig_free(rig);
}

static void to_elsewhere(void *arg, const struct envelope *envelope,
                         const struct recipient *recipient, char out_lane[LANE_MAX])
{
    (void)arg;
    (void)envelope;
    snprintf(out_lane, LANE_MAX, "%.*s", (int)recipient->lane.len, recipient->lane.at);
    if (str_eq(recipient->lane, STR("direct/d70.test")))
        snprintf(out_lane, LANE_MAX, "direct/elsewhere.test");
}

static void what_was_moved_is_claimed_where_it_is(void **state)
{
    struct msgid id;
    struct rig *rig = rig_with(100, &id);
    (void)state;
    rig_reopen(rig);
    struct claim *claims = claim_lanes(rig, 0, GROUP);
    struct store_change change = { .request = rig_request(rig),
                                   .kind = STORE_REROUTE,
                                   .filter = { .any_state = true },
                                   .reroute = to_elsewhere };
    store_change(rig->store, &change);
    rig_wait(rig, &change.request);
    assert_int_equal(change.recipients, 1);
    nothing_in(rig, 70);
    struct claim *moved = rig_claim(rig, "direct/elsewhere.test", 4);
    assert_non_null(moved);
    assert_int_equal(moved->indexes[0], 70);
    assert_string_equal(moved->lane, "direct/elsewhere.test");
    rig_settle(rig, moved, RECIPIENT_QUEUED, NOW + 60);
    assert_int_equal(settle_lanes(rig, claims, RECIPIENT_DELIVERED, 0), ERR_OK);
    assert_int_equal(rig_health(rig).recipients_queued, 50);
    rig_wall_s = NOW + 60;
    moved = rig_claim(rig, "direct/elsewhere.test", 4);
    assert_non_null(moved);
    assert_int_equal(moved->message->envelope.recipients[70].attempts, 1);
    rig_free_claims(moved);
    rig_free(rig);
}

/* The store is open: nobody else writes. */
static void damage_record(struct rig *rig, const struct msgid *id)
{
    struct lmdb *l = lmdb_of(rig->store);
    char bad[] = "bad";
    MDB_val key = { MSGID_BYTES, (void *)(uintptr_t)id->bytes }, value = { sizeof(bad), bad };
    MDB_txn *txn;

    assert_int_equal(mdb_txn_begin(l->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_put(txn, l->dbi_msg, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
}

static void a_damaged_one_that_was_dropped_is_not_sent(void **state)
{
    struct msgid id;
    struct rig *rig = rig_with(100, &id);
    (void)state;
    rig_reopen(rig); /* all in the index */
    struct claim *out = keep_one_out(rig, 0);
    damage_record(rig, &id);
    assert_int_equal(rig_change(rig, STORE_DROP, (struct store_filter){ .id = id }).messages, 1);
    nothing_in(rig, 1);
    assert_int_equal(settle_lanes(rig, out, RECIPIENT_DELIVERED, 0), ERR_OK);
    assert_int_equal(rig_health(rig).messages, 0);
    rig_free(rig);
    rig = rig_with(100, &id); /* all in windows */
    damage_record(rig, &id);
    assert_int_equal(rig_change(rig, STORE_DROP, (struct store_filter){ .id = id }).messages, 1);
    nothing_in(rig, 1);
    rig_free(rig);
}

/* What was settled in a batch that failed is not settled. */
static void a_failed_commit_leaves_nothing_behind(void **state)
{
    struct msgid id;
    struct rig *rig = rig_with(100, &id);
    (void)state;
    struct claim *claims = claim_lanes(rig, 0, GROUP);
    fail_commits = 100; /* its second tries too */
    assert_int_not_equal(settle_lanes(rig, claims, RECIPIENT_DELIVERED, 0), ERR_OK);
    fail_commits = 0;
    claims = claim_lanes(rig, 50, GROUP);
    assert_int_equal(settle_lanes(rig, claims, RECIPIENT_QUEUED, NOW + 60), ERR_OK);
    assert_int_equal(rig_health(rig).recipients_queued, 100);
    rig_reopen(rig);
    assert_int_equal(rig_health(rig).recipients_queued, 100);
    claims = claim_lanes(rig, 0, GROUP);
    fail_commits = 1; /* the second try has it */
    assert_int_equal(settle_lanes(rig, claims, RECIPIENT_DELIVERED, 0), ERR_OK);
    assert_int_equal(rig_health(rig).recipients_queued, 50);
    rig_wall_s = NOW + 60;
    claims = claim_lanes(rig, 50, GROUP);
    for (struct claim *claim = claims; claim; claim = claim->next)
        assert_int_equal(claim->message->envelope.recipients[claim->indexes[0]].attempts, 1);
    assert_int_equal(settle_lanes(rig, claims, RECIPIENT_DELIVERED, 0), ERR_OK);
    expect_none(rig);
    rig_free(rig);
}

/* Each out in one of its lanes, so that all that was read may serve another. */
static void what_is_shared_is_bounded(void **state)
{
    enum { MAILS = 160, BODY = 200 * 1024, MOST = 16 << 20 };
    struct rig *rig = rig_new(true);
    char to[20 * 48] = "", *body = mem_alloc(BODY);
    struct claim *all[MAILS];
    size_t kept = 0;
    (void)state;

    rig_many(to, sizeof(to), 10, "@d.test direct/d.test");
    rig_many(to, sizeof(to), 10, "@e.test direct/e.test");
    rig_open(rig);
    for (size_t i = 0; i < MAILS; i++) {
        struct message *message = rig_message(rig, "list@here.test", to);
        body_unref(&message->body);
        message->body = body_of_bytes(str_make(body, BODY));
        assert_int_equal(rig_accept(rig, message), ERR_OK);
        message_unref(&message);
    }
    free(body);
    rig_reopen(rig);
    for (size_t i = 0; i < MAILS; i++) {
        all[i] = rig_claim(rig, "direct/d.test", 1);
        assert_non_null(all[i]);
    }
    for (size_t i = 0; i < MAILS; i++) {
        message_drop_content(all[i]->message); /* nobody needs it any more, but the store */
        kept += all[i]->message->head ? BODY : 0;
        rig_settle(rig, all[i], RECIPIENT_DELIVERED, 0);
    }
    assert_in_range(kept, 1, MOST);
    rig_free(rig);
}

/* What is kept is let go when it rests. */
static void what_rests_is_let_go(void **state)
{
    struct msgid id;
    struct rig *rig = rig_with(100, &id);
    (void)state;
    store_close(&rig->store);
    rig->tuning.spill_ms = 60;
    rig_open(rig);
    struct claim *claims = claim_lanes(rig, 0, GROUP);
    assert_int_equal(settle_lanes(rig, claims, RECIPIENT_QUEUED, NOW + 60), ERR_OK);
    struct lmdb *l = lmdb_of(rig->store);
    bool is_free = false;
    for (int i = 0; i < 20000 && !is_free; i++) {
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        pthread_mutex_lock(&l->lock);
        is_free = !l->sharing && !l->kins;
        pthread_mutex_unlock(&l->lock);
    }
    assert_true(is_free);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lane_costs_the_same_among_many),
        cmocka_unit_test(lanes_leave_their_windows_together),
        cmocka_unit_test(a_settlement_touches_its_own_lane),
        cmocka_unit_test(an_operators_change_is_seen_at_once),
        cmocka_unit_test(what_was_moved_is_claimed_where_it_is),
        cmocka_unit_test(a_damaged_one_that_was_dropped_is_not_sent),
        cmocka_unit_test(a_failed_commit_leaves_nothing_behind),
        cmocka_unit_test(what_is_shared_is_bounded),
        cmocka_unit_test(what_rests_is_let_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
