/*
 * outcome.c - finds the row of the table that fits the facts, and reads it.
 *
 * The few rules that hold for every row live here, not in the rows: scope HOST
 * widens to DEST on the last host, nothing before MAIL fails a message, and the
 * class of the enhanced status agrees with the result.
 */
#include "relay/mail/outcome_rows.h"

#include <stdio.h>

#define TEXT_MAX (REPLY_TEXT_MAX + 3) /* a space at both ends and the NUL */

/* The facts in the form that rows are compared with. */
struct subject {
    const struct outcome_facts *facts;
    const struct reply *reply; /* NULL: none */
    unsigned when;             /* WHEN_* that hold */
    char code[8];
    struct status status; /* the peer's; class 0: none */
    size_t text_len;
    char text[TEXT_MAX];
};

/* ---- preparing ---------------------------------------------------------- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* Length of an address in angle brackets at the front of `s`; 0: there is none. */
static size_t bracketed_address(struct str s)
{
    size_t end = str_chr(s, '>');

    if (s.len == 0 || s.at[0] != '<' || end == s.len)
        return 0;
    return str_chr(str_head(s, end), '@') < end ? end + 1 : 0;
}

/* Lower case, every run of blanks one space, a space at both ends: a phrase is
 * found even where the peer broke the line. Addresses are left out, so that
 * "<dmarc-reports@...> user unknown" is not taken for a word about DMARC. */
static void subject_text(struct subject *subject, struct str text)
{
    size_t n = 0;

    subject->text[n++] = ' ';
    for (size_t i = 0; i < text.len && n < TEXT_MAX - 2; i++) {
        i += bracketed_address(str_from(text, i));
        if (i >= text.len)
            break;
        if (!is_blank(text.at[i]))
            subject->text[n++] = text.at[i];
        else if (subject->text[n - 1] != ' ')
            subject->text[n++] = ' ';
    }
    if (subject->text[n - 1] != ' ')
        subject->text[n++] = ' ';
    subject->text[n] = '\0';
    subject->text_len = n;
    str_lower(subject->text, n);
}

/* qmail and its children write "(#5.1.1)" at the end instead of in front. */
static struct status status_at_end(const struct subject *subject)
{
    struct str text = str_make(subject->text, subject->text_len);
    struct status status = STATUS(0, 0, 0);
    size_t at = str_find(text, STR("(#"));
    size_t used;

    if (at < text.len && status_parse(str_from(text, at + 2), &status, &used) &&
        status.class == subject->reply->code / 100)
        return status;
    return STATUS(0, 0, 0);
}

static unsigned when_of(const struct outcome_facts *facts)
{
    unsigned when = 0;

    when |= facts->is_smarthost ? WHEN_SMARTHOST : WHEN_MX;
    when |= facts->is_last_host ? WHEN_LAST_HOST : WHEN_MORE_HOSTS;
    when |= facts->tls_required ? WHEN_TLS_REQUIRED : 0;
    when |= facts->content_sent ? WHEN_CONTENT_SENT : 0;
    when |= facts->has_accepted ? WHEN_HAS_ACCEPTED : 0;
    when |= facts->sent_8bit_refused ? WHEN_8BIT_REFUSED : 0;
    when |= facts->needs_utf8 ? WHEN_NEEDS_UTF8 : 0;
    return when;
}

static void subject_init(struct subject *subject, const struct outcome_facts *facts)
{
    bool has_reply = facts->reply && facts->reply->code;

    subject->facts = facts;
    subject->reply = has_reply ? facts->reply : NULL;
    subject->when = when_of(facts);
    subject->code[0] = '\0';
    subject->status = STATUS(0, 0, 0);
    if (!has_reply) {
        subject_text(subject, facts->fault);
        return;
    }
    snprintf(subject->code, sizeof(subject->code), "%u", (unsigned)facts->reply->code);
    subject_text(subject, reply_text(facts->reply));
    subject->status = facts->reply->status;
    if (subject->status.class == 0)
        subject->status = status_at_end(subject);
}

/* ---- matching ----------------------------------------------------------- */

/* "a*b": the pieces in this order. */
static bool phrase_found(struct str text, struct str phrase)
{
    struct str piece;

    while (str_next(&phrase, '*', &piece)) {
        size_t at = str_find(text, piece);
        if (at == text.len && piece.len > 0)
            return false;
        text = str_from(text, at + piece.len);
    }
    return true;
}

