/*
 * The timeline of a trace, and hops read back from their JSON.
 */
#include "relay/cli/trace_text.h"

#include "relay/cli/trace_hop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define T0 ((int64_t)1800000000 * 1000000)

static const struct show_paint bright = { "<b>", "<r>", "<y>", "<g>", "<d>", "</>" };

static struct hop hop_at(unsigned message, int64_t ms, enum stage stage, enum result result)
{
    struct hop hop = {
        .began_us = T0 + ms * 1000, .ended_us = T0 + ms * 1000, .stage = stage, .result = result
    };

    hop.id.bytes[15] = (uint8_t)message;
    return hop;
}

static char *render(struct hop *hops, size_t count, const struct show_paint *paint)
{
    struct buf out;

    buf_init(&out, 1 << 20);
    trace_text(hops, count, paint, &out);
    return buf_take(&out, NULL);
}

static void timeline(void **state)
{
    struct hop hops[] = {
        hop_at(1, 5012, STAGE_SETTLE, RESULT_LATER),
        hop_at(1, 12, STAGE_RECEIVE, RESULT_OK),
        hop_at(1, 5010, STAGE_RCPT, RESULT_LATER),
        hop_at(1, 4000, STAGE_TLS, RESULT_OK),
    };
    char *text;

    (void)state;
    hops[1].began_us = T0;
    hops[1].side = HOP_IN;
    hops[1].sender = STR("a@here.test");
    hops[1].message_id = STR("<m@here.test>");
    hops[1].host = STR("client.test");
    hops[1].peer = STR("[192.0.2.1]:99");
    hops[1].recipient = STR("b@b.test");
    hops[1].user = STR("anna");
    hops[1].lane = STR("direct/b.test");
    hops[1].bytes = 12595;
    hops[1].count = 1;
    hops[3].side = HOP_OUT;
    hops[3].host = STR("mx.b.test");
    hops[3].tls = STR("TLSv1.3 TLS_AES_256_GCM_SHA384");
    hops[3].policy = STR("opportunistic");
    hops[2].began_us -= 250000;
    hops[2].side = HOP_OUT;
    hops[2].host = STR("mx.b.test");
    hops[2].recipient = STR("b@b.test");
    hops[2].said = STR("452 4.2.2 full");
    hops[2].kind = CLASS_SOFT;
    hops[2].scope = SCOPE_RECIPIENT;
    hops[2].status_class = 4;
    hops[2].status_subject = hops[2].status_detail = 2;
    hops[2].cause = STR("The mailbox is full.");
    hops[2].fix = STR("Nothing to do.");
    hops[0].recipient = STR("B@b.test");
    hops[0].attempt = 1;
    hops[0].said = STR("452 4.2.2 full");
    hops[0].cause = STR("The mailbox is full.");
    hops[0].fix = STR("Nothing to do.");
    hops[0].next_us = T0 + (int64_t)125012 * 1000;
    text = render(hops, 4, &show_plain);
    assert_string_equal(
        text,
        "message 00000000000000000000000001  from a@here.test  Message-ID <m@here.test>\n"
        "2027-01-15T08:00:00.012Z  +0.012s    0.012s   receive  ok         from client.test "
        "[192.0.2.1]:99, to b@b.test\n"
        "                                              sender     a@here.test\n"
        "                                              user       anna\n"
        "                                              lane       direct/b.test\n"
        "                                              with       12.3K octets, 1 recipient\n"
        "2027-01-15T08:00:04.000Z  +4.000s    0.000s   tls      ok         mx.b.test\n"
        "                                              TLS        TLSv1.3 TLS_AES_256_GCM_SHA384\n"
        "                                              policy     opportunistic\n"
        "2027-01-15T08:00:05.010Z  +5.010s    0.250s   rcpt     later      mx.b.test to b@b.test\n"
        "                                              reply      452 4.2.2 full\n"
        "                                              class      soft, concerns recipient, status "
        "4.2.2\n"
        "                                              cause      The mailbox is full.\n"
        "                                              next step  Nothing to do.\n"
        "2027-01-15T08:00:05.012Z  +5.012s    0.000s   settle   later      to B@b.test\n"
        "                                              with       attempt 1\n"
        "                                              next try   2027-01-15T08:02:05.012Z, after "
        "2m\n"
        "                                              reply      452 4.2.2 full\n"
        "recipients\n"
        "  B@b.test  later, attempt 1, 2027-01-15T08:00:05.012Z, next try "
        "2027-01-15T08:02:05.012Z: 452 4.2.2 full\n");
    free(text);
}

/* A smarthost's plan is the host itself. */
static void a_host_is_named_once(void **state)
{
    struct hop hop = hop_at(1, 0, STAGE_ROUTE, RESULT_OK);
    char *text;

    (void)state;
    hop.host = hop.text = STR("smtp.example.com");
    text = render(&hop, 1, &show_plain);
    assert_non_null(strstr(text, "route    ok         smtp.example.com\n"));
    free(text);
}

static void newest_message_is_last(void **state)
{
    struct hop hops[] = {
        hop_at(2, 0, STAGE_RECEIVE, RESULT_OK), /* a smaller id may be the newer one */
        hop_at(1, 9000, STAGE_RECEIVE, RESULT_OK),
        hop_at(2, 20000, STAGE_QUEUE, RESULT_OK),
        hop_at(0, 500, STAGE_RCPT, RESULT_FAILED),
    };
    char *text, *first, *refused, *second;

    (void)state;
    hops[3].session = 0xAB;
    text = render(hops, 4, &show_plain);
    first = strstr(text, "message 00000000000000000000000002\n");
    refused = strstr(text, "session ab, no message of it was accepted\n");
    second = strstr(text, "message 00000000000000000000000001\n");
    assert_true(first && refused && second);
    assert_true(first < refused && refused < second);
    assert_non_null(strstr(first, "+20.000s"));
    free(text);
    assert_string_equal(text = render(hops, 0, &show_plain), "");
    free(text);
}

