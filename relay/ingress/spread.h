/*
 * spread.h - how many loops take the new clients of a listener without TLS.
 *
 * A loop that is half busy sleeps and wakes for each octet that comes; one that has
 * the work of two does more of it each time it wakes. So clients that come and go
 * (each brings a message or two) are given to as few loops as can serve them, and the
 * next one to come can be given to another. Clients that stay are spread over all:
 * nothing could be changed about them later. Nor is a TLS handshake ever led to a
 * busy loop. Pure.
 */
#ifndef WAYPOST_INGRESS_SPREAD_H
#define WAYPOST_INGRESS_SPREAD_H

#include <stdint.h>

/* Of the time since the last look. */
struct spread_facts {
    unsigned loops;      /* all; at least 1 */
    unsigned open;       /* that take new clients now */
    uint64_t elapsed_ms; /* at least 1 */
    uint64_t accepted;   /* clients that came */
    uint64_t staying;    /* sessions there are */
    uint64_t busy_ms;    /* CPU time of all loops together */
};

/* How many should take them from now on: 1 to loops. */
unsigned spread_open(const struct spread_facts *facts);

#endif
