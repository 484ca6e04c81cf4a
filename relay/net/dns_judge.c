/*
 * dns_judge.c - what a packet that answers our question means for its lookup.
 */
#include "relay/net/dns_lookup.h"
#include "relay/net/dns_scan.h"

#include <stdio.h>

/* The server spoke, but it is not an answer: the next may know better. */
static void answered_badly(struct dns_lookup *lookup, const char *verb, const char *words)
{
    if (!lookup->cd) {
        lookup->answered |= 1u << dns_lookup_server_index(lookup);
        lookup->silent &= ~lookup->answered;
        fault_set(&lookup->fault, ERR_DNS, "%s %s %s", dns_lookup_server(lookup)->text, verb,
                  words);
    }
    dns_lookup_next(lookup, false);
}

static void on_error_code(struct dns_lookup *lookup, const struct dns_scan *scan)
{
    const char *extended = dns_extended_error_word(scan->extended_error);
    char words[96];

    if (lookup->edns && (scan->rcode == DNS_RCODE_FORMERR || scan->rcode == DNS_RCODE_NOTIMP ||
                         scan->rcode == DNS_RCODE_BADVERS)) {
        lookup->edns = false; /* RFC 6891 6.2.2: perhaps it does not know EDNS */
        dns_lookup_again(lookup);
        return;
    }
    if (scan->rcode == DNS_RCODE_SERVFAIL && !lookup->cd)
        lookup->servfail_server = (int)dns_lookup_server_index(lookup);
    snprintf(words, sizeof(words), "%s%s%s%s", dns_rcode_word(scan->rcode), extended ? " (" : "",
             extended ? extended : "", extended ? ")" : "");
    answered_badly(lookup, "answered", words);
}

static void on_bogus(struct dns_lookup *lookup)
{
    struct fault words;

    fault_set(&words, ERR_DNS, "%s, but answers when DNSSEC is not checked: bogus signatures",
              lookup->fault.text);
    dns_lookup_fail(lookup, DNS_BOGUS, words.text);
}

/* The packets of a chain are one answer: the least TTL, and secure if all were. */
static void on_answer(struct dns_lookup *lookup, struct dns_reply *reply)
{
    struct dns_answer *answer = &reply->answer;

    lookup->cnames += reply->cnames;
    lookup->is_secure =
        lookup->is_secure && answer->is_secure && dns_lookup_server(lookup)->believe_ad;
    if (answer->ttl_s < lookup->ttl_s)
        lookup->ttl_s = answer->ttl_s;
    if (lookup->cnames > DNS_CNAMES_MAX) {
        dns_reply_clear(reply);
        dns_lookup_fail(lookup, DNS_SERVFAIL,
                        "the CNAMEs of this name lead in a circle or are too many");
        return;
    }
    if (reply->is_partial) {
        str_copy(lookup->current.name, DNS_NAME, str_of(answer->canonical));
        dns_reply_clear(reply);
        dns_lookup_begin(lookup);
        return;
    }
    answer->is_secure = lookup->is_secure;
    answer->ttl_s = lookup->ttl_s;
    dns_lookup_finish(lookup, reply);
}

void dns_judge(struct dns_lookup *lookup, const uint8_t *bytes, size_t len)
{
    struct dns_reply reply = { 0 };
    struct dns_scan scan;
    struct fault fault;

    dns_scan_head(bytes, len, &scan); /* dns_scan_is_answer() has seen that it is long enough */
    if (scan.is_truncated && !lookup->tcp && !lookup->cd) {
        lookup->tcp = true;
        dns_lookup_again(lookup);
        return;
    }
    if (!scan.is_truncated && dns_scan_records(bytes, len, &scan, &fault)) {
        answered_badly(lookup, "gave", fault.text);
        return;
    }
    if (scan.rcode != DNS_RCODE_NOERROR && scan.rcode != DNS_RCODE_NXDOMAIN) {
        on_error_code(lookup, &scan);
        return;
    }
    if (lookup->cd) {
        on_bogus(lookup);
        return;
    }
    if (scan.is_truncated || dns_wire_read(bytes, len, &lookup->current, &reply, &fault))
        answered_badly(lookup, "gave",
                       scan.is_truncated ? "a truncated answer over TCP" : fault.text);
    else
        on_answer(lookup, &reply);
}
