/*
 * outcome_test.c - every row of the outcome table has a fixture, every stage an
 * explicit meaning for every kind of reply and fault, and no reply bounces mail
 * that was never spoken of.
 */
#include "relay/mail/outcome_rows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "outcome_fixtures.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- reading fixtures --------------------------------------------------- */

static const struct {
    const char *word;
    enum err err;
} err_words[] = {
#define X(name, text) { #name, ERR_##name },
    ERR_MAP(X)
#undef X
};

static const struct {
    const char *word;
    enum outcome_dns dns;
} dns_words[] = {
    { "NXDOMAIN", OUTCOME_DNS_NXDOMAIN }, { "NODATA", OUTCOME_DNS_NODATA },
    { "SERVFAIL", OUTCOME_DNS_SERVFAIL }, { "TIMEOUT", OUTCOME_DNS_TIMEOUT },
    { "BOGUS", OUTCOME_DNS_BOGUS },       { "NULL_MX", OUTCOME_DNS_NULL_MX },
    { "LOOP", OUTCOME_DNS_LOOP },         { "BAD_MX", OUTCOME_DNS_BAD_MX },
};

static void read_reply(struct str in, struct reply *reply)
{
    struct str line;
    enum err rc = ERR_AGAIN;

    reply_clear(reply);
    while (str_next(&in, '\n', &line))
        rc = reply_feed(reply, line);
    assert_int_equal(rc, ERR_OK);
}

static void read_err(struct str in, struct outcome_facts *facts)
{
    size_t colon = str_chr(in, ':');

    facts->err = ERR_CANCELLED + 1;
    for (size_t i = 0; i < COUNT(err_words); i++)
        if (str_eq(str_head(in, colon), str_of(err_words[i].word)))
            facts->err = err_words[i].err;
    assert_true(facts->err <= ERR_CANCELLED);
    facts->fault = str_trim(str_from(in, colon + 1));
}

static void read_dns(struct str in, struct outcome_facts *facts)
{
    for (size_t i = 0; i < COUNT(dns_words); i++)
        if (str_eq(in, str_of(dns_words[i].word)))
            facts->dns = dns_words[i].dns;
    assert_int_not_equal(facts->dns, OUTCOME_DNS_NONE);
    facts->err = ERR_DNS;
}

static struct outcome run(const struct fixture *fixture, struct reply *reply)
{
    struct str in = str_of(fixture->in);
    struct outcome_facts facts = {
        .stage = fixture->stage,
        .is_smarthost = strchr(fixture->flags, 's') != NULL,
        .is_last_host = strchr(fixture->flags, 'l') != NULL,
        .tls_required = strchr(fixture->flags, 't') != NULL,
        .content_sent = strchr(fixture->flags, 'c') != NULL,
        .has_accepted = strchr(fixture->flags, 'a') != NULL,
        .sent_8bit_refused = strchr(fixture->flags, '8') != NULL,
        .needs_utf8 = strchr(fixture->flags, 'u') != NULL,
    };

    reply_clear(reply);
    if (str_starts(in, STR("ERR "))) {
        read_err(str_from(in, 4), &facts);
    } else if (str_starts(in, STR("DNS "))) {
        read_dns(str_from(in, 4), &facts);
    } else if (str_starts(in, STR("CODE "))) {
        reply->code = (uint16_t)atoi(fixture->in + 5);
        facts.reply = reply;
    } else {
        read_reply(in, reply);
        facts.reply = reply;
    }
    return outcome_of(&facts);
}

/* One word of `means` behind result, scope and class. */
static bool holds(const struct outcome *outcome, struct str word)
{
    struct str number = str_from(word, 6);
    char status[16];
    uint64_t seconds;

    if (str_eq(word, STR("alarm")))
        return outcome->alarm;
    if (str_eq(word, STR("split")))
        return outcome->split;
    if (str_eq(word, STR("unknown")))
        return outcome->unknown_delivery;
    if (str_starts(word, STR("retry=")))
        return str_u64(number, &seconds) && outcome->retry_after_s == seconds;
    status_print(outcome->status, status, sizeof(status));
    return str_eq(word, str_of(status));
}

