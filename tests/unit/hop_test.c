/*
 * hop_test.c - hops survive their compact form, are shown safely, and reach
 * every tap in order or are counted as dropped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/hop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define TIME_US 1795267656123456 /* 2026-11-21T13:27:36.123456Z */

static struct hop full_hop(void)
{
    return (struct hop){
        .id = { { 0x01, 0x56, 0x3E, 0x3A, 0xB5, 0xD3, 0xD6, 0x76, 0x4C, 0x61, 0xEF, 0xB9, 0x93,
                  0x02, 0xBD, 0x5B } },
        .session = 0x1a2b,
        .began_us = TIME_US,
        .ended_us = TIME_US + 1204567,
        .next_us = TIME_US + 900 * INT64_C(1000000),
        .bytes = 12345,
        .count = 2,
        .attempt = 3,
        .weight = HOP_EVENT,
        .side = HOP_OUT,
        .stage = STAGE_RCPT,
        .result = RESULT_LATER,
        .scope = SCOPE_DEST,
        .kind = CLASS_SOFT,
        .code = 452,
        .status_class = 4,
        .status_subject = 2,
        .status_detail = 2,
        .recipient = STR("b@there.test"),
        .sender = STR("<>"),
        .host = STR("mx1.example.net"),
        .peer = STR("[2001:db8::1]:25"),
        .said = STR("452 4.2.2 mailbox \"full\""),
    };
}

static void assert_same(const struct hop *a, const struct hop *b)
{
    assert_int_equal(msgid_cmp(&a->id, &b->id), 0);
    assert_true(a->session == b->session && a->began_us == b->began_us);
    assert_true(a->ended_us == b->ended_us && a->next_us == b->next_us);
    assert_true(a->bytes == b->bytes && a->count == b->count && a->attempt == b->attempt);
    assert_true(a->weight == b->weight && a->side == b->side && a->stage == b->stage);
    assert_true(a->result == b->result && a->scope == b->scope && a->kind == b->kind);
    assert_true(a->code == b->code && a->status_class == b->status_class);
    assert_true(a->status_subject == b->status_subject && a->status_detail == b->status_detail);
#define X(field, key) assert_true(str_eq(a->field, b->field));
    HOP_TEXT_MAP(X)
#undef X
}

static void the_compact_form_keeps_everything(void **state)
{
    struct hop hops[] = {
        { 0 },
        full_hop(),
        { .session = UINT64_MAX,
          .began_us = INT64_MIN,
          .ended_us = INT64_MAX,
          .next_us = -1,
          .bytes = UINT64_MAX,
          .count = UINT32_MAX,
          .attempt = UINT32_MAX,
          .weight = HOP_ALARM,
          .side = HOP_OUT,
          .stage = STAGE_ALARM,
          .result = RESULT_FAILED,
          .scope = SCOPE_US,
          .kind = CLASS_CONFIG,
          .code = UINT16_MAX,
          .status_class = UINT8_MAX,
          .status_subject = UINT16_MAX,
          .status_detail = UINT16_MAX,
          .text = STR("\0\n\xFF") },
    };
    char bytes[HOP_ENCODED_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(hops) / sizeof(hops[0]); i++) {
        struct hop back;
        size_t len = hop_encode(&hops[i], bytes, sizeof(bytes));
        assert_int_equal(hop_decode(str_make(bytes, len), &back), ERR_OK);
        assert_same(&hops[i], &back);
        for (size_t cut = 0; i == 0 && cut < len; cut++) /* no prefix of it is a hop */
            assert_int_not_equal(hop_decode(str_make(bytes, cut), &back), ERR_OK);
    }
    bytes[0] = 99;
    assert_int_equal(hop_decode(str_make(bytes, 40), &hops[0]), ERR_VERSION);
}

static void long_texts_are_cut(void **state)
{
    static char text[3000], bytes[HOP_ENCODED_MAX];
    static const size_t sizes[] = { 256, 300, 512, 4096, HOP_ENCODED_MAX };
    struct hop hop = full_hop(), back;

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(text); i += 2)
        memcpy(text + i, "\xC3\xA4", 2);
