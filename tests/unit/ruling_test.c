/*
 * ruling_test.c - what an outcome means for a recipient, hour by hour.
 */
#include "relay/egress/ruling.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define HOUR 3600
#define DAY (24 * HOUR)
#define T0 1800000000 /* arrival, wall s */

static const struct ruling_terms terms = {
    .backoff = { .first_s = 60, .max_s = 4 * HOUR },
    .lifetime_s = 5 * DAY,
    .warn_after_s = 4 * HOUR,
};

enum { NOT_ATTEMPTED, ATTEMPTED };
enum { NO_REPORT = -1 };

static const struct outcome delivered = { .result = RESULT_DELIVERED };
static const struct outcome failed = { .result = RESULT_FAILED, .scope = SCOPE_RECIPIENT };
static const struct outcome later = { .result = RESULT_LATER, .scope = SCOPE_RECIPIENT };
static const struct outcome hint = { .result = RESULT_LATER,
                                     .scope = SCOPE_RECIPIENT,
                                     .retry_after_s = 1800 };
static const struct outcome us = { .result = RESULT_LATER, .scope = SCOPE_US };
static const struct outcome unknown = { .result = RESULT_LATER,
                                        .scope = SCOPE_HOST,
                                        .unknown_delivery = true,
                                        .cause = "it may have arrived" };

static const struct row {
    const char *name;
    const struct outcome *outcome;
    bool attempted;
    int64_t age_s;
    struct recipient recipient; /* as it was before */
    enum recipient_state state;
    bool warned;
    int report;              /* action, or NO_REPORT */
    int64_t least_s, most_s; /* of the delay */
} rows[] = {
    { "delivered is the end",
      &delivered,
      ATTEMPTED,
      10,
      { .attempts = 0 },
      RECIPIENT_DELIVERED,
      false,
      DSN_RELAYED,
      0,
      0 },
    { "failed is the end and is told",
      &failed,
      ATTEMPTED,
      10,
      { .attempts = 0 },
      RECIPIENT_FAILED,
      false,
      DSN_FAILED,
      0,
      0 },
    { "the first retry comes after a minute",
      &later,
      ATTEMPTED,
      10,
      { .attempts = 0 },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      52,
      68 },
    { "delays double",
      &later,
      ATTEMPTED,
      600,
      { .attempts = 4 },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      840,
      1080 },
    { "delays have an upper end",
      &later,
      ATTEMPTED,
      DAY,
      { .attempts = 30, .warned = true },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      12600,
      16200 },
    { "a hint is a lower bound",
      &hint,
      ATTEMPTED,
      10,
      { .attempts = 0 },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      1800,
      1800 },
    { "a hint is kept to even when a warning is near",
      &hint,
      ATTEMPTED,
      4 * HOUR - 60,
      { .attempts = 0 },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      1800,
      1800 },
    { "the try before the warning is not later than the warning",
      &later,
      ATTEMPTED,
      4 * HOUR - 600,
      { .attempts = 9 },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      600,
      600 },
    { "after four hours the sender is warned",
      &later,
      ATTEMPTED,
      4 * HOUR,
      { .attempts = 9 },
      RECIPIENT_QUEUED,
      true,
      DSN_DELAYED,
      12600,
      16200 },
    { "only once",
      &later,
      ATTEMPTED,
      5 * HOUR,
      { .attempts = 9, .warned = true },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      12600,
      16200 },
    { "time on hold does not count",
      &later,
      ATTEMPTED,
      5 * HOUR,
      { .attempts = 1, .held_lifetime_s = 2 * HOUR },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      105,
      135 },
    { "the last try comes when the lifetime ends",
      &later,
      ATTEMPTED,
      5 * DAY - 3600,
      { .attempts = 30, .warned = true },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      3600,
      3600 },
    { "and then it expires",
      &later,
      ATTEMPTED,
      5 * DAY,
      { .attempts = 31, .warned = true },
      RECIPIENT_FAILED,
      false,
      DSN_EXPIRED,
      0,
      0 },
    { "without an attempt nothing expires",
      &later,
      NOT_ATTEMPTED,
      50 * DAY,
      { .warned = true },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      52,
      68 },
    { "own trouble is tried again soon, however often it was",
      &us,
      NOT_ATTEMPTED,
      10,
      { .attempts = 20 },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      10,
      18 },
    { "what may have arrived is not sent again at once",
      &unknown,
      ATTEMPTED,
      10,
      { .attempts = 0 },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      900,
      900 },
    { "nor for ever",
      &unknown,
      ATTEMPTED,
      2 * HOUR,
      { .attempts = 4, .cause = STR("it may have arrived") },
      RECIPIENT_FAILED,
      false,
      DSN_FAILED,
      0,
      0 },
    { "but after other trouble it is",
      &unknown,
      ATTEMPTED,
      2 * HOUR,
      { .attempts = 9, .cause = STR("greylisted") },
      RECIPIENT_QUEUED,
      false,
      NO_REPORT,
      900,
      2 * HOUR },
};

