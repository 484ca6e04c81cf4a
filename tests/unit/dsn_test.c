/*
 * dsn_test.c - who is owed a report; what a report contains; that nothing a peer
 * or sender wrote can add a line to it.
 */
#include "relay/mail/dsn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BOUNDARY "01jd9k3m5n7p9q2r4s6t8v0w1x"

/* ---- a report on the bench ---------------------------------------------- */

struct bench {
    struct envelope envelope;
    struct dsn_options options;
    struct dsn_recipient recipients[4];
    size_t count;
    struct buf head, body;
};

static void setup(struct bench *bench)
{
    *bench = (struct bench){ .options = { .hostname = STR("relay.example.com"),
                                          .boundary = STR(BOUNDARY),
                                          .wall_us = 1795267656000000,
                                          .full_max_bytes = 65536 } };
    envelope_init(&bench->envelope);
    bench->envelope.sender = STR("alice@example.com");
    bench->envelope.arrived_us = 1795267600000000;
    bench->envelope.message_id = STR("<m1@example.com>");
    memset(bench->envelope.id.bytes, 7, MSGID_BYTES);
    buf_init(&bench->head, 1 << 20);
    buf_init(&bench->body, 1 << 20);
}

static void teardown(struct bench *bench)
{
    envelope_clear(&bench->envelope);
    buf_clear(&bench->head);
    buf_clear(&bench->body);
}

static struct recipient *add(struct bench *bench, const char *address, enum dsn_action action)
{
    /* Recipients move when the envelope grows: room for all is made by order. */
    struct recipient *recipient = envelope_add(&bench->envelope, str_of(address));

    recipient->stage = STAGE_RCPT;
    recipient->attempts = 3;
    recipient->tried_at = 1795267650;
    recipient->status = STR("5.1.1");
    recipient->host = STR("mx1.example.net");
    recipient->said = STR("550 5.1.1 <bob@example.net>: User unknown");
    recipient->cause = STR("There is no such mailbox at the other server.");
    recipient->fix = STR("Check the address for a typing error.");
    bench->recipients[bench->count++].action = action;
    for (size_t i = 0; i < bench->count; i++)
        bench->recipients[i].recipient = &bench->envelope.recipients[i];
    return recipient;
}

static void build(struct bench *bench, const char *head, const char *body, bool is_whole)
{
    assert_int_equal(dsn_build(&bench->options, &bench->envelope, str_of(head), str_of(body),
                               is_whole, bench->recipients, bench->count, &bench->head,
                               &bench->body),
                     ERR_OK);
}

/* ---- structural checks -------------------------------------------------- */

static bool has(const struct buf *buf, const char *text)
{
    return str_find(buf_view(buf), str_of(text)) < buf->len;
}

static void must_have(const struct buf *buf, const char *text)
{
    if (!has(buf, text))
        fail_msg("\"%s\" is not in:\n" STR_FMT, text, STR_ARG(buf_view(buf)));
}

static void must_lack(const struct buf *buf, const char *text)
{
    if (has(buf, text))
        fail_msg("\"%s\" is in:\n" STR_FMT, text, STR_ARG(buf_view(buf)));
}

/* CRLF only, no line over 998, no control characters but tab. */
static void lines_are_safe(const struct buf *buf)
{
    size_t column = 0;

    for (size_t i = 0; i < buf->len; i++) {
        unsigned char c = (unsigned char)buf->at[i];
        if (c == '\r') {
            assert_true(i + 1 < buf->len && buf->at[i + 1] == '\n');
            continue;
        }
        if (c == '\n') {
            assert_true(i > 0 && buf->at[i - 1] == '\r');
            column = 0;
            continue;
        }
        assert_true(c >= 0x20 || c == '\t');
        assert_int_not_equal(c, 0x7f);
        assert_true(++column <= 998);
    }
    assert_int_equal(column, 0);
}

static size_t times(const struct buf *buf, const char *text)
{
    struct str rest = buf_view(buf);
    size_t count = 0;

    for (;;) {
        size_t at = str_find(rest, str_of(text));
        if (at == rest.len)
            return count;
        rest = str_from(rest, at + strlen(text));
        count++;
    }
}

