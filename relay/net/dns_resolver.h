/*
 * dns_resolver.h - the resolver's own state; private to its files.
 */
#ifndef WAYPOST_NET_DNS_RESOLVER_H
#define WAYPOST_NET_DNS_RESOLVER_H

#include "relay/net/dns_lookup.h"

struct dns_file_mark { /* to see that a file is another than we read */
    int64_t mtime_ns;
    uint64_t inode, size;
};

struct resolver {
    struct loop *loop;
    struct resolver_options options; /* with copies of what it points at */
    struct dns_conf *conf;
    struct dns_hosts *hosts; /* NULL: not read yet */
    struct dns_file_mark conf_mark, hosts_mark;
    uint64_t looked_ms; /* when the files were last looked at */
    struct dns_cache *cache;
    struct dns_lookup *table;   /* joinable ones, by question */
    struct dns_lookup *lookups; /* all */
    struct dns_lookup *line;    /* waiting for a socket, oldest first */
    unsigned sockets, sockets_max;
    struct deferred pump;      /* starts what is in line */
    struct dns_query *queries; /* those that callers hold */
    struct resolver_counts counts;
};

/* One call that is owed. Waits for a lookup, for its two parts, or only for
 * the next turn of the loop. */
struct dns_query {
    struct resolver *resolver;
    struct dns_query *prev, *next; /* resolver->queries; parts are in none */
    bool is_part;
    struct dns_lookup *lookup; /* waits for it, and is in its list: */
    struct dns_query *lookup_prev, *lookup_next;
    struct dns_query *parts[2];     /* A and AAAA, while they run */
    struct dns_reply part_reply[2]; /* copies of what they brought */
    struct deferred deferred;       /* queued: `reply` is ready */
    struct dns_reply reply;
    dns_fn *fn;
    void *arg;
};

struct dns_query *dns_query_new(struct resolver *resolver, bool is_part, dns_fn *fn, void *arg);
void dns_query_ready(struct dns_query *query); /* `reply` is filled: call in the next turn */
void dns_query_finish(struct dns_query *query, const struct dns_answer *answer); /* frees it */
void dns_query_drop(struct dns_query *query); /* frees it without a call */
/* Ask for a name that is clean. */
void dns_query_ask(struct dns_query *query, const struct dns_question *question);

/* A and AAAA together. */
void dns_addresses_ask(struct dns_query *query, const char *host, bool hosts);

#endif
