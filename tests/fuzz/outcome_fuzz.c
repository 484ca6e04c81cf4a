/*
 * outcome_fuzz.c - any reply text at any stage: the outcome keeps its rules, and
 * hint, queue id and explanation stay inside the text.
 *
 * Input: byte 0 stage, byte 1 facts, byte 2 how the rest is read, then text.
 */
#include "relay/mail/outcome.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool is_true)
{
    if (!is_true)
        abort();
}

static void check_outcome(const struct outcome_facts *facts, const struct outcome *outcome)
{
    bool is_later = outcome->result == RESULT_LATER;
    bool has_reply = facts->reply && facts->reply->code;

    check(outcome->row && outcome->cause && outcome->fix);
    check(!is_later || outcome->status.class == 4);
    check(outcome->result != RESULT_FAILED || outcome->status.class == 5);
    check(is_later || outcome->retry_after_s == 0);
    check(outcome->retry_after_s <= 86400);
    check(!facts->is_last_host || outcome->scope != SCOPE_HOST);
    check(!has_reply || facts->stage != STAGE_RCPT || outcome->scope != SCOPE_MESSAGE);
    check(facts->stage == STAGE_CONTENT || outcome->result != RESULT_DELIVERED);
    if (has_reply && facts->reply->code >= 400 && facts->stage < STAGE_MAIL &&
        facts->stage >= STAGE_CONNECT)
        check(is_later);
}

static void read_lines(struct str text, struct reply *reply)
{
    struct str line;

    reply_clear(reply);
    while (str_next(&text, '\n', &line))
        if (reply_feed(reply, line) != ERR_AGAIN)
            break;
}

static void check_text(struct str text)
{
    struct str id = outcome_remote_id(text);
    struct outcome outcome;

    check(id.len == 0 || (id.at >= text.at && id.at + id.len <= text.at + text.len));
    check(outcome_retry_hint(text) <= 86400);
    if (outcome_explain(text, &outcome))
        check(outcome.row != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome_facts facts = { 0 };
    struct reply reply;

    if (size < 3)
        return 0;
    struct str text = str_make((const char *)data + 3, size - 3);
    facts.stage = (enum stage)(data[0] % STAGE_COUNT);
    facts.is_smarthost = data[1] & 1;
    facts.is_last_host = data[1] & 2;
    facts.tls_required = data[1] & 4;
    facts.content_sent = data[1] & 8;
    facts.has_accepted = data[1] & 16;
    facts.sent_8bit_refused = data[1] & 32;
    facts.needs_utf8 = data[1] & 64;
    if (data[2] & 0x80) {
        facts.err = (enum err)(data[2] & 0x7f) % (ERR_CANCELLED + 1);
        facts.fault = text;
    } else {
        read_lines(text, &reply);
        facts.reply = &reply;
    }
    struct outcome outcome = outcome_of(&facts);
    check_outcome(&facts, &outcome);
    check_text(text);
    return 0;
}
