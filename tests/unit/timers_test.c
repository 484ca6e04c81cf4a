/*
 * timers_test.c - timers fire once, in order, and may do anything to each other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/timers.h"

#include <stdlib.h>

static struct timers timers;
static char fired[64];
static size_t fired_count;

static int setup(void **state)
{
    (void)state;
    timers_init(&timers);
    fired_count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    timers_clear(&timers);
    return 0;
}

static void note(void *arg)
{
    fired[fired_count++] = *(const char *)arg;
    fired[fired_count] = '\0';
}

static char names[] = "abcdef";

static void they_fire_in_order(void **state)
{
    struct timer t[4] = { { 0 } };
    uint64_t due;

    (void)state;
    assert_false(timers_next(&timers, &due));
    timer_start(&timers, &t[0], 30, note, &names[0]);
    timer_start(&timers, &t[1], 10, note, &names[1]);
    timer_start(&timers, &t[2], 20, note, &names[2]);
    timer_start(&timers, &t[3], 10, note, &names[3]);
    assert_true(timers_next(&timers, &due));
    assert_int_equal(due, 10);
    assert_int_equal(timers_run(&timers, 9), 0);
    assert_int_equal(timers_run(&timers, 20), 3);
    assert_string_equal(fired, "bdc");
    assert_false(timer_is_running(&t[1]));
    assert_true(timer_is_running(&t[0]));
    assert_int_equal(timers_run(&timers, 1000), 1);
    assert_string_equal(fired, "bdca");
}

static void starting_again_moves_and_stopping_is_safe(void **state)
{
    struct timer t[2] = { { 0 } };

    (void)state;
    timer_stop(&timers, &t[0]); /* not running */
    timer_start(&timers, &t[0], 10, note, &names[0]);
    timer_start(&timers, &t[1], 15, note, &names[1]);
    timer_start(&timers, &t[0], 20, note, &names[2]);
    assert_int_equal(timers_run(&timers, 20), 2);
    assert_string_equal(fired, "bc");
    timer_start(&timers, &t[0], 30, note, &names[0]);
    timer_stop(&timers, &t[0]);
    timer_stop(&timers, &t[0]);
    assert_int_equal(timers_run(&timers, 100), 0);
}

static struct timer *victim;

static void stop_other(void *arg)
{
    note(arg);
    timer_stop(&timers, victim);
}

static void free_itself(void *arg)
{
    fired_count++;
    free(arg);
}

static void a_timer_may_stop_another_or_free_itself(void **state)
{
    struct timer a = { 0 }, b = { 0 };
    struct timer *own = calloc(1, sizeof(*own));

    (void)state;
    victim = &b;
    timer_start(&timers, &a, 10, stop_other, &names[0]);
    timer_start(&timers, &b, 10, note, &names[1]);
    assert_int_equal(timers_run(&timers, 10), 1);
    assert_string_equal(fired, "a");
    timer_start(&timers, own, 20, free_itself, own);
    assert_int_equal(timers_run(&timers, 20), 1);
}

static void start_again(void *arg)
{
    fired_count++;
    timer_start(&timers, arg, 0, start_again, arg);
}

static void a_run_ends_even_if_timers_restart_at_once(void **state)
{
    struct timer t = { 0 };
    uint64_t due = 0;

    (void)state;
    timer_start(&timers, &t, 10, start_again, &t);
    assert_int_equal(timers_run(&timers, 10), 1);
    assert_true(timers_next(&timers, &due));
    assert_int_equal(due, 11);
    assert_int_equal(timers_run(&timers, 11), 1);
    timer_stop(&timers, &t);
}

static uint64_t last_due;

static void in_order(void *arg)
{
    const struct timer *t = arg;

    assert_true(t->due_ms >= last_due);
    last_due = t->due_ms;
}

static void thousands_stay_in_order(void **state)
{
    enum { COUNT = 3000 };
    struct timer *t = calloc(COUNT, sizeof(*t));
    uint32_t random = 1;
    size_t running = 0;

    (void)state;
    last_due = 0;
    for (int i = 0; i < 4 * COUNT; i++) {
        random = random * 1664525u + 1013904223u;
        struct timer *one = &t[random >> 8 & 0xFFFF ? (random >> 8) % COUNT : 0];
        if (random % 3 == 0)
            timer_stop(&timers, one);
        else
            timer_start(&timers, one, random >> 20, in_order, one);
    }
    for (size_t i = 0; i < COUNT; i++)
        running += timer_is_running(&t[i]);
    assert_int_equal(timers.count, running);
    assert_int_equal(timers_run(&timers, UINT32_MAX), running);
    free(t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(they_fire_in_order),
        TEST(starting_again_moves_and_stopping_is_safe),
        TEST(a_timer_may_stop_another_or_free_itself),
        TEST(a_run_ends_even_if_timers_restart_at_once),
        TEST(thousands_stay_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
