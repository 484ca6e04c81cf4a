/*
 * store_scale_test.c - what must not grow with the queue: work at a start, writes for
 * mail that waits for a dead place, and the care with which one lane is shared.
 * Counted, not timed.
 */
#include "store_rig.h"

#include "queue/lmdb_store.h"

#include <time.h>

#define LANE "smart/*"
#define HOUR 3600

static const struct store_filter all = { .any_state = true };

static struct rig *rig_of(bool is_lmdb, size_t window_bytes)
{
    struct rig *rig = rig_new(is_lmdb);

    rig->options.window_bytes = window_bytes;
    rig_open(rig);
    return rig;
}

/* Over both stores; on disk with a window and without one. */
static void each_store(void (*behaviour)(struct rig *))
{
    behaviour(rig_of(false, 0));
    behaviour(rig_of(true, 0));
    behaviour(rig_of(true, 1));
}

static uint64_t commits(struct rig *rig) { return rig_health(rig).commits; }

static void pause_ms(long ms) { nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL); }

/* ---- the start ------------------------------------------------------------------- */

/* Deliver what is due in the lane until nothing more comes for a while. */
static size_t deliver_all(struct rig *rig, const char *lane, size_t expected)
{
    size_t done = 0;

    for (int idle = 0; idle < 60000 && (done < expected || idle < 20);) {
        struct claim *claims = rig_claim(rig, lane, 50), *next;
        idle = claims ? 0 : idle + 1;
        if (!claims)
            pause_ms(1);
        for (; claims; claims = next) {
            next = claims->next;
            claims->next = NULL;
            done += claims->count;
            rig_settle(rig, claims, RECIPIENT_DELIVERED, 0);
        }
    }
    return done;
}

static void what_was_in_memory_is_indexed_in_pages(void **state)
{
    struct rig *rig = rig_of(true, 0);
    (void)state;
    for (int i = 0; i < 900; i++)
        rig_put(rig, "a@here.test", "1@x.test direct/x.test,2@y.test direct/y.test");
    rig->tuning.at_open = 10;
    rig_reopen(rig);
    assert_int_equal(rig_health(rig).messages, 900);
    rig_put(rig, "a@here.test", "1@x.test direct/x.test"); /* meanwhile */
    rig_reopen(rig);                                       /* it may not have been done */
    assert_int_equal(deliver_all(rig, "direct/x.test", 901), 901);
    rig_reopen(rig);
    assert_int_equal(deliver_all(rig, "direct/y.test", 900), 900);
    assert_int_equal(rig_health(rig).messages, 0);
    assert_int_equal(rig_health(rig).corrupt, 0);
    rig_free(rig);
}

/* The clock was set back before the start: while the mail of before is still being
 * indexed new ids lie among the old ones. The next start must not step over them. */
static void what_comes_under_a_clock_set_back_is_indexed_too(void **state)
{
    struct rig *rig = rig_of(true, 0);
    (void)state;
    for (int i = 0; i < 2000; i++) {
        rig_wall_s = NOW + i / 100;
        rig_put(rig, "a@here.test", "1@x.test direct/x.test");
    }
    rig->tuning.at_open = 10;
    rig->tuning.spill_ms = 3600000;
    rig_reopen(rig);
    msgid_maker_init(&rig->maker); /* a new process knows nothing of later ids */
    rig_wall_s = NOW + 15;         /* it goes on from the first thousand */
    rig_put(rig, "a@here.test", "1@y.test direct/y.test");
    rig_wall_s = NOW + 20;
    assert_int_equal(deliver_all(rig, "direct/x.test", 2000), 2000); /* it is through */
    rig_reopen(rig);
    assert_int_equal(deliver_all(rig, "direct/y.test", 1), 1);
    rig_free(rig);
}

struct counter {
    size_t asked;
    const char *lane;
};

static void count_lane(void *arg, const struct envelope *envelope,
                       const struct recipient *recipient, char out_lane[LANE_MAX])
{
    struct counter *counter = arg;

    (void)envelope;
    (void)recipient;
    counter->asked++;
    snprintf(out_lane, LANE_MAX, "%s", counter->lane);
}

