/*
 * addr_test.c - paths, canonical form, patterns, mailboxes of header fields.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/mail/addr.h"

#include <stdio.h>

#define X63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void paths(void **state)
{
    /* canonical NULL: refused */
    static const struct {
        const char *name, *in;
        unsigned flags;
        const char *canonical;
    } rows[] = {
        { "plain", "<a@example.com>", 0, "a@example.com" },
        { "parameters follow", "<a@example.com> SIZE=1", 0, "a@example.com" },
        { "domain in lower case, local part kept", "<Joe.Doe@EXAMPLE.com>", 0,
          "Joe.Doe@example.com" },
        { "null", "<>", ADDR_ALLOW_NULL, "" },
        { "null not allowed", "<>", 0, NULL },
        { "bare", "<postmaster>", ADDR_ALLOW_BARE, "postmaster" },
        { "bare not allowed", "<postmaster>", 0, NULL },
        { "percent hack is a local part", "<a%b@c.example>", 0, "a%b@c.example" },
        { "bang path is a local part", "<c!a@b.example>", 0, "c!a@b.example" },
        { "source route is dropped", "<@x.example,@y.example:a@b.example>", 0, "a@b.example" },
        { "one hop of it", "<@x.example:a@b.example>", 0, "a@b.example" },
        { "broken source route", "<@x.example,a@b.example>", 0, NULL },
        { "source route of nothing", "<@:a@b.example>", 0, NULL },
        { "source route without a mailbox", "<@x.example:>", ADDR_ALLOW_NULL, NULL },
        { "quoted", "<\"a b\"@c.example>", 0, "\"a b\"@c.example" },
        { "needless quotes go", "<\"a.b\"@c.example>", 0, "a.b@c.example" },
        { "needless backslash goes", "<\"a\\b\"@c.example>", 0, "ab@c.example" },
        { "needed backslash stays", "<\"a\\\"b\\\\ \"@c.example>", 0, "\"a\\\"b\\\\ \"@c.example" },
        { "dots that need quotes", "<\"a..b\"@c.example>", 0, "\"a..b\"@c.example" },
        { "empty quoted", "<\"\"@c.example>", 0, "\"\"@c.example" },
        { "at sign and bracket in quotes", "<\"a@b>\"@c.example>", 0, "\"a@b>\"@c.example" },
        { "control character in quotes", "<\"a\tb\"@c.example>", 0, NULL },
        { "escaped control character", "<\"a\\\rb\"@c.example>", 0, NULL },
        { "unclosed quote", "<\"a@c.example>", 0, NULL },
        { "quoted with a tail", "<\"a\"b@c.example>", 0, NULL },
        { "two dots", "<a..b@c.example>", 0, NULL },
        { "leading dot", "<.a@c.example>", 0, NULL },
        { "trailing dot", "<a.@c.example>", 0, NULL },
        { "blank in the local part", "<a b@c.example>", 0, NULL },
        { "no brackets", "a@c.example", 0, NULL },
        { "not closed", "<a@c.example", 0, NULL },
        { "nothing behind the @", "<a@>", 0, NULL },
        { "two @", "<a@b@c.example>", 0, NULL },
        { "line break", "<a@c.example\r\n>", 0, NULL },
        { "empty input", "", ADDR_ALLOW_NULL, NULL },
        { "an opening bracket alone", "<", ADDR_ALLOW_NULL | ADDR_ALLOW_BARE, NULL },
        { "underscore in the domain", "<a@_x.c_d.example>", 0, "a@_x.c_d.example" },
        { "hyphen at the start of a label", "<a@-c.example>", 0, NULL },
        { "hyphen at the end of a label", "<a@c-.example>", 0, NULL },
        { "empty label", "<a@c..example>", 0, NULL },
        { "trailing dot of the domain", "<a@c.example.>", 0, NULL },
        { "label of 63", "<a@" X63 ".example>", 0, "a@" X63 ".example" },
        { "label of 64", "<a@a" X63 ".example>", 0, NULL },
        { "local part of 64", "<a" X63 "@c.example>", 0, "a" X63 "@c.example" },
        { "local part of 65", "<aa" X63 "@c.example>", 0, NULL },
        { "local part of 65 in a header", "<aa" X63 "@c.example>", ADDR_ALLOW_LONG,
          "aa" X63 "@c.example" },
        { "domain over 255", "<a@" X63 "." X63 "." X63 "." X63 ".example>", 0, NULL },
        { "IPv4 literal", "<a@[192.0.2.1]>", 0, "a@[192.0.2.1]" },
        { "IPv6 literal", "<a@[ipv6:2001:DB8:0:0::1]>", 0, "a@[IPv6:2001:db8::1]" },
        { "bad IPv4 literal", "<a@[192.0.2.256]>", 0, NULL },
        { "short IPv4 literal", "<a@[127.1]>", 0, NULL },
        { "IPv6 literal without its tag", "<a@[2001:db8::1]>", 0, NULL },
        { "IPv6 literal with a zone", "<a@[IPv6:fe80::1%eth0]>", 0, NULL },
        { "unclosed literal", "<a@[192.0.2.1>", 0, NULL },
        { "another literal", "<a@[x400:c=de]>", 0, NULL },
        { "UTF-8 without SMTPUTF8", "<j\xc3\xb6rg@c.example>", 0, NULL },
        { "UTF-8 local part", "<j\xc3\xb6rg@c.example>", ADDR_ALLOW_UTF8, "j\xc3\xb6rg@c.example" },
        { "UTF-8 domain becomes A-labels",
          "<a@B\xc3\xbc"
          "cher.example>",
          ADDR_ALLOW_UTF8, "a@xn--bcher-kva.example" },
        { "sharp s is IDNA2008", "<a@fa\xc3\x9f.de>", ADDR_ALLOW_UTF8, "a@xn--fa-hia.de" },
        { "broken UTF-8", "<a\xc3@c.example>", ADDR_ALLOW_UTF8, NULL },
        { "fullwidth at sign does not sneak in",
          "<a@b\xef\xbc\xa0"
          "c.example>",
          ADDR_ALLOW_UTF8, NULL },
        { "fullwidth bracket does not sneak in", "<a@b\xef\xbc\x9e.example>", ADDR_ALLOW_UTF8,
          NULL },
        { "ideographic full stop separates labels",
          "<a@b\xe3\x80\x82"
          "example>",
          ADDR_ALLOW_UTF8, "a@b.example" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr addr;
        struct fault fault = { ERR_OK, "" };
        struct buf out;
        size_t used = 0;
        buf_init(&out, 1024);
        enum err rc = addr_path(str_of(rows[i].in), rows[i].flags, &addr, &used, &fault);
        if (!rc)
            rc = addr_canonical(&addr, &out, &fault);
        if ((rc == ERR_OK) != (rows[i].canonical != NULL))
            fail_msg("%s: %s", rows[i].name, fault.text);
        if (rc)
            assert_true(fault.text[0] != '\0');
        else if (!str_eq(buf_view(&out), str_of(rows[i].canonical)))
            fail_msg("%s: " STR_FMT, rows[i].name, STR_ARG(buf_view(&out)));
        else if (rows[i].in[used - 1] != '>')
            fail_msg("%s: used %zu", rows[i].name, used);
        buf_clear(&out);
    }
}

