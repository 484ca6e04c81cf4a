/*
 * lane.h - which queue a recipient belongs to.
 *
 * The lane is computed at intake from routes, sender and recipient, and is the
 * same until a reload changes the routes. Text form "ROUTE/PLACE": the route's
 * name, then the recipient domain for MX routes ("direct/example.com") or a lone
 * star for a smarthost route, which is one lane whatever the domain. Pure.
 */
#ifndef WAYPOST_MAIL_LANE_H
#define WAYPOST_MAIL_LANE_H

#include "relay/base/str.h"

#define LANE_MAX 320

struct lane_route {
    struct str name;
    const struct str *match; /* recipient patterns (addr_matches); count 0: any */
    size_t match_count;
    const struct str *match_sender; /* reverse-path patterns; count 0: any */
    size_t match_sender_count;
    bool is_smarthost; /* has relay hosts */
};

/* The first route that matches both; the last resort is "direct" by MX. Returns
 * the route's index, or `count` for the built-in direct. `out` gets the lane. */
size_t lane_of(const struct lane_route *routes, size_t count, struct str sender,
               struct str recipient, char out[LANE_MAX]);

struct str lane_route_name(struct str lane);
struct str lane_place(struct str lane); /* domain, or "*" */
bool lane_is_smarthost(struct str lane);

/* Does a lane match what an operator typed: the whole lane, its route, or its place? */
bool lane_matches(struct str lane, struct str typed);

#endif
