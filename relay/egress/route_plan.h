/*
 * route_plan.h - putting a plan together; for route.c and its test.
 *
 * Pure: hosts with their addresses in, the order of attempts out.
 */
#ifndef WAYPOST_EGRESS_ROUTE_PLAN_H
#define WAYPOST_EGRESS_ROUTE_PLAN_H

#include "relay/egress/route.h"

struct route_plan *route_plan_new(void);                           /* refs 1, no hosts */
void route_plan_hosts(struct route_plan *plan, size_t host_count); /* once, before any is known */
void route_plan_say(char **words, struct str say); /* fault or evidence, cut to FAULT_MAX */

/* MX order: by preference, equal ones shuffled with `noise` (RFC 5321 5.1). */
void route_plan_sort(struct route_plan *plan, uint64_t noise);

/* Drop the hosts that are ourselves and all that are no better (RFC 5321 5.1).
 * True: nothing is left, we are the best. */
bool route_plan_cut_at_us(struct route_plan *plan, const struct route_options *options);

/* steps[]: every host one address before any gets two, families of a host in turn. */
void route_plan_steps(struct route_plan *plan);

/* Addresses copied, with the host's port. */
void route_plan_addresses(struct route_host *host, const struct dns_record *records, size_t count);

#endif
