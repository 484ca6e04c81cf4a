/*
 * lane_test.c - which route takes a recipient, and reading lanes back.
 */
#include "relay/mail/lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct str ours[] = { { "example.com", 11 } };
static const struct str partner[] = { { ".partner.example", 16 }, { "vip@other.example", 17 } };
static const struct str anyone[] = { { "*", 1 } };

static const struct lane_route routes[] = {
    { .name = { "partner", 7 }, .match = partner, .match_count = 2 },
    { .name = { "ses", 3 }, .match_sender = ours, .match_sender_count = 1, .is_smarthost = true },
    { .name = { "rest", 4 }, .match = anyone, .match_count = 1 },
};

static void first_match_wins(void **state)
{
    static const struct {
        const char *name, *sender, *recipient, *lane;
        size_t route_count, index;
    } rows[] = {
        { "by recipient", "a@example.com", "b@mx.partner.example", "partner/mx.partner.example", 3,
          0 },
        { "by address", "x@y.example", "vip@other.example", "partner/other.example", 3, 0 },
        { "by sender, one lane", "a@example.com", "b@there.test", "ses/*", 3, 1 },
        { "null sender is nobody's", "", "b@there.test", "rest/there.test", 3, 2 },
        { "no route at all", "a@example.com", "b@There.TEST", "direct/there.test", 0, 0 },
        { "none matches", "a@else.example", "b@there.test", "direct/there.test", 2, 2 },
        { "address literal", "a@else.example", "b@[192.0.2.1]", "direct/[192.0.2.1]", 2, 2 },
        { "quoted local part", "", "\"a@b\"@there.test", "direct/there.test", 0, 0 },
    };
    char lane[LANE_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t index = lane_of(routes, rows[i].route_count, str_of(rows[i].sender),
                               str_of(rows[i].recipient), lane);
        if (index != rows[i].index || strcmp(lane, rows[i].lane) != 0)
            fail_msg("%s: %zu %s", rows[i].name, index, lane);
    }
}

static void parts(void **state)
{
    (void)state;
    assert_true(str_eq(lane_route_name(STR("ses/*")), STR("ses")));
    assert_true(str_eq(lane_place(STR("ses/*")), STR("*")));
    assert_true(lane_is_smarthost(STR("ses/*")));
    assert_false(lane_is_smarthost(STR("direct/there.test")));
    assert_true(str_eq(lane_place(STR("direct")), STR_EMPTY));
    assert_true(lane_matches(STR("direct/there.test"), STR("There.Test")));
    assert_true(lane_matches(STR("direct/there.test"), STR("direct")));
    assert_true(lane_matches(STR("direct/there.test"), STR("direct/there.test")));
    assert_false(lane_matches(STR("direct/there.test"), STR("test")));
}

static void a_monstrous_domain_is_cut(void **state)
{
    char recipient[1000];
    char lane[LANE_MAX];

    (void)state;
    memset(recipient, 'a', sizeof(recipient));
    recipient[1] = '@';
    lane_of(NULL, 0, STR_EMPTY, str_make(recipient, sizeof(recipient)), lane);
    assert_int_equal(strlen(lane), LANE_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_match_wins),
        cmocka_unit_test(parts),
        cmocka_unit_test(a_monstrous_domain_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
