/*
 * lane.c - from routes, sender and recipient to the text of a lane, and back.
 */
#include "relay/mail/lane.h"

#include "relay/mail/addr.h"

#include <stdio.h>

static bool any_matches(const struct str *patterns, size_t count, struct str address)
{
    if (count == 0)
        return true;
    for (size_t i = 0; i < count; i++)
        if (addr_matches(address, patterns[i]))
            return true;
    return false;
}

static bool route_takes(const struct lane_route *route, struct str sender, struct str recipient)
{
    return any_matches(route->match_sender, route->match_sender_count, sender) &&
           any_matches(route->match, route->match_count, recipient);
}

/* A route's name is a short word and a domain has at most 255 bytes, so a lane
 * always fits; a longer one is cut, which may merge two lanes but loses no mail. */
static void lane_print(struct str route, struct str place, char out[LANE_MAX])
{
    snprintf(out, LANE_MAX, STR_FMT "/" STR_FMT, STR_ARG(route), STR_ARG(place));
}

size_t lane_of(const struct lane_route *routes, size_t count, struct str sender,
               struct str recipient, char out[LANE_MAX])
{
    struct str domain = addr_domain_of(recipient);
    size_t i = 0;

    while (i < count && !route_takes(&routes[i], sender, recipient))
        i++;
    if (i == count)
        lane_print(STR("direct"), domain, out);
    else
        lane_print(routes[i].name, routes[i].is_smarthost ? STR("*") : domain, out);
    /* The domain is in lower case already when the address is canonical; a lane
     * must not depend on that. */
    size_t name_len = str_chr(str_of(out), '/');
    str_lower(out + name_len, strlen(out + name_len));
    return i;
}

struct str lane_route_name(struct str lane) { return str_head(lane, str_chr(lane, '/')); }

struct str lane_place(struct str lane) { return str_from(lane, str_chr(lane, '/') + 1); }

bool lane_is_smarthost(struct str lane) { return str_eq(lane_place(lane), STR("*")); }

bool lane_matches(struct str lane, struct str typed)
{
    return str_ieq(lane, typed) || str_ieq(lane_route_name(lane), typed) ||
           str_ieq(lane_place(lane), typed);
}
