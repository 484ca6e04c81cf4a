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
    };

    return cmocka_run_group_tests(tests, begin, end);
}
