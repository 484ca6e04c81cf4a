/*
 * endpoint_test.c - addresses and networks as text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/net/endpoint.h"
#include "relay/net/proxy.h"
#include "relay/net/sockaddr.h"

static void addresses_are_read_and_written(void **state)
{
    static const struct {
        const char *name, *text;
        uint16_t default_port;
        enum err err;
        const char *printed;
    } rows[] = {
        { "IPv4", "192.0.2.1:25", 0, ERR_OK, "192.0.2.1:25" },
        { "IPv4 with the default port", "192.0.2.1", 587, ERR_OK, "192.0.2.1:587" },
        { "IPv6", "[2001:db8::1]:25", 0, ERR_OK, "[2001:db8::1]:25" },
        { "IPv6 without port", "[2001:db8::1]", 25, ERR_OK, "[2001:db8::1]:25" },
        { "IPv6 without brackets", "2001:db8::1", 25, ERR_OK, "[2001:db8::1]:25" },
        { "every address", "*:25", 0, ERR_OK, "[::]:25" },
        { "every address, default port", "*", 465, ERR_OK, "[::]:465" },
        { "every IPv4 address", "0.0.0.0:25", 0, ERR_OK, "0.0.0.0:25" },
        { "any free port", "127.0.0.1:0", 0, ERR_OK, "127.0.0.1:0" },
        { "a unix socket", "unix:/run/x.sock", 0, ERR_OK, "unix:/run/x.sock" },
        { "scope by number", "[fe80::1%1]:25", 0, ERR_OK, "[fe80::1%1]:25" },
        { "a relative path", "unix:x.sock", 0, ERR_INVALID, "" },
        { "no port at all", "192.0.2.1", 0, ERR_INVALID, "" },
        { "an empty port", "192.0.2.1:", 25, ERR_INVALID, "" },
        { "an empty port behind brackets", "[::1]:", 25, ERR_INVALID, "" },
        { "a port too large", "192.0.2.1:65536", 0, ERR_INVALID, "" },
        { "a port with a sign", "192.0.2.1:+25", 0, ERR_INVALID, "" },
        { "a host name", "mx.example:25", 0, ERR_INVALID, "" },
        { "a bracket left open", "[::1:25", 25, ERR_INVALID, "" },
        { "junk behind the bracket", "[::1]x25", 25, ERR_INVALID, "" },
        { "IPv4 with too few parts", "192.0.2:25", 0, ERR_INVALID, "" },
        { "IPv4 with a leading zero", "192.0.2.01:25", 0, ERR_INVALID, "" },
        { "nothing", "", 25, ERR_INVALID, "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct endpoint endpoint = { 0 };
        char text[ENDPOINT_TEXT];
        struct fault fault = { 0 };
        enum err err =
            endpoint_parse(str_of(rows[i].text), rows[i].default_port, &endpoint, &fault);
        endpoint_print(&endpoint, text, sizeof(text));
        if (err != rows[i].err || strcmp(text, rows[i].printed) != 0)
            fail_msg("%s: %d \"%s\" %s", rows[i].name, err, text, fault.text);
        if (err)
            assert_true(fault.text[0]);
    }
}

static void a_path_too_long_is_refused(void **state)
{
    char text[200] = "unix:/";
    struct endpoint endpoint;

    (void)state;
    memset(text + 6, 'x', 150);
    assert_int_equal(endpoint_parse(str_of(text), 0, &endpoint, NULL), ERR_INVALID);
}

static void literals_are_those_of_rfc_5321(void **state)
{
    struct endpoint endpoint;
    char text[ENDPOINT_TEXT];

    (void)state;
    assert_true(endpoint_ip(STR("192.0.2.1"), &endpoint));
    endpoint_literal(&endpoint, text, sizeof(text));
    assert_string_equal(text, "[192.0.2.1]");
    assert_true(endpoint_ip(STR("fe80::1%1"), &endpoint));
    endpoint_literal(&endpoint, text, sizeof(text));
    assert_string_equal(text, "[IPv6:fe80::1]");
    assert_int_equal(endpoint_print_ip(&endpoint, text, sizeof(text)), 9);
    assert_string_equal(text, "fe80::1%1");
}

static struct endpoint ip(const char *text)
{
    struct endpoint endpoint = { 0 };

    assert_true(endpoint_ip(str_of(text), &endpoint));
    return endpoint;
}

static void the_same_address_in_two_families(void **state)
{
    struct endpoint four = ip("192.0.2.1"), mapped = ip("::ffff:192.0.2.1"), six = ip("::1");

    (void)state;
    assert_true(endpoint_same_ip(&four, &mapped));
    assert_false(endpoint_same_ip(&four, &six));
    struct endpoint path = { .family = ENDPOINT_UNIX, .path = "/x" };
    assert_false(endpoint_same_ip(&path, &path));
    assert_true(endpoint_is_loopback(&path));
    assert_true(endpoint_is_loopback(&six));
    assert_true(endpoint_is_loopback(&(struct endpoint){ ENDPOINT_IPV4, 25, 0, { 127, 9 }, "" }));
    struct endpoint mapped_loopback = ip("::ffff:127.0.0.1");
    assert_true(endpoint_is_loopback(&mapped_loopback));
    assert_false(endpoint_is_loopback(&four));
}

static void networks_hold_addresses(void **state)
{
    static const struct {
        const char *name, *network, *address;
        bool has;
    } rows[] = {
        { "inside", "192.0.2.0/24", "192.0.2.255", true },
        { "outside", "192.0.2.0/24", "192.0.3.0", false },
        { "odd bits, inside", "192.0.2.128/25", "192.0.2.129", true },
        { "odd bits, outside", "192.0.2.128/25", "192.0.2.127", false },
        { "one address", "192.0.2.1", "192.0.2.1", true },
        { "one address, another", "192.0.2.1", "192.0.2.2", false },
        { "host bits do not matter", "192.0.2.77/24", "192.0.2.1", true },
        { "all of IPv4", "0.0.0.0/0", "203.0.113.9", true },
        { "all of IPv4 has no IPv6", "0.0.0.0/0", "2001:db8::1", false },
        { "all of IPv6 has no IPv4", "::/0", "192.0.2.1", false },
        { "all of IPv6", "::/0", "2001:db8::1", true },
        { "IPv6, odd bits", "2001:db8:8000::/33", "2001:db8:8000::1", true },
        { "IPv6, odd bits, outside", "2001:db8:8000::/33", "2001:db8::1", false },
        { "loopback", "::1", "::1", true },
        { "IPv4 that came over IPv6", "192.0.2.0/24", "::ffff:192.0.2.9", true },
    };
    static const char *const bad[] = { "192.0.2.0/33", "::/129", "192.0.2.0/", "192.0.2/24",
                                       "mx.example",   "/8",     "",           "fe80::1%1/64" };
    struct network network;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct endpoint address = ip(rows[i].address);
        assert_true(network_parse(str_of(rows[i].network), &network));
        if (network_has(&network, &address) != rows[i].has)
            fail_msg("%s", rows[i].name);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (network_parse(str_of(bad[i]), &network))
            fail_msg("\"%s\" was taken", bad[i]);
    }
    struct endpoint path = { .family = ENDPOINT_UNIX };
    assert_true(network_parse(STR("0.0.0.0/0"), &network));
    assert_false(network_has(&network, &path));
}

static void the_kernel_gets_and_gives_them(void **state)
{
    static const char *const rows[] = { "192.0.2.1:25", "[2001:db8::1]:25", "unix:/run/x" };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct endpoint in, out;
        union sockaddr_any address;
        char text[ENDPOINT_TEXT];
        assert_int_equal(endpoint_parse(str_of(rows[i]), 0, &in, NULL), 0);
        socklen_t len = endpoint_to_sockaddr(&in, &address);
        endpoint_of_sockaddr(&address, len, &out);
        endpoint_print(&out, text, sizeof(text));
        assert_string_equal(text, rows[i]);
    }
}

/* ---- PROXY protocol ---- */

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define ROW(name, bytes, err, client, local)                                                       \
    {                                                                                              \
        name, bytes, sizeof(bytes) - 1, err, client, local                                         \
    }

