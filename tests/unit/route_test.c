/*
 * route_test.c - from MX and addresses to the order of attempts, with a
 * resolver whose answers are rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/egress/route_plan.h"
#include "relay/egress/route_same.h"
#include "virtual_loop.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- a resolver that knows what it is told ---- */

struct known {
    const char *name;
    enum dns_type type; /* DNS_A: both families */
    enum dns_status status;
    const char *records[6]; /* "10 mx1.test" or an address */
};

static const struct known *zone;
static unsigned asked;

static void answer(const char *name, enum dns_type type, dns_fn *fn, void *arg)
{
    struct dns_record records[6] = { 0 };
    struct dns_answer given = { .status = DNS_NXDOMAIN, .records = records, .ttl_s = 300 };
    unsigned preference;

    asked++;
    for (const struct known *row = zone; row->name; row++) {
        if (row->type != type || strcmp(row->name, name) != 0)
            continue;
        given.status = row->status;
        for (; given.count < 6 && row->records[given.count]; given.count++) {
            struct dns_record *record = &records[given.count];
            if (type == DNS_MX) {
                char *host = strchr(row->records[given.count], ' ') + 1;
                preference = (unsigned)strtoul(row->records[given.count], NULL, 10);
                record->preference = (uint16_t)preference;
                str_copy(record->name, sizeof(record->name),
                         strcmp(host, ".") == 0 ? STR_EMPTY : str_of(host));
            } else {
                assert_true(endpoint_ip(str_of(row->records[given.count]), &record->address));
            }
        }
    }
    fn(arg, &given);
}

struct dns_query {
    struct deferred deferred;
    char name[DNS_NAME];
    enum dns_type type;
    dns_fn *fn;
    void *arg;
};

static void answer_later(void *arg)
{
    struct dns_query *query = arg;
    struct dns_query copy = *query;

    free(query);
    answer(copy.name, copy.type, copy.fn, copy.arg);
}

void resolver_ask(struct resolver *resolver, const char *name, enum dns_type type, dns_fn *fn,
                  void *arg, struct dns_query **out_query)
{
    struct dns_query *query = mem_alloc(sizeof(*query));

    (void)resolver;
    str_copy(query->name, sizeof(query->name), str_of(name));
    query->type = type;
    query->fn = fn;
    query->arg = arg;
    *out_query = query;
    loop_defer(&virtual_loop, &query->deferred, answer_later, query);
}

void resolver_addresses(struct resolver *resolver, const char *host, bool hosts, dns_fn *fn,
                        void *arg, struct dns_query **out_query)
{
    (void)hosts;
    resolver_ask(resolver, host, DNS_A, fn, arg, out_query);
}

void resolver_cancel(struct dns_query **query)
{
    loop_undefer(&virtual_loop, &(*query)->deferred);
    free(*query);
    *query = NULL;
}

/* ---- look-ups ---- */

static struct route_plan *found;

static void on_plan(void *arg, struct route_plan *plan)
{
    (void)arg;
    assert_null(found);
    found = plan;
}

/* "mx1.test/192.0.2.1 mx2.test/2001:db8::1": name and address of each step. */
static void steps_of(const struct route_plan *plan, char *out, size_t size)
{
    size_t at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < plan->step_count; i++) {
        const struct route_host *host = &plan->hosts[plan->steps[i].host];
        char ip[ENDPOINT_TEXT];
        endpoint_print_ip(&host->addresses[plan->steps[i].address], ip, sizeof(ip));
        at += (size_t)snprintf(out + at, size - at, "%s%s/%s", i ? " " : "", host->name, ip);
    }
}

static void find(const char *place, const struct str *relay, size_t relay_count)
{
    static const struct endpoint here = { .family = ENDPOINT_IPV4,
                                          .ip = { 203, 0, 113, 1 },
                                          .port = 25 };
    struct route_settings settings = {
        .name = STR("r"), .relay = relay, .relay_count = relay_count, .port = 25
    };
    struct route_options options = { .hostname = "relay.test", .locals = &here, .local_count = 1 };
    struct route_lookup *lookup;

    if (found)
        route_plan_unref(&found);
    route_find(&virtual_loop, &options, &settings, str_of(place), on_plan, NULL, &lookup);
    assert_null(found); /* never inside the call */
    virtual_turn();
    assert_non_null(found);
}

