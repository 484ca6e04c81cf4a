/*
 * outcome_explain.c - the meaning of a reply that a person pasted.
 *
 * What is pasted is a bare reply, a line of some server's log, or a fault in
 * words. The step is not known, so it is guessed from code, status and words.
 */
#include "relay/mail/outcome.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static bool next_word(struct str *rest, struct str *out_word)
{
    size_t n = 0;

    while (rest->len && is_blank(rest->at[0]))
        *rest = str_from(*rest, 1);
    while (n < rest->len && !is_blank(rest->at[n]))
        n++;
    *out_word = str_head(*rest, n);
    *rest = str_from(*rest, n);
    return n > 0;
}

/* "smtp;550" of a Diagnostic-Code, "(550", "#550": what stands before the digits. */
static struct str bare_word(struct str word)
{
    size_t semicolon = str_chr(word, ';');

    if (semicolon + 1 < word.len)
        word = str_from(word, semicolon + 1);
    while (word.len && strchr("(\"'<[#", word.at[0]))
        word = str_from(word, 1);
    return word;
}

static unsigned code_of(struct str word)
{
    if (word.len < 3 || (word.len > 3 && word.at[3] != '-'))
        return 0;
    if (word.at[0] < '2' || word.at[0] > '5' || !is_digit(word.at[1]) || !is_digit(word.at[2]))
        return 0;
    return (unsigned)(word.at[0] - '0') * 100 + (unsigned)(word.at[1] - '0') * 10 +
           (unsigned)(word.at[2] - '0');
}

static bool status_of(struct str word, struct status *out_status)
{
    size_t used;

    return status_parse(word, out_status, &used) && used == word.len;
}

/* One word goes into the reply's text; codes and statuses that peers repeat on
 * every line do not, so that a phrase broken over two lines is found. */
static void add_word(struct reply *reply, struct str word)
{
    struct status status;

    if (code_of(word) == reply->code)
        word = str_from(word, 4);
    if (word.len == 0)
        return;
    if (status_of(word, &status)) {
        if (!reply->status.class)
            reply->status = status;
        return;
    }
    if (reply->len + word.len + 2 > sizeof(reply->text))
        return;
    if (reply->len)
        reply->text[reply->len++] = ' ';
    memcpy(reply->text + reply->len, word.at, word.len);
    reply->len += word.len;
    reply->text[reply->len] = '\0';
}

/* The reply in the paste: from its first code, or else its first enhanced code. */
static bool find_reply(struct str pasted, struct reply *reply)
{
    struct str rest = pasted;
    struct str word;
    struct status status;

    while (!reply->code && next_word(&rest, &word)) {
        word = bare_word(word);
        reply->code = (uint16_t)code_of(word);
        if (reply->code)
            add_word(reply, word);
    }
    for (rest = reply->code ? rest : pasted; next_word(&rest, &word);) {
        if (!reply->code && status_of(bare_word(word), &status)) {
            reply->code = (uint16_t)(status.class * 100 + 50);
            word = bare_word(word);
        }
        if (reply->code)
            add_word(reply, word);
    }
    return reply->code != 0;
}

static bool says(const struct reply *reply, const char *phrase)
{
    struct str text = str_make(reply->text, reply->len);

    return str_ifind(text, str_of(phrase)) < text.len;
}