static bool means(const struct outcome *outcome, const char *expected)
{
    struct str rest = str_of(expected);
    struct str word;
    bool says_alarm = str_find(rest, STR("alarm")) < rest.len;
    bool says_split = str_find(rest, STR("split")) < rest.len;

    if (!str_next(&rest, ' ', &word) || !str_eq(word, str_of(result_word(outcome->result))))
        return false;
    if (!str_next(&rest, ' ', &word) || !str_eq(word, str_of(scope_word(outcome->scope))))
        return false;
    if (!str_next(&rest, ' ', &word) || !str_eq(word, str_of(class_word(outcome->kind))))
        return false;
    while (str_next(&rest, ' ', &word))
        if (!holds(outcome, word))
            return false;
    return outcome->alarm == says_alarm && outcome->split == says_split;
}

static void complain(const struct fixture *fixture, const struct outcome *outcome)
{
    char status[16];

    status_print(outcome->status, status, sizeof(status));
    print_error("%s: \"%s\"\n  expected: %s\n  was:      row %s, %s %s %s %s%s%s%s retry=%u\n",
                fixture->row, fixture->in, fixture->means, outcome->row,
                result_word(outcome->result), scope_word(outcome->scope), class_word(outcome->kind),
                status, outcome->alarm ? " alarm" : "", outcome->split ? " split" : "",
                outcome->unknown_delivery ? " unknown" : "", outcome->retry_after_s);
}

/* ---- the table ---------------------------------------------------------- */

static void each_fixture_meets_its_row(void **state)
{
    struct reply reply;
    int bad = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(fixtures); i++) {
        struct outcome outcome = run(&fixtures[i], &reply);
        if (strcmp(outcome.row, fixtures[i].row) == 0 && means(&outcome, fixtures[i].means))
            continue;
        complain(&fixtures[i], &outcome);
        bad++;
    }
    assert_int_equal(bad, 0);
}

static bool has_fixture(const char *row)
{
    for (size_t i = 0; i < COUNT(fixtures); i++)
        if (strcmp(fixtures[i].row, row) == 0)
            return true;
    return false;
}

typedef void row_fn(const struct outcome_row *row, void *arg);

static void each_row(row_fn *fn, void *arg)
{
    for (size_t s = 0; s < outcome_section_count; s++)
        for (size_t i = 0; i < outcome_sections[s]->count; i++)
            fn(&outcome_sections[s]->rows[i], arg);
}

static void check_row(const struct outcome_row *row, void *arg)
{
    int *bad = arg;
    bool is_failure = row->result == RESULT_LATER || row->result == RESULT_FAILED;
    bool is_fine = row->cause && row->cause[0] && row->fix && row->fix[0];

    /* Words that end up in a DSN and a terminal: short, plain ASCII, whole sentences. */
    is_fine = is_fine && strlen(row->cause) < 200 && strlen(row->fix) < 200 &&
              str_is_ascii(str_of(row->cause)) && str_is_ascii(str_of(row->fix)) &&
              row->cause[strlen(row->cause) - 1] == '.' && row->fix[strlen(row->fix) - 1] == '.';
    /* A status comes from the peer's code, or else the row has one. */
    is_fine = is_fine && (!is_failure || row->status || row->gives.class);
    if (has_fixture(row->name) && is_fine)
        return;
    print_error("%s: %s\n", row->name, is_fine ? "no fixture" : "bad words or no status");
    (*bad)++;
}

static void every_row_has_a_fixture_and_words(void **state)
{
    int bad = 0;

    (void)state;
    each_row(check_row, &bad);
    assert_int_equal(bad, 0);
}

struct twin {
    const char *name;
    int seen;
};

static void count_name(const struct outcome_row *row, void *arg)
{
    struct twin *twin = arg;

    twin->seen += strcmp(row->name, twin->name) == 0;
}

static void check_single(const struct outcome_row *row, void *arg)
{
    struct twin twin = { row->name, 0 };

    (void)arg;
    each_row(count_name, &twin);
    assert_int_equal(twin.seen, 1);
}

static void row_names_are_unique(void **state)
{
    (void)state;
    each_row(check_single, NULL);
}

/* Patterns are compared with lowered text. */
static void check_lower(const struct outcome_row *row, void *arg)
{
    (void)arg;
    for (const char *c = row->text ? row->text : ""; *c; c++)
        assert_false(*c >= 'A' && *c <= 'Z');
    for (const char *c = row->marker ? row->marker : ""; *c; c++)
        assert_false(*c >= 'A' && *c <= 'Z');
}

