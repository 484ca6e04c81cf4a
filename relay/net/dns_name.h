/*
 * dns_name.h - domain names as text: lower case, no final dot, checked.
 *
 * Inside the resolver a name has one spelling, so that comparing is strcmp
 * and a name is a cache key as it stands. Only letters, digits, '-', '_' and
 * '/' (RFC 2317) pass: whatever else a zone may hold is of no use for mail and
 * must not reach a log line.
 */
#ifndef WAYPOST_NET_DNS_NAME_H
#define WAYPOST_NET_DNS_NAME_H

#include "relay/net/dns.h"

struct dns_question {
    enum dns_type type;
    char name[DNS_NAME];
};

/* From text, with or without the final dot. False: not a name (the root is none either). */
bool dns_name_clean(struct str text, char out[DNS_NAME]);

/* From uncompressed wire form; the root gives "". */
bool dns_name_text(const uint8_t *wire, size_t len, char out[DNS_NAME]);

bool dns_question_same(const struct dns_question *a, const struct dns_question *b);
const char *dns_type_word(enum dns_type type); /* "MX" */

#endif