static void structure_is_right(const struct bench *bench)
{
    lines_are_safe(&bench->head);
    lines_are_safe(&bench->body);
    assert_true(str_is_ascii(buf_view(&bench->head)) || !str_is_ascii(bench->envelope.sender));
    must_have(&bench->head, "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                            " boundary=\"=_" BOUNDARY "\"\r\n");
    must_have(&bench->head, "MIME-Version: 1.0\r\n");
    must_have(&bench->head, "Auto-Submitted: auto-replied\r\n");
    assert_true(str_iends(buf_view(&bench->head), STR("\r\n\r\n")));
    assert_int_equal(times(&bench->head, "\r\n\r\n"), 1);
    assert_int_equal(times(&bench->body, "\r\n--=_" BOUNDARY "\r\n"), 2);
    assert_true(str_starts(buf_view(&bench->body), STR("--=_" BOUNDARY "\r\n")));
    assert_true(str_iends(buf_view(&bench->body), STR("\r\n--=_" BOUNDARY "--\r\n")));
    assert_int_equal(times(&bench->body, "\r\nFinal-Recipient: "), bench->count);
    assert_int_equal(times(&bench->body, "\r\nAction: "), bench->count);
    assert_int_equal(times(&bench->body, "\r\nStatus: "), bench->count);
    assert_int_equal(times(&bench->body, "\r\nReporting-MTA: dns; relay.example.com\r\n"), 1);
    assert_true(has(&bench->head, "Content-Transfer-Encoding: 7bit\r\n") ==
                str_is_ascii(buf_view(&bench->body)));
}

/* ---- who is owed one ---------------------------------------------------- */

static void owed(void **state)
{
    static const struct {
        const char *name, *sender;
        uint8_t notify;
        bool warned;
        enum dsn_action action;
        bool is_owed;
    } rows[] = {
        { "a failure", "a@b.example", 0, false, DSN_FAILED, true },
        { "a failure in time", "a@b.example", 0, true, DSN_EXPIRED, true },
        { "the null sender gets nothing", "", 0, false, DSN_FAILED, false },
        { "NEVER", "a@b.example", NOTIFY_NEVER, false, DSN_FAILED, false },
        { "only SUCCESS asked for", "a@b.example", NOTIFY_SUCCESS, false, DSN_FAILED, false },
        { "FAILURE", "a@b.example", NOTIFY_FAILURE, false, DSN_FAILED, true },
        { "a delay, unasked", "a@b.example", 0, false, DSN_DELAYED, true },
        { "a delay, already told", "a@b.example", 0, true, DSN_DELAYED, false },
        { "a delay, not asked for", "a@b.example", NOTIFY_FAILURE, false, DSN_DELAYED, false },
        { "a delay, asked for", "a@b.example", NOTIFY_DELAY, false, DSN_DELAYED, true },
        { "success, unasked", "a@b.example", 0, false, DSN_DELIVERED, false },
        { "success", "a@b.example", NOTIFY_SUCCESS, false, DSN_DELIVERED, true },
        { "passed on", "a@b.example", NOTIFY_SUCCESS | NOTIFY_DELAY, false, DSN_RELAYED, true },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct envelope envelope = { .sender = str_of(rows[i].sender) };
        struct recipient recipient = { .notify = rows[i].notify, .warned = rows[i].warned };
        if (dsn_is_owed(&envelope, &recipient, rows[i].action) != rows[i].is_owed)
            fail_msg("%s", rows[i].name);
        envelope.flags = ENVELOPE_DSN;
        assert_false(dsn_is_owed(&envelope, &recipient, rows[i].action));
    }
}

/* ---- what is in it ------------------------------------------------------ */

