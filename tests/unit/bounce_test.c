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

#include <stdlib.h>

static struct store *store;
static struct pool *pool;
static struct hops *hops;
static struct intake *intake;
static struct message *original;
static struct verdict verdicts[3];
static struct bounce_recipient told[3];
static struct message *made;
static unsigned answers, warnings;

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
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    message_unref(&original);
    message_unref(&made);
    intake_free(&intake);
    store_close(&store);
    virtual_turn();
    hops_free(&hops);
    pool_free(&pool);
    virtual_end();
    return 0;
}

static void answered(void *arg, struct message *dsn, bool try_again)
{
    (void)arg;
    assert_false(try_again);
    answers++;
    made = dsn;
}

static void make(size_t count)
{
    char hostname[] = "relay.test";
    struct bounce_options options = { .loop = &virtual_loop,
                                      .intake = intake,
                                      .hostname = str_of(hostname) };

    bounce_make(&options, original, told, count, answered, NULL);
    hostname[0] = 'X'; /* nobody may look at it any more */
    assert_int_equal(answers, 0);
    virtual_turn();
    assert_int_equal(answers, 1);
}

static bool body_has(const char *text)
{
    struct str body;

    assert_true(body_is_inline(made->body, &body));
    return str_find(body, str_of(text)) < body.len;
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
        TEST(a_failure_is_told_to_the_sender),      TEST(one_report_names_those_who_want_it),
        TEST(none_is_made_when_none_is_owed),       TEST(a_large_original_goes_back_by_its_head),
        TEST(a_report_that_cannot_be_made_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