static void proxy_headers(void **state)
{
    static const struct {
        const char *name, *bytes;
        size_t len;
        enum err err;
        const char *client;
        bool is_local;
    } rows[] = {
        ROW("TCP over IPv4",
            SIGNATURE "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\x30\x39\x00\x19", ERR_OK,
            "192.0.2.1:12345", false),
        ROW("TCP over IPv6",
            SIGNATURE "\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
                      "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x30\x39\x00\x19",
            ERR_OK, "[2001:db8::1]:12345", false),
        ROW("IPv4 mapped into IPv6",
            SIGNATURE "\x21\x21\x00\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"
                      "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x02\x30\x39\x00\x19",
            ERR_OK, "192.0.2.1:12345", false),
        ROW("with extra fields",
            SIGNATURE "\x21\x11\x00\x10\xc0\x00\x02\x01\xc6\x33\x64\x01\x30\x39\x00\x19\x04\0\1x",
            ERR_OK, "192.0.2.1:12345", false),
        ROW("the proxy for itself", SIGNATURE "\x20\x00\x00\x00", ERR_OK, "", true),
        ROW("a family without addresses", SIGNATURE "\x21\x00\x00\x00", ERR_OK, "", true),
        ROW("a unix client", SIGNATURE "\x21\x31\x00\x02xx", ERR_OK, "", true),
        ROW("version 1 in the binary form", SIGNATURE "\x11\x11\x00\x0c............", ERR_VERSION,
            "", false),
        ROW("an unknown command", SIGNATURE "\x22\x11\x00\x0c............", ERR_INVALID, "", false),
        ROW("too short for IPv4", SIGNATURE "\x21\x11\x00\x0b...........", ERR_INVALID, "", false),
        ROW("too short for IPv6", SIGNATURE "\x21\x21\x00\x0c............", ERR_INVALID, "", false),
        ROW("cut short", SIGNATURE "\x21\x11\x00\x0c....", ERR_INVALID, "", false),
        ROW("too long", SIGNATURE "\x21\x11\xff\xff", ERR_LIMIT, "", false),
        ROW("the text form", "PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", ERR_INVALID, "", false),
        ROW("nothing", "", ERR_INVALID, "", false),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct proxy_facts facts = { 0 };
        char client[ENDPOINT_TEXT];
        enum err err = proxy_parse(str_make(rows[i].bytes, rows[i].len), &facts, NULL);
        endpoint_print(&facts.client, client, sizeof(client));
        if (err != rows[i].err || strcmp(client, rows[i].client) != 0 ||
            facts.is_local != rows[i].is_local)
            fail_msg("%s: %d \"%s\"", rows[i].name, err, client);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written),
        cmocka_unit_test(a_path_too_long_is_refused),
        cmocka_unit_test(literals_are_those_of_rfc_5321),
        cmocka_unit_test(the_same_address_in_two_families),
        cmocka_unit_test(networks_hold_addresses),
        cmocka_unit_test(the_kernel_gets_and_gives_them),
        cmocka_unit_test(proxy_headers),
    };

    return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