static const struct known by_mx[] = {
    { "plain.test", DNS_MX, DNS_OK, { "20 b.test", "10 a.test" } },
    { "a.test", DNS_A, DNS_OK, { "192.0.2.1", "192.0.2.2", "2001:db8::1" } },
    { "b.test", DNS_A, DNS_OK, { "192.0.2.3" } },
    { "null.test", DNS_MX, DNS_OK, { "0 ." } },
    { "nulls.test", DNS_MX, DNS_OK, { "0 .", "10 ." } },
    { "half.test", DNS_MX, DNS_OK, { "0 .", "10 b.test" } },
    { "nomx.test", DNS_MX, DNS_NODATA, { NULL } },
    { "nomx.test", DNS_A, DNS_OK, { "192.0.2.9" } },
    { "empty.test", DNS_MX, DNS_NODATA, { NULL } },
    { "empty.test", DNS_A, DNS_NODATA, { NULL } },
    { "ill.test", DNS_MX, DNS_SERVFAIL, { NULL } },
    { "slow.test", DNS_MX, DNS_TIMEOUT, { NULL } },
    { "lame.test", DNS_MX, DNS_OK, { "10 gone.test", "20 ill.test" } },
    { "ill.test", DNS_A, DNS_SERVFAIL, { NULL } },
    { "void.test", DNS_MX, DNS_OK, { "10 gone.test" } },
    { "ours.test", DNS_MX, DNS_OK, { "10 us.test", "20 b.test" } },
    { "us.test", DNS_A, DNS_OK, { "203.0.113.1" } },
    { "second.test", DNS_MX, DNS_OK, { "20 us.test", "10 b.test", "30 a.test" } },
    { "named.test", DNS_MX, DNS_OK, { "10 RELAY.test" } },
    { .name = NULL },
};

static void places(void **state)
{
    static const struct {
        const char *place;
        enum outcome_dns dns;
        const char *steps;
    } rows[] = {
        { "plain.test", OUTCOME_DNS_NONE,
          "a.test/2001:db8::1 b.test/192.0.2.3 a.test/192.0.2.1 a.test/192.0.2.2" },
        { "null.test", OUTCOME_DNS_NULL_MX, "" },
        { "nulls.test", OUTCOME_DNS_NULL_MX, "" },
        { "half.test", OUTCOME_DNS_NONE, "b.test/192.0.2.3" },
        { "nomx.test", OUTCOME_DNS_NONE, "nomx.test/192.0.2.9" },
        { "empty.test", OUTCOME_DNS_NODATA, "" },
        { "nowhere.test", OUTCOME_DNS_NXDOMAIN, "" },
        { "ill.test", OUTCOME_DNS_SERVFAIL, "" },
        { "slow.test", OUTCOME_DNS_TIMEOUT, "" },
        { "lame.test", OUTCOME_DNS_SERVFAIL, "" },
        { "void.test", OUTCOME_DNS_BAD_MX, "" },
        { "ours.test", OUTCOME_DNS_LOOP, "" },
        { "second.test", OUTCOME_DNS_NONE, "b.test/192.0.2.3" },
        { "named.test", OUTCOME_DNS_LOOP, "" },
        { "[192.0.2.7]", OUTCOME_DNS_NONE, "[192.0.2.7]/192.0.2.7" },
        { "[IPv6:2001:db8::7]", OUTCOME_DNS_NONE, "[IPv6:2001:db8::7]/2001:db8::7" },
        { "[nonsense]", OUTCOME_DNS_NXDOMAIN, "" },
    };
    char steps[1024];

    (void)state;
    zone = by_mx;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        find(rows[i].place, NULL, 0);
        steps_of(found, steps, sizeof(steps));
        if (found->dns != rows[i].dns || strcmp(steps, rows[i].steps) != 0)
            fail_msg("%s: dns %d, steps %s", rows[i].place, (int)found->dns, steps);
        if (found->dns != OUTCOME_DNS_NONE && str_of(found->fault).len == 0)
            fail_msg("%s: not said why", rows[i].place);
    }
}

