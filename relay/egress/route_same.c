/*
 * route_same.c - comparing what two configurations say of a route.
 */
#include "relay/egress/route_same.h"

const struct route_settings *route_named(const struct route_settings *routes, size_t count,
                                         struct str name, bool is_smarthost)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(routes[i].name, name) && (routes[i].relay_count > 0) == is_smarthost)
            return &routes[i];
    return NULL;
}

static bool same_sources(const struct route_settings *a, const struct route_settings *b)
{
    if (a->source_count != b->source_count)
        return false;
    for (size_t i = 0; i < a->source_count; i++)
        if (!endpoint_same_ip(&a->source[i], &b->source[i]))
            return false;
    return true;
}

static bool same_senders(const struct sender_rules *a, const struct sender_rules *b)
{
    return str_eq(a->sender, b->sender) && a->null_ok == b->null_ok &&
           str_lists_eq(a->accepted, a->accepted_count, b->accepted, b->accepted_count);
}

bool route_same(const struct route_settings *a, const struct route_settings *b)
{
    return str_lists_eq(a->relay, a->relay_count, b->relay, b->relay_count) && a->port == b->port &&
           a->level == b->level && str_eq(a->username, b->username) &&
           str_eq(a->password, b->password) && str_eq(a->roots, b->roots) && same_sources(a, b) &&
           same_senders(&a->senders, &b->senders);
}
