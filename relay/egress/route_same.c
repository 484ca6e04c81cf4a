/*
 * route_same.c - comparing what two configurations say of a route.
 *
 * Both ways to compare hash the same settings, one after the other: a new one is
 * added in one place. Only the password stands apart.
 */
#include "relay/egress/route_same.h"

/* Of the password in a print: a hash of it, salted with all the other settings. Whoever
 * reads the queue's files and knows those can try passwords on it, but one in 65536 of all
 * fits: that leaves too many, whatever the hash is. With more bits one would be left. */
#define PASSWORD_BITS ((uint64_t)0xFFFF)

const struct route_settings *route_named(const struct route_settings *routes, size_t count,
                                         struct str name, bool is_smarthost)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(routes[i].name, name) && (routes[i].relay_count > 0) == is_smarthost)
            return &routes[i];
    return NULL;
}

static uint64_t add(uint64_t hash, uint64_t number) { return str_hash(STR_EMPTY, hash + number); }

static uint64_t add_list(uint64_t hash, const struct str *list, size_t count)
{
    hash = add(hash, count);
    for (size_t i = 0; i < count; i++)
        hash = str_hash(list[i], hash);
    return hash;
}

static uint64_t add_sources(uint64_t hash, const struct route_settings *route)
{
    char text[64];

    hash = add(hash, route->source_count);
    for (size_t i = 0; i < route->source_count; i++) {
        size_t len = endpoint_print_ip(&route->source[i], text, sizeof(text));
        hash = add(str_hash(str_make(text, len), hash), route->source[i].scope_id);
    }
    return hash;
}

/* All but the password. */
static uint64_t settings_of(const struct route_settings *route)
{
    uint64_t hash = add_list(0, route->relay, route->relay_count);

    hash = add(hash, route->port);
    hash = add(hash, route->level);
    hash = str_hash(route->username, hash);
    hash = str_hash(route->roots, hash);
    hash = add_sources(hash, route);
    hash = str_hash(route->senders.sender, hash);
    hash = add(hash, route->senders.null_ok);
    return add_list(hash, route->senders.accepted, route->senders.accepted_count);
}

bool route_same(const struct route_settings *a, const struct route_settings *b)
{
    return settings_of(a) == settings_of(b) && str_eq(a->password, b->password);
}

uint64_t route_print(const struct route_settings *route)
{
    uint64_t hash = settings_of(route);

    return (hash & ~PASSWORD_BITS) | (str_hash(route->password, hash) & PASSWORD_BITS);
}
