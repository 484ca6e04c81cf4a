/*
 * Queue tables as people read them, from the JSON of the API.
 */
#include "relay/cli/queue_text.h"

#include "relay/api/queue_json.h"
#include "relay/cli/queue_wish.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW 1800000000 /* 2027-01-15T08:00:00Z */

static const struct show_paint bright = { "<b>", "<r>", "<y>", "<g>", "<d>", "</>" };

typedef void render_fn(const json_t *json, int64_t now_s, const struct show_paint *paint,
                       struct buf *out);

static void renders(render_fn *fn, const char *text, const struct show_paint *paint,
                    const char *want)
{
    json_error_t error;
    json_t *json = json_loads(text, 0, &error);
    struct buf out;

    if (!json)
        fail_msg("%s in %s", error.text, text);
    buf_init(&out, 65536);
    fn(json, NOW, paint, &out);
    buf_char(&out, '\0');
    assert_string_equal(out.at, want);
    buf_clear(&out);
    json_decref(json);
}

static void sizes_and_spans(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {
        { 0, "0" },
        { 999, "999" },
        { 1000, "1.0K" },
        { 12595, "12.3K" },
        { 1023999, "1.0M" },
        { 52428800, "50.0M" },
        { 1073741824, "1.0G" },
        { UINT64_MAX / 16, "1.0E" },
    };
    struct buf out;

    (void)state;
    buf_init(&out, 256);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_reset(&out);
        show_size(&out, rows[i].bytes);
        buf_char(&out, '\0');
        assert_string_equal(out.at, rows[i].text);
    }
    buf_clear(&out);
}

