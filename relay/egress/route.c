/*
 * route.c - the questions that make a plan: MX, then addresses of every host.
 */
#include "relay/egress/route_plan.h"

#include <stdio.h>
#include <stdlib.h>

#define EVIDENCE_MAX 255
#define HOSTS_MAX 16 /* of one domain; more add nothing within ten addresses */

struct asking {
    struct route_lookup *lookup;
    struct dns_query *query;
    size_t host;
};

struct route_lookup {
    struct loop *loop;
    struct route_options options;
    const struct route_settings *route;
    char place[DNS_NAME];
    route_fn *fn;
    void *arg;
    struct dns_query *mx_query;
    struct asking *asking; /* one a host */
    size_t waiting;
    bool is_mx; /* the hosts came from MX records */
    bool is_secure;
    struct route_plan *plan;
    struct deferred deferred;
};

static enum outcome_dns dns_of(enum dns_status status)
{
    switch (status) {
    case DNS_OK:
        return OUTCOME_DNS_NONE;
    case DNS_NODATA:
        return OUTCOME_DNS_NODATA;
    case DNS_NXDOMAIN:
        return OUTCOME_DNS_NXDOMAIN;
    case DNS_SERVFAIL:
        return OUTCOME_DNS_SERVFAIL;
    case DNS_BOGUS:
        return OUTCOME_DNS_BOGUS;
    case DNS_TIMEOUT:
        return OUTCOME_DNS_TIMEOUT;
    case DNS_INVALID:
        return OUTCOME_DNS_NXDOMAIN;
    }
    return OUTCOME_DNS_SERVFAIL;
}

/* ---- the end ---- */

static void finish(struct route_lookup *lookup)
{
    struct route_plan *plan = lookup->plan;

    plan->ended_us = loop_wall_us(lookup->loop);
    if (plan->ttl_s == 0 || plan->ttl_s == UINT32_MAX)
        plan->ttl_s = 60;
    lookup->fn(lookup->arg, plan);
    free(lookup->asking);
    free(lookup);
}

static struct str dns_words(enum outcome_dns dns)
{
    switch (dns) {
    case OUTCOME_DNS_NONE:
        return STR("no error");
    case OUTCOME_DNS_NXDOMAIN:
        return STR("there is no such domain (NXDOMAIN)");
    case OUTCOME_DNS_NODATA:
        return STR("the domain has neither MX nor address");
    case OUTCOME_DNS_SERVFAIL:
        return STR("the name server could not answer (SERVFAIL)");
    case OUTCOME_DNS_TIMEOUT:
        return STR("no name server answered");
    case OUTCOME_DNS_BOGUS:
        return STR("the answer's DNSSEC signature is wrong");
    case OUTCOME_DNS_NULL_MX:
        return STR("the domain says that it takes no mail (null MX)");
    case OUTCOME_DNS_LOOP:
        return STR("the best mail host is this relay itself");
    case OUTCOME_DNS_BAD_MX:
        return STR("no mail host of this domain has an address");
    }
    return STR_EMPTY;
}

static void say_fault(struct route_plan *plan, const char *name, struct str why)
{
    struct buf words;

    buf_init(&words, FAULT_MAX + DNS_NAME);
    buf_printf(&words, "%s: " STR_FMT, name, STR_ARG(str_head(why, FAULT_MAX)));
    route_plan_say(&plan->fault, buf_view(&words));
    buf_clear(&words);
}

/* `why`: what the resolver said; our own words when it said nothing more than the code. */
static void plan_failed(struct route_plan *plan, enum outcome_dns dns, const char *name,
                        struct str why)
{
    if (why.len == 0)
        why = dns_words(dns);
    plan->dns = dns;
    plan->step_count = 0;
    say_fault(plan, name, why);
}

static void add_evidence(struct route_plan *plan, bool is_mx)
{
    struct buf words;

    buf_init(&words, 4096);
    for (size_t i = 0; i < plan->host_count; i++) {
        const struct route_host *host = &plan->hosts[i];
        buf_cstr(&words, i ? ", " : is_mx ? "MX " : "");
        if (is_mx)
            buf_printf(&words, "%u ", host->preference);
        buf_printf(&words, "%s", host->name);
        if (host->address_count == 0)
            buf_cstr(&words, " (no address)");
    }
    if (plan->ttl_s > 0 && plan->ttl_s != UINT32_MAX) /* not for literals and /etc/hosts */
        buf_printf(&words, " (ttl %u%s)", plan->ttl_s,
                   plan->host_count && plan->hosts[0].is_secure ? ", secure" : "");
    route_plan_say(&plan->evidence, str_head(buf_view(&words), EVIDENCE_MAX));
    buf_clear(&words);
}

