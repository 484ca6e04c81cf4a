/*
 * qualify_test.c - names without a domain in address fields.
 */
#include "relay/mail/qualify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct local_names names = { .mailname = { "mail.example", 12 },
                                          .machine = { "web1", 4 } };

static void values(void **state)
{
    static const struct {
        const char *in, *out; /* NULL: it stays */
    } rows[] = {
        { " root", " root@mail.example" },
        { " root (Cron Daemon)", " root@mail.example (Cron Daemon)" },
        { " \"Cron Daemon\" <root>", " \"Cron Daemon\" <root@mail.example>" },
        { " Cron Daemon <root>", " Cron Daemon <root@mail.example>" },
        { " <root>", " <root@mail.example>" },
        { " (a, b) root (c)", " (a, b) root@mail.example (c)" },
        { " joe, ann@example.com, bob", " joe@mail.example, ann@example.com, bob@mail.example" },
        { " joe,\r\n bob", " joe@mail.example,\r\n bob@mail.example" },
        { " a.b", " a.b@mail.example" },
        { " \"a b\"", " \"a b\"@mail.example" },
        { " root@localhost", " root@mail.example" },
        { " Root <root@LocalHost.localdomain>", " Root <root@mail.example>" },
        { " \"root@localhost\" <root>", " \"root@localhost\" <root@mail.example>" },
        { " team: joe, ann@example.com;", " team: joe@mail.example, ann@example.com;" },
        { " undisclosed-recipients:;", NULL },
        { " root@example.com", NULL },
        { " Root <root@example.com>", NULL },
        { " root@localhost.example.com", NULL },
        { " <>", NULL },
        { "", NULL },
        { " ,, ", NULL },
        { " Cron Daemon", NULL }, /* nobody's address: not guessed at */
        { " <@a.example,@b.example:root>", " <@a.example,@b.example:root@mail.example>" },
        { " root@[127.0.0.1]", NULL },
        { " mdadm monitoring <root@web1>", " mdadm monitoring <root@mail.example>" },
        { " root@WEB1 (me), a@web1.example", " root@mail.example (me), a@web1.example" },
        { " a@web2", NULL },
        { " \"open", NULL },
        { " root, \"open", NULL },
        { " root <", NULL },
        { " joe)", NULL },
        { " J\xc3\xb6rg", NULL },
        { " J\xc3\xb6rg <root>", " J\xc3\xb6rg <root@mail.example>" },
    };
    struct buf out;

    (void)state;
    buf_init(&out, 1000);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_reset(&out);
        bool changed = qualify_value(str_of(rows[i].in), &names, &out);
        if (changed != (rows[i].out != NULL) ||
            !str_eq(buf_view(&out), str_of(rows[i].out ? rows[i].out : "")))
            fail_msg("\"%s\": \"%.*s\"", rows[i].in, STR_ARG(buf_view(&out)));
    }
    buf_clear(&out);
}

static void blocks(void **state)
{
    static const struct {
        const char *name, *in, *out;
        unsigned changed;
    } rows[] = {
        { "nothing to do", "From: a@b.example\r\nTo: c@d.example\r\n\r\n",
          "From: a@b.example\r\nTo: c@d.example\r\n\r\n", 0 },
        { "cron", "From: root (Cron Daemon)\r\nTo: root\r\nSubject: root\r\n\r\n",
          "From: root@mail.example (Cron Daemon)\r\nTo: root@mail.example\r\nSubject: root\r\n\r\n",
          2 },
        { "all fields", "Cc: a\r\nreply-to : b\r\nSender: c\r\nResent-To: d\r\nX-To: e\r\n",
          "Cc: a@mail.example\r\nreply-to : b@mail.example\r\nSender: c@mail.example\r\n"
          "Resent-To: d@mail.example\r\nX-To: e\r\n",
          4 },
        { "From without an address", "From: Cron Daemon\r\nTo: x@y.example\r\n\r\n",
          "From: root@mail.example\r\nX-Original-From: Cron Daemon\r\nTo: x@y.example\r\n\r\n", 1 },
        { "a broken address is not for us to guess", "From: <a@here.test\r\n\r\n",
          "From: <a@here.test\r\n\r\n", 0 },
        { "To without an address stays", "To: all of you\r\n\r\n", "To: all of you\r\n\r\n", 0 },
        { "a signed field stays",
          "DKIM-Signature: v=1; d=x.example; h=From:Subject; b=x\r\nFrom: root\r\nTo: root\r\n\r\n",
          "DKIM-Signature: v=1; d=x.example; h=From:Subject; b=x\r\nFrom: root\r\n"
          "To: root@mail.example\r\n\r\n",
          1 },
        { "no final line end", "To: root", "To: root@mail.example\r\n", 1 },
        { "a line that is no field", "To: root\r\nhello\r\n", "To: root@mail.example\r\nhello\r\n",
          1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena arena;
        unsigned changed;
        arena_init(&arena);
        struct str out =
            qualify_block(str_of(rows[i].in), &names, STR("root@mail.example"), &arena, &changed);
        if (!str_eq(out, str_of(rows[i].out)) || changed != rows[i].changed)
            fail_msg("%s: %u %.*s", rows[i].name, changed, STR_ARG(out));
        arena_clear(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(values), cmocka_unit_test(blocks) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
