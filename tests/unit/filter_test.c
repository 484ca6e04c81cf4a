/*
 * Filters as words: what each row of the table accepts and means.
 */
#include "relay/api/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NOW 1800000000

static void spans(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds; /* -1: refused */
    } rows[] = {
        { "0", 0 },
        { "90", 90 },
        { "90s", 90 },
        { "15m", 900 },
        { "2h", 7200 },
        { "1h30m", 5400 },
        { "3d", 259200 },
        { "1w2d", 777600 },
        { "", -1 },
        { "h", -1 },
        { "2x", -1 },
        { "-2h", -1 },
        { "2 h", -1 },
        { "1.5h", -1 },
        { "2h ", -1 },
        { "99999999999999999999", -1 },
        { "9999999999w", -1 },
        { "36500d1s", -1 },
        { "soon", -1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t seconds = -1;
        bool ok = filter_seconds(str_of(rows[i].text), &seconds);
        if (ok != (rows[i].seconds >= 0) || seconds != rows[i].seconds)
            fail_msg("\"%s\": %lld", rows[i].text, (long long)seconds);
    }
}

static void values(void **state)
{
    static const struct {
        const char *name, *value;
        enum err err;
        const char *says;
    } rows[] = {
        { "id", "0123456789abcdefghjkmnpqrs", ERR_OK, "" },
        { "id", "0123", ERR_INVALID, "id: \"0123\" is not understood (one message" },
        { "lane", "direct/b.test", ERR_OK, "" },
        { "lane", "", ERR_INVALID, "lane" },
        { "sender", "<>", ERR_OK, "" },
        { "recipient", "@b.test", ERR_OK, "" },
        { "user", "anna", ERR_OK, "" },
        { "state", "held", ERR_OK, "" },
        { "state", "lost\n\x1b[31m", ERR_INVALID, "lost\\x0A\\x1B[31m" },
        { "older-than", "2h", ERR_OK, "" },
        { "newer-than", "tomorrow", ERR_INVALID, "(arrived more recently than this: 90" },
        { "deferred", "", ERR_OK, "" },
        { "deferred", "1", ERR_OK, "" },
        { "deferred", "0", ERR_OK, "" },
        { "deferred", "maybe", ERR_INVALID, "maybe" },
        { "colour", "red", ERR_INVALID,
          "no filter is named \"colour\"; there are: id lane sender" },
        { "", "x", ERR_INVALID, "there are" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct store_filter filter;
        struct fault fault = { 0 };
        filter_init(&filter);
        enum err rc = filter_set(&filter, str_of(rows[i].name), str_of(rows[i].value), NOW, &fault);
        if (rc != rows[i].err || !strstr(fault.text, rows[i].says))
            fail_msg("%s=%s: %s %s", rows[i].name, rows[i].value, err_text(rc), fault.text);
    }
}

static void twice(void **state)
{
    static const char *const rows[][2] = {
        { "id", "0123456789abcdefghjkmnpqrs" },
        { "lane", "direct/b.test" },
        { "sender", "<>" },
        { "recipient", "@b.test" },
        { "user", "anna" },
        { "state", "queued" },
        { "older-than", "2h" },
        { "newer-than", "2h" },
        { "deferred", "1" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str name = str_of(rows[i][0]), value = str_of(rows[i][1]);
        struct store_filter filter;
        struct fault fault = { 0 };
        filter_init(&filter);
        assert_int_equal(filter_set(&filter, name, value, NOW, &fault), ERR_OK);
        assert_int_equal(filter_set(&filter, name, value, NOW, &fault), ERR_INVALID);
        if (!strstr(fault.text, "is given twice"))
            fail_msg("%s: %s", rows[i][0], fault.text);
    }
}

static void meaning(void **state)
{
    struct store_filter filter;
    char long_text[600];

    (void)state;
    filter_init(&filter);
    assert_true(filter_is_all(&filter));
    assert_int_equal(filter_set(&filter, STR("older-than"), STR("2h"), NOW, NULL), 0);
    assert_int_equal(filter.older_than, NOW - 7200);
    assert_false(filter_is_all(&filter));
    filter_init(&filter);
    assert_int_equal(filter_set(&filter, STR("newer-than"), STR("1d"), NOW, NULL), 0);
    assert_int_equal(filter.newer_than, NOW - 86400);
    filter_init(&filter);
    assert_int_equal(filter_set(&filter, STR("state"), STR("queued"), NOW, NULL), 0);
    assert_false(filter.any_state);
    assert_int_equal(filter.state, RECIPIENT_QUEUED);
    assert_false(filter_is_all(&filter));
    filter_init(&filter);
    assert_int_equal(filter_set(&filter, STR("deferred"), STR("0"), NOW, NULL), 0);
    assert_true(filter_is_all(&filter));
    memset(long_text, 'x', sizeof(long_text));
    assert_int_equal(
        filter_set(&filter, STR("lane"), str_make(long_text, sizeof(long_text)), NOW, NULL),
        ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans),
        cmocka_unit_test(values),
        cmocka_unit_test(twice),
        cmocka_unit_test(meaning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
