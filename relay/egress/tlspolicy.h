/*
 * tlspolicy.h - how TLS must be done with one host, and the evidence.
 *
 * The route's level is the floor. Level dane asks for TLSA records when MX and
 * address answers were secure (RFC 7672): usable ones make TLS and their match
 * mandatory; secure but unusable ones make TLS mandatory; none, or an insecure
 * zone, leaves it opportunistic; a failed TLSA look-up defers the host.
 */
#ifndef WAYPOST_EGRESS_TLSPOLICY_H
#define WAYPOST_EGRESS_TLSPOLICY_H

#include "relay/egress/route.h"

struct tlspolicy {
    struct policy policy; /* what to do: never DANE without usable records */
    char evidence[160];   /* policy.evidence points here */
    struct tlsa *tlsa;    /* usable ones; one allocation with their data. NULL: none */
    size_t tlsa_count;
    bool deferred; /* TLSA look-up failed: do not use this host now */
};

void tlspolicy_copy(const struct tlspolicy *policy, struct tlspolicy *out_copy); /* was cleared */
void tlspolicy_clear(struct tlspolicy *policy);

typedef void tlspolicy_fn(void *arg, const struct tlspolicy *policy); /* valid during the call */
struct tlspolicy_lookup;
void tlspolicy_find(struct loop *loop, struct resolver *resolver,
                    const struct route_settings *route, const struct route_host *host,
                    tlspolicy_fn *fn, void *arg, struct tlspolicy_lookup **out_lookup);
void tlspolicy_cancel(struct tlspolicy_lookup **lookup);

#endif
