/*
 * envelope_test.c - envelopes grow, and copies stand alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/mail/envelope.h"

#include <stdio.h>

static void recipients_grow(void **state)
{
    struct envelope envelope;
    char text[40];

    (void)state;
    envelope_init(&envelope);
    for (int i = 0; i < 1000; i++) {
        int len = snprintf(text, sizeof(text), "r%d@example.com", i);
        struct recipient *recipient = envelope_add(&envelope, str_make(text, (size_t)len));
        assert_int_equal(recipient->state, RECIPIENT_QUEUED);
        recipient->attempts = (uint32_t)i;
    }
    assert_int_equal(envelope.recipient_count, 1000);
    assert_true(str_eq(envelope.recipients[0].address, STR("r0@example.com")));
    assert_true(str_eq(envelope.recipients[999].address, STR("r999@example.com")));
    assert_int_equal(envelope.recipients[77].attempts, 77);
    envelope_clear(&envelope);
    assert_int_equal(envelope.recipient_count, 0);
}

static struct recipient *add_once(struct envelope *envelope, unsigned number)
{
    char text[40];
    int len = snprintf(text, sizeof(text), "r%u@example.com", number);

    return envelope_add_once(envelope, str_make(text, (size_t)len));
}

static void named_twice_is_there_once(void **state)
{
    struct envelope envelope, copy;
    size_t count;

    (void)state;
    envelope_init(&envelope);
    envelope_init(&copy);
    for (unsigned i = 0; i < 5000; i++) {
        assert_non_null(add_once(&envelope, i));
        assert_null(add_once(&envelope, i));
        assert_null(add_once(&envelope, i / 2));
    }
    envelope_add(&envelope, STR("other@example.com")); /* without a look */
    assert_null(envelope_add_once(&envelope, STR("other@example.com")));
    assert_null(envelope_add_once(&envelope, STR("r4999@example.com")));
    assert_int_equal(envelope.recipient_count, 5001);
    assert_true(str_eq(envelope.recipients[4321].address, STR("r4321@example.com")));

    envelope_copy(&copy, &envelope);
    assert_null(add_once(&copy, 17));
    assert_non_null(add_once(&copy, 5000));
    assert_int_equal(copy.recipient_count, 5002);

    struct recipient *was = envelope_empty(&envelope, &count);
    assert_int_equal(count, 5001);
    assert_int_equal(envelope.recipient_count, 0);
    assert_non_null(envelope_add_once(&envelope, was[17].address));
    assert_null(envelope_add_once(&envelope, was[17].address));
    envelope_clear(&envelope);
    envelope_clear(&copy);
}

static void a_copy_is_deep(void **state)
{
    struct envelope one, two;

    (void)state;
    envelope_init(&one);
    envelope_init(&two);
    one.sender = arena_str(&one.arena, STR("a@example.com"));
    one.helo = arena_str(&one.arena, STR("client"));
    one.from_domain = arena_str(&one.arena, STR("example.com"));
    one.id.bytes[3] = 7;
    one.flags = ENVELOPE_TLS;
    one.ret = RET_HDRS;
    struct recipient *recipient = envelope_add(&one, STR("b@example.net"));
    recipient->said = arena_str(&one.arena, STR("450 later"));
    recipient->lane = arena_str(&one.arena, STR("direct/example.net"));
    recipient->state = RECIPIENT_HELD;
    envelope_copy(&two, &one);
    envelope_clear(&one);
    assert_true(str_eq(two.sender, STR("a@example.com")));
    assert_true(str_eq(two.helo, STR("client")));
    assert_true(str_eq(two.from_domain, STR("example.com")));
    assert_int_equal(two.id.bytes[3], 7);
    assert_int_equal(two.flags, ENVELOPE_TLS);
    assert_int_equal(two.ret, RET_HDRS);
    assert_int_equal(two.recipient_count, 1);
    assert_true(str_eq(two.recipients[0].said, STR("450 later")));
    assert_true(str_eq(two.recipients[0].lane, STR("direct/example.net")));
    assert_int_equal(two.recipients[0].state, RECIPIENT_HELD);
    assert_int_equal(envelope_add(&two, STR("c@example.net"))->attempts, 0);
    envelope_clear(&two);
}

static void state_words(void **state)
{
    enum recipient_state parsed;

    (void)state;
    for (int i = RECIPIENT_QUEUED; i <= RECIPIENT_FAILED; i++) {
        const char *word = recipient_state_word((enum recipient_state)i);
        assert_true(recipient_state_parse(str_of(word), &parsed));
        assert_int_equal(parsed, i);
    }
    assert_false(recipient_state_parse(STR("lost"), &parsed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipients_grow),
        cmocka_unit_test(named_twice_is_there_once),
        cmocka_unit_test(a_copy_is_deep),
        cmocka_unit_test(state_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
