/*
 * dns.h - the resolver: questions out, judged answers back, cached.
 *
 * One resolver per loop. Asks the configured recursive servers (or those of
 * resolv.conf) over UDP with EDNS0, TCP when truncated, with random ids and
 * ports, retries over the servers (a silent one is asked last for a while), and
 * checks every answer against its question. Same question in flight: joined. Positive answers are kept for
 * their TTL, negative ones as RFC 2308 says.
 *
 * The function is called once, from the loop, never before the starting call
 * returned, also for cached answers. The real one stands on ldns packets over
 * sockets of ours; tests/sim links another behind this header.
 */
#ifndef WAYPOST_NET_DNS_H
#define WAYPOST_NET_DNS_H

#include "relay/net/endpoint.h"
#include "relay/net/loop.h"
#include "relay/net/tls.h"

#define DNS_STATUS_MAP(X)                                                                          \
    X(OK, "ok")                                                                                    \
    X(NODATA, "no data") /* the name exists, this type does not */                                 \
    X(NXDOMAIN, "nxdomain")                                                                        \
    X(SERVFAIL, "servfail") /* also REFUSED, FORMERR and answers that make no sense */             \
    X(BOGUS, "bogus")       /* SERVFAIL that a retry with CD showed to be a DNSSEC failure */      \
    X(TIMEOUT, "timeout")   /* no server answered */                                               \
    X(INVALID, "invalid name")

enum dns_status {
#define X(name, word) DNS_##name,
    DNS_STATUS_MAP(X)
#undef X
};

enum dns_type { DNS_A = 1, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_TLSA = 52, DNS_PTR = 12 };

#define DNS_NAME 256 /* text without the final dot, NUL included */

struct dns_record {
    uint32_t ttl_s;
    uint16_t preference;     /* MX */
    char name[DNS_NAME];     /* MX exchange ("" for "."), PTR target */
    struct endpoint address; /* A, AAAA (port 0) */
    struct tlsa tlsa;        /* data owned by the answer */
    struct str text;         /* TXT, pieces joined; owned by the answer */
};

struct dns_answer {
    enum dns_status status;
    bool is_secure; /* AD from a server we may believe */
    bool from_cache;
    char canonical[DNS_NAME]; /* where CNAMEs led; the question's name when none */
    uint32_t ttl_s;
    const struct dns_record *records;
    size_t count;
    struct str fault; /* in words, when not OK: which server, what it said */
};

typedef void dns_fn(void *arg, const struct dns_answer *answer); /* valid during the call */

struct resolver;
struct dns_query; /* handle for cancelling */

struct resolver_options {
    const struct endpoint *servers; /* count 0: from resolv_conf */
    size_t server_count;
    const char *resolv_conf; /* NULL: /etc/resolv.conf */
    const char *hosts_file;  /* NULL: /etc/hosts */
    bool trust_ad;           /* believe AD from servers that are not on loopback */
    uint32_t timeout_ms;     /* per try; 0: as resolv.conf says, else 3000 */
    unsigned tries;          /* rounds over all servers; 0: as resolv.conf says, else 2 */
    size_t cache_bytes;      /* 0: 4 MiB */
};

enum err resolver_new(struct loop *loop, const struct resolver_options *options,
                      struct resolver **out_resolver, struct fault *fault);
/* A reload: other servers, other files. The cache is forgotten, what is in
 * flight ends as it began. On an error the old options stay. */
enum err resolver_set(struct resolver *resolver, const struct resolver_options *options,
                      struct fault *fault);
void resolver_free(struct resolver **resolver); /* pending queries are cancelled without a call */

/* name: ASCII (A-labels), absolute with or without the final dot. out_query may
 * be NULL if the caller never cancels; the handle is dead once the function is
 * called. From inside that call anything may be asked or cancelled, but the
 * resolver not freed. */
void resolver_ask(struct resolver *resolver, const char *name, enum dns_type type, dns_fn *fn,
                  void *arg, struct dns_query **out_query);
void resolver_cancel(struct dns_query **query); /* its function will not be called */

/* Addresses of a host: A and AAAA asked together, one answer with both, AAAA
 * first. OK as soon as one of them has records; is_secure: what was answered
 * was. An address literal answers itself. With `hosts` /etc/hosts (and
 * "localhost") comes first; neither is ever secure. */
void resolver_addresses(struct resolver *resolver, const char *host, bool hosts, dns_fn *fn,
                        void *arg, struct dns_query **out_query);

/* Forget the cache, re-read resolv.conf and hosts (which is also done within
 * seconds of their being changed). What is in flight goes on, but is not kept. */
void resolver_flush(struct resolver *resolver);

struct resolver_counts {
    uint64_t asked;      /* questions; an address is two */
    uint64_t cached;     /* answered from the cache */
    uint64_t joined;     /* waited for one that was under way */
    uint64_t sent;       /* packets to servers */
    uint64_t retried;    /* of these: not the first of their question */
    uint64_t tcp;        /* of these: over TCP */
    uint64_t mismatched; /* packets that answered another question: strays or forgeries */
    uint64_t timed_out;  /* tries that ended in silence */
};
struct resolver_counts resolver_counts(const struct resolver *resolver);
const char *dns_status_word(enum dns_status status);

#endif
