/*
 * dns_wire.h - questions to packets and packets to answers, through ldns.
 *
 * Pure: bytes in, values out. What arrives here has passed dns_scan. CNAMEs
 * are followed inside the packet.
 */
#ifndef WAYPOST_NET_DNS_WIRE_H
#define WAYPOST_NET_DNS_WIRE_H

#include "relay/base/arena.h"
#include "relay/net/dns_name.h"

#define DNS_UDP_MAX 1232 /* what passes everywhere unfragmented (DNS flag day 2020) */
#define DNS_QUERY_MAX 320
#define DNS_CNAMES_MAX 8
#define DNS_RECORDS_MAX 512

/* An answer together with the memory it stands on. */
struct dns_reply {
    struct arena arena;
    struct dns_answer answer;   /* is_secure: the AD bit, whoever said it */
    struct dns_record *records; /* answer.records, to write to; in the arena */
    unsigned cnames;            /* followed */
    bool is_partial; /* the CNAMEs lead to answer.canonical, of which the packet says nothing */
};

void dns_reply_clear(struct dns_reply *reply); /* usable again */
/* A reply that is no more than a status and its reason. */
void dns_reply_fail(struct dns_reply *reply, enum dns_status status, const char *name,
                    const char *fault);

struct dns_wire_flags {
    bool edns; /* with DO: servers then say AD, and signatures come along */
    bool cd;   /* checking disabled: also answers that do not validate */
};

/* Length of the packet. The name has been through dns_name_clean(). */
size_t dns_wire_query(const struct dns_question *question, uint16_t id, struct dns_wire_flags flags,
                      uint8_t out[DNS_QUERY_MAX]);

/* Read a NOERROR or NXDOMAIN packet. ERR_CORRUPT: it makes no sense, and
 * *fault goes on from "the server gave ". *out is zeroed or cleared before. */
enum err dns_wire_read(const uint8_t *bytes, size_t len, const struct dns_question *question,
                       struct dns_reply *out, struct fault *fault);

#endif
