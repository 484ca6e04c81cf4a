/*
 * outcome.h - the meaning of what happened.
 *
 * One table: stage + reply or fault + where it goes -> result, scope, class,
 * enhanced status, cause and fix in words. It alone decides what a failure
 * means: who suffers, whether and when to try again, what a person should do.
 * Replies of well-known providers are rows of the same table (outcome_rows_*.c),
 * each with a fixture in its test. Pure.
 */
#ifndef WAYPOST_MAIL_OUTCOME_H
#define WAYPOST_MAIL_OUTCOME_H

#include "relay/base/err.h"
#include "relay/base/verdict.h"
#include "relay/mail/policy.h"
#include "relay/mail/reply.h"

struct outcome_facts {
    enum stage stage;
    const struct reply *reply; /* NULL: there was none, `err` says why */
    enum err err;              /* connect, TLS, DNS, timeout ... trouble of ours */
    struct str fault;          /* its sentence */
    enum outcome_dns {         /* only for STAGE_ROUTE */
                       OUTCOME_DNS_NONE,
                       OUTCOME_DNS_NXDOMAIN,
                       OUTCOME_DNS_NODATA, /* the domain exists but has no MX, A, AAAA */
                       OUTCOME_DNS_SERVFAIL,
                       OUTCOME_DNS_TIMEOUT,
                       OUTCOME_DNS_BOGUS,
                       OUTCOME_DNS_NULL_MX, /* RFC 7505 */
                       OUTCOME_DNS_LOOP,    /* the best MX is ourselves */
                       OUTCOME_DNS_BAD_MX,  /* MX names nothing usable: an address, no host */
    } dns;
    bool
        is_smarthost; /* trouble before MAIL is our contract's trouble: later + alarm, never a bounce */
    bool is_last_host; /* no other host is left in this attempt */
    bool tls_required; /* policy forbids going on in clear */
    bool content_sent; /* the attempt reached end-of-data: without a reply delivery is unknown */
    bool has_accepted; /* an earlier RCPT of this transaction was accepted */
    /* Decided from what EHLO offered, so without a reply: */
    bool sent_8bit_refused; /* conversion not allowed: 5.6.3 */
    bool needs_utf8;        /* SMTPUTF8 needed and not offered: 5.6.7 */
};

struct outcome {
    enum result result;
    enum scope scope;
    enum class kind;
    struct status status;
    bool alarm;            /* an operator should know */
    bool unknown_delivery; /* the recipient may see it twice */
    bool split; /* too many recipients for one transaction: send the rest at once in another */
    uint32_t retry_after_s; /* the peer's own hint ("try again in 300 seconds"); 0: none */
    const char *row;        /* name of the table row that decided */
    const char *cause;      /* plain words, constants */
    const char *fix;
};

/* Scope HOST widens to DEST when no other host is left. Before MAIL nobody has
 * heard of the message, so no reply there fails it: it is LATER, at another host.
 * A reply to RCPT has scope RECIPIENT or wider than MESSAGE, never MESSAGE; one to
 * MAIL, DATA or the content never RECIPIENT: it holds for the whole transaction. */
struct outcome outcome_of(const struct outcome_facts *facts);

/* The meaning of a reply or fault that a person pasted ("550-5.7.26 ... gsmtp",
 * a log line with one in it, "connection refused"): code, status and the likely
 * stage are read from the text. False when nothing in it is known to us. */
bool outcome_explain(struct str pasted, struct outcome *out);

/* "450 4.7.1 greylisted, try again in 5 minutes" -> 300; 0 when there is no hint. Bounded to 1 s .. 1 day. */
uint32_t outcome_retry_hint(struct str text);

/* The next hop's queue id in the text of its final 250 ("queued as 4XyZ",
 * "Ok 0102018c...", "2.0.0 OK  1700000000 abc.123 - gsmtp", "<id> [InternalId=...]"). Empty: none. */
struct str outcome_remote_id(struct str text);

#endif