static void a_failure_tells_everything(void **state)
{
    struct bench bench;

    (void)state;
    setup(&bench);
    bench.envelope.envid = STR("order+2B17");
    add(&bench, "bob@example.net", DSN_FAILED)->orcpt = STR("rfc822;Bob+2Btag@example.net");
    build(&bench, "From: alice@example.com\r\nSubject: hello\r\n\r\n", "Hi Bob\r\n", true);
    structure_is_right(&bench);
    must_have(&bench.head, "Subject: Not delivered to bob@example.net\r\n");
    must_have(&bench.head, "To: <alice@example.com>\r\n");
    must_have(&bench.head, "References: <m1@example.com>\r\n");
    must_have(&bench.body, "Content-Type: text/plain; charset=utf-8\r\n");
    must_have(&bench.body, "What happened:  There is no such mailbox");
    must_have(&bench.body, "At step:        rcpt (RCPT TO), attempt 3\r\n");
    must_have(&bench.body, "It said:        550 5.1.1 <bob@example.net>: User unknown\r\n");
    must_have(&bench.body, "What to do:     Check the address");
    must_have(&bench.body, "and it is not\r\ntried again.");
    must_have(&bench.body, "Content-Type: message/delivery-status\r\n");
    must_have(&bench.body, "\r\nOriginal-Envelope-Id: order+17\r\n");
    must_have(&bench.body, "\r\nArrival-Date: ");
    must_have(&bench.body, "\r\nOriginal-Recipient: rfc822; Bob+tag@example.net\r\n");
    must_have(&bench.body, "\r\nFinal-Recipient: rfc822; bob@example.net\r\n");
    must_have(&bench.body, "\r\nAction: failed\r\nStatus: 5.1.1\r\n");
    must_have(&bench.body, "\r\nRemote-MTA: dns; mx1.example.net\r\n");
    must_have(&bench.body,
              "\r\nDiagnostic-Code: smtp; 550 5.1.1 <bob@example.net>: User unknown\r\n");
    must_have(&bench.body, "\r\nLast-Attempt-Date: ");
    must_have(&bench.body, "Content-Type: message/rfc822\r\n");
    must_have(&bench.body, "Subject: hello\r\n\r\nHi Bob\r\n");
    must_lack(&bench.body, "Will-Retry-Until");
    teardown(&bench);
}

