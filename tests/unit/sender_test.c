/*
 * sender_test.c - what a next hop is told that accepts only some senders.
 */
#include "relay/mail/sender.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct str accepted[] = { { "example.com", 11 }, { "vip@other.example", 17 } };

static const struct sender_rules rules = { .sender = { "relay@example.org", 17 },
                                           .accepted = accepted,
                                           .accepted_count = 2,
                                           .null_ok = true };

static void paths(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        { "relay@example.org", "relay@example.org" },
        { "Relay@example.org", "Relay@example.org" },
        { "a@example.com", "a@example.com" },
        { "vip@other.example", "vip@other.example" },
        { "a@other.example", "relay@example.org" },
        { "other@example.org", "relay@example.org" },
        { "", "" },
    };
    struct sender_rules strict = rules, none = { .null_ok = true };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (!str_eq(sender_path(&rules, str_of(rows[i].in)), str_of(rows[i].out)))
            fail_msg("\"%s\"", rows[i].in);
    strict.null_ok = false;
    assert_true(str_eq(sender_path(&strict, STR_EMPTY), STR("relay@example.org")));
    assert_true(str_eq(sender_path(&none, STR("x@y.example")), STR("x@y.example")));
}

static void heads(void **state)
{
    static const struct {
        const char *name, *in, *out; /* NULL: it stays */
        unsigned own;
        bool is_report;
    } rows[] = {
        { "accepted", "From: A <a@example.com>\r\nSubject: x\r\n\r\n", NULL, 0, false },
        { "the sender itself", "From: relay@example.org\r\n\r\n", NULL, 0, false },
        { "no From", "Subject: x\r\n\r\n", NULL, 0, false },
        { "a name", "Received: x\r\nFrom: Ann B <ann@web1.example>\r\nTo: x@y.example\r\n\r\n",
          "Received: x\r\nFrom: Ann B <relay@example.org>\r\n"
          "X-Original-From: Ann B <ann@web1.example>\r\nReply-To: Ann B <ann@web1.example>\r\n"
          "To: x@y.example\r\n\r\n",
          0, false },
        { "cron", "From: root@web1.example (Cron Daemon)\r\n\r\n",
          "From: \"Cron Daemon\" <relay@example.org>\r\n"
          "X-Original-From: root@web1.example (Cron Daemon)\r\n"
          "Reply-To: root@web1.example (Cron Daemon)\r\n\r\n",
          0, false },
        { "no name", "From: root@web1.example\r\n\r\n",
          "From: \"root@web1.example\" <relay@example.org>\r\n"
          "X-Original-From: root@web1.example\r\nReply-To: root@web1.example\r\n\r\n",
          0, false },
        { "a name without a domain gets no reply", "From: root\r\n\r\n",
          "From: \"root\" <relay@example.org>\r\nX-Original-From: root\r\n\r\n", 0, false },
        { "encoded name", "From: =?utf-8?q?J=C3=B6rg?= <j@web1.example>\r\n\r\n",
          "From: =?utf-8?q?J=C3=B6rg?= <relay@example.org>\r\n"
          "X-Original-From: =?utf-8?q?J=C3=B6rg?= <j@web1.example>\r\n"
          "Reply-To: =?utf-8?q?J=C3=B6rg?= <j@web1.example>\r\n\r\n",
          0, false },
        { "folded", "From: \"Ann\r\n B\"\r\n <ann@web1.example>\r\n\r\n",
          "From: \"Ann B\" <relay@example.org>\r\n"
          "X-Original-From: \"Ann\r\n B\"\r\n <ann@web1.example>\r\n"
          "Reply-To: \"Ann\r\n B\"\r\n <ann@web1.example>\r\n\r\n",
          0, false },
        { "Reply-To is kept", "Reply-To: list@y.example\r\nFrom: a@web1.example\r\n\r\n",
          "Reply-To: list@y.example\r\nFrom: \"a@web1.example\" <relay@example.org>\r\n"
          "X-Original-From: a@web1.example\r\n\r\n",
          0, false },
        { "several, one not accepted", "From: a@example.com, b@web1.example\r\n\r\n",
          "From: \"a@example.com\" <relay@example.org>\r\n"
          "X-Original-From: a@example.com, b@web1.example\r\n"
          "Reply-To: a@example.com, b@web1.example\r\n\r\n",
          0, false },
        { "a report", "From: Mail Delivery System <mailer-daemon@web1.example>\r\n\r\n",
          "From: Mail Delivery System <relay@example.org>\r\n"
          "X-Original-From: Mail Delivery System <mailer-daemon@web1.example>\r\n\r\n",
          0, true },
        { "Sender", "From: a@example.com\r\nSender: www-data@web1.example\r\n\r\n",
          "From: a@example.com\r\nX-Original-Sender: www-data@web1.example\r\n\r\n", 0, false },
        { "our signatures go, others stay",
          "DKIM-Signature: a\r\nDKIM-Signature: b\r\nDKIM-Signature: c\r\nFrom: x <a@y.example>\r\n"
          "Reply-To: q@y.example\r\n\r\n",
          "DKIM-Signature: c\r\nFrom: x <relay@example.org>\r\nX-Original-From: x <a@y.example>\r\n"
          "Reply-To: q@y.example\r\n\r\n",
          2, false },
        { "unreadable", "From: \"open\r\n\r\n",
          "From: <relay@example.org>\r\nX-Original-From: \"open\r\n\r\n", 0, false },
    };
    struct buf out;

    (void)state;
    buf_init(&out, 4000);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str in = str_of(rows[i].in);
        struct arena arena;
        arena_init(&arena);
        buf_reset(&out);
        assert_int_equal(sender_must_change(&rules, in, &arena), rows[i].out != NULL);
        assert_int_equal(
            sender_rewrite(&rules, in, rows[i].own, rows[i].is_report, &arena, &out, NULL), ERR_OK);
        if (!str_eq(buf_view(&out), rows[i].out ? str_of(rows[i].out) : in))
            fail_msg("%s:\n%.*s", rows[i].name, STR_ARG(buf_view(&out)));
        assert_false(sender_must_change(&rules, buf_view(&out), &arena));
        arena_clear(&arena);
    }
    buf_clear(&out);
}

static void limits(void **state)
{
    struct arena arena;
    struct fault fault;
    struct buf out;

    (void)state;
    arena_init(&arena);
    buf_init(&out, 20);
    assert_int_equal(sender_rewrite(&rules, STR("From: somebody <a@b.example>\r\n\r\n"), 0, false,
                                    &arena, &out, &fault),
                     ERR_LIMIT);
    buf_clear(&out);
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(paths), cmocka_unit_test(heads),
                                        cmocka_unit_test(limits) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