static void canonical_is_stable(void **state)
{
    static const char *const in[] = { "\"a b\"@c.example", "a@[IPv6:::1]", "\"\\\"\"@C.example",
                                      "A@xn--bcher-kva.example", "\"a..\"@x" };

    (void)state;
    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++) {
        struct buf one, two;
        struct addr addr;
        buf_init(&one, 400);
        buf_init(&two, 400);
        assert_int_equal(addr_parse(str_of(in[i]), 0, &addr, NULL), ERR_OK);
        assert_int_equal(addr_canonical(&addr, &one, NULL), ERR_OK);
        assert_int_equal(addr_parse(buf_view(&one), 0, &addr, NULL), ERR_OK);
        assert_int_equal(addr_canonical(&addr, &two, NULL), ERR_OK);
        assert_true(str_eq(buf_view(&one), buf_view(&two)));
        buf_clear(&one);
        buf_clear(&two);
    }
}

static void whole_addresses(void **state)
{
    struct addr addr;

    (void)state;
    assert_int_equal(addr_parse(STR(""), ADDR_ALLOW_NULL, &addr, NULL), ERR_OK);
    assert_true(addr_is_null(&addr));
    assert_int_equal(addr_parse(STR(""), 0, &addr, NULL), ERR_INVALID);
    assert_int_equal(addr_parse(STR("a@b.example x"), 0, &addr, NULL), ERR_INVALID);
    assert_int_equal(addr_parse(STR("<a@b.example>"), 0, &addr, NULL), ERR_INVALID);
    assert_int_equal(addr_parse(STR("root"), ADDR_ALLOW_BARE, &addr, NULL), ERR_OK);
    assert_true(addr.domain.len == 0 && !addr_is_null(&addr));
    assert_true(addr_is_domain(STR("mx1.example.com"), 0));
    assert_true(addr_is_domain(STR("[192.0.2.1]"), 0));
    assert_false(addr_is_domain(STR("mx1.example.com\n"), 0));
    assert_false(addr_is_domain(STR(""), 0));
    assert_true(addr_is_domain(STR("b\xc3\xbc"
                                   "cher.example"),
                               ADDR_ALLOW_UTF8));
    assert_false(addr_is_domain(STR("b\xc3\xbc"
                                    "cher.example"),
                                0));
}