static void times(void **state)
{
    static const struct {
        const char *text;
        int64_t us; /* -1: refused */
    } rows[] = {
        { "2027-01-15T08:00:00.000Z", (int64_t)NOW * 1000000 },
        { "2027-01-15T08:00:00.123Z", (int64_t)NOW * 1000000 + 123000 },
        { "1970-01-01T00:00:00.000Z", 0 },
        { "2027-01-15T08:00:00Z", -1 },
        { "2027-01-15 08:00:00.000Z", -1 },
        { "2027-01-15T08:0x:00.000Z", -1 },
        { "", -1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t us = -1;
        assert_int_equal(show_iso(str_of(rows[i].text), &us), rows[i].us >= 0);
        assert_int_equal(us, rows[i].us);
    }
}

static void rows(void **state)
{
    (void)state;
    renders(queue_text_row,
            "{\"id\":\"0123456789abcdefghjkmnpqrs\",\"arrived\":\"2027-01-15T05:55:00.000Z\","
            "\"size\":12595,\"sender\":\"a@here.test\",\"recipient-count\":3,\"recipients\":["
            "{\"address\":\"b@b.test\",\"state\":\"queued\",\"attempts\":3,"
            "\"due\":\"2027-01-15T08:12:00.000Z\",\"reply\":\"452 4.2.2 mailbox full\"},"
            "{\"address\":\"c@c.test\",\"state\":\"held\",\"attempts\":1,"
            "\"held-since\":\"2027-01-15T07:00:00.000Z\",\"cause\":\"no address\"}]}",
            &show_plain,
            "0123456789abcdefghjkmnpqrs  2h 05m   12.3K    a@here.test\n"
            "    b@b.test  queued, 3 attempts, next in 12m: 452 4.2.2 mailbox full\n"
            "    c@c.test  held for 1h, 1 attempt: no address\n"
            "    (3 recipients in all)\n");
    renders(queue_text_row, "{\"id\":\"0123456789abcdefghjkmnpqrs\",\"corrupt\":true}", &show_plain,
            "0123456789abcdefghjkmnpqrs  cannot be read; waypost queue drop "
            "0123456789abcdefghjkmnpqrs removes it\n");
}

static void what_came_from_outside_is_escaped(void **state)
{
    (void)state;
    renders(queue_text_row,
            "{\"id\":\"0123456789abcdefghjkmnpqrs\",\"arrived\":\"2027-01-15T08:00:00.000Z\","
            "\"size\":1,\"sender\":\"a\\u001b[2J@x\",\"recipient-count\":1,\"recipients\":["
            "{\"address\":\"b\\nc@x\",\"state\":\"failed\",\"attempts\":1,"
            "\"reply\":\"550 no\\r\\nid forged\\u202e\"}]}",
            &bright,
            "0123456789abcdefghjkmnpqrs  0s       1        a\\x1B[2J@x\n"
            "    b\\x0Ac@x  <r>failed</>, 1 attempt: 550 no\\x0D\\x0Aid forged\\xE2\\x80\\xAE\n");
}

static void whole_message(void **state)
{
    (void)state;
    renders(queue_text_message,
            "{\"id\":\"0123456789abcdefghjkmnpqrs\",\"arrived\":\"2027-01-15T07:00:00.000Z\","
            "\"size\":999,\"sender\":\"<>\",\"client\":\"[192.0.2.1]:99\","
            "\"message-id\":\"<m@x>\",\"flags\":[\"tls\",\"8bit\"],\"recipients\":["
            "{\"address\":\"b@b.test\",\"state\":\"queued\",\"attempts\":1,"
            "\"lane\":\"direct/b.test\",\"due\":\"2027-01-15T07:59:00.000Z\","
            "\"tried\":\"2027-01-15T07:30:00.000Z\",\"stage\":\"rcpt\",\"class\":\"soft\","
            "\"status\":\"4.2.2\",\"host\":\"mx.b.test\",\"reply\":\"452 full\","
            "\"cause\":\"The mailbox is full.\",\"fix\":\"Nothing to do.\","
            "\"notify\":[\"failure\",\"delay\"],\"warned\":true}]}",
            &show_plain,
            "id          0123456789abcdefghjkmnpqrs\n"
            "arrived     2027-01-15T07:00:00.000Z, 1h ago\n"
            "size        999\n"
            "sender      <>\n"
            "client      [192.0.2.1]:99\n"
            "Message-ID  <m@x>\n"
            "flags       tls, 8bit\n"
            "\n"
            "b@b.test  queued, 1 attempt, due now\n"
            "  lane        direct/b.test\n"
            "  due         2027-01-15T07:59:00.000Z\n"
            "  last try    2027-01-15T07:30:00.000Z\n"
            "  stopped at  rcpt, class soft, status 4.2.2\n"
            "  host        mx.b.test\n"
            "  reply       452 full\n"
            "  cause       The mailbox is full.\n"
            "  next step   Nothing to do.\n"
            "  notify      failure, delay\n"
            "  warned      the sender was told of the delay\n");
}

static void lanes(void **state)
{
    (void)state;
    renders(queue_text_lane,
            "{\"lane\":\"direct/b.test\",\"state\":\"sleeping\",\"queued\":12,\"held\":3,"
            "\"connections\":1,\"wakes\":\"2027-01-15T08:01:30.000Z\",\"trouble\":\"refused\"}",
            &bright,
            "direct/b.test                     <r>sleeping</>   12       3      1    next in 1m "
            "30s\n    refused\n");
    renders(queue_text_lane, "{\"lane\":\"ses/*\",\"queued\":1,\"held\":0}", &show_plain,
            "ses/*                             -          1        0      0    -\n");
}

/* What the daemon's side makes is what the tables read. */
static void from_an_envelope(void **state)
{
    struct envelope envelope;
    struct store_filter filter = { .any_state = true };
    struct recipient *recipient;
    struct buf out;
    json_t *json;

    (void)state;
    envelope_init(&envelope);
    envelope.id.bytes[15] = 1;
    envelope.arrived_us = (int64_t)(NOW - 60) * 1000000;
    for (unsigned i = 0; i < 30; i++) {
        char address[32];
        snprintf(address, sizeof(address), "r%u@b.test", i);
        recipient = envelope_add(&envelope, str_of(address));
        recipient->lane = STR("direct/b.test");
        recipient->due_at = NOW + 60;
        recipient->said = STR("4\xe9");
    }
    json = queue_json_listed(&envelope, &filter);
    assert_int_equal(json_array_size(json_object_get(json, "recipients")), QUEUE_JSON_RECIPIENTS);
    buf_init(&out, 65536);
    queue_text_row(json, NOW, &show_plain, &out);
    buf_char(&out, '\0');
    assert_non_null(strstr(out.at, "<>\n    r0@b.test  queued, next in 1m: 4\xc3\xa9\n"));
    assert_non_null(strstr(out.at, "(30 recipients in all)"));
    json_decref(json);
    filter.recipient = STR("r29@b.test");
    json = queue_json_listed(&envelope, &filter);
    assert_int_equal(json_array_size(json_object_get(json, "recipients")), 1);
    json_decref(json);
    buf_clear(&out);
    envelope_clear(&envelope);
}

/* A line of words, as a shell would split it. */
struct line {
    char room[256];
    char *argv[16];
    int argc;
};

static int read_line(const char *text, const char *allowed, struct line *line,
                     struct queue_wish *wish)
{
    struct str rest = str_of(text), word;
    size_t at = 0;

    *line = (struct line){ 0 };
    while (str_next(&rest, ' ', &word)) {
        line->argv[line->argc++] = line->room + at;
        at += str_copy(line->room + at, sizeof(line->room) - at, word) + 1;
    }
    return queue_wish_read(line->argc, line->argv, allowed, wish);
}

static void wishes(void **state)
{
    struct queue_wish wish;
    struct line line;

    (void)state;
    assert_int_equal(read_line("list --lane b+c&d 01 --older-than=2h --deferred --limit 7 --json",
                               "fjn", &line, &wish),
                     0);
    buf_char(&wish.query, '\0');
    assert_string_equal(wish.query.at, "?&lane=b%2Bc%26d&older-than=2h&deferred=1");
    assert_true(wish.json);
    assert_int_equal(wish.limit, 7);
    assert_int_equal(wish.word_count, 1);
    assert_true(wish.filter.deferred_only);
    assert_int_equal(wish.filter.lane.len, 5);
    assert_int_not_equal(queue_wish_ids(&wish), 0);
    queue_wish_clear(&wish);
}

static void lines_that_are_refused(void **state)
{
    static const struct {
        const char *text, *allowed;
    } rows[] = {
        { "list --state odd", "fjn" }, { "show --lane x", "jc" },   { "list --all", "fjn" },
        { "list --limit 0", "fjn" },   { "list --limit x", "fjn" }, { "list --lane", "fjn" },
        { "list --colour", "fjn" },    { "flush --user x", "lj" },  { "list --id x", "fjn" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct queue_wish wish;
        struct line line;
        assert_int_equal(read_line(rows[i].text, rows[i].allowed, &line, &wish), 64);
        queue_wish_clear(&wish);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_spans),
        cmocka_unit_test(times),
        cmocka_unit_test(rows),
        cmocka_unit_test(what_came_from_outside_is_escaped),
        cmocka_unit_test(whole_message),
        cmocka_unit_test(lanes),
        cmocka_unit_test(from_an_envelope),
        cmocka_unit_test(wishes),
        cmocka_unit_test(lines_that_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
