/*
 * route.h - where a lane's mail goes: hosts in order, with their addresses.
 *
 * MX routes: RFC 5321 section 5 (MX by preference, equal ones shuffled, A/AAAA
 * when there is no MX, null MX of RFC 7505, CNAMEs, address literals, loop to
 * ourselves). Smarthost routes: the configured hosts in their order, /etc/hosts
 * included. At most ROUTE_ADDRESSES_MAX addresses come out, spread so that
 * every host gets one before any gets two.
 */
#ifndef WAYPOST_EGRESS_ROUTE_H
#define WAYPOST_EGRESS_ROUTE_H

#include "relay/mail/lane.h"
#include "relay/mail/outcome.h"
#include "relay/mail/sender.h"
#include "relay/net/dns.h"

#define ROUTE_ADDRESSES_MAX 10

/* One next hop as configured: a `route` row, or the built-in "direct".
 * Immutable; owned by whoever made the set (engine), kept while in use. */
struct route_settings {
    struct str name;
    const struct str *relay; /* "host[:port]"; count 0: MX */
    size_t relay_count;
    enum policy_level level;
    struct str username, password; /* empty: no AUTH */
    const struct endpoint *source; /* local addresses; one of the peer's family is taken, in turn */
    size_t source_count;
    struct tls_client *tls;      /* with the route's own CA file; a borrowed pointer */
    struct str roots;            /* which file of CAs that is, and when it was written; empty: the
                                    system's */
    uint16_t port;               /* of hosts without one: 25, or 465 for implicit TLS */
    struct sender_rules senders; /* whom it accepts as sender */
};

struct route_host {
    char name[DNS_NAME]; /* MX host or smarthost name; the literal for address literals */
    uint16_t port;
    uint16_t preference;
    bool is_secure;                   /* MX and address answers were DNSSEC-secure */
    const struct endpoint *addresses; /* with port */
    size_t address_count;
    enum outcome_dns dns; /* why there are no addresses */
};

/* A plan is immutable and counted; one loop. Thousands of lanes keep one for minutes, so
 * it takes no more room than it needs. */
struct route_plan {
    unsigned refs;
    enum outcome_dns dns;     /* NONE: there are addresses to try */
    char *fault;              /* in words, when dns is not NONE; may be NULL */
    struct route_host *hosts; /* in the order they are to be tried */
    size_t host_count;
    struct route_step {
        uint16_t host, address;
    } steps[ROUTE_ADDRESSES_MAX];
    size_t step_count;
    int64_t began_us, ended_us; /* the look-up */
    uint32_t ttl_s;             /* good for so long */
    char *evidence;             /* "MX 10 mx1.example.com, 20 mx2.example.com (ttl 300)", or NULL */
};
struct route_plan *route_plan_ref(struct route_plan *plan);
void route_plan_unref(struct route_plan **plan);

struct route_options {
    struct resolver *resolver;
    const char *hostname; /* ours: loop detection by name */
    const struct endpoint
        *locals; /* our listeners and source addresses: loop detection by address and port */
    size_t local_count;
};

typedef void route_fn(void *arg, struct route_plan *plan); /* a reference for the receiver */
struct route_lookup;
/* Called once, from the loop, never before this returned. */
void route_find(struct loop *loop, const struct route_options *options,
                const struct route_settings *route, struct str place, route_fn *fn, void *arg,
                struct route_lookup **out_lookup);
void route_cancel(struct route_lookup **lookup);

#endif
