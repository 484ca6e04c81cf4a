/*
 * caps_test.c - counts over all loops: never passed, never lost.
 */
#include "relay/ingress/caps.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct endpoint client(const char *text)
{
    struct endpoint endpoint = { .family = ENDPOINT_UNIX };

    if (strcmp(text, "another local") == 0)
        endpoint.ip[0] = 1;
    else if (strcmp(text, "local") != 0)
        assert_true(endpoint_ip(str_of(text), &endpoint));
    return endpoint;
}

static void per_client(void **state)
{
    static const struct {
        const char *name, *first, *second;
        bool same;
    } rows[] = {
        { "one address", "192.0.2.1", "192.0.2.1", true },
        { "two addresses", "192.0.2.1", "192.0.2.2", false },
        { "one address, written as IPv6", "192.0.2.1", "::ffff:192.0.2.1", true },
        { "one /64", "2001:db8::1", "2001:db8::ffff:1", true },
        { "two /64", "2001:db8::1", "2001:db8:0:1::1", false },
        { "loopbacks", "127.0.0.1", "::1", false },
        { "one local user", "local", "local", true },
        { "two local users", "local", "another local", false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct caps *caps = caps_new();
        struct endpoint a = client(rows[i].first), b = client(rows[i].second);
        caps_set(caps, 10, 1);
        assert_int_equal(caps_enter(caps, &a), CAPS_OK);
        if ((caps_enter(caps, &b) == CAPS_TOO_MANY_FROM_CLIENT) != rows[i].same)
            fail_msg("%s", rows[i].name);
        caps_leave(caps, &a);
        if (!rows[i].same)
            caps_leave(caps, &b);
        assert_int_equal(caps_enter(caps, &b), CAPS_OK);
        caps_leave(caps, &b);
        assert_int_equal(caps_sessions(caps), 0);
        caps_free(&caps);
    }
}

static void in_all(void **state)
{
    struct caps *caps = caps_new();
    struct endpoint a = client("192.0.2.1"), b = client("192.0.2.2"), c = client("192.0.2.3");

    (void)state;
    caps_set(caps, 2, 2);
    assert_int_equal(caps_enter(caps, &a), CAPS_OK);
    assert_int_equal(caps_enter(caps, &b), CAPS_OK);
    assert_int_equal(caps_enter(caps, &c), CAPS_TOO_MANY);
    caps_leave(caps, &a);
    assert_int_equal(caps_enter(caps, &c), CAPS_OK);
    caps_set(caps, 0, 2); /* a reload lowers it: who is in stays in */
    assert_int_equal(caps_enter(caps, &a), CAPS_TOO_MANY);
    assert_int_equal(caps_sessions(caps), 2);
    caps_leave(caps, &b);
    caps_leave(caps, &c);
    assert_int_equal(caps_sessions(caps), 0);
    caps_free(&caps);
}

/* As many clients as the table is meant for at once: each found again. */
static void many_clients(void **state)
{
    enum { MANY = 40000 };
    struct caps *caps = caps_new();
    struct endpoint at = client("10.0.0.0");

    (void)state;
    caps_set(caps, MANY + 1, 2);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < MANY; i++) {
            at.ip[1] = (uint8_t)(i >> 16);
            at.ip[2] = (uint8_t)(i >> 8);
            at.ip[3] = (uint8_t)i;
            if (round == 0)
                assert_int_equal(caps_enter(caps, &at), CAPS_OK);
            else
                caps_leave(caps, &at);
        }
    assert_int_equal(caps_sessions(caps), 0);
    caps_set(caps, 3, 1);
    assert_int_equal(caps_enter(caps, &at), CAPS_OK); /* nothing was left behind */
    assert_int_equal(caps_enter(caps, &at), CAPS_TOO_MANY_FROM_CLIENT);
    caps_leave(caps, &at);
    caps_free(&caps);
}

struct crowd {
    struct caps *caps;
    struct endpoint client;
    atomic_uint inside;
    atomic_uint most;
};

static void *visit(void *arg)
{
    struct crowd *crowd = arg;

    for (unsigned i = 0; i < 20000; i++) {
        if (caps_enter(crowd->caps, &crowd->client) != CAPS_OK)
            continue;
        unsigned inside = atomic_fetch_add(&crowd->inside, 1) + 1;
        unsigned most = atomic_load(&crowd->most);
        while (inside > most && !atomic_compare_exchange_weak(&crowd->most, &most, inside))
            ;
        atomic_fetch_sub(&crowd->inside, 1);
        caps_leave(crowd->caps, &crowd->client);
    }
    return NULL;
}

static void threads_never_pass_the_limit(void **state)
{
    struct crowd crowd = { .caps = caps_new(), .client = client("2001:db8::1") };
    pthread_t threads[4];

    (void)state;
    caps_set(crowd.caps, 1000, 2);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, visit, &crowd), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_in_range(atomic_load(&crowd.most), 1, 2);
    assert_int_equal(caps_sessions(crowd.caps), 0);
    assert_int_equal(caps_enter(crowd.caps, &crowd.client), CAPS_OK);
    assert_int_equal(caps_enter(crowd.caps, &crowd.client), CAPS_OK);
    assert_int_equal(caps_enter(crowd.caps, &crowd.client), CAPS_TOO_MANY_FROM_CLIENT);
    caps_free(&crowd.caps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(per_client),
        cmocka_unit_test(in_all),
        cmocka_unit_test(many_clients),
        cmocka_unit_test(threads_never_pass_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