static bool text_matches(const struct subject *subject, const char *pattern)
{
    struct str text = str_make(subject->text, subject->text_len);
    struct str rest = str_of(pattern);
    struct str phrase;

    while (str_next(&rest, '|', &phrase))
        if (phrase_found(text, phrase))
            return true;
    return false;
}

static bool code_matches(const struct subject *subject, const char *pattern)
{
    struct str rest = str_of(pattern);
    struct str digits;

    while (str_next(&rest, '|', &digits))
        if (str_starts(str_of(subject->code), digits))
            return true;
    return false;
}

static bool number_in(struct str range, unsigned number)
{
    size_t dash = str_chr(range, '-');
    uint64_t low = 0, high = 0;

    if (range.len == 0) /* "5.7.": any detail */
        return true;
    if (!str_u64(str_head(range, dash), &low))
        return false;
    if (dash == range.len)
        return number == low;
    return str_u64(str_from(range, dash + 1), &high) && number >= low && number <= high;
}

/* One of "5.7.26", "*.2.2", "5.7.", "5.7.606-649". */
static bool status_fits(struct status status, struct str pattern)
{
    size_t first = str_chr(pattern, '.');
    struct str class = str_head(pattern, first);
    struct str rest = str_from(pattern, first + 1);
    size_t second = str_chr(rest, '.');

    return (str_eq(class, STR("*")) || number_in(class, status.class)) &&
           number_in(str_head(rest, second), status.subject) &&
           number_in(str_from(rest, second + 1), status.detail);
}

static bool status_matches(const struct subject *subject, const char *pattern)
{
    struct str rest = str_of(pattern);
    struct str one;

    if (subject->status.class == 0)
        return false;
    while (str_next(&rest, '|', &one))
        if (status_fits(subject->status, one))
            return true;
    return false;
}

static bool row_matches(const struct outcome_row *row, const struct subject *subject)
{
    const struct outcome_facts *facts = subject->facts;

    if (row->stages && !(row->stages & (1u << facts->stage)))
        return false;
    if ((row->when & subject->when) != row->when)
        return false;
    if (row->code && (!subject->reply || !code_matches(subject, row->code)))
        return false;
    if (row->errs && (subject->reply || !(row->errs & (1u << facts->err))))
        return false;
    if (row->dns && (subject->reply || !(row->dns & (1u << facts->dns))))
        return false;
    if (row->status && !status_matches(subject, row->status))
        return false;
    if (row->text && !text_matches(subject, row->text))
        return false;
    return !row->marker || text_matches(subject, row->marker);
}

/* ---- the table ---------------------------------------------------------- */

const struct outcome_section *const outcome_sections[] = {
    &outcome_rows_own,       &outcome_rows_success, &outcome_rows_google, &outcome_rows_microsoft,
    &outcome_rows_providers, &outcome_rows_session, &outcome_rows_block,  &outcome_rows_stock,
    &outcome_rows_status,    &outcome_rows_default,
};
const size_t outcome_section_count = sizeof(outcome_sections) / sizeof(outcome_sections[0]);

static const struct outcome_row *row_find(const struct subject *subject)
{
    for (size_t s = 0; s < outcome_section_count; s++) {
        const struct outcome_section *section = outcome_sections[s];
        for (size_t i = 0; i < section->count; i++)
            if (row_matches(&section->rows[i], subject))
                return &section->rows[i];
    }
    /* The last row of the table takes anything, so this is not reached. */
    return &outcome_rows_default.rows[outcome_rows_default.count - 1];
}

/* ---- reading the row ---------------------------------------------------- */

static bool is_before_mail(enum stage stage) { return (AT_SESSION & (1u << stage)) != 0; }

/* Whom a stage concerns when the row does not say. */
static enum scope natural_scope(enum stage stage)
{
    unsigned bit = 1u << stage;

    if (bit & (AT(RCPT) | AT(ROUTE)))
        return SCOPE_RECIPIENT;
    if (bit & (AT(MAIL) | AT(DATA) | AT(CONTENT) | AT(CONVERT)))
        return SCOPE_MESSAGE;
    if (bit & (AT_SESSION | AT(POLICY)))
        return SCOPE_HOST;
    return SCOPE_US;
}

/* A reply to RCPT speaks of that recipient, whatever the row had in mind: the
 * others get replies of their own. A reply to MAIL or the content speaks of all
 * that the transaction holds. And a host that took other recipients just now
 * is in order itself, unless it closes with 421. */
