/*
 * dest_test.c - the pace of one destination, over a week of virtual time.
 */
#include "relay/egress/dest.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MINUTE ((uint64_t)60 * 1000)
#define HOUR (60 * MINUTE)

static const struct dest_limits limits = {
    .max_connections = 20,
    .backoff = { .first_s = 60, .max_s = 1800 },
};

static const struct outcome delivered = { .result = RESULT_DELIVERED };
static const struct outcome refused = { .result = RESULT_FAILED, .scope = SCOPE_RECIPIENT };
static const struct outcome greylisted = { .result = RESULT_LATER, .scope = SCOPE_RECIPIENT };
static const struct outcome bad_host = { .result = RESULT_LATER, .scope = SCOPE_HOST };
static const struct outcome down = { .result = RESULT_LATER,
                                     .scope = SCOPE_DEST,
                                     .kind = CLASS_NETWORK };
static const struct outcome own_trouble = { .result = RESULT_LATER, .scope = SCOPE_US };

static unsigned acquire_all(struct dest *dest, uint64_t now)
{
    uint64_t retry;
    unsigned count = 0;

    while (count < 1000 && !dest_acquire(dest, now, &retry))
        count++;
    return count;
}

static void a_new_place_is_approached_carefully(void **state)
{
    struct dest dest;
    uint64_t retry = 0;

    (void)state;
    dest_init(&dest, &limits, 0);
    assert_int_equal(dest_room(&dest, 0), 5);
    assert_int_equal(acquire_all(&dest, 0), 5);
    assert_int_equal(dest_acquire(&dest, 0, &retry), ERR_AGAIN);
    assert_true(retry == UINT64_MAX);
    dest_release(&dest, 0);
    assert_int_equal(dest_acquire(&dest, 0, &retry), ERR_OK);
}

static void a_small_limit_is_never_exceeded(void **state)
{
    struct dest_limits one = limits;
    struct dest dest;

    (void)state;
    one.max_connections = 1;
    dest_init(&dest, &one, 0);
    for (int i = 0; i < 100; i++)
        dest_feedback(&dest, &delivered, 0, 1);
    assert_int_equal(acquire_all(&dest, 0), 1);
}

static void success_widens_up_to_the_limit(void **state)
{
    struct dest dest;

    (void)state;
    dest_init(&dest, &limits, 0);
    for (int i = 0; i < 15; i++)
        assert_false(dest_feedback(&dest, &delivered, 0, 1));
    assert_int_equal(dest_room(&dest, 0), 20);
    for (int i = 0; i < 100; i++)
        dest_feedback(&dest, &delivered, 0, 1);
    assert_int_equal(dest_room(&dest, 0), 20);
    assert_int_equal(dest.delivered, 115);
}

static void a_push_back_halves_and_growth_is_slow_after_it(void **state)
{
    struct dest dest;

    (void)state;
    dest_init(&dest, &limits, 0);
    for (int i = 0; i < 30; i++)
        dest_feedback(&dest, &delivered, 0, 1);
    dest_feedback(&dest, &down, 0, 1);
    assert_int_equal(dest.state, DEST_READY);
    assert_int_equal(dest_room(&dest, 0), 10);
    for (int i = 0; i < 10; i++)
        dest_feedback(&dest, &delivered, 0, 1);
    assert_in_range(dest_room(&dest, 0), 10, 11);
    dest_feedback(&dest, &bad_host, 0, 1);
    assert_int_equal(dest_room(&dest, 0), 5);
}

static void what_concerns_one_recipient_says_nothing_against_the_place(void **state)
{
    struct dest dest;

    (void)state;
    dest_init(&dest, &limits, 0);
    for (int i = 0; i < 1000; i++) {
        dest_feedback(&dest, &refused, 0, 1);
        dest_feedback(&dest, &greylisted, 0, 1);
        dest_feedback(&dest, &own_trouble, 0, 1);
    }
    assert_int_equal(dest.state, DEST_READY);
    assert_int_equal(dest_room(&dest, 0), 5);
    assert_int_equal(dest.failed, 1000);
    assert_int_equal(dest.later, 2000);
}

