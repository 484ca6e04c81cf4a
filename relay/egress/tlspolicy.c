/*
 * tlspolicy.c - the floor is the route's level; DANE may raise it (RFC 7672).
 */
#include "relay/egress/tlspolicy.h"

#include <stdio.h>
#include <stdlib.h>

#define TLSA_MAX 16
#define TLSA_BYTES_MAX 4096 /* a whole certificate or two (matching type 0) */

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

/* ---- the verdict as a value ---- */

/* The records, and their data behind them. */
static struct tlsa *pack(const struct tlsa *const *records, size_t count)
{
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++)
        bytes += records[i]->len;
    struct tlsa *packed = mem_alloc(count * sizeof(*packed) + bytes);
    uint8_t *data = (uint8_t *)&packed[count];
    for (size_t i = 0; i < count; i++) {
        packed[i] = *records[i];
        packed[i].data = data;
        memcpy(data, records[i]->data, records[i]->len);
        data += records[i]->len;
    }
    return packed;
}

void tlspolicy_copy(const struct tlspolicy *policy, struct tlspolicy *out_copy)
{
    const struct tlsa *records[TLSA_MAX];

    *out_copy = *policy;
    out_copy->policy.evidence = out_copy->evidence;
    for (size_t i = 0; i < policy->tlsa_count; i++)
        records[i] = &policy->tlsa[i];
    if (policy->tlsa_count > 0)
        out_copy->tlsa = pack(records, policy->tlsa_count);
}

void tlspolicy_clear(struct tlspolicy *policy)
{
    free(policy->tlsa);
    *policy = (struct tlspolicy){ 0 };
}

/* ---- looking ---- */

static void lookup_free(struct tlspolicy_lookup *lookup)
{
    tlspolicy_clear(&lookup->policy);
    free(lookup);
}

static void finish(struct tlspolicy_lookup *lookup)
{
    lookup->policy.policy.evidence = lookup->policy.evidence;
    lookup->fn(lookup->arg, &lookup->policy);
    lookup_free(lookup);
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

static void keep_usable(struct tlspolicy *policy, const struct dns_answer *answer)
{
    const struct tlsa *records[TLSA_MAX];
    size_t count = 0, bytes = 0;

    for (size_t i = 0; i < answer->count && count < TLSA_MAX; i++) {
        const struct tlsa *tlsa = &answer->records[i].tlsa;
        if (!is_usable(tlsa) || bytes + tlsa->len > TLSA_BYTES_MAX)
            continue;
        records[count++] = tlsa;
        bytes += tlsa->len;
    }
    policy->tlsa_count = count;
    if (count > 0)
        policy->tlsa = pack(records, count);
}

static void tlsa_answered(void *arg, const struct dns_answer *answer)
{
    struct tlspolicy_lookup *lookup = arg;

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
        keep_usable(&lookup->policy, answer);
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
    lookup_free(lookup);
}