static enum scope scope_by_stage(enum scope scope, const struct outcome_facts *facts)
{
    bool is_closing = facts->reply->code == 421;

    if (facts->stage == STAGE_RCPT && scope == SCOPE_MESSAGE)
        return SCOPE_RECIPIENT;
    if (facts->stage == STAGE_RCPT && scope == SCOPE_HOST && facts->has_accepted && !is_closing)
        return SCOPE_RECIPIENT;
    if (facts->stage != STAGE_RCPT && scope == SCOPE_RECIPIENT)
        return SCOPE_MESSAGE;
    return scope;
}

/* A host that is asked last speaks for its place. Not so when it merely puts
 * off one recipient: that must not stop everybody's mail through a smarthost. */
static enum scope scope_at_last(const struct outcome_row *row, const struct outcome_facts *facts)
{
    bool puts_off_one = facts->stage == STAGE_RCPT && facts->reply && facts->reply->code > 421 &&
                        row->kind == CLASS_SOFT;

    return puts_off_one ? SCOPE_RECIPIENT : SCOPE_DEST;
}

static enum scope scope_of(const struct outcome_row *row, const struct subject *subject,
                           enum result result)
{
    const struct outcome_facts *facts = subject->facts;
    enum scope scope = row->scope ? row->scope : natural_scope(facts->stage);

    if (result == RESULT_OK || result == RESULT_DELIVERED)
        return SCOPE_NONE;
    if (result == RESULT_LATER && row->result == RESULT_FAILED && is_before_mail(facts->stage))
        scope = SCOPE_HOST; /* spared by result_of */
    if (subject->reply)
        scope = scope_by_stage(scope, facts);
    return scope == SCOPE_HOST && facts->is_last_host ? scope_at_last(row, facts) : scope;
}

/* A 4xx is never final, whatever its words. And a host that will not even hear
 * of the message says nothing about it, so its 5xx costs nobody a bounce: not at
 * an MX, and least of all at the smarthost through which everything goes. */
static enum result result_of(const struct outcome_row *row, const struct subject *subject)
{
    bool is_spared =
        subject->reply && (subject->reply->code < 500 || is_before_mail(subject->facts->stage));

    return row->result == RESULT_FAILED && is_spared ? RESULT_LATER : row->result;
}

/* RFC 3463: class 2, 4, 5 say success, later, failed; a DSN that is "delayed"
 * must not carry a 5. */
static struct status status_of(const struct outcome_row *row, const struct subject *subject,
                               enum result result)
{
    struct status status = row->own_status || !subject->status.class ? row->gives : subject->status;

    if (result == RESULT_OK && !status.class)
        return status;
    status.class = result == RESULT_LATER ? 4 : result == RESULT_FAILED ? 5 : 2;
    return status;
}

static bool alarm_of(const struct outcome_row *row, const struct outcome *outcome,
                     const struct subject *subject)
{
    bool is_stopped = subject->facts->is_smarthost && outcome->scope == SCOPE_DEST;

    if (row->alarm == ALARM_YES)
        return true;
    if (!is_stopped)
        return false;
    return row->alarm == ALARM_SMARTHOST ||
           (subject->reply && subject->reply->code >= 500 && is_before_mail(subject->facts->stage));
}

static uint32_t retry_after_of(const struct outcome_row *row, const struct subject *subject)
{
    uint32_t hint = outcome_retry_hint(str_make(subject->text, subject->text_len));

    return hint ? hint : row->retry_after_s;
}

struct outcome outcome_of(const struct outcome_facts *facts)
{
    struct subject subject;
    struct outcome outcome;

    subject_init(&subject, facts);
    const struct outcome_row *row = row_find(&subject);
    outcome = (struct outcome){
        .result = result_of(row, &subject),
        .kind = row->kind,
        .unknown_delivery = row->unknown_delivery,
        .split = row->split,
        .row = row->name,
        .cause = row->cause,
        .fix = row->fix,
    };
    outcome.scope = scope_of(row, &subject, outcome.result);
    outcome.status = status_of(row, &subject, outcome.result);
    outcome.alarm = alarm_of(row, &outcome, &subject);
    if (outcome.result == RESULT_LATER && subject.reply)
        outcome.retry_after_s = retry_after_of(row, &subject);
    return outcome;
}