static size_t reroute_all(struct rig *rig, uint64_t routes, bool in_doubt, const char *lane)
{
    struct counter counter = { .lane = lane };
    struct store_change change = { .request = rig_request(rig),
                                   .kind = STORE_REROUTE,
                                   .filter = all,
                                   .reroute = count_lane,
                                   .arg = &counter,
                                   .routes = routes,
                                   .routes_in_doubt = in_doubt };

    store_change(rig->store, &change);
    rig_wait(rig, &change.request);
    assert_int_equal(change.request.err, ERR_OK);
    return counter.asked;
}

static size_t reroute(struct rig *rig, uint64_t routes, const char *lane)
{
    return reroute_all(rig, routes, false, lane);
}

static void routes_are_looked_at_once(struct rig *rig)
{
    for (int i = 0; i < 30; i++)
        rig_put(rig, "a@here.test", "1@x.test direct/x.test");
    assert_int_equal(reroute(rig, 7, "direct/x.test"), 30);
    assert_int_equal(reroute(rig, 7, "direct/x.test"), 0);
    assert_int_equal(reroute(rig, 0, "direct/x.test"), 30); /* an operator asked */
    assert_int_equal(reroute_all(rig, 7, true, "direct/x.test"), 30);
    assert_int_equal(reroute(rig, 7, "direct/x.test"), 0);
    if (rig->is_lmdb) {
        rig_reopen(rig);
        assert_int_equal(reroute(rig, 7, "direct/x.test"), 0);
    }
    assert_int_equal(reroute(rig, 8, LANE), 30);
    assert_int_equal(reroute(rig, 7, "direct/x.test"), 30); /* and back */
    if (rig->is_lmdb)
        rig_reopen(rig);
    assert_int_equal(reroute(rig, 7, "direct/x.test"), 0);
    assert_int_equal(deliver_all(rig, "direct/x.test", 30), 30);
    rig_free(rig);
}

static void the_same_routes_are_not_looked_at_again(void **state)
{
    (void)state;
    each_store(routes_are_looked_at_once);
}

static void a_change_leaves_alone_what_it_does_not_touch(void **state)
{
    struct rig *rig = rig_of(true, 0);
    (void)state;
    for (int i = 0; i < 30; i++)
        rig_put(rig, "a@here.test", "1@x.test direct/x.test");
    uint64_t before = commits(rig);
    assert_int_equal(reroute(rig, 0, "direct/x.test"), 30);
    assert_int_equal(rig_change(rig, STORE_RETRY, all).messages, 0);
    assert_int_equal(rig_change(rig, STORE_RELEASE, all).messages, 0);
    assert_int_equal(commits(rig), before);
    rig_free(rig);
}

/* ---- a dead place ----------------------------------------------------------------- */

static struct store_claim look(struct rig *rig, size_t max, int64_t expired, int64_t late,
                               struct claim_place place)
{
    struct store_claim claim = {
        .request = rig_request(rig),
        .lane = LANE,
        .max = max,
        .now_s = rig_wall_s,
        .look = { .is_on = true, .expired_before = expired, .late_before = late, .place = place },
    };

    store_claim(rig->store, &claim);
    rig_wait(rig, &claim.request);
    assert_int_equal(claim.request.err, ERR_OK);
    return claim;
}

/* Goes through the lane; returns how many messages were found, each given back. */
static size_t look_through(struct rig *rig, int64_t expired, int64_t late)
{
    struct claim_place place = { 0 };
    size_t found = 0;

    for (bool more = true; more;) {
        struct store_claim claim = look(rig, 2, expired, late, place);
        found += rig_count(claim.claims);
        if (claim.claims)
            store_unclaim(rig->store, &claim.claims);
        more = claim.more;
        place = claim.look.place;
    }
    return found;
}

static void settle_warned(struct rig *rig, struct claim *claim)
{
    struct verdict verdict = { .index = claim->indexes[0],
                               .state = RECIPIENT_QUEUED,
                               .warned = true,
                               .due_at = claim->due_at };
    struct settlement settlement = { .claim = claim, .verdicts = &verdict, .verdict_count = 1 };
    struct store_settle settle = { .request = rig_request(rig),
                                   .settlements = &settlement,
                                   .count = 1 };

    store_settle(rig->store, &settle);
    rig_wait(rig, &settle.request);
    assert_int_equal(settle.request.err, ERR_OK);
    claim_free(&claim);
}