static void patterns_are_in_lower_case(void **state)
{
    (void)state;
    each_row(check_lower, NULL);
}

/* ---- every combination -------------------------------------------------- */

static void sane(const struct outcome_facts *facts, const struct outcome *outcome)
{
    bool is_before_mail = (AT_SESSION & (1u << facts->stage)) != 0;

    assert_non_null(outcome->row);
    assert_non_null(outcome->cause);
    if (outcome->result == RESULT_LATER)
        assert_int_equal(outcome->status.class, 4);
    if (outcome->result == RESULT_FAILED)
        assert_int_equal(outcome->status.class, 5);
    if (outcome->result == RESULT_LATER || outcome->result == RESULT_FAILED)
        assert_int_not_equal(outcome->scope, SCOPE_NONE);
    else
        assert_int_equal(outcome->scope, SCOPE_NONE);
    if (facts->is_last_host)
        assert_int_not_equal(outcome->scope, SCOPE_HOST);
    if (facts->reply && facts->stage == STAGE_RCPT)
        assert_int_not_equal(outcome->scope, SCOPE_MESSAGE);
    if (facts->reply && (AT(MAIL) | AT_BODY) & (1u << facts->stage))
        assert_int_not_equal(outcome->scope, SCOPE_RECIPIENT);
    if (facts->reply && is_before_mail)
        assert_int_not_equal(outcome->result, RESULT_FAILED);
    if (facts->reply && facts->reply->code / 100 == 4 && facts->stage != STAGE_QUIT)
        assert_int_equal(outcome->result, RESULT_LATER);
    if (outcome->result == RESULT_DELIVERED)
        assert_int_equal(facts->stage, STAGE_CONTENT);
    if (!facts->reply && facts->content_sent && facts->stage != STAGE_QUIT)
        assert_true(outcome->unknown_delivery);
}

static struct outcome_facts facts_of(unsigned bits, enum stage stage)
{
    return (struct outcome_facts){
        .stage = stage,
        .is_smarthost = bits & 1,
        .is_last_host = (bits >> 1) & 1,
        .tls_required = (bits >> 2) & 1,
        .content_sent = (bits >> 3) & 1,
        .has_accepted = (bits >> 4) & 1,
    };
}

static void every_stage_has_a_meaning_for_every_code(void **state)
{
    struct reply reply;

    (void)state;
    for (unsigned bits = 0; bits < 32; bits++)
        for (unsigned stage = 0; stage < STAGE_COUNT; stage++)
            for (unsigned code = 200; code < 600; code++) {
                struct outcome_facts facts = facts_of(bits, (enum stage)stage);
                reply_clear(&reply);
                reply.code = (uint16_t)code;
                facts.reply = &reply;
                struct outcome outcome = outcome_of(&facts);
                sane(&facts, &outcome);
                assert_string_not_equal(outcome.row, "no-smtp-code");
            }
}

static void every_stage_has_a_meaning_for_every_error(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 32; bits++)
        for (unsigned stage = 0; stage < STAGE_COUNT; stage++)
            for (size_t i = 0; i < COUNT(err_words); i++) {
                struct outcome_facts facts = facts_of(bits, (enum stage)stage);
                facts.err = err_words[i].err;
                struct outcome outcome = outcome_of(&facts);
                sane(&facts, &outcome);
                assert_string_not_equal(outcome.row, "no-smtp-code");
            }
}

static void every_dns_finding_has_a_meaning(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 4; bits++)
        for (size_t i = 0; i < COUNT(dns_words); i++) {
            struct outcome_facts facts = facts_of(bits, STAGE_ROUTE);
            facts.err = ERR_DNS;
            facts.dns = dns_words[i].dns;
            struct outcome outcome = outcome_of(&facts);
            sane(&facts, &outcome);
            assert_string_not_equal(outcome.row, "route-lookup-failed");
            /* No trouble with the smarthost's name may bounce the queue. */
            if (facts.is_smarthost)
                assert_int_equal(outcome.result, RESULT_LATER);
        }
}

static void an_address_in_the_reply_is_not_read_as_words(void **state)
{
    static const struct fixture row = { "rcpt-unavailable", STAGE_RCPT, "",
                                        "550 <spamhaus-greylist-virus@example.net> no", "" };
    struct reply reply;

    (void)state;
    assert_string_equal(run(&row, &reply).row, "rcpt-unavailable");
}

