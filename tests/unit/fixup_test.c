/*
 * fixup_test.c - what submission adds, removes, encodes and refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/mail/fixup.h"

#include <stdlib.h>

#define BASE "From: a@example.com\r\nDate: Sat, 21 Nov 2026 13:27:36 +0000\r\nMessage-ID: <1@x>\r\n"

struct run {
    struct arena arena;
    struct envelope envelope;
    struct fixup_options options;
    struct fixup_facts facts;
    struct fixup_refusal refusal;
    struct fault fault;
    struct buf out;
};

static void run_init(struct run *run)
{
    memset(run, 0, sizeof(*run));
    arena_init(&run->arena);
    envelope_init(&run->envelope);
    envelope_add(&run->envelope, STR("b@example.net"));
    buf_init(&run->out, 1 << 20);
    run->options = (struct fixup_options){
        .hostname = STR("relay.example"),
        .with = STR("ESMTPSA"),
        .tls = STR("TLSv1.3 TLS_AES_256_GCM_SHA384"),
        .client_host = STR("client.example"),
        .client_address = STR("192.0.2.1"),
        .wall_us = INT64_C(1795267656000000),
        .written_us = INT64_C(1795267656000000),
        .hops_max = 3,
        .add_missing = true,
    };
}

static void run_clear(struct run *run)
{
    buf_clear(&run->out);
    envelope_clear(&run->envelope);
    arena_clear(&run->arena);
}

static enum err run_fixup(struct run *run, const char *in)
{
    buf_reset(&run->out);
    run->fault.text[0] = '\0';
    return fixup_header(str_of(in), &run->options, &run->envelope, &run->out, &run->arena,
                        &run->facts, &run->refusal, &run->fault);
}

/* The block behind our Received field. */
static struct str behind_trace(const struct run *run)
{
    struct str rest = buf_view(&run->out);
    struct header_field field;
    enum err rc;

    assert_true(header_next(&rest, &field, &rc));
    assert_true(str_eq(field.name, STR("Received")));
    return rest;
}