/* No host has an address. The kindest reason among them speaks for all: one
 * that may pass keeps the mail. */
static void no_address(struct route_lookup *lookup)
{
    struct route_plan *plan = lookup->plan;
    enum outcome_dns dns = lookup->is_mx ? OUTCOME_DNS_BAD_MX : OUTCOME_DNS_NODATA;
    const struct route_host *speaks = plan->host_count ? &plan->hosts[0] : NULL;

    for (size_t i = 0; i < plan->host_count; i++) {
        enum outcome_dns one = plan->hosts[i].dns;
        bool passes =
            one == OUTCOME_DNS_SERVFAIL || one == OUTCOME_DNS_TIMEOUT || one == OUTCOME_DNS_BOGUS;
        if (passes || (!lookup->is_mx && one != OUTCOME_DNS_NONE)) {
            dns = one;
            speaks = &plan->hosts[i];
        }
        if (passes)
            break;
    }
    if (!plan->fault)
        plan_failed(plan, dns, speaks ? speaks->name : lookup->place, STR_EMPTY);
    plan->dns = dns;
}

static void hosts_known(struct route_lookup *lookup)
{
    struct route_plan *plan = lookup->plan;
    bool mx_route = lookup->route->relay_count == 0;

    add_evidence(plan, lookup->is_mx);
    if (mx_route && route_plan_cut_at_us(plan, &lookup->options)) {
        plan_failed(plan, OUTCOME_DNS_LOOP, lookup->place, STR_EMPTY);
    } else {
        route_plan_steps(plan);
        if (plan->step_count == 0)
            no_address(lookup);
    }
    finish(lookup);
}

static void address_answered(void *arg, const struct dns_answer *answer)
{
    struct asking *asking = arg;
    struct route_lookup *lookup = asking->lookup;
    struct route_plan *plan = lookup->plan;
    struct route_host *host = &plan->hosts[asking->host];

    asking->query = NULL;
    host->dns = dns_of(answer->status);
    if (answer->status == DNS_OK) {
        route_plan_addresses(host, answer->records, answer->count);
        host->is_secure = lookup->is_secure && answer->is_secure;
        if (answer->ttl_s < plan->ttl_s)
            plan->ttl_s = answer->ttl_s;
    } else {
        say_fault(plan, host->name, answer->fault.len ? answer->fault : dns_words(host->dns));
    }
    if (--lookup->waiting == 0)
        hosts_known(lookup);
}

static void ask_addresses(struct route_lookup *lookup)
{
    struct route_plan *plan = lookup->plan;
    bool hosts_file = lookup->route->relay_count > 0;

    lookup->asking = mem_alloc((plan->host_count + 1) * sizeof(*lookup->asking));
    lookup->waiting = plan->host_count;
    for (size_t i = 0; i < plan->host_count; i++) {
        lookup->asking[i] = (struct asking){ .lookup = lookup, .host = i };
        resolver_addresses(lookup->options.resolver, plan->hosts[i].name, hosts_file,
                           address_answered, &lookup->asking[i], &lookup->asking[i].query);
    }
}

/* ---- MX ---- */

static void one_host(struct route_lookup *lookup, const char *name)
{
    struct route_host *host;

    route_plan_hosts(lookup->plan, 1);
    host = &lookup->plan->hosts[0];
    str_copy(host->name, sizeof(host->name), str_of(name));
    host->port = lookup->route->port;
    ask_addresses(lookup);
}

static void mx_records(struct route_lookup *lookup, const struct dns_answer *answer)
{
    struct route_plan *plan = lookup->plan;
    size_t count = 0;

    route_plan_hosts(plan, answer->count < HOSTS_MAX ? answer->count : HOSTS_MAX);
    for (size_t i = 0; i < answer->count && count < HOSTS_MAX; i++) {
        if (answer->records[i].name[0] == '\0')
            continue;
        str_copy(plan->hosts[count].name, DNS_NAME, str_of(answer->records[i].name));
        plan->hosts[count].preference = answer->records[i].preference;
        plan->hosts[count++].port = lookup->route->port;
    }
    plan->host_count = count;
    if (count == 0) { /* "MX 0 .", maybe more than once */
        plan_failed(plan, OUTCOME_DNS_NULL_MX, lookup->place, STR_EMPTY);
        finish(lookup);
        return;
    }
    lookup->is_mx = true;
    route_plan_sort(plan, loop_number(lookup->loop) ^ (uint64_t)loop_wall_us(lookup->loop));
    ask_addresses(lookup);
}