static struct envelope envelope_of(void)
{
    return (struct envelope){ .arrived_us = (int64_t)T0 * 1000000, .sender = STR("a@here.test") };
}

static void attempts_are_ruled(void **state)
{
    struct envelope envelope = envelope_of();

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        int64_t now = T0 + row->age_s, delay;
        for (uint64_t noise = 0; noise < 100; noise++) {
            struct ruling ruling;
            ruling_of_attempt(&terms, &envelope, &row->recipient, row->outcome, row->attempted,
                              true, now, noise, &ruling);
            delay = ruling.state == RECIPIENT_QUEUED ? ruling.due_at - now : 0;
            if (ruling.state != row->state || ruling.warned != row->warned ||
                ruling.attempted != row->attempted ||
                (ruling.has_report ? (int)ruling.action : NO_REPORT) != row->report ||
                delay < row->least_s || delay > row->most_s)
                fail_msg("%s: state %d, report %d, delay %lld", row->name, (int)ruling.state,
                         ruling.has_report ? (int)ruling.action : NO_REPORT, (long long)delay);
        }
    }
}

static void a_hop_that_reports_success_itself_needs_no_report_of_ours(void **state)
{
    struct envelope envelope = envelope_of();
    struct recipient recipient = { 0 };
    struct ruling ruling;

    (void)state;
    ruling_of_attempt(&terms, &envelope, &recipient, &delivered, true, false, T0, 0, &ruling);
    assert_false(ruling.has_report);
}

static const struct {
    const char *name;
    int64_t age_s;
    struct recipient recipient;
    enum recipient_state state;
    int report;
    bool stays_due;
} outages[] = {
    { "young mail stays as it is", HOUR, { .attempts = 0 }, RECIPIENT_QUEUED, NO_REPORT, true },
    { "a warning is not given early",
      4 * HOUR - 1,
      { .attempts = 0 },
      RECIPIENT_QUEUED,
      NO_REPORT,
      true },
    { "it is given without an attempt",
      5 * HOUR,
      { .attempts = 0 },
      RECIPIENT_QUEUED,
      DSN_DELAYED,
      true },
    { "and once", 40 * HOUR, { .warned = true }, RECIPIENT_QUEUED, NO_REPORT, true },
    { "time on hold does not count",
      5 * HOUR,
      { .held_lifetime_s = 2 * HOUR },
      RECIPIENT_QUEUED,
      NO_REPORT,
      true },
    { "expiry is not early", 5 * DAY - 1, { .warned = true }, RECIPIENT_QUEUED, NO_REPORT, true },
    { "it comes without an attempt: the place was asked",
      5 * DAY,
      { .warned = true },
      RECIPIENT_FAILED,
      DSN_EXPIRED,
      false },
};

static void outages_are_ruled(void **state)
{
    struct envelope envelope = envelope_of();

    (void)state;
    for (size_t i = 0; i < sizeof(outages) / sizeof(outages[0]); i++) {
        struct recipient recipient = outages[i].recipient;
        struct ruling ruling;
        recipient.due_at = T0 + 17;
        ruling_of_outage(&terms, &envelope, &recipient, T0 + outages[i].age_s, &ruling);
        if (ruling.state != outages[i].state || ruling.attempted ||
            (ruling.has_report ? (int)ruling.action : NO_REPORT) != outages[i].report ||
            (outages[i].stays_due && ruling.due_at != recipient.due_at))
            fail_msg("%s: state %d, due %lld", outages[i].name, (int)ruling.state,
                     (long long)ruling.due_at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attempts_are_ruled),
        cmocka_unit_test(a_hop_that_reports_success_itself_needs_no_report_of_ours),
        cmocka_unit_test(outages_are_ruled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
