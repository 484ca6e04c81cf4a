/*
 * reply_test.c - reading peers' replies, printing our own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/mail/reply.h"

#include <stdio.h>

/* Feed the lines of `in`, separated by '|'; what the last one gave. */
static enum err feed_all(struct reply *reply, const char *in)
{
    struct str rest = str_of(in), line;
    enum err rc = ERR_AGAIN;

    reply_clear(reply);
    while (rc == ERR_AGAIN && str_next(&rest, '|', &line))
        rc = reply_feed(reply, line);
    return rc;
}

static void reading(void **state)
{
    static const struct {
        const char *name, *in;
        enum err err;
        unsigned code;
        const char *status, *text;
    } rows[] = {
        { "one line", "250 ok", ERR_OK, 250, "", "ok" },
        { "a code alone", "250", ERR_OK, 250, "", "" },
        { "a code and a space", "354 ", ERR_OK, 354, "", "" },
        { "enhanced code", "550 5.1.1 no such user", ERR_OK, 550, "5.1.1", "no such user" },
        { "enhanced code alone", "250 2.0.0", ERR_OK, 250, "2.0.0", "" },
        { "enhanced code on each line", "450-4.2.1 first|450 4.2.1 second", ERR_OK, 450, "4.2.1",
          "first\nsecond" },
        { "enhanced code on the last line only", "450-first|450 4.2.1 second", ERR_OK, 450, "4.2.1",
          "first\nsecond" },
        { "enhanced code of another class is text", "450 5.1.1 odd", ERR_OK, 450, "", "5.1.1 odd" },
        { "a hash before it, as IronPort does", "550 #5.1.0 Address rejected.", ERR_OK, 550,
          "5.1.0", "#5.1.0 Address rejected." },
        { "a version number is not one", "220 2.0.0.1 ready", ERR_OK, 220, "", "2.0.0.1 ready" },
        { "an address is not one", "550 5.6.7.8 listed", ERR_OK, 550, "", "5.6.7.8 listed" },
        { "large numbers", "554 5.300.999 x", ERR_OK, 554, "5.300.999", "x" },
        { "too large numbers", "554 5.3000.1 x", ERR_OK, 554, "", "5.3000.1 x" },
        { "not whole yet", "250-first", ERR_AGAIN, 250, "", "first" },
        { "another code in between", "250-first|550 second", ERR_INVALID, 250, "",
          "first\n550 second" },
        { "no code", "HTTP/1.1 400 Bad Request", ERR_INVALID, 0, "", "HTTP/1.1 400 Bad Request" },
        { "1xx", "150 opening", ERR_INVALID, 0, "", "150 opening" },
        { "6xx", "600 x", ERR_INVALID, 0, "", "600 x" },
        { "four digits", "2500 x", ERR_INVALID, 0, "", "2500 x" },
        { "empty line", "|", ERR_INVALID, 0, "", "" },
        { "odd second digit", "299 x", ERR_OK, 299, "", "x" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reply reply;
        char status[16];
        enum err rc = feed_all(&reply, rows[i].in);
        status_print(reply.status, status, sizeof(status));
        if (rc != rows[i].err || reply.code != rows[i].code ||
            strcmp(status, rows[i].status) != 0 ||
            !str_eq(reply_text(&reply), str_of(rows[i].text)))
            fail_msg("%s: err %d code %u status %s text %s", rows[i].name, rc, reply.code, status,
                     reply.text);
    }
}

static void limits(void **state)
{
    struct reply reply;
    char line[3000];

    (void)state;
    memset(line, 'x', sizeof(line));
    memcpy(line, "250-", 4);
    reply_clear(&reply);
    assert_int_equal(reply_feed(&reply, str_make(line, 1000)), ERR_AGAIN);
    assert_int_equal(reply_feed(&reply, str_make(line, 1000)), ERR_AGAIN);
    assert_false(reply.cut);
    assert_int_equal(reply_feed(&reply, str_make(line, 1000)), ERR_AGAIN);
    assert_true(reply.cut);
    assert_int_equal(reply.len, 996 + 1 + 996); /* whole lines only */

    reply_clear(&reply);
    assert_int_equal(reply_feed(&reply, str_make(line, sizeof(line))), ERR_AGAIN);
    assert_int_equal(reply.len, REPLY_TEXT_MAX - 1); /* the first is cut inside */

    reply_clear(&reply);
    for (unsigned i = 0; i < REPLY_LINES_MAX; i++)
        assert_int_equal(reply_feed(&reply, STR("250-x")), ERR_AGAIN);
    assert_int_equal(reply_feed(&reply, STR("250 end")), ERR_INVALID);
}

static void printing(void **state)
{
    static const struct {
        const char *name;
        unsigned code;
        struct status status;
        const char *text, *wire, *line;
    } rows[] = {
        { "one line", 250, { 2, 1, 0 }, "ok", "250 2.1.0 ok\r\n", "250 2.1.0 ok" },
        { "no text", 250, { 2, 1, 0 }, "", "250 2.1.0\r\n", "250 2.1.0" },
        { "no status", 220, { 0, 0, 0 }, "hi", "220 hi\r\n", "220 hi" },
        { "nothing but a code", 354, { 0, 0, 0 }, "", "354 \r\n", "354" },
        { "3xx carries none",
          334,
          { 3, 0, 0 },
          "VXNlcg==",
          "334 VXNlcg==\r\n",
          "334 3.0.0 VXNlcg==" },
        { "several lines",
          550,
          { 5, 7, 1 },
          "no\nrelay",
          "550-5.7.1 no\r\n550 5.7.1 relay\r\n",
          "550 5.7.1 no / relay" },
        { "an empty line in between",
          250,
          { 0, 0, 0 },
          "a\n\nb",
          "250-a\r\n250-\r\n250 b\r\n",
          "250 a /  / b" },
        { "control characters do not pass",
          501,
          { 0, 0, 0 },
          "a\rb\x1b[1m",
          "501 a?b?[1m\r\n",
          "501 a\rb\x1b[1m" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reply reply;
        struct buf wire, line;
        buf_init(&wire, 4096);
        buf_init(&line, 4096);
        reply_set(&reply, rows[i].code, rows[i].status, "%s", rows[i].text);
        reply_wire(&reply, &wire);
        reply_line(&reply, &line);
        if (!str_eq(buf_view(&wire), str_of(rows[i].wire)) ||
            !str_eq(buf_view(&line), str_of(rows[i].line)))
            fail_msg("%s: " STR_FMT STR_FMT, rows[i].name, STR_ARG(buf_view(&wire)),
                     STR_ARG(buf_view(&line)));
        buf_clear(&wire);
        buf_clear(&line);
    }
}

static void long_lines_are_broken(void **state)
{
    struct reply reply, again;
    struct buf wire;
    char text[2000];

    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        text[i] = i % 7 == 6 ? ' ' : 'a';
    text[sizeof(text) - 1] = '\0';
    reply_set(&reply, 550, STATUS(5, 0, 0), "%s", text);
    buf_init(&wire, 8192);
    reply_wire(&reply, &wire);

    struct str rest = buf_view(&wire), line;
    enum err rc = ERR_AGAIN;
    reply_clear(&again);
    while (str_next(&rest, '\n', &line)) {
        assert_true(line.len + 1 <= 512);
        assert_int_equal(rc, ERR_AGAIN);
        rc = reply_feed(&again, str_head(line, line.len - 1));
    }
    assert_int_equal(rc, ERR_OK);
    for (size_t i = 0; i < again.len; i++) /* only line ends were added */
        if (again.text[i] == '\n')
            memmove(again.text + i, again.text + i + 1, again.len-- - i);
    assert_true(str_eq(reply_text(&again), reply_text(&reply)));
    buf_clear(&wire);
}

static void kinds(void **state)
{
    struct reply reply;

    (void)state;
    reply_set(&reply, 250, STATUS(0, 0, 0), "x");
    assert_true(reply_is_positive(&reply));
    reply_set(&reply, 354, STATUS(0, 0, 0), "x");
    assert_true(reply_is_intermediate(&reply));
    reply_set(&reply, 421, STATUS(0, 0, 0), "x");
    assert_true(reply_is_transient(&reply) && !reply_is_permanent(&reply));
    reply_set(&reply, 550, STATUS(0, 0, 0), "%s\n%s", "a", "b");
    assert_true(reply_is_permanent(&reply) && !reply_is_positive(&reply));
    assert_int_equal(reply.line_count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading),  cmocka_unit_test(limits),
        cmocka_unit_test(printing), cmocka_unit_test(long_lines_are_broken),
        cmocka_unit_test(kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
