/*
 * route_same.h - does a route lead where it led, the same way? Pure.
 */
#ifndef WAYPOST_EGRESS_ROUTE_SAME_H
#define WAYPOST_EGRESS_ROUTE_SAME_H

#include "relay/egress/route.h"

/* The first of that name with relay hosts, or without any; NULL: none. */
const struct route_settings *route_named(const struct route_settings *routes, size_t count,
                                         struct str name, bool is_smarthost);
/* Are the hosts, and all that says how they are to be talked to, the same? A file of
 * trusted roots that was written anew is another one. */
bool route_same(const struct route_settings *a, const struct route_settings *b);
/* The same for routes that are the same, after a restart too: to be kept on disk. It
 * tells too little of the password to find it. Another password may have the same
 * print, one in 65536. */
uint64_t route_print(const struct route_settings *route);

#endif
