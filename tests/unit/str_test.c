/*
 * str_test.c - comparing, searching, cutting and reading borrowed text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/str.h"

#include <stdlib.h>

static const struct str nothing = { NULL, 0 };

static void comparing(void **state)
{
    static const struct {
        const char *name, *a, *b;
        bool eq, ieq;
        int cmp;
    } rows[] = {
        { "the same", "abc", "abc", true, true, 0 },
        { "another case", "aBc", "AbC", false, true, 1 },
        { "a prefix comes first", "ab", "abc", false, false, -1 },
        { "empty and empty", "", "", true, true, 0 },
        { "bytes above 127 compare as they are", "\xC3\x84", "\xC3\xA4", false, false, -1 },
        { "only letters have a case", "[", "{", false, false, -1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str a = str_of(rows[i].a), b = str_of(rows[i].b);
        if (str_eq(a, b) != rows[i].eq || str_ieq(a, b) != rows[i].ieq ||
            str_cmp(a, b) != rows[i].cmp)
            fail_msg("%s", rows[i].name);
    }
    assert_true(str_eq(nothing, STR_EMPTY));
    assert_int_equal(str_cmp(nothing, STR("a")), -1);
    assert_true(str_starts(STR("abc"), STR("ab")));
    assert_false(str_starts(STR("a"), STR("ab")));
    assert_true(str_istarts(STR("ABC"), STR("ab")));
    assert_true(str_iends(STR("mx.Example.COM"), STR(".example.com")));
    assert_false(str_iends(STR("com"), STR(".com")));
}

static void searching(void **state)
{
    static const struct {
        const char *name, *in, *needle;
        size_t find, ifind;
    } rows[] = {
        { "at the start", "abc", "a", 0, 0 },
        { "in the middle, case differs", "xxABxx", "ab", 6, 2 },
        { "at the end", "xxab", "ab", 2, 2 },
        { "not there", "xxab", "abc", 4, 4 },
        { "empty needle", "abc", "", 0, 0 },
        { "in nothing", "", "a", 0, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str s = str_of(rows[i].in), needle = str_of(rows[i].needle);
        if (str_find(s, needle) != rows[i].find || str_ifind(s, needle) != rows[i].ifind)
            fail_msg("%s", rows[i].name);
    }
    assert_int_equal(str_chr(STR("a:b"), ':'), 1);
    assert_int_equal(str_chr(STR("ab"), ':'), 2);
    assert_int_equal(str_chr(nothing, ':'), 0);
}

static void cutting(void **state)
{
    static const struct {
        const char *name, *in, *pieces[4];
    } rows[] = {
        { "one piece", "a", { "a" } },
        { "three pieces", "a,b,c", { "a", "b", "c" } },
        { "an empty piece in between", "a,,c", { "a", "", "c" } },
        { "a trailing separator adds nothing", "a,", { "a" } },
        { "a leading one does", ",a", { "", "a" } },
        { "nothing", "", { NULL } },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str rest = str_of(rows[i].in), piece;
        size_t n = 0;
        for (; str_next(&rest, ',', &piece); n++) {
            if (!rows[i].pieces[n] || !str_eq(piece, str_of(rows[i].pieces[n])))
                fail_msg("%s: piece %zu", rows[i].name, n);
        }
        if (rows[i].pieces[n])
            fail_msg("%s: too few", rows[i].name);
    }
    assert_true(str_eq(str_trim(STR(" \t a b\r\n")), STR("a b")));
    assert_true(str_eq(str_trim(STR(" \r\n")), STR_EMPTY));
    assert_int_equal(str_from(STR("ab"), 5).len, 0);
    assert_int_equal(str_from(nothing, 5).len, 0);
    assert_true(str_eq(str_head(STR("abc"), 2), STR("ab")));
    assert_true(str_eq(str_head(STR("abc"), 9), STR("abc")));
}

static void numbers(void **state)
{
    static const struct {
        const char *name, *in;
        bool ok;
        uint64_t value;
    } rows[] = {
        { "zero", "0", true, 0 },
        { "leading zeros", "007", true, 7 },
        { "the largest", "18446744073709551615", true, UINT64_MAX },
        { "one more", "18446744073709551616", false, 0 },
        { "ten times more", "184467440737095516150", false, 0 },
        { "a sign", "+1", false, 0 },
        { "a space", " 1", false, 0 },
        { "letters behind", "1k", false, 0 },
        { "nothing", "", false, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t value = 42;
        if (str_u64(str_of(rows[i].in), &value) != rows[i].ok ||
            value != (rows[i].ok ? rows[i].value : 42))
            fail_msg("%s", rows[i].name);
    }
}

static void utf8(void **state)
{
    static const struct {
        const char *name, *in;
        bool ok;
    } rows[] = {
        { "ASCII", "abc", true },
        { "two, three and four bytes", "\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x93\xA7", true },
        { "a lone continuation", "\x80", false },
        { "cut off", "a\xE2\x82", false },
        { "overlong slash", "\xC0\xAF", false },
        { "overlong in three bytes", "\xE0\x80\xAF", false },
        { "overlong in four bytes", "\xF0\x80\x80\xAF", false },
        { "a surrogate", "\xED\xA0\x80", false },
        { "past the last code point", "\xF4\x90\x80\x80", false },
        { "a byte that never occurs", "\xFF", false },
        { "the last code point", "\xF4\x8F\xBF\xBF", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (str_is_utf8(str_of(rows[i].in)) != rows[i].ok)
            fail_msg("%s", rows[i].name);
    }
    uint32_t point = 0;
    assert_int_equal(str_utf8(STR("\xE2\x82\xACx"), &point), 3);
    assert_int_equal(point, 0x20AC);
    assert_int_equal(str_utf8(nothing, &point), 0);
    assert_true(str_is_ascii(STR("a~")));
    assert_false(str_is_ascii(STR("a\x80")));
}

static void copying(void **state)
{
    char small[4], text[] = "MiXed\xC3\x84";

    (void)state;
    assert_int_equal(str_copy(small, sizeof(small), STR("abcdef")), 3);
    assert_string_equal(small, "abc");
    assert_int_equal(str_copy(small, sizeof(small), nothing), 0);
    assert_string_equal(small, "");
    assert_int_equal(str_copy(NULL, 0, STR("abc")), 0);
    char *copy = str_dup(str_make("abc", 2));
    assert_string_equal(copy, "ab");
    free(copy);
    str_lower(text, strlen(text));
    assert_string_equal(text, "mixed\xC3\x84");
    assert_true(str_hash(STR("a"), 1) != str_hash(STR("a"), 2));
    assert_true(str_hash(STR("a"), 1) != str_hash(STR("b"), 1));
    assert_int_equal(str_hash(STR("a"), 1), str_hash(STR("a"), 1));
    assert_int_equal(str_of(NULL).len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparing), cmocka_unit_test(searching), cmocka_unit_test(cutting),
        cmocka_unit_test(numbers),   cmocka_unit_test(utf8),      cmocka_unit_test(copying),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
