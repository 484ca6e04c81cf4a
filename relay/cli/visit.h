/*
 * visit.h - one session with a next hop, up to where mail would follow.
 *
 * The relay's own way out (route, policy, client machine) without a message:
 * looked up, connected, greeted, TLS judged, logged in, QUIT. Every step is
 * printed as it ended, a bad one with its cause and what to do.
 */
#ifndef WAYPOST_CLI_VISIT_H
#define WAYPOST_CLI_VISIT_H

#include "relay/setup.h"

#include <stdio.h>

/* `route` is one of setup's; `place` the recipient domain, for a route by MX. EX_OK, or what
 * sysexits has for the step that failed. */
int visit_next_hop(const struct setup *setup, const struct route_settings *route, struct str place,
                   FILE *out);

#endif
