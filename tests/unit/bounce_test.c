/*
 * bounce_test.c - the report that a settlement owes, made by a real intake.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/egress/bounce.h"
#include "virtual_loop.h"

#include <stdio.h>
#include <stdlib.h>

#define MOST 8

static struct store *store;
static struct pool *pool;
static struct hops *hops;
static struct intake *intake;
static struct message *original;
static struct verdict verdicts[MOST];
static struct bounce_recipient told[MOST];
static struct bounced all;
static struct message *made; /* the first of them */
static const struct msgid *wanted_id;
static unsigned answers, warnings;
static size_t recipients_max, bytes_max;

static void on_hop(void *arg, const struct hop *hop, struct str encoded)
{
    (void)arg;
    (void)encoded;
    warnings += hop->stage == STAGE_DSN && hop->weight == HOP_WARNING;
}

static void add(const char *address, uint8_t notify)
{
    struct recipient *recipient = envelope_add(&original->envelope, str_of(address));
    uint32_t index = (uint32_t)original->envelope.recipient_count - 1;

    recipient->notify = notify;
    verdicts[index] = (struct verdict){
        .index = index,
        .state = RECIPIENT_FAILED,
        .attempted = true,
        .stage = STAGE_RCPT,
        .kind = CLASS_HARD,
        .status = STR("5.1.1"),
        .host = STR("mx.there.test"),
        .said = STR("550 5.1.1 No such user"),
        .cause = STR("There is no such mailbox."),
        .fix = STR("Check the address."),
    };
    told[index] = (struct bounce_recipient){ .index = index,
                                             .action = DSN_FAILED,
                                             .verdict = &verdicts[index] };
}

static void make_intake(size_t header_max)
{
    struct intake_options options = {
        .store = store, .hostname = STR("relay.test"), .header_max = header_max, .hops_max = 50
    };

    intake = intake_new(&virtual_loop, &options);
}

static int setup(void **state)
{
    struct store_options store_options = { .wall_us = virtual_wall_us };
    struct loop_options options = { .count = 1 };

    (void)state;
    pool = pool_new(1, true);
    hops = hops_new(1 << 20);
    hops_tap(hops, on_hop, NULL, NULL);
    options.pool = pool;
    options.ring = hops_ring(hops);
    virtual_begin(&options);
    assert_int_equal(store_open_mem(&store_options, &store, NULL), ERR_OK);
    make_intake(1 << 20);
    original = message_new();
    original->envelope.id = loop_msgid(&virtual_loop);
    original->envelope.arrived_us = virtual_wall_us();
    original->envelope.sender = STR("a@here.test");
    original->head = str_dup(STR("Subject: the original\r\n\r\n"));
    original->head_len = strlen(original->head);
    original->body = body_of_bytes(STR("the body of it\r\n"));
    answers = warnings = 0;
    recipients_max = BOUNCE_RECIPIENTS;
    bytes_max = BOUNCE_BYTES;
    wanted_id = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    message_unref(&original);
    bounced_clear(&all);
    made = NULL;
    intake_free(&intake);
    store_close(&store);
    virtual_turn();
    hops_free(&hops);
    pool_free(&pool);
    virtual_end();
    return 0;
}

static void answered(void *arg, struct bounced *take)
{
    (void)arg;
    answers++;
    all = *take;
    if (all.count > 0)
        made = all.reports[0];
}

static void make(size_t count)
{
    char hostname[] = "relay.test";
    struct bounce_options options = { .loop = &virtual_loop,
                                      .intake = intake,
                                      .hostname = str_of(hostname),
                                      .recipients_max = recipients_max,
                                      .bytes_max = bytes_max,
                                      .first_id = wanted_id };

    bounce_make(&options, original, told, count, answered, NULL);
    hostname[0] = 'X'; /* nobody may look at it any more */
    assert_int_equal(answers, 0);
    virtual_turn();
    assert_int_equal(answers, 1);
    assert_int_equal(all.done, count);
}

static bool has(const struct message *report, const char *text)
{
    struct str body;

    assert_true(body_is_inline(report->body, &body));
    return str_find(body, str_of(text)) < body.len;
}

static bool body_has(const char *text) { return has(made, text); }

static bool head_has(const struct message *report, const char *text)
{
    struct str head = str_make(report->head, report->head_len);

    return str_find(head, str_of(text)) < head.len;
}

static void a_failure_is_told_to_the_sender(void **state)
{
    const struct envelope *envelope;

    (void)state;
    add("b@there.test", 0);
    make(1);
    assert_non_null(made);
    envelope = &made->envelope;
    assert_int_equal(envelope->sender.len, 0);
    assert_int_equal(envelope->recipient_count, 1);
    assert_true(str_eq(envelope->recipients[0].address, STR("a@here.test")));
    assert_true(str_eq(envelope->recipients[0].lane, STR("direct/here.test")));
    assert_true(envelope->flags & ENVELOPE_DSN);
    assert_true(msgid_cmp(&envelope->id, &original->envelope.id) != 0);
    assert_true(body_has("Diagnostic-Code: smtp; 550 5.1.1 No such user"));
    assert_true(body_has("Subject: the original"));
    assert_true(body_has("the body of it"));
    assert_int_equal(warnings, 0);
}

static void it_has_the_id_that_it_is_given(void **state)
{
    struct msgid id = loop_msgid(&virtual_loop);

    (void)state;
    wanted_id = &id;
    add("b@there.test", 0);
    make(1);
    assert_int_equal(msgid_cmp(&made->envelope.id, &id), 0);
}

