/*
 * sender_test.c - what a next hop is told that accepts only some senders.
 */
#include "relay/mail/sender.h"

#include "relay/mail/header.h"

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

static size_t longest_line(struct str text)
{
    struct str line;
    size_t longest = 0;

    while (str_next(&text, '\n', &line))
        if (line.len > longest + 1)
            longest = line.len - 1; /* without its CR */
    return longest;
}

/* A line of this length: `field`, and words up to the address at its end. */
static void put_long(struct buf *out, const char *field, size_t len)
{
    static const char end[] = "<a@web1.example>\r\n";
    size_t start = out->len;

    buf_cstr(out, field);
    while (out->len - start < len + 2 - strlen(end) - 1)
        buf_char(out, (out->len - start) % 8 ? 'n' : ' ');
    buf_printf(out, " %s", end);
    assert_int_equal(out->len - start, len + 2);
}

/* As long as a line can be, and a longer name in front of it (RFC 5322 2.1.1). */
static void longest_fields(void **state)
{
    static const char *const fields[] = { "From: ", "From:", "From: \t  ", "Sender: ", "Sender:" };
    struct buf in, out;

    (void)state;
    buf_init(&in, 4000);
    buf_init(&out, 8000);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        for (size_t len = 960; len <= 998; len++) {
            struct header_field field;
            struct arena arena;
            struct str old, kept;
            arena_init(&arena);
            buf_reset(&in);
            buf_reset(&out);
            put_long(&in, fields[i], len);
            buf_cstr(&in, "\r\n");
            assert_int_equal(sender_rewrite(&rules, buf_view(&in), 0, false, &arena, &out, NULL),
                             ERR_OK);
            if (longest_line(buf_view(&out)) > 998)
                fail_msg("\"%s\", %zu:\n" STR_FMT, fields[i], len, STR_ARG(buf_view(&out)));
            old = str_from(buf_view(&in), strlen(fields[i]));
            old = header_unfold(str_trim(old), &arena);
            bool is_from = fields[i][0] == 'F';
            assert_true(header_find(buf_view(&out),
                                    is_from ? STR("X-Original-From") : STR("X-Original-Sender"),
                                    &field, NULL));
            kept = str_trim(header_unfold(field.value, &arena));
            assert_true(str_eq(kept, old));
            assert_int_equal(header_find(buf_view(&out), STR("Reply-To"), &field, NULL), is_from);
            arena_clear(&arena);
        }
    }
    buf_clear(&in);
    buf_clear(&out);
}

static void a_first_line_of_blanks_makes_no_empty_one(void **state)
{
    struct arena arena;
    struct buf in, out;

    (void)state;
    arena_init(&arena);
    buf_init(&in, 4000);
    buf_init(&out, 8000);
    buf_cstr(&in, "From:");
    while (in.len < 998)
        buf_char(&in, ' ');
    buf_cstr(&in, "\r\n <a@web1.example>\r\n\r\n");
    assert_int_equal(sender_rewrite(&rules, buf_view(&in), 0, true, &arena, &out, NULL), ERR_OK);
    assert_true(str_eq(buf_view(&out), STR("From: \"a@web1.example\" <relay@example.org>\r\n"
                                           "X-Original-From:\r\n <a@web1.example>\r\n\r\n")));
    buf_clear(&in);
    buf_clear(&out);
    arena_clear(&arena);
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
                                        cmocka_unit_test(longest_fields),
                                        cmocka_unit_test(a_first_line_of_blanks_makes_no_empty_one),
                                        cmocka_unit_test(limits) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