static void old_mail_is_found(struct rig *rig)
{
    for (int i = 0; i < 5; i++)
        rig_put(rig, i % 2 ? "a@here.test" : "n1@news.test", "old@there.test " LANE);
    rig_wall_s = NOW + HOUR;
    for (int i = 0; i < 40; i++)
        rig_put(rig, i % 2 ? "a@here.test" : "n1@news.test", "young@there.test " LANE);
    rig_settle(rig, rig_claim(rig, LANE, 1), RECIPIENT_QUEUED, NOW + 9 * HOUR); /* not due */
    rig_wall_s = NOW + 2 * HOUR;
    uint64_t before = commits(rig);
    assert_int_equal(look_through(rig, NOW, 0), 0);
    assert_int_equal(look_through(rig, NOW + 1, 0), 4);
    assert_int_equal(look_through(rig, 0, NOW + 1), 4);
    assert_int_equal(look_through(rig, NOW + 2 * HOUR, 0), 44);
    assert_int_equal(commits(rig), before); /* nothing was written for it */

    struct store_claim one = look(rig, 1, 0, NOW + 1, (struct claim_place){ 0 });
    assert_non_null(one.claims);
    assert_int_equal(look_through(rig, 0, NOW + 1), 4 - rig_count(one.claims));
    size_t warned = 0;
    for (struct claim *next; one.claims; one.claims = next, warned++) {
        next = one.claims->next;
        one.claims->next = NULL;
        settle_warned(rig, one.claims);
    }
    assert_int_equal(look_through(rig, 0, NOW + 1), 4 - warned);
    assert_int_equal(look_through(rig, NOW + 1, NOW + 1), 4);
    assert_int_equal(deliver_all(rig, LANE, 44), 44); /* all are due as before */
    rig_free(rig);
}

static void a_look_finds_what_is_old_and_writes_nothing(void **state)
{
    (void)state;
    each_store(old_mail_is_found);
}

/* ---- one lane, many loops ------------------------------------------------------------ */

#define SHARED 600

static _Atomic int in_hands[SHARED];
static _Atomic size_t doubled, delivered;

struct hand {
    struct rig rig; /* the same store, a mailbox of its own */
    pthread_t thread;
    unsigned number;
};

/* The message's number is its recipient's local part. */
static size_t number_of(const struct claim *claim)
{
    return (size_t)atoi(claim->message->envelope.recipients[claim->indexes[0]].address.at);
}

static void take(struct claim *claim)
{
    if (atomic_exchange(&in_hands[number_of(claim)], 1) != 0)
        atomic_fetch_add(&doubled, 1);
}

/* As the schedulers of several loops do with a smarthost's lane. */
static void *share(void *arg)
{
    struct hand *hand = arg;
    struct rig *rig = &hand->rig;
    unsigned turn = hand->number;

    while (atomic_load(&delivered) < SHARED) {
        struct claim *claims = rig_claim(rig, LANE, 1 + turn % 7), *next;
        for (struct claim *claim = claims; claim; claim = claim->next)
            take(claim);
        for (; claims; claims = next, turn++) {
            next = claims->next;
            claims->next = NULL;
            if (turn % 5 == 0) {
                atomic_store(&in_hands[number_of(claims)], 0);
                store_unclaim(rig->store, &claims);
            } else if (turn % 5 == 1) {
                atomic_store(&in_hands[number_of(claims)], 0);
                rig_settle(rig, claims, RECIPIENT_QUEUED, NOW);
            } else { /* stays marked: it must never come again */
                rig_settle(rig, claims, RECIPIENT_DELIVERED, 0);
                atomic_fetch_add(&delivered, 1);
            }
        }
        turn++;
    }
    return NULL;
}

