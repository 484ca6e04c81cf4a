/*
 * tlspolicy.c - the floor is the route's level; DANE may raise it (RFC 7672).
 */
#include "relay/egress/tlspolicy.h"

#include <stdio.h>
#include <stdlib.h>

struct tlspolicy_lookup {
    struct loop *loop;
    const struct route_settings *route;
    tlspolicy_fn *fn;
    void *arg;
    struct dns_query *query;
    struct deferred deferred;
    struct tlspolicy policy;
    bool wants_tlsa;
    struct resolver *resolver;
    char owner[DNS_NAME + 16];
};

static void finish(struct tlspolicy_lookup *lookup)
{
    lookup->policy.policy.evidence = lookup->policy.evidence;
    lookup->fn(lookup->arg, &lookup->policy);
    free(lookup);
}

static void say(struct tlspolicy_lookup *lookup, enum policy_level level, const char *words)
{
    lookup->policy.policy.level = level;
    (void)snprintf(lookup->policy.evidence, sizeof(lookup->policy.evidence),
                   "route " STR_FMT ": tls %s, %s", STR_ARG(lookup->route->name),
                   policy_word(level), words);
}

/* Usages 0 and 1 mean nothing for SMTP (RFC 7672 3.1.3); what we cannot hash
 * with, we cannot match. */
static bool is_usable(const struct tlsa *tlsa)
{
    if (tlsa->usage != 2 && tlsa->usage != 3)
        return false;
    if (tlsa->selector > 1 || tlsa->matching > 2)
        return false;
    if (tlsa->matching == 1)
        return tlsa->len == 32;
    return tlsa->matching == 2 ? tlsa->len == 64 : tlsa->len > 0;
}

static void keep(struct tlspolicy *policy, const struct tlsa *tlsa, size_t *used)
{
    if (policy->tlsa_count == sizeof(policy->tlsa) / sizeof(policy->tlsa[0]) ||
        *used + tlsa->len > sizeof(policy->storage))
        return;
    memcpy(policy->storage + *used, tlsa->data, tlsa->len);
    policy->tlsa[policy->tlsa_count] = *tlsa;
    policy->tlsa[policy->tlsa_count++].data = policy->storage + *used;
    *used += tlsa->len;
}

static void tlsa_answered(void *arg, const struct dns_answer *answer)
{
    struct tlspolicy_lookup *lookup = arg;
    size_t used = 0;

    lookup->query = NULL;
    if (answer->status == DNS_NXDOMAIN || answer->status == DNS_NODATA) {
        say(lookup, POLICY_OPPORTUNISTIC, "no TLSA records");
    } else if (answer->status != DNS_OK) {
        /* RFC 7672 2.2: an answer that is kept from us must not weaken TLS. */
        lookup->policy.deferred = true;
        say(lookup, POLICY_DANE, "the TLSA look-up failed");
    } else if (!answer->is_secure) {
        say(lookup, POLICY_OPPORTUNISTIC, "TLSA records are not signed");
    } else {
        for (size_t i = 0; i < answer->count; i++)
            if (is_usable(&answer->records[i].tlsa))
                keep(&lookup->policy, &answer->records[i].tlsa, &used);
        if (lookup->policy.tlsa_count > 0)
            say(lookup, POLICY_DANE, "signed TLSA records");
        else
            say(lookup, POLICY_REQUIRED, "signed TLSA records, none usable");
    }
    finish(lookup);
}

static void begin(void *arg)
{
    struct tlspolicy_lookup *lookup = arg;

    if (lookup->wants_tlsa)
        resolver_ask(lookup->resolver, lookup->owner, DNS_TLSA, tlsa_answered, lookup,
                     &lookup->query);
    else
        finish(lookup);
}

void tlspolicy_find(struct loop *loop, struct resolver *resolver,
                    const struct route_settings *route, const struct route_host *host,
                    tlspolicy_fn *fn, void *arg, struct tlspolicy_lookup **out_lookup)
{
    struct tlspolicy_lookup *lookup = mem_alloc(sizeof(*lookup));

    lookup->loop = loop;
    lookup->resolver = resolver;
    lookup->route = route;
    lookup->fn = fn;
    lookup->arg = arg;
    if (route->level == POLICY_DANE && host->is_secure) {
        lookup->wants_tlsa = true;
        (void)snprintf(lookup->owner, sizeof(lookup->owner), "_%u._tcp.%s", host->port, host->name);
    } else if (route->level == POLICY_DANE) {
        say(lookup, POLICY_OPPORTUNISTIC, "the zone is not signed");
    } else {
        say(lookup, route->level, "as configured");
    }
    if (out_lookup)
        *out_lookup = lookup;
    loop_defer(loop, &lookup->deferred, begin, lookup);
}

void tlspolicy_cancel(struct tlspolicy_lookup **lookup_at)
{
    struct tlspolicy_lookup *lookup = *lookup_at;

    *lookup_at = NULL;
    if (!lookup)
        return;
    loop_undefer(lookup->loop, &lookup->deferred);
    if (lookup->query)
        resolver_cancel(&lookup->query);
    free(lookup);
}
