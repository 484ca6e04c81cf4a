/*
 * buf_test.c - the limit holds, the front moves, and nothing unsafe is shown.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/buf.h"

#include <stdlib.h>

static void the_limit_holds(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 5);
    assert_int_equal(buf_view(&buf).len, 0);
    assert_true(buf_cstr(&buf, "abc"));
    assert_false(buf_cstr(&buf, "def"));
    assert_true(buf.overflowed);
    assert_true(str_eq(buf_view(&buf), STR("abc")));
    assert_true(buf_cstr(&buf, "de"));
    assert_false(buf_char(&buf, 'f'));
    assert_null(buf_reserve(&buf, 1));
    buf_reset(&buf);
    assert_false(buf.overflowed);
    assert_false(buf_printf(&buf, "%d", 123456));
    assert_true(buf_printf(&buf, "%d", 12345));
    assert_true(str_eq(buf_view(&buf), STR("12345")));
    assert_false(buf_append(&buf, "x", SIZE_MAX));
    buf_clear(&buf);
    assert_true(buf_cstr(&buf, "again"));
    buf_clear(&buf);
}

static void a_long_run_goes_through(void **state)
{
    struct buf buf;
    uint64_t in = 0, out = 0;

    (void)state;
    buf_init(&buf, 1000);
    for (int round = 0; round < 5000; round++) {
        for (int i = 0; i < 7; i++) {
            if (buf_char(&buf, (char)in))
                in++;
        }
        size_t take = (size_t)(round % 14);
        for (size_t i = 0; i < take && i < buf.len; i++)
            assert_int_equal((unsigned char)buf.at[i], (unsigned char)(out + i));
        out += take < buf.len ? take : buf.len;
        buf_consume(&buf, take);
        assert_int_equal(buf.len, in - out);
    }
    assert_true(buf.cap <= 1001);
    buf_clear(&buf);
}

static void taking_gives_a_string(void **state)
{
    struct buf buf;
    size_t len = 9;

    (void)state;
    buf_init(&buf, 300);
    char *empty = buf_take(&buf, &len);
    assert_string_equal(empty, "");
    assert_int_equal(len, 0);
    free(empty);
    buf_printf(&buf, "%0300d", 7); /* longer than the small buffer inside */
    assert_int_equal(buf.len, 300);
    buf_consume(&buf, 298);
    char *text = buf_take(&buf, NULL);
    assert_string_equal(text, "07");
    assert_int_equal(buf.len, 0);
    free(text);
    char *to = buf_reserve(&buf, 10);
    to[0] = 'x';
    buf_commit(&buf, 1);
    assert_true(str_eq(buf_view(&buf), STR("x")));
    buf_clear(&buf);
}

static const struct {
    const char *name, *in, *escaped, *json;
} unsafe[] = {
    { "plain text stays", "a b=c", "a b=c", "\"a b=c\"" },
    { "a new line", "a\r\nb", "a\\x0D\\x0Ab", "\"a\\u000d\\u000ab\"" },
    { "a terminal sequence", "\x1B[31m", "\\x1B[31m", "\"\\u001b[31m\"" },
    { "DEL", "\x7F", "\\x7F", "\"\\u007f\"" },
    { "a C1 control in UTF-8", "\xC2\x9B", "\\xC2\\x9B", "\"\\u009b\"" },
    { "a backslash", "a\\x41", "a\\\\x41", "\"a\\\\x41\"" },
    { "UTF-8 stays", "\xC3\xA4\xF0\x9F\x93\xA7", "\xC3\xA4\xF0\x9F\x93\xA7",
      "\"\xC3\xA4\xF0\x9F\x93\xA7\"" },
    { "a stray byte", "a\xE4z", "a\\xE4z", "\"a\\u00e4z\"" },
    { "a line separator", "\xE2\x80\xA8", "\\xE2\\x80\\xA8", "\"\\u2028\"" },
    { "right-to-left override", "\xE2\x80\xAE", "\\xE2\\x80\\xAE", "\"\\u202e\"" },
    { "a quote", "say \"hi\"", "say \"hi\"", "\"say \\\"hi\\\"\"" },
};

static void unsafe_text_is_escaped(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 1000);
    for (size_t i = 0; i < sizeof(unsafe) / sizeof(unsafe[0]); i++) {
        buf_reset(&buf);
        assert_true(buf_escaped(&buf, str_of(unsafe[i].in), 100));
        if (!str_eq(buf_view(&buf), str_of(unsafe[i].escaped)))
            fail_msg("%s: " STR_FMT, unsafe[i].name, STR_ARG(buf_view(&buf)));
        buf_reset(&buf);
        assert_true(buf_json(&buf, str_of(unsafe[i].in)));
        if (!str_eq(buf_view(&buf), str_of(unsafe[i].json)))
            fail_msg("%s as JSON: " STR_FMT, unsafe[i].name, STR_ARG(buf_view(&buf)));
    }
    buf_clear(&buf);
}

static void escaping_is_cut_and_all_or_nothing(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 8);
    assert_true(buf_escaped(&buf, STR("abcdef"), 3));
    assert_true(str_eq(buf_view(&buf), STR("abc...")));
    buf_reset(&buf);
    assert_true(buf_escaped(&buf, STR("ab\xC3\xA4z"), 3)); /* no half character */
    assert_true(str_eq(buf_view(&buf), STR("ab...")));
    buf_reset(&buf);
    assert_false(buf_escaped(&buf, STR("a\n\n"), 10));
    assert_int_equal(buf.len, 0);
    assert_false(buf_json(&buf, STR("1234567")));
    assert_int_equal(buf.len, 0);
    assert_true(buf.overflowed);
    buf_clear(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_limit_holds),
        cmocka_unit_test(a_long_run_goes_through),
        cmocka_unit_test(taking_gives_a_string),
        cmocka_unit_test(unsafe_text_is_escaped),
        cmocka_unit_test(escaping_is_cut_and_all_or_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
