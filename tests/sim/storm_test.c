/*
 * storm_test.c - what only shows with very much mail: 100,000 messages for a
 * dead place cost one probe per interval, and go out when it is back.
 */
#include "tests/sim/host.h"
#include "tests/sim/relay.h"
#include "tests/sim/zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MESSAGES 100000U
#define PER_BURST 1000U
#define HOUR_MS ((uint64_t)3600 * 1000)

static const char configuration[] =
    "hostname = \"relay.here.test\"\n"
    "data = \"/nowhere\"\n"
    "retry { first = \"1m\" max = \"4h\" lifetime = \"5d\" warn-after = never "
    "reports-per-hour = 100000 }\n"
    "aliases { file = \"/nowhere/aliases\" mailname = \"here.test\" }\n";

static unsigned accepted;

static void answered(void *arg, const struct reply *reply)
{
    (void)arg;
    accepted += reply_is_positive(reply);
}

static void dns(struct world *world, const char *name, const char *type, const char *value)
{
    struct fault fault;
    char words[4][64];
    char *at[4] = { words[0], words[1], words[2], words[3] };
    size_t count = 0;

    str_copy(words[count++], 64, str_of(name));
    str_copy(words[count++], 64, str_of(type));
    if (strcmp(type, "MX") == 0)
        str_copy(words[count++], 64, STR("10"));
    if (value)
        str_copy(words[count++], 64, str_of(value));
    assert_int_equal(zone_tell(world->zone, at, count, &fault), ERR_OK);
}

static void host(struct world *world, const char *name, const char *a, const char *b)
{
    struct fault fault;
    char words[3][64];
    char *at[3] = { words[0], words[1], words[2] };

    str_copy(words[0], 64, str_of(name));
    str_copy(words[1], 64, str_of(a));
    str_copy(words[2], 64, str_of(b ? b : ""));
    assert_int_equal(host_tell(world, at, b ? 3 : 2, &fault), ERR_OK);
}

static void open_relay(struct relay *relay, struct world *world)
{
    struct relay_options options = { .folder = "/nowhere" };
    struct conf *conf;
    struct fault fault;

    world_init(world);
    assert_int_equal(conf_parse("test", str_of(configuration), &conf, &fault), ERR_OK);
    assert_int_equal(relay_open(relay, world, &options, conf, &fault), ERR_OK);
    conf_unref(&conf);
}

static void take(struct relay *relay, unsigned number)
{
    struct envelope envelope;
    struct buf address, content;

    envelope_init(&envelope);
    buf_init(&address, 128);
    buf_init(&content, 1024);
    envelope.sender = STR("a@here.test");
    buf_printf(&address, "user%u@there.test", number);
    envelope_add(&envelope, buf_view(&address));
    buf_printf(&content, "From: <a@here.test>\r\nSubject: %u\r\n\r\nhello\r\n", number);
    relay_take(relay, &envelope, buf_view(&content), false, answered, NULL);
    envelope_clear(&envelope);
    buf_clear(&address);
    buf_clear(&content);
}

static void a_dead_place_costs_one_probe_per_interval(void **state)
{
    struct world world;
    struct relay relay;
    struct sched_counts counts;
    struct store_health health;
    const struct host *mx;
    unsigned dead;

    (void)state;
    open_relay(&relay, &world);
    dns(&world, "there.test", "MX", "mx1.there.test");
    dns(&world, "mx1.there.test", "A", "192.0.2.1");
    host(&world, "mx1", "192.0.2.1", "connect=timeout");
    host(&world, "mx1", "keep=0", NULL);
    mx = host_find(&world, "mx1");
    accepted = 0;
    for (unsigned n = 0; n < MESSAGES; n++) {
        take(&relay, n);
        if (n % PER_BURST == 0)
            world_run_until(&world, n / PER_BURST * 1000);
    }
    world_run_until(&world, HOUR_MS);
    assert_int_equal(accepted, MESSAGES);
    dead = mx->counts.connects;
    assert_in_range(dead, 3, 60); /* the first ones before it was known, then probes */

    world_run_until(&world, 12 * HOUR_MS);
    /* A place is asked at least every half hour, whatever `max` is for mail. */
    assert_in_range(mx->counts.connects - dead, 18, 30);
    sched_counts(relay.sched, &counts);
    assert_in_range(counts.attempts, 1, 2000);
    store_health(relay.store, &health);
    assert_int_equal(health.messages, MESSAGES);

    /* It is back: everything goes, without an attempt more than needed. */
    host(&world, "mx1", "connect=ok", NULL);
    world_run_until(&world, 14 * HOUR_MS);
    assert_int_equal(mx->counts.messages, MESSAGES);
    assert_in_range(mx->counts.at_once, 1, 20);
    store_health(relay.store, &health);
    assert_int_equal(health.messages, 0);
    relay_close(&relay);
    world_clear(&world);
}

static void ten_thousand_dead_places_cost_nothing_at_rest(void **state)
{
    struct world world;
    struct relay relay;
    struct sched_counts counts;

    (void)state;
    open_relay(&relay, &world);
    accepted = 0;
    for (unsigned n = 0; n < 10000; n++) {
        struct envelope envelope;
        struct buf address;
        envelope_init(&envelope);
        buf_init(&address, 128);
        envelope.sender = STR("a@here.test");
        buf_printf(&address, "user@d%u.test", n);
        envelope_add(&envelope, buf_view(&address));
        relay_take(&relay, &envelope, STR("From: <a@here.test>\r\n\r\nhello\r\n"), false, answered,
                   NULL);
        envelope_clear(&envelope);
        buf_clear(&address);
    }
    for (unsigned n = 0; n < 10000; n += 500) {
        char name[64];
        (void)snprintf(name, sizeof(name), "d%u.test", n);
        dns(&world, name, "SERVFAIL", NULL);
    }
    dns(&world, "here.test", "MX", "home.here.test"); /* reports go there */
    dns(&world, "home.here.test", "A", "192.0.2.254");
    host(&world, "home", "192.0.2.254", "keep=0");
    world_run_until(&world, HOUR_MS);
    assert_int_equal(accepted, 10000);
    sched_counts(relay.sched, &counts);
    assert_int_equal(counts.failed, 9980); /* no such domain */
    assert_int_equal(counts.lanes, 20);    /* the others are gone */
    relay_close(&relay);
    world_clear(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dead_place_costs_one_probe_per_interval),
        cmocka_unit_test(ten_thousand_dead_places_cost_nothing_at_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