static void patterns(void **state)
{
    static const struct {
        const char *addr, *pattern;
        bool matches;
    } rows[] = {
        { "a@example.com", "*", true },
        { "", "*", true },
        { "a@example.com", "A@Example.COM", true },
        { "a@example.com", "b@example.com", false },
        { "a@example.com", "example.com", true },
        { "a@example.com", "@example.com", true },
        { "a@sub.example.com", "example.com", false },
        { "a@sub.example.com", ".example.com", true },
        { "a@example.com", ".example.com", false },
        { "a@badexample.com", ".example.com", false },
        { "a@example.com", "a@", true },
        { "b@example.com", "a@", false },
        { "a@example.com", "@", false },
        { "a@example.com", "", false },
        { "", "example.com", false },
        { "", "@", false },
        { "root", "root@", true },
        { "a@xn--bcher-kva.example",
          "b\xc3\xbc"
          "cher.example",
          true },
        { "a@x.xn--bcher-kva.example",
          ".b\xc3\xbc"
          "cher.example",
          true },
        { "\"a@b.example\"@c.example", "b.example", false },
        { "\"a@b.example\"@c.example", "c.example", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (addr_matches(str_of(rows[i].addr), str_of(rows[i].pattern)) != rows[i].matches)
            fail_msg("%s and %s", rows[i].addr, rows[i].pattern);
    assert_true(str_eq(addr_domain_of(STR("\"a@b\"@c")), STR("c")));
    assert_true(str_eq(addr_local_of(STR("\"a@b\"@c")), STR("\"a@b\"")));
    assert_int_equal(addr_domain_of(STR("root")).len, 0);
    assert_int_equal(addr_domain_of(STR("\"a@b\"")).len, 0);
    assert_true(str_eq(addr_local_of(STR("root")), STR("root")));
}

static bool collect(void *arg, const struct addr_mailbox *mailbox)
{
    struct buf *out = arg;

    return buf_printf(out, STR_FMT "|" STR_FMT ";", STR_ARG(mailbox->name), STR_ARG(mailbox->spec));
}

static void lists(void **state)
{
    static const struct {
        const char *name, *in, *out;
        enum err err;
    } rows[] = {
        { "one", "a@b.c", "|a@b.c;", ERR_OK },
        { "a name", "Joe Doe <a@b.c>", "Joe Doe|a@b.c;", ERR_OK },
        { "a quoted name with a comma", "\"Doe, Joe\" <a@b.c>, d@e.f", "\"Doe, Joe\"|a@b.c;|d@e.f;",
          ERR_OK },
        { "dots in a name", "Joe Q. Doe <a@b.c>", "Joe Q. Doe|a@b.c;", ERR_OK },
        { "brackets in a name", "[JIRA] Joe <a@b.c>", "[JIRA] Joe|a@b.c;", ERR_OK },
        { "folding", " a@b.c,\r\n\td@e.f", "|a@b.c;|d@e.f;", ERR_OK },
        { "comments", "(x) a (y (z)) @ (\\)) b.c (w)", "|a@b.c;", ERR_OK },
        { "blanks around dots", "a . b @ c . d", "|a.b@c.d;", ERR_OK },
        { "a group", "friends: a@b.c, Joe <d@e.f>;", "|a@b.c;Joe|d@e.f;", ERR_OK },
        { "an empty group", "undisclosed-recipients:;", "", ERR_OK },
        { "a group and more", "g:a@b.c;, d@e.f", "|a@b.c;|d@e.f;", ERR_OK },
        { "a source route", "<@x.y,@z.w:a@b.c>", "|a@b.c;", ERR_OK },
        { "empty elements", ",a@b.c,,d@e.f,", "|a@b.c;|d@e.f;", ERR_OK },
        { "a bare name with cron's comment", "root (Cron Daemon)", "|root;", ERR_OK },
        { "a quoted local part", "\"a b\"@c.d", "|\"a b\"@c.d;", ERR_OK },
        { "a literal", "a@[192.0.2.1]", "|a@[192.0.2.1];", ERR_OK },
        { "UTF-8", "J\xc3\xb6rg <j\xc3\xb6@b.c>", "J\xc3\xb6rg|j\xc3\xb6@b.c;", ERR_OK },
        { "nothing", "", "", ERR_OK },
        { "an encoded name", "=?utf-8?q?J=C3=B6rg?= <a@b.c>", "=?utf-8?q?J=C3=B6rg?=|a@b.c;",
          ERR_OK },
        { "two without a comma", "a@b.c d@e.f", "", ERR_INVALID },
        { "an unterminated quote", "\"unterminated <a@b.c>", "", ERR_INVALID },
        { "an unterminated comment", "a@b.c (x", "|a@b.c;", ERR_INVALID },
        { "an unclosed bracket", "<a@b.c", "", ERR_INVALID },
        { "an unopened bracket", "a@b.c>", "|a@b.c;", ERR_INVALID },
        { "an empty bracket", "Joe <>", "", ERR_INVALID },
        { "words alone", "Joe Doe", "", ERR_INVALID },
        { "an unquoted comma", "Doe, Joe Q <a@b.c>", "|Doe;Joe Q|a@b.c;", ERR_OK },
        { "an unclosed group", "g: a@b.c", "|a@b.c;", ERR_INVALID },
        { "an unclosed group behind a comma", "g: a@b.c,", "|a@b.c;", ERR_INVALID },
        { "a group in a group", "g: h: a@b.c;;", "", ERR_INVALID },
        { "a semicolon as separator", "a@b.c; d@e.f", "|a@b.c;", ERR_INVALID },
        { "two dots", "a..b@c.d", "", ERR_INVALID },
        { "no domain", "a@", "", ERR_INVALID },
        { "no local part", "@b.c", "", ERR_INVALID },
        { "two @", "a@b@c", "|a@b;", ERR_INVALID },
        { "a tail behind the bracket", "Joe <a@b.c> x", "Joe|a@b.c;", ERR_INVALID },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena arena;
        struct buf out;
        struct fault fault = { ERR_OK, "" };
        arena_init(&arena);
        buf_init(&out, 1000);
        enum err rc = addr_list(str_of(rows[i].in), &arena, collect, &out, &fault);
        if (rc != rows[i].err || !str_eq(buf_view(&out), str_of(rows[i].out)))
            fail_msg("%s: %d %s " STR_FMT, rows[i].name, rc, fault.text, STR_ARG(buf_view(&out)));
        assert_int_equal(rc != ERR_OK, fault.text[0] != '\0');
        buf_clear(&out);
        arena_clear(&arena);
    }
}

static bool stop(void *arg, const struct addr_mailbox *mailbox)
{
    (void)mailbox;
    ++*(int *)arg;
    return false;
}

static void a_list_can_be_left(void **state)
{
    struct arena arena;
    int count = 0;

    (void)state;
    arena_init(&arena);
    assert_int_equal(addr_list(STR("a@b.c, d@e.f, \"x"), &arena, stop, &count, NULL), ERR_OK);
    assert_int_equal(count, 1);
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths),           cmocka_unit_test(canonical_is_stable),
        cmocka_unit_test(whole_addresses), cmocka_unit_test(patterns),
        cmocka_unit_test(lists),           cmocka_unit_test(a_list_can_be_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