static void smarthosts_in_their_order(void **state)
{
    static const struct str relays[] = { STR("b.test:2525"), STR("gone.test"),
                                         STR("[2001:db8::5]:26") };
    char steps[256];

    (void)state;
    zone = by_mx;
    find("*", relays, 3);
    steps_of(found, steps, sizeof(steps));
    assert_string_equal(found->hosts[0].name, "b.test");
    assert_int_equal(found->hosts[0].addresses[0].port, 2525);
    assert_int_equal(found->hosts[2].port, 26);
}

static void one_given_up_calls_nobody(void **state)
{
    struct route_settings settings = { .name = STR("r"), .port = 25 };
    struct route_options options = { .hostname = "relay.test" };
    struct route_lookup *lookup;

    (void)state;
    zone = by_mx;
    route_plan_unref(&found);
    route_find(&virtual_loop, &options, &settings, STR("plain.test"), on_plan, NULL, &lookup);
    route_cancel(&lookup);
    asked = 0;
    virtual_turn();
    assert_null(found);
    assert_int_equal(asked, 0);
}

/* ---- the plan alone ---- */

static void equal_preferences_take_turns(void **state)
{
    bool first_was[3] = { false };

    (void)state;
    for (uint64_t noise = 0; noise < 64; noise++) {
        struct route_plan *plan = route_plan_new();
        route_plan_hosts(plan, 4);
        static const uint16_t preferences[] = { 20, 10, 10, 10 };
        for (size_t i = 0; i < 4; i++) {
            (void)snprintf(plan->hosts[i].name, DNS_NAME, "%zu", i);
            plan->hosts[i].preference = preferences[i];
        }
        route_plan_sort(plan, noise);
        assert_string_equal(plan->hosts[3].name, "0");
        first_was[plan->hosts[0].name[0] - '1'] = true;
        route_plan_unref(&plan);
    }
    assert_true(first_was[0] && first_was[1] && first_was[2]);
}

static void ten_addresses_an_attempt(void **state)
{
    struct route_plan *plan = route_plan_new();
    struct dns_record records[6];

    (void)state;
    route_plan_hosts(plan, 4);
    for (size_t i = 0; i < 6; i++) {
        records[i] = (struct dns_record){ 0 };
        assert_true(
            endpoint_ip(i % 2 ? STR("192.0.2.1") : STR("2001:db8::1"), &records[i].address));
    }
    for (size_t h = 0; h < 4; h++)
        route_plan_addresses(&plan->hosts[h], records, 6);
    route_plan_steps(plan);
    assert_int_equal(plan->step_count, ROUTE_ADDRESSES_MAX);
    assert_int_equal(plan->steps[3].host, 3);
    assert_int_equal(plan->steps[4].host, 0);
    assert_int_equal(plan->steps[4].address, 1);
    assert_int_equal(plan->hosts[0].addresses[0].family, ENDPOINT_IPV6);
    assert_int_equal(plan->hosts[0].addresses[1].family, ENDPOINT_IPV4);
    route_plan_unref(&plan);
}

/* ---- is it the same route? ---- */

static const struct str one_host[] = { { "smart.test", 10 } };
static const struct str two_hosts[] = { { "smart.test", 10 }, { "second.test", 11 } };
static const struct str glued[] = { { "smart.testsecond.test", 21 } };
static const struct str accepted[] = { { "example.com", 11 } };
static const struct endpoint address = { .family = ENDPOINT_IPV4, .ip = { 192, 0, 2, 1 } };
static const struct endpoint scoped = { .family = ENDPOINT_IPV6, .ip = { 0xfe, 0x80 } };
static const struct endpoint other_scope = { .family = ENDPOINT_IPV6,
                                             .ip = { 0xfe, 0x80 },
                                             .scope_id = 2 };

#define SMART .name = { "smart", 5 }, .relay = one_host, .relay_count = 1
#define LOGIN .port = 587, .username = { "me", 2 }, .password = { "right", 5 }