static void actions(void **state)
{
    static const struct {
        enum dsn_action action;
        const char *status, *subject, *in_body, *in_body_too;
    } rows[] = {
        { DSN_FAILED, "4.2.2", "Not delivered to b@c.example", "Action: failed\r\nStatus: 5.0.0",
          "tried again." },
        { DSN_EXPIRED, "4.4.1", "Not delivered in time to b@c.example",
          "Action: failed\r\nStatus: 4.4.7", "in the time\r\nallowed" },
        { DSN_DELAYED, "4.4.1", "Delayed, still trying: b@c.example",
          "Action: delayed\r\nStatus: 4.4.1", "Will-Retry-Until: " },
        { DSN_DELIVERED, "2.1.5", "Delivered to b@c.example", "Action: delivered\r\nStatus: 2.1.5",
          "was delivered" },
        { DSN_RELAYED, "", "Passed on for b@c.example", "Action: relayed\r\nStatus: 2.0.0",
          "passed on" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bench bench;
        setup(&bench);
        add(&bench, "b@c.example", rows[i].action)->status = str_of(rows[i].status);
        bench.recipients[0].will_retry_until = 1795699656;
        build(&bench, "From: x\r\n\r\n", "body\r\n", true);
        structure_is_right(&bench);
        must_have(&bench.head, rows[i].subject);
        must_have(&bench.body, rows[i].in_body);
        must_have(&bench.body, rows[i].in_body_too);
        /* RET speaks of failures only (RFC 3461 4.3). */
        must_have(&bench.body, rows[i].action == DSN_FAILED || rows[i].action == DSN_EXPIRED
                                   ? "Content-Type: message/rfc822\r\n"
                                   : "Content-Type: text/rfc822-headers\r\n");
        teardown(&bench);
    }
}

static void only_the_head_goes_back(void **state)
{
    static const struct {
        const char *name;
        enum envelope_ret ret;
        size_t max;
        bool is_whole, is_full;
    } rows[] = {
        { "all of it", RET_UNSET, 65536, true, true },
        { "RET=FULL", RET_FULL, 65536, true, true },
        { "RET=HDRS", RET_HDRS, 65536, true, false },
        { "too large", RET_FULL, 10, true, false },
        { "not at hand", RET_FULL, 65536, false, false },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bench bench;
        setup(&bench);
        add(&bench, "b@c.example", DSN_FAILED);
        bench.envelope.ret = rows[i].ret;
        bench.options.full_max_bytes = rows[i].max;
        build(&bench, "From: x\r\n\r\n", "SECRET\r\n", rows[i].is_whole);
        structure_is_right(&bench);
        if (has(&bench.body, "SECRET") != rows[i].is_full)
            fail_msg("%s", rows[i].name);
        teardown(&bench);
    }
}

static void several_recipients_are_grouped(void **state)
{
    struct bench bench;

    (void)state;
    setup(&bench);
    add(&bench, "one@c.example", DSN_DELAYED);
    add(&bench, "two@c.example", DSN_FAILED);
    add(&bench, "three@c.example", DSN_FAILED);
    build(&bench, "From: x\r\n\r\n", "", false);
    structure_is_right(&bench);
    must_have(&bench.head, "Subject: Not delivered to 2 recipients\r\n");
    assert_int_equal(times(&bench.body, "could not be delivered"), 1);
    assert_int_equal(times(&bench.body, "has not been delivered"), 1);
    must_have(&bench.body, "Final-Recipient: rfc822; three@c.example\r\n");
    teardown(&bench);
}

static void the_subject_counts_what_it_speaks_of(void **state)
{
    static const struct {
        const char *name, *subject;
        enum dsn_action actions[4];
        size_t count, before, total;
    } rows[] = {
        { "one failed of two",
          "Not delivered to r0@c.example",
          { DSN_FAILED, DSN_RELAYED },
          2,
          0,
          0 },
        { "the second", "Not delivered to r1@c.example", { DSN_DELIVERED, DSN_FAILED }, 2, 0, 0 },
        { "in time or not",
          "Not delivered to 2 recipients",
          { DSN_EXPIRED, DSN_FAILED, DSN_DELAYED },
          3,
          0,
          0 },
        { "delays",
          "Delayed, still trying: 2 recipients",
          { DSN_DELAYED, DSN_DELIVERED, DSN_DELAYED },
          3,
          0,
          0 },
        { "passed on", "Passed on for r0@c.example", { DSN_RELAYED, DSN_DELIVERED }, 2, 0, 0 },
        { "all in one", "Delivered to 2 recipients", { DSN_DELIVERED, DSN_DELIVERED }, 2, 0, 2 },
        { "some of many",
          "Not delivered to 2 recipients (1001 to 1003 of 2500)",
          { DSN_FAILED, DSN_RELAYED, DSN_FAILED },
          3,
          1000,
          2500 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bench bench;
        char want[128], address[32];
        setup(&bench);
        bench.options.before = rows[i].before;
        bench.options.total = rows[i].total;
        for (size_t j = 0; j < rows[i].count; j++) {
            snprintf(address, sizeof(address), "r%zu@c.example", j);
            struct recipient *added = add(&bench, address, rows[i].actions[j]);
            added->address = arena_str(&bench.envelope.arena, str_of(address));
        }
        build(&bench, "From: x\r\n\r\n", "", false);
        structure_is_right(&bench);
        snprintf(want, sizeof(want), "Subject: %s\r\n", rows[i].subject);
        if (!has(&bench.head, want))
            fail_msg("%s: " STR_FMT, rows[i].name, STR_ARG(buf_view(&bench.head)));
        if (has(&bench.body, "about recipients 1001 to 1003 of 2500;") != (rows[i].total == 2500))
            fail_msg("%s:\n" STR_FMT, rows[i].name, STR_ARG(buf_view(&bench.body)));
        teardown(&bench);
    }
}

static enum err build_in(struct bench *bench, size_t head_max, size_t body_max)
{
    buf_clear(&bench->head);
    buf_clear(&bench->body);
    buf_init(&bench->head, head_max);
    buf_init(&bench->body, body_max);
    return dsn_build(&bench->options, &bench->envelope, STR("From: x\r\n\r\n"), STR_EMPTY, false,
                     bench->recipients, bench->count, &bench->head, &bench->body);
}

/* Whatever does not fit, a report with a hole in it never passes for one. */
static void what_does_not_fit_is_no_report(void **state)
{
    struct bench bench;
    size_t head, body;

    (void)state;
    setup(&bench);
    add(&bench, "one@c.example", DSN_FAILED);
    add(&bench, "two@c.example", DSN_FAILED);
    build(&bench, "From: x\r\n\r\n", "", false);
    head = bench.head.len;
    body = bench.body.len;
    assert_int_equal(build_in(&bench, head, body), ERR_OK);
    structure_is_right(&bench);
    assert_int_equal(build_in(&bench, head - 1, body), ERR_LIMIT);
    for (size_t room = 0; room < body; room++)
        assert_int_equal(build_in(&bench, head, room), ERR_LIMIT);
    teardown(&bench);
}

static void a_brief_one_names_all_with_their_status(void **state)
{
    struct bench bench;
    size_t len;

    (void)state;
    setup(&bench);
    bench.envelope.envid = STR("e1");
    add(&bench, "one@c.example", DSN_FAILED);
    add(&bench, "two@c.example", DSN_DELAYED);
    build(&bench, "From: x\r\n\r\n", "", false);
    len = bench.body.len;
    bench.options.is_brief = true;
    buf_reset(&bench.head);
    buf_reset(&bench.body);
    build(&bench, "From: x\r\n\r\n", "", false);
    assert_true(bench.body.len < len / 2);
    lines_are_safe(&bench.body);
    must_have(&bench.body, "Recipient:      one@c.example\r\n");
    must_have(&bench.body, "Recipient:      two@c.example\r\n");
    must_have(&bench.body, "Original-Envelope-Id: e1\r\n");
    must_have(&bench.body, "\r\n\r\nFinal-Recipient: rfc822; one@c.example\r\nAction: failed\r\n"
                           "Status: 5.1.1\r\n\r\n");
    must_have(&bench.body, "Final-Recipient: rfc822; two@c.example\r\nAction: delayed\r\n"
                           "Status: 4.0.0\r\n\r\n");
    must_lack(&bench.body, "550");
    teardown(&bench);
}

static void a_very_large_head_is_cut_at_a_line(void **state)
{
    static const char line[] = "X-Filler: 0123456789012345678901234567890123456789\r\n";
    size_t lines = (600U << 10) / (sizeof(line) - 1);
    struct bench bench;
    struct buf head;

    (void)state;
    setup(&bench);
    add(&bench, "b@c.example", DSN_FAILED);
    bench.options.full_max_bytes = 1 << 20;
    buf_init(&head, 1 << 20);
    for (size_t i = 0; i < lines; i++)
        buf_cstr(&head, line);
    buf_cstr(&head, "X-Last: x\r\n\r\n");
    assert_int_equal(dsn_build(&bench.options, &bench.envelope, buf_view(&head), STR("body\r\n"),
                               true, bench.recipients, bench.count, &bench.head, &bench.body),
                     ERR_OK);
    structure_is_right(&bench);
    assert_in_range(bench.body.len, 255U << 10, 260U << 10);
    must_have(&bench.body, "Content-Description: The beginning of the header of your message\r\n");
    must_have(&bench.body, "0123456789\r\n\r\n--=_");
    buf_clear(&head);
    teardown(&bench);
}

static void a_fault_of_ours_is_no_smtp_reply(void **state)
{
    struct bench bench;

    (void)state;
    setup(&bench);
    struct recipient *recipient = add(&bench, "b@c.example", DSN_EXPIRED);
    recipient->said = STR("connect to 192.0.2.1 port 25: connection refused");
    recipient->host = STR_EMPTY;
    build(&bench, "From: x\r\n\r\n", "", false);
    structure_is_right(&bench);
    must_have(&bench.body, "Diagnostic-Code: x-waypost; connect to 192.0.2.1 port 25");
    must_have(&bench.body, "In detail:");
    must_lack(&bench.body, "Remote-MTA");
    teardown(&bench);
}

/* ---- UTF-8 -------------------------------------------------------------- */

static void utf8_types_only_when_needed(void **state)
{
    static const struct {
        const char *address, *head;
        bool is_whole;
        const char *status_type, *original_type, *recipient_type;
    } rows[] = {
        { "b@c.example", "Subject: x\r\n\r\n", true, "message/delivery-status", "message/rfc822",
          "rfc822; b@c.example" },
        { "b@c.example", "Subject: \xC3\xBC\r\n\r\n", true, "message/delivery-status",
          "message/global", "rfc822; b@c.example" },
        { "b@c.example", "Subject: \xC3\xBC\r\n\r\n", false, "message/delivery-status",
          "message/global-headers", "rfc822; b@c.example" },
        { "b\xC3\xBC@c.example", "Subject: x\r\n\r\n", false, "message/global-delivery-status",
          "text/rfc822-headers", "utf-8; b\xC3\xBC@c.example" },
    };
    char line[128];

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bench bench;
        setup(&bench);
        add(&bench, rows[i].address, DSN_FAILED);
        build(&bench, rows[i].head, "body\r\n", rows[i].is_whole);
        structure_is_right(&bench);
        snprintf(line, sizeof(line), "Content-Type: %s\r\n", rows[i].status_type);
        must_have(&bench.body, line);
        snprintf(line, sizeof(line), "Content-Type: %s\r\n", rows[i].original_type);
        must_have(&bench.body, line);
        snprintf(line, sizeof(line), "Final-Recipient: %s\r\n", rows[i].recipient_type);
        must_have(&bench.body, line);
        teardown(&bench);
    }
}

static void an_8bit_body_goes_back_as_it_is(void **state)
{
    struct bench bench;

    (void)state;
    setup(&bench);
    add(&bench, "b@c.example", DSN_FAILED);
    build(&bench, "From: x\r\n\r\n",
          "Gr\xC3\xBC\xC3\x9F"
          "e \xE9\r\n",
          true);
    structure_is_right(&bench);
    must_have(&bench.head, "Content-Transfer-Encoding: 8bit\r\n");
    must_have(&bench.body, "Content-Type: message/rfc822\r\nContent-Description: Your message\r\n"
                           "Content-Transfer-Encoding: 8bit\r\n");
    must_have(&bench.body, "Gr\xC3\xBC\xC3\x9F"
                           "e \xE9\r\n");
    teardown(&bench);
}

/* ---- what peers and senders write --------------------------------------- */

static void nobody_adds_a_line(void **state)
{
    struct bench bench;

    (void)state;
    setup(&bench);
    struct recipient *recipient = add(&bench, "b@c.example", DSN_FAILED);
    recipient->said = STR("550 no\r\nAction: delivered\r\n\r\n--=_" BOUNDARY "--\x1b[2J\x7f\xff\\");
    recipient->host = STR("mx\r\nStatus: 2.0.0");
    recipient->orcpt = STR("rfc822;a+0D+0AAction:+20relayed@x");
    recipient->cause = STR("bad\nwords");
    bench.envelope.envid = STR("x+0D+0AFinal-Recipient:+20y");
    bench.envelope.message_id = STR("<a>\r\nBcc: everyone@example.com");
    build(&bench, "From: x\r\n\r\n", "", false);
    structure_is_right(&bench);
    must_lack(&bench.body, "\r\nAction: delivered");
    must_lack(&bench.body, "\r\nStatus: 2.0.0");
    must_lack(&bench.body, "\r\nAction: relayed");
    must_lack(&bench.head, "Bcc");
    must_have(&bench.body, "\\x1B[2J\\x7F\\xFF\\\\");
    teardown(&bench);
}

static void endless_words_and_blanks_are_folded(void **state)
{
    static const char fills[] = { 'x', ' ', '\xC3', '\\' };
    char *long_text = malloc(20000);

    (void)state;
    for (size_t i = 0; i < COUNT(fills); i++) {
        struct bench bench;
        setup(&bench);
        memset(long_text, fills[i], 20000);
        long_text[5] = 'a';
        struct recipient *recipient = add(&bench, "b@c.example", DSN_FAILED);
        recipient->said = str_make(long_text, 20000);
        recipient->host = str_make(long_text, 20000);
        recipient->cause = str_make(long_text, 20000);
        recipient->orcpt = STR("rfc822;;;");
        bench.envelope.envid = str_make(long_text, 7000);
        assert_int_equal(dsn_build(&bench.options, &bench.envelope, str_make(long_text, 5000),
                                   STR_EMPTY, false, bench.recipients, bench.count, &bench.head,
                                   &bench.body),
                         ERR_OK);
        structure_is_right(&bench);
        teardown(&bench);
    }
    free(long_text);
}

static void a_quoted_local_part_stays(void **state)
{
    struct bench bench;

    (void)state;
    setup(&bench);
    add(&bench, "\"a\\\"  b\"@c.example", DSN_FAILED);
    build(&bench, "From: x\r\n\r\n", "", false);
    structure_is_right(&bench);
    must_have(&bench.head, "Subject: Not delivered to one recipient\r\n");
    must_have(&bench.body, "Final-Recipient: rfc822; \"a\\\"  b\"@c.example\r\n");
    teardown(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owed),
        cmocka_unit_test(a_failure_tells_everything),
        cmocka_unit_test(actions),
        cmocka_unit_test(only_the_head_goes_back),
        cmocka_unit_test(several_recipients_are_grouped),
        cmocka_unit_test(the_subject_counts_what_it_speaks_of),
        cmocka_unit_test(what_does_not_fit_is_no_report),
        cmocka_unit_test(a_brief_one_names_all_with_their_status),
        cmocka_unit_test(a_very_large_head_is_cut_at_a_line),
        cmocka_unit_test(a_fault_of_ours_is_no_smtp_reply),
        cmocka_unit_test(utf8_types_only_when_needed),
        cmocka_unit_test(an_8bit_body_goes_back_as_it_is),
        cmocka_unit_test(nobody_adds_a_line),
        cmocka_unit_test(endless_words_and_blanks_are_folded),
        cmocka_unit_test(a_quoted_local_part_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
