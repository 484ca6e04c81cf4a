/*
 * dns_lookup.h - one question until it has an answer: servers, retries, CNAMEs.
 *
 * A lookup is what questions in flight share. It asks one server after the
 * other, in rounds; one that answered with an error is not asked again, one
 * that was silent is. Private to the resolver.
 */
#ifndef WAYPOST_NET_DNS_LOOKUP_H
#define WAYPOST_NET_DNS_LOOKUP_H

#include "relay/base/hash.h"
#include "relay/net/dns_cache.h"
#include "relay/net/dns_conf.h"
#include "relay/net/dns_exchange.h"
#include "relay/net/dns_hosts.h"

/* WAITING -> ASKING -> WAITING | PAUSING | DONE;  PAUSING -> WAITING */
enum dns_lookup_state {
    DNS_LOOKUP_WAITING, /* in line for a socket */
    DNS_LOOKUP_ASKING,  /* a question is out; the timer ends the try */
    DNS_LOOKUP_PAUSING, /* the timer begins the next try */
    DNS_LOOKUP_DONE,    /* its queries are being answered */
};

struct dns_query;

struct dns_lookup {
    struct resolver *resolver;
    enum dns_lookup_state state;
    struct dns_question question; /* what was asked for; key in resolver->table */
    struct dns_question current;  /* the same, or where CNAMEs led */
    UT_hash_handle hh;
    bool is_joinable;                         /* in the table: not flushed away since it began */
    struct dns_lookup *prev, *next;           /* resolver->lookups */
    struct dns_lookup *line_prev, *line_next; /* resolver->line while WAITING */
    struct dns_query *queries;                /* who waits for it */
    struct timer timer;
    struct dns_exchange *exchange;

    struct dns_conf *conf; /* a reference */
    unsigned order[DNS_SERVERS_MAX];
    unsigned step;     /* index over rounds: round step / count, server order[step % count] */
    unsigned answered; /* bit per server: said something that is no answer */
    uint16_t id;
    bool edns, tcp, cd;
    bool is_again; /* not the first packet: counted as retried */

    unsigned cnames;
    uint32_t ttl_s; /* least of the parts so far */
    bool is_secure; /* all parts so far */

    int servfail_server; /* -1: none said SERVFAIL */
    unsigned silent;     /* bit per server: said nothing */
    struct fault fault;  /* what the last server said that was no answer, or its socket */
};

/* The lookup for that question, joined or new. */
struct dns_lookup *dns_lookup_get(struct resolver *resolver, const struct dns_question *question);
void dns_lookup_free(struct dns_lookup *lookup); /* nobody waits any more */
void dns_lookup_unjoin(struct dns_lookup *lookup);

/* ---- between dns_lookup.c and dns_judge.c ---- */

/* Judge a packet that answers the question. The try is over; this decides what is next: */
void dns_judge(struct dns_lookup *lookup, const uint8_t *bytes, size_t len);

struct dns_server *dns_lookup_server(const struct dns_lookup *lookup); /* that is being asked */
unsigned dns_lookup_server_index(const struct dns_lookup *lookup);
void dns_lookup_begin(struct dns_lookup *lookup); /* ask for lookup->current, from the start */
void dns_lookup_again(struct dns_lookup *lookup); /* the same server, as the flags now say */
void dns_lookup_next(struct dns_lookup *lookup, bool was_quick); /* server, or the verdict */
/* Answer the queries; both free the lookup, and the reply's memory. */
void dns_lookup_finish(struct dns_lookup *lookup, struct dns_reply *reply);
void dns_lookup_fail(struct dns_lookup *lookup, enum dns_status status, const char *words);

#endif