static void one_report_names_those_who_want_it(void **state)
{
    (void)state;
    add("b@there.test", 0);
    add("c@there.test", NOTIFY_NEVER);
    add("d@there.test", NOTIFY_FAILURE);
    make(3);
    assert_non_null(made);
    assert_true(body_has("b@there.test"));
    assert_false(body_has("c@there.test"));
    assert_true(body_has("d@there.test"));
}

/* ---- more than one report holds ---- */

static void add_numbered(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char address[32];
        snprintf(address, sizeof(address), "n%zu@there.test", i);
        add(address, 0);
        original->envelope.recipients[i].address =
            arena_str(&original->envelope.arena, str_of(address));
    }
}

/* In both parts that name recipients, or in neither. */
static void told_times(size_t i, size_t expected)
{
    char listed[64], final[128];
    size_t times = 0;

    snprintf(listed, sizeof(listed), "Recipient:      n%zu@there.test\r\n", i);
    snprintf(final, sizeof(final),
             "Final-Recipient: rfc822; n%zu@there.test\r\nAction: failed\r\nStatus: 5.1.1\r\n", i);
    for (size_t j = 0; j < all.count; j++) {
        times += has(all.reports[j], final);
        assert_int_equal(has(all.reports[j], final), has(all.reports[j], listed));
    }
    if (times != expected)
        fail_msg("n%zu@there.test stands in %zu reports", i, times);
}

static void each_is_told_of_once(size_t count)
{
    for (size_t i = 0; i < count; i++)
        told_times(i, 1);
}

static void more_recipients_than_one_report_holds(void **state)
{
    static const char *const subjects[] = {
        "Subject: Not delivered to 2 recipients (1 to 2 of 5)\r\n",
        "Subject: Not delivered to 2 recipients (3 to 4 of 5)\r\n",
        "Subject: Not delivered to n5@there.test (5 to 5 of 5)\r\n",
    };

    (void)state;
    recipients_max = 2;
    original->envelope.envid = STR("order17");
    add_numbered(6);
    original->envelope.recipients[1].notify = NOTIFY_NEVER;
    make(6);
    assert_int_equal(all.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(all.counts[i], i < 2 ? 2 : 1);
        assert_true(head_has(all.reports[i], subjects[i]));
        assert_true(has(all.reports[i], "\r\nOriginal-Envelope-Id: order17\r\n"));
        assert_true(has(all.reports[i], "the body of it"));
        assert_true(
            msgid_cmp(&all.reports[i]->envelope.id, &all.reports[(i + 1) % 3]->envelope.id) != 0);
        assert_false(has(all.reports[i], "n1@there.test"));
    }
    for (size_t i = 0; i < 6; i++)
        told_times(i, i == 1 ? 0 : 1);
}

static void give_all_long_replies(size_t count)
{
    char said[1500];

    memset(said, 'y', sizeof(said));
    memcpy(said, "550 5.1.1 ", 10);
    for (size_t i = 0; i < count; i++)
        verdicts[i].said = arena_str(&original->envelope.arena, str_make(said, sizeof(said)));
}

static void more_words_than_one_report_holds(void **state)
{
    (void)state;
    add_numbered(MOST);
    give_all_long_replies(MOST);
    bytes_max = 12000; /* all eight have more than twice of it */
    make(MOST);
    assert_in_range(all.count, 3, 4);
    each_is_told_of_once(MOST);
    for (size_t i = 0; i < all.count; i++)
        assert_true(has(all.reports[i], "Diagnostic-Code: smtp; 550 5.1.1"));
    assert_int_equal(warnings, 0);
}

static void who_has_too_much_to_tell_is_named_without_it(void **state)
{
    (void)state;
    add_numbered(3);
    give_all_long_replies(3);
    bytes_max = 3000;
    make(3);
    assert_int_equal(all.count, 3);
    each_is_told_of_once(3);
    assert_false(body_has("Diagnostic-Code"));
    assert_false(body_has("Subject: the original"));
    assert_int_equal(warnings, 0);
}

static void a_report_without_any_room_is_told(void **state)
{
    (void)state;
    add_numbered(3);
    bytes_max = 100;
    make(3);
    assert_int_equal(all.count, 0);
    hops_drain(hops);
    assert_int_equal(warnings, 3);
}

static void none_is_made_when_none_is_owed(void **state)
{
    (void)state;
    original->envelope.sender = STR_EMPTY;
    add("b@there.test", 0);
    make(1);
    assert_null(made);
    assert_int_equal(warnings, 0);
}

static void a_large_original_goes_back_by_its_head(void **state)
{
    char *bytes = mem_alloc(70000);

    (void)state;
    memset(bytes, 'x', 70000);
    for (size_t i = 78; i < 70000; i += 80)
        memcpy(bytes + i, "\r\n", 2);
    body_unref(&original->body);
    original->body = body_of_buffer(bytes, 70000);
    add("b@there.test", 0);
    make(1);
    assert_non_null(made);
    assert_true(body_size(made->body) < 10000);
    assert_true(body_has("Subject: the original"));
}

static void a_report_that_cannot_be_made_is_told(void **state)
{
    (void)state;
    intake_free(&intake);
    make_intake(10); /* any header is too large */
    add("b@there.test", 0);
    make(1);
    assert_null(made);
    hops_drain(hops);
    assert_int_equal(warnings, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_failure_is_told_to_the_sender),
        TEST(one_report_names_those_who_want_it),
        TEST(it_has_the_id_that_it_is_given),
        TEST(none_is_made_when_none_is_owed),
        TEST(a_large_original_goes_back_by_its_head),
        TEST(a_report_that_cannot_be_made_is_told),
        TEST(more_recipients_than_one_report_holds),
        TEST(more_words_than_one_report_holds),
        TEST(who_has_too_much_to_tell_is_named_without_it),
        TEST(a_report_without_any_room_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
