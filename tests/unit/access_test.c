/*
 * access_test.c - nobody relays by a trick, everybody entitled does.
 */
#include "relay/ingress/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct str own[] = { { "a@example.com", 13 }, { ".example.org", 12 } };
static const struct user anyone = { .name = { "anyone", 6 } };
static const struct user limited = { .name = { "ltd", 3 }, .senders = own, .sender_count = 2 };

static void nobody_relays_without_rights(void **state)
{
    static const char *const rows[] = {
        "b@there.test",
        "b%there.test@relay.example.com",     /* percent hack */
        "@relay.example.com:b@there.test",    /* a source route that was not dropped */
        "\"b@there.test\"@relay.example.com", /* quoted local part */
        "\"b@there.test\"",
        "b@[127.0.0.1]",
        "b@[IPv6:::1]",
        "there.test!b@relay.example.com", /* bang path */
        "b@localhost",
        "postmaster",
        "b@relay.example.com@there.test",
        "",
    };
    struct access access = { .is_trusted = false };
    struct reply reply;

    (void)state;
    for (unsigned required = 0; required < 2; required++) {
        access.auth_required = required;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            if (access_rcpt(&access, str_of(rows[i]), &reply))
                fail_msg("\"%s\" was relayed", rows[i]);
            assert_int_equal(reply.code, 550);
            assert_int_equal(reply.status.class, 5);
            assert_int_equal(reply.status.subject, 7);
            assert_int_equal(reply.status.detail, 1);
        }
    }
}

static void the_entitled_relay_anywhere(void **state)
{
    static const struct access rows[] = {
        { .is_trusted = true },
        { .is_trusted = true, .auth_required = true },
        { .user = &anyone },
        { .user = &limited, .auth_required = true },
    };
    struct reply reply;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_true(access_rcpt(&rows[i], STR("b@there.test"), &reply));
        assert_true(access_rcpt(&rows[i], STR("b%c@there.test"), &reply));
    }
}

static void senders(void **state)
{
    static const struct {
        const char *name, *sender;
        struct access access;
        unsigned mail_code, from_code; /* 0: accepted */
    } rows[] = {
        { "a stranger may say MAIL where AUTH is optional", "x@y.test", { 0 }, 0, 0 },
        { "and not where it is required", "x@y.test", { .auth_required = true }, 530, 0 },
        { "trusted needs no AUTH",
          "x@y.test",
          { .auth_required = true, .is_trusted = true },
          0,
          0 },
        { "a user without patterns: any", "x@y.test", { .user = &anyone }, 0, 0 },
        { "null reverse-path, whoever", "", { .user = &limited }, 0, 550 },
        { "null reverse-path, no limits", "", { .user = &anyone }, 0, 0 },
        { "own address", "a@example.com", { .user = &limited }, 0, 0 },
        { "own address, other case", "A@Example.COM", { .user = &limited }, 0, 0 },
        { "own address, needless quotes", "\"a\"@example.com", { .user = &limited }, 0, 0 },
        { "subdomain by pattern", "x@mail.example.org", { .user = &limited }, 0, 0 },
        { "the domain itself is no subdomain", "x@example.org", { .user = &limited }, 553, 550 },
        { "somebody else", "b@example.com", { .user = &limited }, 553, 550 },
        { "limits hold in a trusted network too",
          "b@example.com",
          { .user = &limited, .is_trusted = true },
          553,
          550 },
        { "a suffix without the dot", "x@notexample.org", { .user = &limited }, 553, 550 },
        { "own address in the local part",
          "\"a@example.com\"@evil.test",
          { .user = &limited },
          553,
          550 },
        { "not an address", "a@example.com, b@c", { .user = &limited }, 553, 550 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reply reply = { .code = 0 };
        bool ok = access_mail(&rows[i].access, str_of(rows[i].sender), &reply);
        if (ok != (rows[i].mail_code == 0) || reply.code != rows[i].mail_code)
            fail_msg("%s: MAIL gives %u", rows[i].name, reply.code);
        reply.code = 0;
        ok = access_from(&rows[i].access, str_of(rows[i].sender), &reply);
        if (ok != (rows[i].from_code == 0) || reply.code != rows[i].from_code)
            fail_msg("%s: From gives %u", rows[i].name, reply.code);
    }
}

static void trusted_networks(void **state)
{
    static const struct {
        const char *name, *client;
        bool trusted;
    } rows[] = {
        { "inside", "10.1.2.3", true },
        { "outside", "11.0.0.1", false },
        { "inside, v4-mapped", "::ffff:10.1.2.3", true },
        { "IPv6 inside", "2001:db8:1::5", true },
        { "IPv6 outside", "2001:db9::5", false },
        { "loopback is not trusted by itself", "127.0.0.1", false },
    };
    struct network trust[2];
    struct endpoint client;

    (void)state;
    assert_true(network_parse(STR("10.0.0.0/8"), &trust[0]));
    assert_true(network_parse(STR("2001:db8::/32"), &trust[1]));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_true(endpoint_ip(str_of(rows[i].client), &client));
        if (access_is_trusted(trust, 2, &client) != rows[i].trusted)
            fail_msg("%s", rows[i].name);
        assert_false(access_is_trusted(NULL, 0, &client));
    }
    client = (struct endpoint){ .family = ENDPOINT_UNIX };
    assert_false(access_is_trusted(trust, 2, &client));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_relays_without_rights),
        cmocka_unit_test(the_entitled_relay_anywhere),
        cmocka_unit_test(senders),
        cmocka_unit_test(trusted_networks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