static void what_makes_a_route_another_one(void **state)
{
    static const struct route_settings first = { SMART, LOGIN };
    static const struct {
        const char *name;
        struct route_settings is;
    } rows[] = {
        { "other hosts", { .relay = two_hosts, .relay_count = 2, LOGIN } },
        { "hosts glued together", { .relay = glued, .relay_count = 1, LOGIN } },
        { "no hosts", { LOGIN } },
        { "another port",
          { SMART, .port = 25, .username = { "me", 2 }, .password = { "right", 5 } } },
        { "another TLS mode", { SMART, LOGIN, .level = POLICY_VERIFIED } },
        { "another user",
          { SMART, .port = 587, .username = { "you", 3 }, .password = { "right", 5 } } },
        { "another password",
          { SMART, .port = 587, .username = { "me", 2 }, .password = { "wrong", 5 } } },
        { "no password", { SMART, .port = 587, .username = { "me", 2 } } },
        { "password and user glued", { SMART, .port = 587, .username = { "meright", 7 } } },
        { "another CA file", { SMART, LOGIN, .roots = { "/ca 1.2 3", 9 } } },
        { "a source address", { SMART, LOGIN, .source = &address, .source_count = 1 } },
        { "a source of a link", { SMART, LOGIN, .source = &scoped, .source_count = 1 } },
        { "a source of another link", { SMART, LOGIN, .source = &other_scope, .source_count = 1 } },
        { "another sender", { SMART, LOGIN, .senders.sender = { "a@example.com", 13 } } },
        { "further senders",
          { SMART, LOGIN, .senders.accepted = accepted, .senders.accepted_count = 1 } },
        { "the null sender", { SMART, LOGIN, .senders.null_ok = true } },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t j = 0; j < i; j++)
            if (route_print(&rows[i].is) == route_print(&rows[j].is))
                fail_msg("%s and %s have one print", rows[i].name, rows[j].name);
        if (route_same(&rows[i].is, &first) || route_print(&rows[i].is) == route_print(&first))
            fail_msg("%s is not noticed", rows[i].name);
        if (!route_same(&rows[i].is, &rows[i].is))
            fail_msg("%s is not itself", rows[i].name);
    }
}

/* A print lies on disk and outlives the program that wrote it. */
static void a_print_is_of_what_is_said_not_of_where_it_lies(void **state)
{
    const struct str hosts[] = { STR("smart.test") };
    char password[] = "right";
    const struct route_settings a = { SMART, LOGIN };
    struct route_settings b = { SMART, LOGIN };

    (void)state;
    b.relay = hosts;
    b.password = str_of(password);
    assert_true(route_same(&a, &b));
    assert_int_equal(route_print(&a), route_print(&b));
    assert_int_equal(route_print(&a), UINT64_C(0x6aa9e916c06f6af9));
}

/* Whoever has it cannot tell the password from others. */
static void of_a_password_the_print_has_two_octets(void **state)
{
    const struct route_settings a = { SMART, LOGIN };
    struct route_settings b = { SMART, LOGIN };
    char password[24] = "";
    unsigned alike = 0;

    (void)state;
    b.password = str_of(password);
    for (unsigned i = 0; i < 1000000; i++) {
        (void)snprintf(password, sizeof(password), "guess %u", i);
        b.password.len = strlen(password);
        assert_int_equal(route_print(&a) >> 16, route_print(&b) >> 16);
        alike += route_print(&a) == route_print(&b);
    }
    assert_in_range(alike, 5, 40); /* 15 are to be expected */
}

static int begin(void **state)
{
    struct loop_options options = { .count = 1 };

    (void)state;
    virtual_begin(&options);
    return 0;
}

static int end(void **state)
{
    (void)state;
    if (found)
        route_plan_unref(&found);
    virtual_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places),
        cmocka_unit_test(smarthosts_in_their_order),
        cmocka_unit_test(one_given_up_calls_nobody),
        cmocka_unit_test(equal_preferences_take_turns),
        cmocka_unit_test(ten_addresses_an_attempt),
        cmocka_unit_test(what_makes_a_route_another_one),
        cmocka_unit_test(a_print_is_of_what_is_said_not_of_where_it_lies),
        cmocka_unit_test(of_a_password_the_print_has_two_octets),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