static enum stage guess_by_text(const struct reply *reply)
{
    static const struct {
        const char *phrase;
        enum stage stage;
    } rows[] = {
        { "helo", STAGE_EHLO },      { "sender", STAGE_MAIL },
        { "mail from", STAGE_MAIL }, { "recipient", STAGE_RCPT },
        { "mailbox", STAGE_RCPT },   { "user", STAGE_RCPT },
        { "relay", STAGE_RCPT },     { "no smtp service", STAGE_RCPT },
        { "account", STAGE_RCPT },   { "virus", STAGE_CONTENT },
        { "spam", STAGE_CONTENT },   { "message", STAGE_CONTENT },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (says(reply, rows[i].phrase))
            return rows[i].stage;
    return reply->code == 451 || reply->code == 554 || reply->code == 250 ? STAGE_CONTENT
                                                                          : STAGE_RCPT;
}

static enum stage guess_stage(const struct reply *reply)
{
    switch (reply->code) {
    case 220:
        return STAGE_BANNER;
    case 235:
    case 334:
    case 432:
    case 534:
    case 535:
    case 538:
        return STAGE_AUTH;
    case 354:
        return STAGE_DATA;
    case 530:
        return STAGE_MAIL;
    }
    if (says(reply, "authentication failed") || says(reply, "smtpclientauthentication"))
        return STAGE_AUTH;
    if (says(reply, "sendgrid") || says(reply, "credentials"))
        return STAGE_AUTH;
    if (reply->status.class > 2 && (reply->status.subject == 1 || reply->status.subject == 2))
        return reply->status.subject == 1 && reply->status.detail >= 7 && reply->status.detail <= 8
                   ? STAGE_MAIL
                   : STAGE_RCPT;
    return reply->code / 100 == 2 ? STAGE_CONTENT : guess_by_text(reply);
}

/* Not a reply: our own fault, or another program's words for the same. */
static bool guess_fault(struct str pasted, struct outcome_facts *facts)
{
    static const struct {
        const char *phrase;
        enum stage stage;
        enum err err;
        enum outcome_dns dns;
    } rows[] = {
        { "connection refused", STAGE_CONNECT, ERR_REFUSED, OUTCOME_DNS_NONE },
        { "no route to host", STAGE_CONNECT, ERR_UNREACHABLE, OUTCOME_DNS_NONE },
        { "network is unreachable", STAGE_CONNECT, ERR_UNREACHABLE, OUTCOME_DNS_NONE },
        { "certificate", STAGE_TLS, ERR_TLS, OUTCOME_DNS_NONE },
        { "handshake", STAGE_TLS, ERR_TLS, OUTCOME_DNS_NONE },
        { "wrong version number", STAGE_TLS, ERR_TLS, OUTCOME_DNS_NONE },
        { "null mx", STAGE_ROUTE, ERR_DNS, OUTCOME_DNS_NULL_MX },
        { "nxdomain", STAGE_ROUTE, ERR_DNS, OUTCOME_DNS_NXDOMAIN },
        { "host not found", STAGE_ROUTE, ERR_DNS, OUTCOME_DNS_NXDOMAIN },
        { "domain not found", STAGE_ROUTE, ERR_DNS, OUTCOME_DNS_NXDOMAIN },
        { "name or service not known", STAGE_ROUTE, ERR_DNS, OUTCOME_DNS_NXDOMAIN },
        { "servfail", STAGE_ROUTE, ERR_DNS, OUTCOME_DNS_SERVFAIL },
        { "try again", STAGE_ROUTE, ERR_DNS, OUTCOME_DNS_SERVFAIL },
        { "while sending end of data", STAGE_CONTENT, ERR_CLOSED, OUTCOME_DNS_NONE },
        { "lost connection", STAGE_MAIL, ERR_CLOSED, OUTCOME_DNS_NONE },
        { "connection reset", STAGE_MAIL, ERR_CLOSED, OUTCOME_DNS_NONE },
        { "conversation with", STAGE_MAIL, ERR_TIMEOUT, OUTCOME_DNS_NONE },
        { "timed out", STAGE_CONNECT, ERR_TIMEOUT, OUTCOME_DNS_NONE },
        { "timeout", STAGE_CONNECT, ERR_TIMEOUT, OUTCOME_DNS_NONE },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (str_ifind(pasted, str_of(rows[i].phrase)) == pasted.len)
            continue;
        facts->stage = rows[i].stage;
        facts->err = rows[i].err;
        facts->dns = rows[i].dns;
        facts->fault = pasted;
        facts->content_sent = rows[i].stage == STAGE_CONTENT;
        return true;
    }
    return false;
}

bool outcome_explain(struct str pasted, struct outcome *out)
{
    struct outcome_facts facts = { .stage = STAGE_ROUTE };
    struct reply reply = { 0 };

    if (find_reply(pasted, &reply)) {
        facts.reply = &reply;
        facts.stage = guess_stage(&reply);
        facts.is_smarthost = facts.stage == STAGE_AUTH || reply.code == 530;
    } else if (!guess_fault(pasted, &facts)) {
        return false;
    }
    *out = outcome_of(&facts);
    return true;
}