#define X(field, key) hop.field = str_make(text, sizeof(text));
    HOP_TEXT_MAP(X)
#undef X
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t len = hop_encode(&hop, bytes, sizes[i]);
        assert_true(len <= sizes[i]);
        assert_int_equal(hop_decode(str_make(bytes, len), &back), ERR_OK);
#define X(field, key)                                                                              \
    assert_true(back.field.len > 0 && back.field.len <= HOP_TEXT_LIMIT);                           \
    assert_true(str_is_utf8(back.field));
        HOP_TEXT_MAP(X)
#undef X
    }
    assert_int_equal(back.text.len, HOP_TEXT_LIMIT);
}

static struct buf out;

static const char *line_of(const struct hop *hop)
{
    buf_reset(&out);
    hop_line(hop, &out);
    buf_char(&out, '\0');
    return out.at;
}

static const char *json_of(const struct hop *hop)
{
    buf_reset(&out);
    hop_json(hop, &out);
    buf_char(&out, '\0');
    return out.at;
}

static void a_line_has_fixed_keys_in_fixed_order(void **state)
{
    struct hop hop = full_hop();
    struct hop login = { .session = 7,
                         .stage = STAGE_AUTH,
                         .side = HOP_IN,
                         .result = RESULT_FAILED,
                         .code = 535,
                         .host = STR("x peer=192.0.2.9:1 \" peer=192.0.2.8:2"),
                         .peer = STR("192.0.2.1:4711"),
                         .user = STR("joe") };

    (void)state;
    assert_string_equal(line_of(&hop),
                        "id=01arz3ndektsv4rrffq69g5fav session=1a2b stage=rcpt side=out "
                        "result=later scope=dest class=soft code=452 status=4.2.2 attempt=3 "
                        "took=1.204s next=2026-11-21T13:42:36.123Z bytes=12345 count=2 "
                        "to=b@there.test from=<> host=mx1.example.net peer=[2001:db8::1]:25 "
                        "reply=\"452 4.2.2 mailbox \\\"full\\\"\"");
    assert_string_equal(line_of(&login), "session=7 stage=auth side=in result=failed code=535 "
                                         "host=\"x peer=192.0.2.9:1 \\\" peer=192.0.2.8:2\" "
                                         "peer=192.0.2.1:4711 user=joe");
    hop = (struct hop){ .stage = STAGE_SERVICE, .text = STR("started") };
    assert_string_equal(line_of(&hop), "stage=service side=us result=ok text=started");
    hop.ended_us = -5; /* the wall clock was set back meanwhile */
    assert_string_equal(line_of(&hop), "stage=service side=us result=ok text=started");
}

static void json_has_the_same_keys(void **state)
{
    struct hop hop = full_hop();

    (void)state;
    assert_string_equal(
        json_of(&hop),
        "{\"time\":\"2026-11-21T13:27:37.328Z\",\"level\":\"info\","
        "\"id\":\"01arz3ndektsv4rrffq69g5fav\",\"session\":\"1a2b\",\"stage\":\"rcpt\","
        "\"side\":\"out\",\"result\":\"later\",\"scope\":\"dest\",\"class\":\"soft\","
        "\"code\":452,\"status\":\"4.2.2\",\"attempt\":3,"
        "\"began\":\"2026-11-21T13:27:36.123Z\",\"took\":1.204,"
        "\"next\":\"2026-11-21T13:42:36.123Z\",\"bytes\":12345,\"count\":2,"
        "\"to\":\"b@there.test\",\"from\":\"<>\",\"host\":\"mx1.example.net\","
        "\"peer\":\"[2001:db8::1]:25\",\"reply\":\"452 4.2.2 mailbox \\\"full\\\"\"}");
    hop = (struct hop){ .stage = STAGE_EHLO };
    assert_string_equal(json_of(&hop), "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"debug\","
                                       "\"stage\":\"ehlo\",\"side\":\"us\",\"result\":\"ok\"}");
}