static void changes(void **state)
{
    static const struct {
        const char *name, *in, *out;
        unsigned changed;
    } rows[] = {
        { "nothing to do", BASE "Subject:  hi \r\n\tfold \r\n\r\n",
          BASE "Subject:  hi \r\n\tfold \r\n\r\n", 0 },
        { "no empty line", BASE, BASE "\r\n", 0 },
        { "no line end", BASE "A: b", BASE "A: b\r\n\r\n", 0 },
        { "Bcc goes", "Bcc: x@y.z,\r\n q@y.z\r\n" BASE "\r\n", BASE "\r\n", 1 },
        { "Bcc goes from the middle and the end",
          "A: b\r\nBCC:\r\n" BASE "Resent-Bcc: x\r\nbcc: y\r\n\r\n", "A: b\r\n" BASE "\r\n", 3 },
        { "Return-Path goes", "Return-Path: <x@y.z>\r\n" BASE "\r\n", BASE "\r\n", 1 },
        { "8-bit text is encoded, the rest kept", BASE "Subject: \xc3\xbc\r\nX:   y\r\n\r\n",
          BASE "Subject: =?utf-8?Q?=C3=BC?=\r\nX:   y\r\n\r\n", 1 },
        { "8-bit in a Bcc does not matter", BASE "Bcc: \xc3\xbc@x\r\n\r\n", BASE "\r\n", 1 },
        { "blank before the colon goes", BASE "Reply-To \t: x@y.z\r\n\r\n",
          BASE "Reply-To: x@y.z\r\n\r\n", 1 },
        { "missing ones are added", "Subject: x\r\n\r\n",
          "Subject: x\r\nFrom: postmaster@relay.example\r\n"
          "Date: Sat, 21 Nov 2026 13:27:36 +0000\r\n"
          "Message-ID: <00000000000000000000000000@relay.example>\r\n\r\n",
          3 },
        { "empty ones are replaced", "From:\r\nDate: \r\nMessage-ID:  \r\n\r\n",
          "From: postmaster@relay.example\r\nDate: Sat, 21 Nov 2026 13:27:36 +0000\r\n"
          "Message-ID: <00000000000000000000000000@relay.example>\r\n\r\n",
          6 },
        { "no header at all", "\r\n",
          "From: postmaster@relay.example\r\nDate: Sat, 21 Nov 2026 13:27:36 +0000\r\n"
          "Message-ID: <00000000000000000000000000@relay.example>\r\n\r\n",
          3 },
        { "several From mailboxes in one field",
          "From: a@b.c, d@e.f\r\nSender: a@b.c\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\n",
          "From: a@b.c, d@e.f\r\nSender: a@b.c\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\n", 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct run run;
        run_init(&run);
        enum err rc = run_fixup(&run, rows[i].in);
        if (rc || !str_eq(behind_trace(&run), str_of(rows[i].out)) ||
            run.facts.changed != rows[i].changed)
            fail_msg("%s: %s changed %u " STR_FMT, rows[i].name, run.fault.text, run.facts.changed,
                     STR_ARG(buf_view(&run.out)));
        run_clear(&run);
    }
}

#define SIG(h) "DKIM-Signature: v=1; a=rsa-sha256; d=x.y; h=" h ";\r\n\tbh=x; b=y\r\n"
#define SIG_RELAXED(h) "DKIM-Signature: v=1; c=relaxed/simple; h=" h "; b=y\r\n"

static void refusals(void **state)
{
    /* code 0: accepted */
    static const struct {
        const char *name, *in;
        unsigned code;
        const char *status;
    } rows[] = {
        { "two From fields", BASE "From: b@example.com\r\n\r\n", 550, "5.6.0" },
        { "a From that does not parse", "From: a@b c@d\r\n\r\n", 550, "5.6.0" },
        { "a From with an unterminated name", "From: \"x <a@b.c>\r\n\r\n", 550, "5.6.0" },
        { "a From of nobody", "From: nobody:;\r\n\r\n", 550, "5.6.0" },
        { "a line that is no field", BASE "hello\r\n\r\n", 550, "5.6.0" },
        { "8-bit From address", "From: \xc3\xbc@b.c\r\n\r\n", 550, "5.6.7" },
        { "8-bit To address", BASE "To: \xc3\xbc@b.c\r\n\r\n", 550, "5.6.7" },
        { "three hops", BASE "Received: a\r\nReceived: b\r\nReceived: c\r\n\r\n", 0, "" },
        { "four hops", BASE "Received: a\r\nReceived: b\r\nReceived: c\r\nReceived: d\r\n\r\n", 554,
          "5.4.6" },
        { "Bcc under a signature", BASE SIG("From:Bcc") "Bcc: x\r\n\r\n", 550, "5.6.0" },
        { "Bcc beside a signature", BASE SIG("From:To") "Bcc: x\r\n\r\n", 0, "" },
        { "8-bit Subject under a signature",
          BASE SIG("From:\r\n\t subject ") "Subject: \xc3\xbc\r\n\r\n", 550, "5.6.0" },
        { "8-bit Subject beside a signature", BASE SIG("From") "Subject: \xc3\xbc\r\n\r\n", 0, "" },
        { "missing Date that a signature forbids", SIG("From:Date") "From: a@b.c\r\n\r\n", 550,
          "5.6.0" },
        { "missing Date beside a signature", SIG("From") "From: a@b.c\r\n\r\n", 0, "" },
        { "an ARC signature counts",
          BASE "ARC-Message-Signature: i=1; h=subject; b=x\r\n"
               "Subject: \xc3\xbc\r\n\r\n",
          550, "5.6.0" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct run run;
        run_init(&run);
        enum err rc = run_fixup(&run, rows[i].in);
        if (rows[i].code == 0
                ? rc != ERR_OK
                : rc != ERR_INVALID || run.refusal.code != rows[i].code ||
                      strcmp(run.refusal.status, rows[i].status) != 0 || run.fault.text[0] == '\0')
            fail_msg("%s: %d %u %s", rows[i].name, rc, run.refusal.code, run.fault.text);
        run_clear(&run);
    }
}

static void long_lines(void **state)
{
    struct run run;
    char in[4000];

    (void)state;
    run_init(&run);
    for (int kind = 0; kind < 4; kind++) {
        strcpy(in, kind == 2   ? SIG("References") BASE
                   : kind == 3 ? SIG_RELAXED("References") BASE
                               : BASE);
        strcat(in, "References:");
        for (int i = 0; i < 100; i++)
            strcat(in, kind == 1 ? "<aaaaaaaaaa@bbbb>" : " <aaaaaaaaaa@bbbb>");
        strcat(in, "\r\n\r\n");
        enum err rc = run_fixup(&run, in);
        assert_int_equal(rc, kind == 1 || kind == 2 ? ERR_INVALID : ERR_OK);
        if (rc)
            assert_string_equal(run.refusal.status, "5.6.0");
        else
            assert_int_equal(run.facts.changed, 1);
    }
    run_clear(&run);
}

static void facts(void **state)
{
    struct run run;

    (void)state;
    run_init(&run);
    assert_int_equal(run_fixup(&run,
                               "From: \"x\" <\"Joe\"@EXAMPLE.com>\r\nMessage-ID:\r\n <1@x> \r\n"
                               "Content-Type: multipart/signed; micalg=x\r\n" SIG("from") "\r\n"),
                     ERR_OK);
    assert_true(str_eq(run.facts.from_address, STR("Joe@example.com")));
    assert_true(str_eq(run.facts.from_domain, STR("example.com")));
    assert_true(str_eq(run.facts.message_id, STR("<1@x>")));
    assert_true(run.facts.has_foreign_signature && run.facts.is_signed_mime);
    assert_false(run.facts.needs_utf8);

    assert_int_equal(run_fixup(&run,
                               "From: root (Cron)\r\nContent-Type: application/pkcs7-mime;\r\n"
                               "\tsmime-type=signed-data\r\n\r\n"),
                     ERR_OK);
    assert_true(str_eq(run.facts.from_address, STR("root")));
    assert_int_equal(run.facts.from_domain.len, 0);
    assert_true(run.facts.is_signed_mime && !run.facts.has_foreign_signature);
    assert_true(str_eq(run.facts.message_id, STR("<00000000000000000000000000@relay.example>")));
    run_clear(&run);
}

static void smtputf8_keeps_utf8(void **state)
{
    static const char in[] = "From: \xc3\xbc@b\xc3\xbc"
                             "cher.example\r\nDate: x\r\n"
                             "Message-ID: <1@x>\r\nSubject: \xc3\xbc\r\n\r\n";
    struct run run;

    (void)state;
    run_init(&run);
    run.envelope.flags = ENVELOPE_SMTPUTF8;
    assert_int_equal(run_fixup(&run, in), ERR_OK);
    assert_true(str_eq(behind_trace(&run), str_of(in)));
    assert_true(run.facts.needs_utf8);
    assert_true(str_eq(run.facts.from_domain, STR("xn--bcher-kva.example")));
    /* what is not UTF-8 is no SMTPUTF8 text either */
    assert_int_equal(run_fixup(&run, BASE "Subject: \xfc\r\n\r\n"), ERR_OK);
    assert_true(str_eq(behind_trace(&run), STR(BASE "Subject: =?iso-8859-1?B?/A==?=\r\n\r\n")) ||
                str_eq(behind_trace(&run), STR(BASE "Subject: =?iso-8859-1?Q?=FC?=\r\n\r\n")));
    assert_false(run.facts.needs_utf8);
    run_clear(&run);
}

static void trace_field(void **state)
{
    struct run run;

    (void)state;
    run_init(&run);
    assert_int_equal(run_fixup(&run, BASE), ERR_OK);
    assert_true(str_starts(buf_view(&run.out), STR("Received: from client.example ([192.0.2.1])\r\n"
                                                   "\tby relay.example (waypost) with ESMTPSA\r\n"
                                                   "\t(TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
                                                   "\tid 00000000000000000000000000\r\n"
                                                   "\tfor <b@example.net>;\r\n"
                                                   "\tSat, 21 Nov 2026 13:27:36 +0000\r\n" BASE)));
    envelope_add(&run.envelope, STR("c@example.net"));
    run.options.tls = STR_EMPTY;
    run.options.user = STR("al)ice\r\nBcc: x");
    run.options.client_host = STR("x) by evil\r\nSubject: y");
    run.options.client_address = STR("IPv6:2001:db8::1");
    assert_int_equal(run_fixup(&run, BASE), ERR_OK);
    assert_true(
        str_starts(buf_view(&run.out),
                   STR("Received: from [IPv6:2001:db8::1] (greeting x? by evil??Subject: y)\r\n"
                       "\tby relay.example (waypost) with ESMTPSA\r\n"
                       "\t(user al?ice??Bcc: x)\r\n"
                       "\tid 00000000000000000000000000;\r\n"
                       "\tSat, 21 Nov 2026 13:27:36 +0000\r\n" BASE)));
    run.options.client_address = run.options.user = STR_EMPTY;
    run.options.with = STR("LOCAL");
    assert_int_equal(run_fixup(&run, BASE), ERR_OK);
    assert_true(str_starts(buf_view(&run.out),
                           STR("Received: by relay.example (waypost) with LOCAL\r\n\tid ")));
    run_clear(&run);
}

static void nothing_is_added_when_not_asked(void **state)
{
    struct run run;

    (void)state;
    run_init(&run);
    run.options.add_missing = false;
    assert_int_equal(run_fixup(&run, "Subject: x\r\nDate:\r\n\r\n"), ERR_OK);
    assert_true(str_eq(behind_trace(&run), STR("Subject: x\r\nDate:\r\n\r\n")));
    run_clear(&run);
}

static void an_output_limit_is_a_refusal(void **state)
{
    struct run run;

    (void)state;
    run_init(&run);
    buf_clear(&run.out);
    buf_init(&run.out, 100);
    assert_int_equal(run_fixup(&run, BASE), ERR_INVALID);
    assert_int_equal(run.refusal.code, 552);
    run_clear(&run);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes),
        cmocka_unit_test(refusals),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(facts),
        cmocka_unit_test(smtputf8_keeps_utf8),
        cmocka_unit_test(trace_field),
        cmocka_unit_test(nothing_is_added_when_not_asked),
        cmocka_unit_test(an_output_limit_is_a_refusal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