/* ---- hints in the text -------------------------------------------------- */

static void retry_hints(void **state)
{
    static const struct {
        const char *text;
        uint32_t seconds;
    } rows[] = {
        { "greylisted, try again in 5 minutes", 300 },
        { "Greylisted, please try again in 180 seconds", 180 },
        { "Greylisting in action, please come back in 00:05:00", 300 },
        { "please come back in 04:31", 271 },
        { "Greylisted for 300 seconds (see http://isg.ee.ethz.ch/tools/postgrey/)", 300 },
        { "Greylisted for 5 minutes", 300 },
        { "graylisted, retry in 4m31s", 271 },
        { "You are being greylisted. Try again in 1 hour 5 minutes.", 3900 },
        { "try again in at least 2 mins", 120 },
        { "Please try again after 1 hour and 30 minutes", 5400 },
        { "Retry-After: 120", 120 },
        { "please wait 60 sec", 60 },
        { "try again in 300", 300 },
        { "try again in 300.", 300 },
        { "deferred for 2 days", 86400 },
        { "try again in 999999999 hours", 86400 },
        { "try again in 0 seconds", 0 },
        { "try again later", 0 },
        { "try again in a few minutes", 0 },
        { "try again in 2 different ways", 0 },
        { "try again after 2026-01-01", 0 },
        { "try again in 99999999999999999999 seconds", 0 },
        { "Greylisted, see http://postgrey.schweikert.ch/help/example.com.html", 0 },
        { "", 0 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint32_t seconds = outcome_retry_hint(str_of(rows[i].text));
        if (seconds != rows[i].seconds)
            fail_msg("\"%s\": %u, not %u", rows[i].text, seconds, rows[i].seconds);
    }
}

static void remote_ids(void **state)
{
    static const struct {
        const char *server, *text, *id;
    } rows[] = {
        { "Postfix", "Ok: queued as 4XyZaB1234", "4XyZaB1234" },
        { "Postfix, old", "Ok: queued as 9F1B02C0", "9F1B02C0" },
        { "waypost", "queued as 01jd9k3m5n7p9q2r4s6t8v0w1x", "01jd9k3m5n7p9q2r4s6t8v0w1x" },
        { "Exim", "OK id=1tDk5m-0000000A1bC-2DeF", "1tDk5m-0000000A1bC-2DeF" },
        { "Gmail", "OK  1700000000 d2e1a72fcca58-6cb1.123 - gsmtp", "d2e1a72fcca58-6cb1.123" },
        { "Exchange Online",
          "<CA+abc@mail.example.com> [InternalId=120259084291, "
          "Hostname=AM0PR01MB0001.eurprd01.prod.exchangelabs.com] 8527 bytes in 0.153, 54.125 "
          "KB/sec Queued mail for delivery",
          "120259084291" },
        { "Amazon SES", "Ok 0102018c7e2b1c3d-4b6a0f0e-1111-2222-3333-0123456789ab-000000",
          "0102018c7e2b1c3d-4b6a0f0e-1111-2222-3333-0123456789ab-000000" },
        { "SendGrid", "Ok: queued as gTErOVJoQXa1b2c3d4e5fg", "gTErOVJoQXa1b2c3d4e5fg" },
        { "OpenSMTPD", "7a5e1f0b Message accepted for delivery", "7a5e1f0b" },
        { "sendmail", "34KJ0Hx1012345 Message accepted for delivery", "34KJ0Hx1012345" },
        { "Haraka", "Message Queued (B1B5A3B9-7C3E-4B0E-A5D9-0F2E.1)",
          "B1B5A3B9-7C3E-4B0E-A5D9-0F2E.1" },
        { "qmail", "ok 1700000000 qp 12345", "12345" },
        { "GMX", "Requested mail action okay, completed: id=1MNcgj-1ue23t3pyV-00S2YR",
          "1MNcgj-1ue23t3pyV-00S2YR" },
        { "Mimecast",
          "SmtpThread-1-1700000000@uk-mta-1.uk.mimecast.lan Received OK "
          "[Aj3QXapeMpqZYaeF.uk32]",
          "Aj3QXapeMpqZYaeF.uk32" },
        { "KumoMTA", "OK ids=b0f5d8c11a2b11ef8a0b0242ac110002",
          "b0f5d8c11a2b11ef8a0b0242ac110002" },
        { "Stalwart", "Message queued with id 1a2b3c4d.", "1a2b3c4d" },
        { "hMailServer", "Queued (10.5 seconds)", "" },
        { "aiosmtpd", "OK", "" },
        { "Yahoo", "ok dirdel", "" },
        { "a sentence", "Ok thanks for the message", "" },
        { "nothing", "", "" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct str id = outcome_remote_id(str_of(rows[i].text));
        if (!str_eq(id, str_of(rows[i].id)))
            fail_msg("%s: \"" STR_FMT "\", not \"%s\"", rows[i].server, STR_ARG(id), rows[i].id);
    }
}

/* ---- explain ------------------------------------------------------------ */

static void pasted_text(void **state)
{
    static const struct {
        const char *pasted, *row;
    } rows[] = {
        { "550 5.1.1 <a@b.example>: Recipient address rejected: User unknown", "unknown-user" },
        { "550-5.7.26 Your email has been blocked because the sender is\n550-5.7.26 "
          "unauthenticated.\n550 5.7.26 a1.1 - gsmtp",
          "gmail-unauthenticated" },
        { "550-5.7.1 Our system has detected that this message is likely\r\n550-5.7.1 unsolicited "
          "mail. a1.1 - gsmtp",
          "gmail-likely-spam" },
        { "Nov 21 13:27:36 mx postfix/smtp[1]: 4XyZ: to=<a@b.example>, relay=mx.b.example"
          "[192.0.2.1]:25, delay=1.2, dsn=5.7.1, status=bounced (host mx.b.example[192.0.2.1] said: "
          "554 5.7.1 <a@b.example>: Relay access denied (in reply to RCPT TO command))",
          "relay-denied" },
        { "Diagnostic-Code: smtp; 550 5.7.606 Access denied, banned sending IP [192.0.2.1]",
          "m365-banned-ip" },
        { "smtp;535 5.7.8 Error: authentication failed", "auth-refused" },
        { "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the "
          "Tenant",
          "m365-smtp-auth-off" },
        { "454 Throttling failure: Maximum sending rate exceeded.", "ses-rate" },
        { "451 Authentication failed: Maximum credits exceeded", "sendgrid-credits" },
        { "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume",
          "yahoo-deferred" },
        { "530 5.7.0 Authentication Required", "login-demanded-smarthost" },
        { "250 2.0.0 Ok: queued as 4XyZ", "delivered" },
        { "5.2.2", "mailbox-full-status" },
        { "#5.1.1", "status-no-mailbox" },
        { "552 5.2.2 mailbox full", "mailbox-full" },
        { "554 no", "content-refused" },
        { "connect to mx.example.com[192.0.2.1]:25: Connection refused", "connect-refused" },
        { "Connection timed out", "connect-timeout" },
        { "certificate has expired", "tls-expired" },
        { "Host or domain name not found. Name service error: Host not found", "domain-unknown" },
        { "lost connection while sending end of data -- message may be sent more than once",
          "delivery-unknown" },
        { "421", "closing" },
    };
    struct outcome outcome;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (!outcome_explain(str_of(rows[i].pasted), &outcome))
            fail_msg("\"%s\": not explained", rows[i].pasted);
        if (strcmp(outcome.row, rows[i].row) != 0)
            fail_msg("\"%s\": %s, not %s", rows[i].pasted, outcome.row, rows[i].row);
    }
    assert_false(outcome_explain(STR("hello there"), &outcome));
    assert_false(outcome_explain(STR_EMPTY, &outcome));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fixture_meets_its_row),
        cmocka_unit_test(every_row_has_a_fixture_and_words),
        cmocka_unit_test(row_names_are_unique),
        cmocka_unit_test(patterns_are_in_lower_case),
        cmocka_unit_test(every_stage_has_a_meaning_for_every_code),
        cmocka_unit_test(every_stage_has_a_meaning_for_every_error),
        cmocka_unit_test(every_dns_finding_has_a_meaning),
        cmocka_unit_test(an_address_in_the_reply_is_not_read_as_words),
        cmocka_unit_test(retry_hints),
        cmocka_unit_test(remote_ids),
        cmocka_unit_test(pasted_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
