/*
 * clock_test.c - times for machines and people, and noticing a set clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static void times_are_written(void **state)
{
    static const struct {
        const char *name, *zone;
        int64_t us;
        const char *iso, *rfc5322;
    } rows[] = {
        { "the epoch", "UTC0", 0, "1970-01-01T00:00:00.000Z", "Thu, 01 Jan 1970 00:00:00 +0000" },
        { "just before it", "UTC0", -1, "1969-12-31T23:59:59.999Z",
          "Wed, 31 Dec 1969 23:59:59 +0000" },
        { "east of Greenwich", "XST-5:30", 1795267656123456, "2026-11-21T13:27:36.123Z",
          "Sat, 21 Nov 2026 18:57:36 +0530" },
        { "west of Greenwich", "XST3:30", 1795267656123456, "2026-11-21T13:27:36.123Z",
          "Sat, 21 Nov 2026 09:57:36 -0330" },
        { "a leap day", "UTC0", 1709164800000000, "2024-02-29T00:00:00.000Z",
          "Thu, 29 Feb 2024 00:00:00 +0000" },
    };
    char out[40];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        setenv("TZ", rows[i].zone, 1);
        tzset();
        assert_int_equal(clock_iso(rows[i].us, out, sizeof(out)), strlen(rows[i].iso));
        assert_string_equal(out, rows[i].iso);
        assert_int_equal(clock_rfc5322(rows[i].us, out, sizeof(out)), strlen(rows[i].rfc5322));
        assert_string_equal(out, rows[i].rfc5322);
    }
    assert_int_equal(clock_iso(INT64_MAX, out, 8), 7); /* cut, still terminated */
}

static void spans_are_for_people(void **state)
{
    static const struct {
        uint64_t seconds;
        const char *text;
    } rows[] = {
        { 0, "0s" },         { 12, "12s" },       { 60, "1m" },
        { 200, "3m 20s" },   { 185, "3m 05s" },   { 3600, "1h" },
        { 14700, "4h 05m" }, { 14759, "4h 05m" }, { 86400, "1d" },
        { 183600, "2d 3h" }, { 432000, "5d" },    { UINT64_MAX, "213503982334601d 7h" },
    };
    char out[24];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        clock_span(rows[i].seconds, out, sizeof(out));
        assert_string_equal(out, rows[i].text);
    }
}

static void clocks_go_forward(void **state)
{
    uint64_t ns = clock_mono_ns(), ms = clock_mono_ms(), boot = clock_boot_ms();

    (void)state;
    assert_true(clock_mono_ns() >= ns);
    assert_true(clock_mono_ms() >= ms);
    assert_true(clock_boot_ms() >= boot);
    assert_true(clock_wall_us() > 1600000000000000);
}

static void a_set_clock_is_noticed(void **state)
{
    struct clock_watch watch;

    (void)state;
    clock_watch_init(&watch);
    assert_int_equal(clock_watch_jump_s(&watch, 5), 0);
    watch.wall_us -= 3600 * INT64_C(1000000); /* as if it had been set an hour ahead */
    assert_in_range(clock_watch_jump_s(&watch, 5), 3599, 3601);
    assert_int_equal(clock_watch_jump_s(&watch, 5), 0);
    watch.wall_us += 3600 * INT64_C(1000000);
    int64_t back = clock_watch_jump_s(&watch, 5);
    assert_true(back <= -3599 && back >= -3601);
    watch.wall_us -= 3 * INT64_C(1000000);
    assert_int_equal(clock_watch_jump_s(&watch, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_written),
        cmocka_unit_test(spans_are_for_people),
        cmocka_unit_test(clocks_go_forward),
        cmocka_unit_test(a_set_clock_is_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