static void a_place_that_never_answered_sleeps_at_once(void **state)
{
    struct dest dest;
    uint64_t retry = 0;

    (void)state;
    dest_init(&dest, &limits, 1000);
    assert_true(dest_feedback(&dest, &down, 1000, 7));
    assert_int_equal(dest.state, DEST_SLEEPING);
    assert_int_equal(dest_acquire(&dest, 1000, &retry), ERR_AGAIN);
    assert_true(retry == dest.wake_at_ms);
    assert_in_range(retry, 1000 + 52 * 1000, 1000 + 68 * 1000);
    /* Attempts that were under way then add nothing. */
    assert_false(dest_feedback(&dest, &down, 2000, 7));
    assert_true(retry == dest.wake_at_ms);
}

static void a_place_that_had_been_fine_sleeps_after_several_failures(void **state)
{
    struct dest dest;

    (void)state;
    dest_init(&dest, &limits, 0);
    dest_feedback(&dest, &delivered, 0, 1);
    assert_false(dest_feedback(&dest, &down, 0, 1));
    assert_false(dest_feedback(&dest, &down, 0, 1));
    dest_feedback(&dest, &delivered, 0, 1);
    assert_false(dest_feedback(&dest, &down, 0, 1));
    assert_false(dest_feedback(&dest, &down, 0, 1));
    assert_true(dest_feedback(&dest, &down, 0, 1));
    assert_int_equal(dest.state, DEST_SLEEPING);
}

static void a_dead_place_costs_one_probe_per_interval_for_a_week(void **state)
{
    struct dest dest;
    unsigned probes = 0;

    (void)state;
    dest_init(&dest, &limits, 0);
    dest_feedback(&dest, &down, 0, 3);
    for (uint64_t now = 0; now < 168 * HOUR; now += MINUTE) {
        unsigned got = acquire_all(&dest, now);
        assert_in_range(got, 0, 1);
        if (got == 0)
            continue;
        probes++;
        assert_int_equal(dest.state, DEST_PROBING);
        assert_true(dest_feedback(&dest, &down, now, now));
        dest_release(&dest, now);
    }
    /* 1, 2, 4, 8, 16 minutes, then every half an hour, spread by an eighth. */
    assert_in_range(probes, 168 * 2 * 7 / 9, 168 * 2 * 9 / 7 + 5);
}

static void a_place_that_is_back_is_open_within_a_few_rounds(void **state)
{
    struct dest dest;
    uint64_t retry = 0, now;

    (void)state;
    dest_init(&dest, &limits, 0);
    dest_feedback(&dest, &down, 0, 3);
    now = dest.wake_at_ms;
    assert_int_equal(dest_room(&dest, now), 1);
    assert_int_equal(dest_acquire(&dest, now, &retry), ERR_OK);
    assert_int_equal(dest_room(&dest, now), 0);
    assert_true(dest_feedback(&dest, &greylisted, now, 3)); /* it answers: that will do */
    assert_int_equal(dest.state, DEST_READY);
    assert_in_range(dest_room(&dest, now), 4, 5);
    for (int i = 0; i < 16; i++)
        dest_feedback(&dest, &delivered, now, 3);
    assert_int_equal(dest_room(&dest, now), 19); /* the probe still holds one */
    assert_int_equal(dest.sleeps, 0);
}

static void a_probe_that_was_given_up_is_followed_by_another(void **state)
{
    struct dest dest;
    uint64_t retry = 0, now;

    (void)state;
    dest_init(&dest, &limits, 0);
    dest_feedback(&dest, &down, 0, 3);
    now = dest.wake_at_ms;
    assert_int_equal(dest_acquire(&dest, now, &retry), ERR_OK);
    assert_int_equal(dest_acquire(&dest, now, &retry), ERR_AGAIN);
    dest_feedback(&dest, &own_trouble, now, 3);
    dest_release(&dest, now);
    assert_int_equal(dest_acquire(&dest, now, &retry), ERR_OK);
}

