/*
 * header_test.c - fields, unfolding, parameters, and the end of the block.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/mail/header.h"

static void fields(void **state)
{
    static const struct {
        const char *name, *in, *out;
        enum err err;
    } rows[] = {
        { "two", "A: b\r\nC:d\r\n\r\nE: f\r\n", "[A][ b][C][d]", ERR_OK },
        { "folded", "A: b\r\n\tc\r\n d\r\nE: f\r\n\r\n", "[A][ b\r\n\tc\r\n d][E][ f]", ERR_OK },
        { "blank before the colon", "A \t: b\r\n\r\n", "[A][ b]", ERR_OK },
        { "empty value", "A:\r\n\r\n", "[A][]", ERR_OK },
        { "value only on the next line", "A:\r\n b\r\n\r\n", "[A][\r\n b]", ERR_OK },
        { "a colon in the value", "A: b: c\r\n", "[A][ b: c]", ERR_OK },
        { "no empty line", "A: b\r\nC: d\r\n", "[A][ b][C][ d]", ERR_OK },
        { "no line end", "A: b", "[A][ b]", ERR_OK },
        { "8-bit value", "A: \xe4\r\n", "[A][ \xe4]", ERR_OK },
        { "nothing", "", "", ERR_OK },
        { "only the empty line", "\r\n", "", ERR_OK },
        { "no colon", "A: b\r\nhello\r\n\r\n", "[A][ b]", ERR_INVALID },
        { "colon only in the folded line", "A\r\n b: c\r\n", "", ERR_INVALID },
        { "begins with a fold", " A: b\r\n", "", ERR_INVALID },
        { "mbox line", "From a@b Sat Jan  1 00:00:00 2000\r\n", "", ERR_INVALID },
        { "blank in the name", "A b: c\r\n", "", ERR_INVALID },
        { "8-bit name", "\xc3\xa4: c\r\n", "", ERR_INVALID },
        { "no name", ": c\r\n", "", ERR_INVALID },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str rest = str_of(rows[i].in);
        struct header_field field;
        struct buf out;
        enum err rc;
        buf_init(&out, 1000);
        while (header_next(&rest, &field, &rc))
            buf_printf(&out, "[" STR_FMT "][" STR_FMT "]", STR_ARG(field.name),
                       STR_ARG(field.value));
        if (rc != rows[i].err || !str_eq(buf_view(&out), str_of(rows[i].out)))
            fail_msg("%s: %d " STR_FMT, rows[i].name, rc, STR_ARG(buf_view(&out)));
        buf_clear(&out);
    }
}

static void finding(void **state)
{
    struct str block = STR("A: 1\r\nb: 2\r\nB: 3\r\n\r\n");
    struct header_field field;
    struct arena arena;
    size_t count;

    (void)state;
    arena_init(&arena);
    assert_true(header_find(block, STR("B"), &field, &count));
    assert_int_equal(count, 2);
    assert_true(str_eq(header_unfold(field.value, &arena), STR("2")));
    assert_true(header_find(block, STR("a"), NULL, NULL));
    assert_false(header_find(block, STR("C"), &field, &count));
    assert_int_equal(count, 0);
    assert_true(str_eq(header_unfold(STR("  a\r\n b\r\n\tc \r\n"), &arena), STR("a b\tc")));
    assert_true(str_eq(header_unfold(STR(" \r\n "), &arena), STR("")));
    assert_true(str_eq(header_unfold(STR("a\rb"), &arena), STR("ab")));
    arena_clear(&arena);
}

static void params(void **state)
{
    static const struct {
        const char *name, *value, *param, *out;
    } rows[] = {
        { "token", " multipart/mixed; boundary=abc", "boundary", "abc" },
        { "another case", "multipart/mixed; Boundary=abc", "boundary", "abc" },
        { "quoted", "multipart/mixed; boundary=\"a b;c\"; x=y", "boundary", "a b;c" },
        { "quoted pair", "x/y; n=\"a\\\"b\\\\\"", "n", "a\"b\\" },
        { "blanks and folding", "x/y ;\r\n\t n = \r\n \"v\" ; m=w", "m", "w" },
        { "comments", "x/y (a;b=c) ; (n=1) n (c) = (d) v (e); m=2", "n", "v" },
        { "semicolon in an earlier quoted value", "x/y; a=\"b; n=1\"; n=2", "n", "2" },
        { "illegal token characters", "x/y; boundary=----=_Part_1@host:3", "boundary",
          "----=_Part_1@host:3" },
        { "absent", "x/y; a=b", "n", "" },
        { "no prefix match", "x/y; name2=b", "name", "" },
        { "extended", "x/y; n*=utf-8'de'%C3%A4%20b", "n", "\xc3\xa4 b" },
        { "continued", "x/y; n*1=\"cd\"; n*0=ab; n*2=ef", "n", "abcdef" },
        { "continued and extended", "x/y; n*0*=us-ascii''a%20b; n*1=%20; n*2*=%20c", "n",
          "a b%20 c" },
        { "gap in the pieces", "x/y; n*0=a; n*2=c", "n", "a" },
        { "unclosed quote", "x/y; n=\"abc", "n", "abc" },
        { "nonsense between", "x/y; ; =; z ; n=v", "n", "v" },
        { "nothing", "", "n", "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena arena;
        arena_init(&arena);
        struct str out = header_param(str_of(rows[i].value), str_of(rows[i].param), &arena);
        if (!str_eq(out, str_of(rows[i].out)))
            fail_msg("%s: " STR_FMT, rows[i].name, STR_ARG(out));
        arena_clear(&arena);
    }
}

static void scanning(void **state)
{
    static const struct {
        const char *in;
        size_t used; /* 0: no end */
    } rows[] = {
        { "A: b\r\n\r\nbody", 8 },   { "\r\nbody", 2 },       { "A: b\r\nC: d\r\n", 0 },
        { "A: b\r\n \r\n\r\n", 11 }, { "A: b\r\n\r", 0 },     { "A: b\r\n\rx\r\n\r\n", 12 },
        { "A: b\n\nbody", 6 },       { "A:\r\n\r\n\r\n", 6 }, { "", 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str in = str_of(rows[i].in);
        for (size_t step = 1; step <= in.len + 1; step++) {
            struct header_scan scan;
            size_t total = 0, used = 0;
            bool found = false;
            header_scan_init(&scan);
            for (size_t at = 0; at < in.len && !found; at += step) {
                found = header_scan_feed(&scan, str_head(str_from(in, at), step), &used);
                total += used;
            }
            if (found != (rows[i].used > 0) || (found && total != rows[i].used))
                fail_msg("row %zu step %zu: %zu", i, step, total);
            assert_int_equal(scan.seen, total);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields),
        cmocka_unit_test(finding),
        cmocka_unit_test(params),
        cmocka_unit_test(scanning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
