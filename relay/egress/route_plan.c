/*
 * route_plan.c - the order in which a lane's hosts and addresses are tried.
 */
#include "relay/egress/route_plan.h"

#include <stdlib.h>

struct route_plan *route_plan_new(void)
{
    struct route_plan *plan = mem_alloc(sizeof(*plan));

    plan->refs = 1;
    return plan;
}

void route_plan_hosts(struct route_plan *plan, size_t host_count)
{
    plan->hosts = mem_alloc(host_count * sizeof(*plan->hosts));
    plan->host_count = host_count;
}

void route_plan_say(char **words, struct str say)
{
    free(*words);
    *words = str_dup(str_head(say, FAULT_MAX - 1));
}

struct route_plan *route_plan_ref(struct route_plan *plan)
{
    plan->refs++;
    return plan;
}

void route_plan_unref(struct route_plan **plan_at)
{
    struct route_plan *plan = *plan_at;

    *plan_at = NULL;
    if (!plan || --plan->refs > 0)
        return;
    for (size_t i = 0; i < plan->host_count; i++)
        free((void *)(uintptr_t)plan->hosts[i].addresses);
    free(plan->hosts);
    free(plan->fault);
    free(plan->evidence);
    free(plan);
}

void route_plan_sort(struct route_plan *plan, uint64_t noise)
{
    /* Few hosts: insertion sort, after a shuffle that makes equal ones random. */
    for (size_t i = plan->host_count; i > 1; i--) {
        noise = noise * 6364136223846793005U + 1442695040888963407U;
        size_t j = (size_t)((noise >> 33) % i);
        struct route_host host = plan->hosts[i - 1];
        plan->hosts[i - 1] = plan->hosts[j];
        plan->hosts[j] = host;
    }
    for (size_t i = 1; i < plan->host_count; i++) {
        struct route_host host = plan->hosts[i];
        size_t j = i;
        for (; j > 0 && plan->hosts[j - 1].preference > host.preference; j--)
            plan->hosts[j] = plan->hosts[j - 1];
        plan->hosts[j] = host;
    }
}

static bool host_is_us(const struct route_host *host, const struct route_options *options)
{
    if (str_ieq(str_of(host->name), str_of(options->hostname)))
        return true;
    for (size_t a = 0; a < host->address_count; a++)
        for (size_t i = 0; i < options->local_count; i++)
            if (host->addresses[a].port == options->locals[i].port &&
                endpoint_same_ip(&host->addresses[a], &options->locals[i]))
                return true;
    return false;
}

bool route_plan_cut_at_us(struct route_plan *plan, const struct route_options *options)
{
    for (size_t i = 0; i < plan->host_count; i++) {
        if (!host_is_us(&plan->hosts[i], options))
            continue;
        size_t keep = i;
        while (keep > 0 && plan->hosts[keep - 1].preference == plan->hosts[i].preference)
            keep--;
        for (size_t k = keep; k < plan->host_count; k++)
            free((void *)(uintptr_t)plan->hosts[k].addresses);
        plan->host_count = keep;
        return keep == 0;
    }
    return false;
}

void route_plan_steps(struct route_plan *plan)
{
    plan->step_count = 0;
    for (size_t round = 0; plan->step_count < ROUTE_ADDRESSES_MAX; round++) {
        bool any = false;
        for (size_t h = 0; h < plan->host_count && plan->step_count < ROUTE_ADDRESSES_MAX; h++) {
            if (round >= plan->hosts[h].address_count)
                continue;
            any = true;
            plan->steps[plan->step_count++] =
                (struct route_step){ .host = (uint16_t)h, .address = (uint16_t)round };
        }
        if (!any)
            break;
    }
}

/* IPv6 and IPv4 in turn, so that an unusable family costs one try, not all. */
void route_plan_addresses(struct route_host *host, const struct dns_record *records, size_t count)
{
    struct endpoint *addresses = mem_alloc(count * sizeof(*addresses));
    size_t next[2] = { 0, 0 }, made = 0;
    static const enum endpoint_family families[2] = { ENDPOINT_IPV6, ENDPOINT_IPV4 };

    for (size_t turn = 0; made < count && (next[0] < count || next[1] < count); turn++) {
        size_t *at = &next[turn % 2];
        while (*at < count && records[*at].address.family != families[turn % 2])
            (*at)++;
        if (*at < count) {
            addresses[made] = records[(*at)++].address;
            addresses[made++].port = host->port;
        }
    }
    host->addresses = addresses;
    host->address_count = made;
}