static void fates(void **state)
{
    struct hop hops[] = {
        hop_at(1, 0, STAGE_RECEIVE, RESULT_OK),     hop_at(1, 1, STAGE_RECEIVE, RESULT_OK),
        hop_at(1, 2, STAGE_RECEIVE, RESULT_OK),     hop_at(1, 10, STAGE_SETTLE, RESULT_LATER),
        hop_at(1, 20, STAGE_SETTLE, RESULT_FAILED), hop_at(1, 30, STAGE_SETTLE, RESULT_DELIVERED),
        hop_at(1, 40, STAGE_DSN, RESULT_OK),        hop_at(1, 50, STAGE_RECEIVE, RESULT_OK),
        hop_at(1, 50, STAGE_EXPAND, RESULT_LATER),  hop_at(1, 60, STAGE_RECEIVE, RESULT_OK),
        hop_at(1, 60, STAGE_EXPAND, RESULT_LATER),  hop_at(1, 70, STAGE_EXPAND, RESULT_OK),
    };
    char *text, *list;

    (void)state;
    hops[0].recipient = hops[4].recipient = STR("x@x");
    hops[1].recipient = hops[3].recipient = hops[5].recipient = STR("y@y");
    hops[2].recipient = STR("z@z");
    hops[6].recipient = STR("sender@here");
    hops[7].recipient = hops[8].recipient = STR("held@here");
    hops[9].recipient = hops[10].recipient = hops[11].recipient = STR("root@here");
    hops[5].attempt = 2;
    text = render(hops, 12, &bright);
    list = strstr(text, "<b>recipients</>\n");
    assert_non_null(list);
    assert_string_equal(list, "<b>recipients</>\n"
                              "  x@x  <r>failed</>, 2027-01-15T08:00:00.020Z\n"
                              "  y@y  <g>delivered</>, attempt 2, 2027-01-15T08:00:00.030Z\n"
                              "  z@z  no attempt has ended yet\n"
                              "  held@here  held: it leads nowhere, see expand\n"
                              "  root@here  leads to other addresses: see expand\n");
    free(text);
}

static void nothing_foreign_reaches_the_terminal(void **state)
{
    struct hop hop = hop_at(1, 0, STAGE_RCPT, RESULT_FAILED);
    const struct str evil = STR("a\x1b]0;x\x07\r\nmessage forged \xff\xc2\x9b");
    char *text;

    (void)state;
#define X(field, key) hop.field = evil;
    HOP_TEXT_MAP(X)
#undef X
    text = render(&hop, 1, &show_plain);
    assert_true(str_is_utf8(str_of(text)));
    assert_null(strchr(text, '\x1b'));
    assert_null(strchr(text, '\r'));
    assert_null(strstr(text, "\nmessage forged"));
    assert_null(strstr(text, "\xc2\x9b"));
    free(text);
}

/* hop -> JSON -> hop keeps everything, to the millisecond. */
static void there_and_back(void **state)
{
    struct hop hop = hop_at(7, 1234, STAGE_CONTENT, RESULT_DELIVERED), back;
    struct buf line, again;
    json_t *json;

    (void)state;
    hop.began_us = T0;
    hop.next_us = T0 + 5000000;
    hop.session = 0xDEADBEEF;
    hop.bytes = 1 << 20;
    hop.count = 3;
    hop.attempt = 4;
    hop.weight = HOP_ALARM;
    hop.side = HOP_OUT;
    hop.scope = SCOPE_DEST;
    hop.kind = CLASS_BLOCK;
    hop.code = 250;
    hop.status_class = 5;
    hop.status_subject = 7;
    hop.status_detail = 511;
#define X(field, key) hop.field = STR("some \"" key "\"");
    HOP_TEXT_MAP(X)
#undef X
    buf_init(&line, 65536);
    buf_init(&again, 65536);
    hop_json(&hop, &line);
    json = json_loadb(line.at, line.len, 0, NULL);
    assert_non_null(json);
    assert_true(trace_hop_read(json, &back));
    hop_json(&back, &again);
    assert_true(str_eq(buf_view(&line), buf_view(&again)));
    json_decref(json);
    buf_clear(&line);
    buf_clear(&again);
}

static void what_is_no_hop(void **state)
{
    static const char *const rows[] = {
        "{}",
        "{\"cut\":true}",
        "{\"time\":\"2027-01-15T08:00:00.000Z\"}",
        "{\"time\":\"2027-01-15T08:00:00.000Z\",\"stage\":\"rcpt\",\"result\":\"odd\"}",
        "{\"time\":1,\"stage\":\"rcpt\",\"result\":\"ok\"}",
        "[]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hop hop;
        json_t *json = json_loads(rows[i], 0, NULL);
        assert_non_null(json);
        assert_false(trace_hop_read(json, &hop));
        json_decref(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeline),
        cmocka_unit_test(a_host_is_named_once),
        cmocka_unit_test(newest_message_is_last),
        cmocka_unit_test(fates),
        cmocka_unit_test(nothing_foreign_reaches_the_terminal),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(what_is_no_hop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