static void a_lane_is_shared(struct rig *rig)
{
    struct hand hands[3] = { 0 };
    char to[64];

    doubled = delivered = 0;
    for (int i = 0; i < SHARED; i++) {
        in_hands[i] = 0;
        snprintf(to, sizeof(to), "%d@there.test " LANE, i);
        rig_put(rig, i % 3 ? "a@here.test" : "n1@news.test", to);
    }
    for (unsigned i = 0; i < 3; i++) {
        hands[i].number = i;
        hands[i].rig.store = rig->store;
        mailbox_init(&hands[i].rig.mail, NULL, NULL);
        pthread_create(&hands[i].thread, NULL, share, &hands[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(hands[i].thread, NULL);
        mailbox_clear(&hands[i].rig.mail);
    }
    assert_int_equal(doubled, 0);
    assert_int_equal(rig_health(rig).messages, 0);
    rig_free(rig);
}

static void claims_of_many_loops_give_nobody_twice(void **state)
{
    (void)state;
    each_store(a_lane_is_shared);
}

/* ---- lists ------------------------------------------------------------------------- */

/* Five hundred at once: one by one they are as many syncs. */
static void put_500(struct rig *rig, const char *sender, const char *(*to)(size_t i))
{
    struct store_accept accepts[500];

    for (size_t i = 0; i < 500; i++) {
        accepts[i] = (struct store_accept){ .request = rig_request(rig),
                                            .message = rig_message(rig, sender, to(i)) };
        store_accept(rig->store, &accepts[i]);
    }
    for (size_t i = 0; i < 500; i++) {
        rig_wait(rig, &accepts[i].request);
        assert_int_equal(accepts[i].request.err, ERR_OK);
        message_unref(&accepts[i].message);
    }
}

#define A "x@a.test direct/a.test"
#define B "x@b.test direct/b.test"

static void expect_listed(struct rig *rig, const char *name, struct store_filter filter,
                          size_t count)
{
    struct store_list list = rig_list(rig, filter, 100, (struct msgid){ { 0 } });

    if (list.count != count || list.more)
        fail_msg("%s: %zu instead of %zu", name, list.count, count);
    for (size_t i = 1; i < list.count; i++)
        assert_true(msgid_cmp(&list.envelopes[i - 1].id, &list.envelopes[i].id) < 0);
    store_list_clear(&list);
}

/* Fresh, put off, leased, delivered there but not elsewhere; then one on hold. */
static void a_lane_is_listed_whole(struct rig *rig)
{
    const struct store_filter here = { .any_state = true, .lane = STR("direct/a.test") },
                              place = { .any_state = true, .lane = STR("A.test") },
                              queued = { .lane = STR("direct/a.test") };

    rig_put(rig, "a@here.test", A);
    rig_settle(rig, rig_claim(rig, "direct/a.test", 1), RECIPIENT_QUEUED, NOW + HOUR);
    rig_put(rig, "a@here.test", A "," B);
    rig_deliver(rig, "direct/a.test");
    rig_put(rig, "a@here.test", A);
    struct claim *leased = rig_claim(rig, "direct/a.test", 1);
    rig_put(rig, "a@here.test", A);
    rig_put(rig, "a@here.test", "x@a.test.b.test direct/a.test.b.test");
    rig_put(rig, "a@here.test", "x@a.test smart/*");
    expect_listed(rig, "a lane", here, 3);
    expect_listed(rig, "its place", place, 3);
    expect_listed(rig, "queued in it", queued, 3);
    expect_listed(rig, "delivered there, and still bound for elsewhere",
                  (struct store_filter){ .state = RECIPIENT_DELIVERED, .lane = here.lane }, 1);
    expect_listed(rig, "put off", (struct store_filter){ .lane = here.lane, .deferred_only = true },
                  1);
    expect_listed(rig, "a lane without mail",
                  (struct store_filter){ .any_state = true, .lane = STR("direct/c.test") }, 0);
    expect_listed(rig, "queued for a domain, by whichever lane",
                  (struct store_filter){ .recipient = STR("a.test") }, 4);
    expect_listed(rig, "queued for a domain and all below",
                  (struct store_filter){ .recipient = STR(".test") }, 6);
    expect_listed(rig, "queued for an address",
                  (struct store_filter){ .recipient = STR("X@a.test") }, 4);
    expect_listed(rig, "queued for an address elsewhere",
                  (struct store_filter){ .recipient = STR("y@a.test") }, 0);
    expect_listed(rig, "for an address, delivered or not",
                  (struct store_filter){ .any_state = true, .recipient = STR("x@a.test") }, 5);
    rig_settle(rig, rig_claim(rig, "smart/*", 1), RECIPIENT_DELIVERED, 0);
    rig_change(rig, STORE_HOLD, (struct store_filter){ .deferred_only = true });
    expect_listed(rig, "with one on hold", here, 3);
    expect_listed(rig, "queued, without that", queued, 2);
    expect_listed(rig, "held", (struct store_filter){ .state = RECIPIENT_HELD, .lane = here.lane },
                  1);
    store_unclaim(rig->store, &leased);
    rig_free(rig);
}

static void a_lane_is_listed_whole_by_each_store(void **state)
{
    (void)state;
    each_store(a_lane_is_listed_whole);
}

/* How many records a list reads: SIZE_MAX: all. */
static size_t records_of(struct rig *rig, struct store_filter filter)
{
    struct store_list list = { .filter = filter };
    struct msgid *ids = NULL;
    size_t count = 0;

    if (!narrow_ids(lmdb_of(rig->store), &list, &ids, &count))
        return SIZE_MAX;
    free(ids);
    return count;
}

static const char *to_many_domains(size_t i)
{
    static char to[64];

    (void)snprintf(to, sizeof(to), "x@d%zu.test direct/d%zu.test", i, i);
    return i % 100 ? to : A;
}

static void a_list_reads_what_its_lane_has(struct rig *rig)
{
    const struct store_filter here = { .any_state = true, .lane = STR("direct/a.test") };

    put_500(rig, "a@here.test", to_many_domains);
    for (int i = 0; i < 12000 && records_of(rig, here) == SIZE_MAX; i++)
        pause_ms(5); /* counted first */
    assert_int_equal(records_of(rig, here), 5);
    assert_int_equal(records_of(rig, (struct store_filter){ .lane = here.lane }), 5);
    assert_int_equal(records_of(rig, (struct store_filter){ .recipient = STR("x@a.test") }), 5);
    const struct {
        const char *name;
        struct store_filter filter;
    } rows[] = {
        { "everything", all },
        { "too many lanes", { .any_state = true, .lane = STR("direct") } },
        { "a recipient that may have been delivered",
          { .any_state = true, .recipient = STR("x@a.test") } },
        { "finished ones", { .state = RECIPIENT_FAILED, .lane = here.lane } },
        { "any domain", { .recipient = STR("x@") } },
        { "a sender", { .any_state = true, .sender = STR("a@here.test") } },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (records_of(rig, rows[i].filter) != SIZE_MAX)
            fail_msg("%s: not all records are read", rows[i].name);
    rig_change(rig, STORE_HOLD, (struct store_filter){ .recipient = STR("x@d7.test") });
    assert_int_equal(records_of(rig, here), 5);
    rig_change(rig, STORE_HOLD, (struct store_filter){ .recipient = STR("x@a.test") });
    assert_int_equal(records_of(rig, here), SIZE_MAX);
    rig_free(rig);
}

static void a_list_reads_what_its_lane_has_on_disk(void **state)
{
    (void)state;
    a_list_reads_what_its_lane_has(rig_of(true, 0));
    a_list_reads_what_its_lane_has(rig_of(true, 1));
}

static const char *to_one_lane(size_t i)
{
    (void)i;
    return "x@y.test " LANE;
}

/* In turns at the disk workers: what waits meanwhile is not at the end of it. */
static void a_long_list_gives_way(void **state)
{
    struct rig *rig = rig_of(true, 1);
    const size_t count = RIG_SANITIZED ? 4500 : 9000;
    (void)state;
    for (size_t i = 500; i < count; i += 500)
        put_500(rig, "a@here.test", to_one_lane);
    put_500(rig, "z@here.test", to_one_lane);
    struct store_list lists[6];
    for (size_t i = 0; i < 6; i++) {
        lists[i] =
            (struct store_list){ .request = rig_request(rig),
                                 .filter = { .any_state = true, .sender = STR("z@here.test") },
                                 .max = 400 };
        store_list(rig->store, &lists[i]);
    }
    rig_free_claims(rig_claim(rig, LANE, 1));
    for (size_t i = 0; i < 6; i++) {
        rig_wait(rig, &lists[i].request);
        assert_int_equal(lists[i].request.err, ERR_OK);
        assert_int_equal(lists[i].count, 400);
        assert_true(lists[i].more);
        store_list_clear(&lists[i]);
    }
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_in_memory_is_indexed_in_pages),
        cmocka_unit_test(what_comes_under_a_clock_set_back_is_indexed_too),
        cmocka_unit_test(the_same_routes_are_not_looked_at_again),
        cmocka_unit_test(a_change_leaves_alone_what_it_does_not_touch),
        cmocka_unit_test(a_look_finds_what_is_old_and_writes_nothing),
        cmocka_unit_test(claims_of_many_loops_give_nobody_twice),
        cmocka_unit_test(a_lane_is_listed_whole_by_each_store),
        cmocka_unit_test(a_list_reads_what_its_lane_has_on_disk),
        cmocka_unit_test(a_long_list_gives_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