static void hostile_text_stays_inside_its_value(void **state)
{
    static const struct {
        const char *name, *text, *line, *json;
    } rows[] = {
        { "a forged line", "x\nstage=auth", "host=\"x\\x0Astage=auth\"",
          "\"host\":\"x\\u000astage=auth\"" },
        { "a forged key", "a\" peer=1", "host=\"a\\\" peer=1\"", "\"host\":\"a\\\" peer=1\"" },
        { "a backslash before the end", "a\\", "host=\"a\\\\\"", "\"host\":\"a\\\\\"" },
        { "a terminal sequence", "\x1B]0;x\x07", "host=\"\\x1B]0;x\\x07\"",
          "\"host\":\"\\u001b]0;x\\u0007\"" },
        { "bytes that are no UTF-8", "\xFF\xFE", "host=\"\\xFF\\xFE\"",
          "\"host\":\"\\u00ff\\u00fe\"" },
        { "UTF-8", "m\xC3\xBCller", "host=\"m\xC3\xBCller\"", "\"host\":\"m\xC3\xBCller\"" },
        { "an equals sign", "a=b", "host=\"a=b\"", "\"host\":\"a=b\"" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hop hop = { .stage = STAGE_EHLO, .host = str_of(rows[i].text) };
        if (!str_iends(str_of(line_of(&hop)), str_of(rows[i].line)))
            fail_msg("%s: %s", rows[i].name, line_of(&hop));
        if (!strstr(json_of(&hop), rows[i].json))
            fail_msg("%s: %s", rows[i].name, json_of(&hop));
    }
}

/* ---- the hub --------------------------------------------------------------- */

struct seen {
    uint64_t next[4]; /* by producer: the count expected next */
    atomic_uint_fast64_t hops;
    atomic_uint_fast64_t idles;
    bool gaps; /* drops are expected */
};

/* session: producer + 1; bytes: running number from 1; text: filled with it */
static void see(void *arg, const struct hop *hop, struct str encoded)
{
    struct seen *seen = arg;
    struct hop again;

    assert_int_equal(hop_decode(encoded, &again), ERR_OK);
    uint64_t *next = &seen->next[hop->session - 1];
    assert_true(seen->gaps ? hop->bytes > *next : hop->bytes == *next + 1);
    *next = hop->bytes;
    for (size_t i = 0; i < hop->text.len; i++)
        assert_int_equal((unsigned char)hop->text.at[i], (unsigned char)hop->bytes);
    atomic_fetch_add(&seen->hops, 1);
}

static void see_idle(void *arg) { atomic_fetch_add(&((struct seen *)arg)->idles, 1); }

static void emit_number(struct hop_ring *ring, uint64_t producer, uint64_t number)
{
    char text[400];
    struct hop hop = { .session = producer + 1, .bytes = number, .stage = STAGE_RCPT };

    memset(text, (int)(number & 0xFF), sizeof(text));
    hop.text = str_make(text, number * 37 % sizeof(text));
    hop_emit(ring, &hop);
}

static void drained_by_hand_hops_come_in_order(void **state)
{
    struct hops *hops = hops_new(1);
    struct seen seen = { 0 };
    uint64_t number = 0;

    (void)state;
    hops_tap(hops, see, see_idle, &seen);
    struct hop_ring *ring = hops_ring(hops);
    hop_emit(NULL, &(struct hop){ 0 }); /* nothing happens */
    assert_int_equal(hops_drain(hops), 0);
    assert_int_equal(seen.idles, 0);
    for (int round = 0; round < 300; round++) { /* many times around the ring */
        for (int i = 0; i < 100; i++)
            emit_number(ring, 0, ++number);
        assert_int_equal(hops_drain(hops), 100);
    }
    assert_int_equal(seen.idles, 300);
    assert_int_equal(seen.next[0], number);
    hops_free(&hops);
    assert_null(hops);
}

static void a_full_ring_drops_and_counts(void **state)
{
    struct hops *hops = hops_new(1);
    struct seen seen = { .gaps = true };
    struct hop_counts counts;

    (void)state;
    hops_tap(hops, see, NULL, &seen);
    struct hop_ring *ring = hops_ring(hops);
    for (uint64_t i = 1; i <= 5000; i++)
        emit_number(ring, 0, i);
    size_t kept = hops_drain(hops);
    assert_true(kept > 100 && kept < 5000);
    hops_counts(hops, &counts);
    assert_int_equal(counts.dropped, 5000 - kept);
    assert_int_equal(counts.by_result[STAGE_RCPT][RESULT_OK], 5000);
    emit_number(ring, 0, 6000); /* there is room again */
    hops_free(&hops);           /* drains */
    assert_int_equal(seen.next[0], 6000);
}

static void counters_count(void **state)
{
    struct hops *hops = hops_new(1);
    struct hop_counts counts;
    struct hop hop = { .stage = STAGE_SETTLE, .result = RESULT_LATER, .kind = CLASS_QUOTA };

    (void)state;
    struct hop_ring *one = hops_ring(hops), *other = hops_ring(hops);
    hop_emit(one, &hop);
    hop_emit(other, &hop);
    hop.stage = STAGE_TLS; /* its class is not counted */
    hop.weight = HOP_ALARM;
    hop.began_us = 10;
    hop.ended_us = 35;
    hop_emit(other, &hop);
    hops_counts(hops, &counts);
    assert_int_equal(counts.by_result[STAGE_SETTLE][RESULT_LATER], 2);
    assert_int_equal(counts.by_result[STAGE_TLS][RESULT_LATER], 1);
    assert_int_equal(counts.by_class[CLASS_QUOTA], 2);
    assert_int_equal(counts.seconds_sum_us[STAGE_TLS], 25);
    assert_int_equal(counts.alarms, 1);
    assert_int_equal(counts.dropped, 0);
    hops_free(&hops);
}

enum { PRODUCERS = 3, EACH = 20000 };

struct producer {
    struct hops *hops;
    uint64_t number;
};

static void *produce(void *arg)
{
    struct producer *producer = arg;
    struct hop_ring *ring = hops_ring(producer->hops);

    for (uint64_t i = 1; i <= EACH; i++) {
        emit_number(ring, producer->number, i);
        if (i % 1000 == 0)
            usleep(200); /* let the consumer fall asleep now and then */
    }
    return NULL;
}

static void hops_cross_threads(void **state)
{
    struct hops *hops = hops_new((size_t)1 << 20);
    struct seen seen = { .gaps = true };
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    struct hop_counts counts;
    struct fault fault;

    (void)state;
    hops_tap(hops, see, see_idle, &seen);
    assert_int_equal(hops_start(hops, &fault), ERR_OK);
    for (uint64_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){ hops, i };
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    hops_counts(hops, &counts); /* at any time */
    for (size_t i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    hops_stop(hops);
    hops_counts(hops, &counts);
    assert_int_equal(seen.hops + counts.dropped, PRODUCERS * EACH);
    assert_true(seen.idles > 0);
    assert_int_equal(hops_drain(hops), 0);
    hops_free(&hops);
}

static void a_sleeping_consumer_is_woken(void **state)
{
    struct hops *hops = hops_new(1);
    struct seen seen = { 0 };

    (void)state;
    hops_tap(hops, see, NULL, &seen);
    struct hop_ring *ring = hops_ring(hops);
    assert_int_equal(hops_start(hops, NULL), ERR_OK);
    for (uint64_t i = 1; i <= 20; i++) {
        emit_number(ring, 0, i);
        for (int wait = 0; wait < 60000 && atomic_load(&seen.hops) < i; wait++)
            usleep(1000);
        assert_int_equal(atomic_load(&seen.hops), i);
        usleep((useconds_t)(i % 3 * 4000)); /* hit it awake, pausing and asleep */
    }
    hops_stop(hops);
    hops_stop(hops);
    hops_free(&hops);
}

static int setup(void **state)
{
    (void)state;
    buf_init(&out, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_clear(&out);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_compact_form_keeps_everything),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(a_line_has_fixed_keys_in_fixed_order),
        cmocka_unit_test(json_has_the_same_keys),
        cmocka_unit_test(hostile_text_stays_inside_its_value),
        cmocka_unit_test(drained_by_hand_hops_come_in_order),
        cmocka_unit_test(a_full_ring_drops_and_counts),
        cmocka_unit_test(counters_count),
        cmocka_unit_test(hops_cross_threads),
        cmocka_unit_test(a_sleeping_consumer_is_woken),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
