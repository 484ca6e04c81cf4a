/*
 * msgid_test.c - ids ascend, print, and are read back from what people type.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/msgid.h"

static void ids_of_one_maker_ascend(void **state)
{
    struct msgid_maker maker;
    struct msgid last = { { 0 } };
    int64_t ms = 1795267656123;

    (void)state;
    msgid_maker_init(&maker);
    assert_true(msgid_is_nil(&last));
    for (int i = 0; i < 200000; i++) {
        if (i == 1000)
            ms -= 3600000; /* the wall clock is set back */
        struct msgid id = msgid_make(&maker, ms);
        assert_true(msgid_cmp(&id, &last) > 0);
        assert_false(msgid_is_nil(&id));
        last = id;
    }
    /* 200,000 ids of one millisecond have borrowed three of the next ones */
    assert_int_equal(msgid_wall_ms(&last), 1795267656123 + 3);
    struct msgid later = msgid_make(&maker, 1795267656999);
    assert_int_equal(msgid_wall_ms(&later), 1795267656999);
}

static void makers_differ(void **state)
{
    struct msgid_maker a, b;

    (void)state;
    msgid_maker_init(&a);
    msgid_maker_init(&b);
    struct msgid of_a = msgid_make(&a, 5), of_b = msgid_make(&b, 5);
    assert_int_not_equal(msgid_cmp(&of_a, &of_b), 0);
    struct msgid next = msgid_make(&a, 6);
    assert_memory_not_equal(of_a.bytes + 8, next.bytes + 8, 8); /* stirred */
}

static void printing_and_reading(void **state)
{
    static const struct {
        const char *name;
        uint8_t bytes[MSGID_BYTES];
        const char *text;
    } rows[] = {
        { "nil", { 0 }, "00000000000000000000000000" },
        { "one", { [15] = 1 }, "00000000000000000000000001" },
        { "the highest bit", { 0x80 }, "40000000000000000000000000" },
        { "all ones",
          { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255 },
          "7zzzzzzzzzzzzzzzzzzzzzzzzz" },
        { "every byte another",
          { 0x01, 0x56, 0x3E, 0x3A, 0xB5, 0xD3, 0xD6, 0x76, 0x4C, 0x61, 0xEF, 0xB9, 0x93, 0x02,
            0xBD, 0x5B },
          "01arz3ndektsv4rrffq69g5fav" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct msgid id, read;
        char text[MSGID_TEXT + 1];
        memcpy(id.bytes, rows[i].bytes, MSGID_BYTES);
        msgid_print(&id, text);
        assert_string_equal(text, rows[i].text);
        assert_true(msgid_parse(str_of(text), &read));
        assert_int_equal(msgid_cmp(&id, &read), 0);
    }
}

static void what_people_type(void **state)
{
    static const struct {
        const char *name, *text, *same_as; /* NULL: refused */
    } rows[] = {
        { "upper case", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav" },
        { "o for 0, i and l for 1", "oiLrz3ndektsv4rrffq69g5fav", "011rz3ndektsv4rrffq69g5fav" },
        { "u is no letter of it", "01uarz3ndektsv4rrffq69g5fa", NULL },
        { "too short", "01arz3ndektsv4rrffq69g5fa", NULL },
        { "too long", "01arz3ndektsv4rrffq69g5fav0", NULL },
        { "more than 128 bits", "80000000000000000000000000", NULL },
        { "punctuation", "01arz3ndektsv4rrffq69g5fa!", NULL },
        { "nothing", "", NULL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct msgid id, same;
        bool ok = msgid_parse(str_of(rows[i].text), &id);
        if (ok != (rows[i].same_as != NULL))
            fail_msg("%s", rows[i].name);
        if (ok && (!msgid_parse(str_of(rows[i].same_as), &same) || msgid_cmp(&id, &same) != 0))
            fail_msg("%s: read as something else", rows[i].name);
    }
    struct msgid id;
    assert_false(msgid_parse(str_make("0000000000000\0000000000000", 26), &id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_of_one_maker_ascend),
        cmocka_unit_test(makers_differ),
        cmocka_unit_test(printing_and_reading),
        cmocka_unit_test(what_people_type),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