static void a_hint_of_the_peer_is_kept_to(void **state)
{
    struct outcome busy = down;
    struct dest dest;

    (void)state;
    busy.retry_after_s = 1200;
    dest_init(&dest, &limits, 0);
    dest_feedback(&dest, &busy, 0, 3);
    assert_true(dest.wake_at_ms >= 20 * MINUTE);
}

static void an_operator_wakes_it(void **state)
{
    struct dest dest;

    (void)state;
    dest_init(&dest, &limits, 0);
    dest_feedback(&dest, &down, 0, 3);
    assert_int_equal(dest_room(&dest, 10), 0);
    dest_wake(&dest, 10);
    assert_int_equal(dest_room(&dest, 10), 1);
}

static void a_rate_is_kept_over_time(void **state)
{
    static const struct {
        const char *name;
        double rate;
        unsigned seconds, least, most;
    } rows[] = {
        { "fifty a second", 50, 60, 3000, 3051 },
        { "one in ten seconds", 0.1, 600, 60, 61 },
        { "thirty an hour", 30.0 / 3600, 36000, 300, 301 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct dest_limits paced = limits;
        struct dest dest;
        uint64_t now = 0, retry = 0;
        unsigned sent = 0;
        paced.rate_per_s = rows[i].rate;
        dest_init(&dest, &paced, 0);
        while (now <= (uint64_t)rows[i].seconds * 1000) {
            if (!dest_message(&dest, now, &retry)) {
                sent++;
                continue;
            }
            assert_int_equal(dest_tokens(&dest, now), 0);
            assert_true(retry > now);
            now = retry;
            assert_true(dest_tokens(&dest, now) > 0);
        }
        if (sent < rows[i].least || sent > rows[i].most)
            fail_msg("%s: %u sent", rows[i].name, sent);
    }
}

static void new_limits_hold_at_once(void **state)
{
    struct dest_limits smaller = limits;
    struct dest dest;
    uint64_t retry = 0;

    (void)state;
    dest_init(&dest, &limits, 0);
    assert_int_equal(dest_tokens(&dest, 0), UINT_MAX);
    acquire_all(&dest, 0);
    smaller.max_connections = 2;
    smaller.rate_per_s = 1;
    dest_limits_set(&dest, &smaller);
    assert_int_equal(dest_room(&dest, 0), 0);
    for (int i = 0; i < 4; i++)
        dest_release(&dest, 0);
    assert_int_equal(dest_room(&dest, 0), 1);
    assert_int_equal(dest_message(&dest, 0, &retry), ERR_OK);
    assert_int_equal(dest_message(&dest, 0, &retry), ERR_AGAIN);
    assert_in_range(retry, 1000, 1002);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_place_is_approached_carefully),
        cmocka_unit_test(a_small_limit_is_never_exceeded),
        cmocka_unit_test(success_widens_up_to_the_limit),
        cmocka_unit_test(a_push_back_halves_and_growth_is_slow_after_it),
        cmocka_unit_test(what_concerns_one_recipient_says_nothing_against_the_place),
        cmocka_unit_test(a_place_that_never_answered_sleeps_at_once),
        cmocka_unit_test(a_place_that_had_been_fine_sleeps_after_several_failures),
        cmocka_unit_test(a_dead_place_costs_one_probe_per_interval_for_a_week),
        cmocka_unit_test(a_place_that_is_back_is_open_within_a_few_rounds),
        cmocka_unit_test(a_probe_that_was_given_up_is_followed_by_another),
        cmocka_unit_test(a_hint_of_the_peer_is_kept_to),
        cmocka_unit_test(an_operator_wakes_it),
        cmocka_unit_test(a_rate_is_kept_over_time),
        cmocka_unit_test(new_limits_hold_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
