/*
 * outcome_rows.h - the shape of a row of the outcome table, for outcome.c, the
 * files that hold the rows, and the test that demands a fixture for each.
 *
 * The table is one list, in sections; the FIRST row that matches wins. So what
 * is special stands before what is general: providers before texts that many
 * servers use, those before bare enhanced codes, those before bare codes. "First"
 * was preferred to "most specific" because a reader can see it.
 *
 * Patterns. `text` and `marker`: alternatives split by '|', in lower case; a
 * '*' inside one stands for any text between. They are looked for in the reply
 * (or our own fault), lowered, lines joined by one space, a space at both ends,
 * so that " rbl " finds a word. `code`: alternatives of leading digits,
 * "421|45". `status`: alternatives "5.7.26", "*.2.2" (any class), "5.7." (any
 * detail), "5.7.606-649".
 */
#ifndef WAYPOST_MAIL_OUTCOME_ROWS_H
#define WAYPOST_MAIL_OUTCOME_ROWS_H

#include "relay/mail/outcome.h"

/* Conditions on the facts; all that are named must hold. */
enum {
    WHEN_SMARTHOST = 1 << 0,
    WHEN_MX = 1 << 1, /* not a smarthost */
    WHEN_LAST_HOST = 1 << 2,
    WHEN_MORE_HOSTS = 1 << 3,
    WHEN_TLS_REQUIRED = 1 << 4,
    WHEN_CONTENT_SENT = 1 << 5,
    WHEN_HAS_ACCEPTED = 1 << 6,
    WHEN_8BIT_REFUSED = 1 << 7,
    WHEN_NEEDS_UTF8 = 1 << 8,
};

enum outcome_alarm {
    ALARM_NO,
    ALARM_YES,
    ALARM_SMARTHOST, /* when it holds up everything: the smarthost's last host */
};

struct outcome_row {
    const char *name;
    /* what it matches; left out: anything */
    unsigned stages; /* a bit per stage */
    unsigned when;
    const char *code; /* with a reply only */
    const char *status;
    const char *text;
    const char *marker; /* who speaks: a second text that must be there too */
    unsigned errs;      /* a bit per enum err; without a reply only */
    unsigned dns;       /* a bit per enum outcome_dns; without a reply only */
    /* what it means */
    enum result result;
    enum scope scope; /* NONE: whom the stage concerns (RCPT: the recipient ...) */
    enum class kind;
    struct status gives; /* enhanced status when the peer gave none */
    bool own_status;     /* `gives` wins over the peer's */
    bool unknown_delivery;
    bool split;
    enum outcome_alarm alarm;
    uint32_t retry_after_s; /* when the text has no hint of its own */
    const char *cause;
    const char *fix;
};

struct outcome_section {
    const char *name;
    const struct outcome_row *rows;
    size_t count;
};

/* The table, in order. */
extern const struct outcome_section *const outcome_sections[];
extern const size_t outcome_section_count;

extern const struct outcome_section outcome_rows_own;       /* no reply: DNS, network, TLS, us */
extern const struct outcome_section outcome_rows_success;   /* 2xx, 3xx */
extern const struct outcome_section outcome_rows_google;    /* Gmail, Google Workspace */
extern const struct outcome_section outcome_rows_microsoft; /* Microsoft 365, Outlook.com */
extern const struct outcome_section outcome_rows_providers; /* SES, SendGrid, Yahoo, iCloud ... */
extern const struct outcome_section outcome_rows_session;   /* AUTH, STARTTLS, 530 */
extern const struct outcome_section outcome_rows_block;     /* lists and filters that refuse us */
extern const struct outcome_section outcome_rows_stock;     /* texts of Postfix, Exim, qmail ... */
extern const struct outcome_section outcome_rows_status;    /* by enhanced code alone */
extern const struct outcome_section outcome_rows_default;   /* by stage and code alone */

#define SECTION(words, array)                                                                      \
    {                                                                                              \
        .name = (words), .rows = (array), .count = sizeof(array) / sizeof((array)[0])              \
    }

#define AT(stage) (1u << STAGE_##stage)
#define AT_TLS (AT(CONNECT) | AT(STARTTLS) | AT(TLS))
#define AT_SESSION (AT(CONNECT) | AT(BANNER) | AT(EHLO) | AT(STARTTLS) | AT(TLS) | AT(AUTH))
#define AT_MESSAGE (AT(MAIL) | AT(RCPT) | AT(DATA) | AT(CONTENT))
#define AT_BODY (AT(DATA) | AT(CONTENT))
#define AT_WIRE (AT_SESSION | AT_MESSAGE)

#define ON(err) (1u << ERR_##err)
#define ON_ANY (~0u)
#define DNS(word) (1u << OUTCOME_DNS_##word)

/* scope and class as in verdict.h */
#define LATER(who, why) .result = RESULT_LATER, .scope = SCOPE_##who, .kind = CLASS_##why
#define FAILED(who, why) .result = RESULT_FAILED, .scope = SCOPE_##who, .kind = CLASS_##why

#endif
