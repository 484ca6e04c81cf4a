/*
 * dns_scan.h - a first look at a packet, before any library parses it.
 *
 * Decides whether a packet answers our question at all, and refuses what
 * ldns 1.8.3 is known to mishandle (transaction signatures, a second OPT) or
 * what no honest answer has (counts that the bytes cannot hold, pointers that
 * do not point back). Pure: bytes in, verdict out.
 */
#ifndef WAYPOST_NET_DNS_SCAN_H
#define WAYPOST_NET_DNS_SCAN_H

#include "relay/net/dns_name.h"

enum dns_rcode {
    DNS_RCODE_NOERROR = 0,
    DNS_RCODE_FORMERR = 1,
    DNS_RCODE_SERVFAIL = 2,
    DNS_RCODE_NXDOMAIN = 3,
    DNS_RCODE_NOTIMP = 4,
    DNS_RCODE_REFUSED = 5,
    DNS_RCODE_BADVERS = 16,
};

struct dns_scan {
    uint16_t id;
    bool is_response, is_truncated, is_authentic;
    unsigned opcode;
    unsigned rcode;     /* with the OPT record's upper bits, once dns_scan_records() ran */
    uint16_t counts[4]; /* questions, answers, authority, additional */
    int extended_error; /* RFC 8914; -1: none said */
};

/* The twelve bytes at the front. False: shorter than that. */
bool dns_scan_head(const uint8_t *bytes, size_t len, struct dns_scan *out);

/* The only question of a packet, and where its bytes end. */
bool dns_scan_question(const uint8_t *bytes, size_t len, struct dns_question *out_question,
                       size_t *out_end);

/* Is it an answer to `question` as we asked it with `id`? Anything else is a
 * stray or a forgery, and the wait goes on. */
bool dns_scan_is_answer(const uint8_t *bytes, size_t len, const struct dns_question *question,
                        uint16_t id);

/* Walk all records of a packet whose head is in *scan. Not for truncated ones. */
enum err dns_scan_records(const uint8_t *bytes, size_t len, struct dns_scan *scan,
                          struct fault *fault);

const char *dns_rcode_word(unsigned rcode); /* "SERVFAIL"; "an unknown error" */
/* "signature expired"; NULL: an info code that helps nobody. */
const char *dns_extended_error_word(int code);

#endif