static void mx_answered(void *arg, const struct dns_answer *answer)
{
    struct route_lookup *lookup = arg;
    struct route_plan *plan = lookup->plan;

    lookup->mx_query = NULL;
    lookup->is_secure = answer->is_secure;
    if (answer->ttl_s && answer->ttl_s < plan->ttl_s)
        plan->ttl_s = answer->ttl_s;
    if (answer->status == DNS_OK && answer->count > 0) {
        mx_records(lookup, answer);
    } else if (answer->status == DNS_NODATA || answer->status == DNS_OK) {
        /* RFC 5321 5.1: no MX, the name itself is the mail host. */
        one_host(lookup, answer->canonical[0] ? answer->canonical : lookup->place);
    } else {
        plan_failed(plan, dns_of(answer->status), lookup->place, answer->fault);
        finish(lookup);
    }
}

/* ---- other places ---- */

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]": the host is the address. */
static bool literal(struct route_lookup *lookup, struct str place)
{
    struct dns_record record = { 0 };
    struct str inside;

    if (place.len < 3 || place.at[0] != '[' || place.at[place.len - 1] != ']')
        return false;
    inside = str_make(place.at + 1, place.len - 2);
    if (str_istarts(inside, STR("IPv6:")))
        inside = str_from(inside, 5);
    route_plan_hosts(lookup->plan, 1);
    str_copy(lookup->plan->hosts[0].name, DNS_NAME, place);
    lookup->plan->hosts[0].port = lookup->route->port;
    if (endpoint_ip(inside, &record.address))
        route_plan_addresses(&lookup->plan->hosts[0], &record, 1);
    else
        lookup->plan->hosts[0].dns = OUTCOME_DNS_NXDOMAIN;
    return true;
}

/* "host", "host:port", "[2001:db8::1]:port", "192.0.2.1:port" */
static void relay_host(struct str text, uint16_t port, struct route_host *host)
{
    struct endpoint at;
    uint64_t value;
    size_t colon = text.len;

    host->port = port;
    if (endpoint_parse(text, port, &at, NULL) == ERR_OK && at.family != ENDPOINT_UNIX) {
        endpoint_print_ip(&at, host->name, sizeof(host->name));
        host->port = at.port;
        return;
    }
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] == ':')
            colon = i;
    if (colon < text.len && str_u64(str_from(text, colon + 1), &value) && value > 0 &&
        value < 65536)
        host->port = (uint16_t)value;
    str_copy(host->name, sizeof(host->name), str_head(text, colon));
}

static void smarthosts(struct route_lookup *lookup)
{
    const struct route_settings *route = lookup->route;
    struct route_plan *plan = lookup->plan;

    route_plan_hosts(plan, route->relay_count < HOSTS_MAX ? route->relay_count : HOSTS_MAX);
    for (size_t i = 0; i < plan->host_count; i++) {
        relay_host(route->relay[i], route->port, &plan->hosts[i]);
        plan->hosts[i].preference = (uint16_t)i;
    }
    lookup->is_secure = true; /* nobody could have changed the configuration's own words */
    ask_addresses(lookup);
}

static void begin(void *arg)
{
    struct route_lookup *lookup = arg;

    if (lookup->route->relay_count > 0)
        smarthosts(lookup);
    else if (literal(lookup, str_of(lookup->place)))
        hosts_known(lookup);
    else
        resolver_ask(lookup->options.resolver, lookup->place, DNS_MX, mx_answered, lookup,
                     &lookup->mx_query);
}

void route_find(struct loop *loop, const struct route_options *options,
                const struct route_settings *route, struct str place, route_fn *fn, void *arg,
                struct route_lookup **out_lookup)
{
    struct route_lookup *lookup = mem_alloc(sizeof(*lookup));

    lookup->loop = loop;
    lookup->options = *options;
    lookup->route = route;
    str_copy(lookup->place, sizeof(lookup->place), place);
    lookup->fn = fn;
    lookup->arg = arg;
    lookup->plan = route_plan_new();
    lookup->plan->ttl_s = UINT32_MAX;
    lookup->plan->began_us = loop_wall_us(loop);
    if (out_lookup)
        *out_lookup = lookup;
    loop_defer(loop, &lookup->deferred, begin, lookup);
}

void route_cancel(struct route_lookup **lookup_at)
{
    struct route_lookup *lookup = *lookup_at;

    *lookup_at = NULL;
    if (!lookup)
        return;
    loop_undefer(lookup->loop, &lookup->deferred);
    if (lookup->mx_query)
        resolver_cancel(&lookup->mx_query);
    for (size_t i = 0; lookup->asking && i < lookup->plan->host_count; i++)
        if (lookup->asking[i].query)
            resolver_cancel(&lookup->asking[i].query);
    route_plan_unref(&lookup->plan);
    free(lookup->asking);
    free(lookup);
}
