/*
 * engine_resolve.c - where mail for an address would go, by the rules in force.
 */
#include "relay/engine_impl.h"

#include "relay/mail/local.h"

struct resolving {
    const struct setup *setup;
    struct str sender;
    struct arena arena;
    api_resolved_fn *fn;
    void *arg;
};

/* "smtp.example.com:587, ..." of the route that the lane is named after. */
static struct str relays_of(struct resolving *resolving, struct str lane)
{
    const struct conf *conf = resolving->setup->conf;
    struct str name = lane_route_name(lane), relays = STR_EMPTY;

    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_route *route = &conf->routes[i];
        if (!str_eq(route->name, name))
            continue;
        for (size_t r = 0; r < route->relay.count; r++)
            relays = str_of(arena_printf(&resolving->arena, STR_FMT "%s" STR_FMT, STR_ARG(relays),
                                         r ? ", " : "", STR_ARG(route->relay.items[r])));
    }
    return relays;
}

static void tell(struct resolving *resolving, struct str address, struct str words)
{
    struct envelope envelope;
    struct recipient recipient = { .address = address };
    char lane[LANE_MAX];

    envelope_init(&envelope);
    envelope.sender = resolving->sender;
    setup_lane(resolving->setup, &envelope, &recipient, lane);
    struct api_resolved resolved = {
        .address = address,
        .words = words,
        .lane = str_of(lane),
        .relays = relays_of(resolving, str_of(lane)),
    };
    resolving->fn(resolving->arg, &resolved);
    envelope_clear(&envelope);
}

static void tell_ours(struct resolving *resolving, const struct local_rules *rules,
                      struct str address)
{
    struct local_result result;

    local_expand(rules, address, &resolving->arena, &result);
    for (size_t i = 0; i < result.count; i++)
        tell(resolving, result.found[i].address, result.found[i].words);
    if (result.count > 0)
        return;
    struct api_resolved nowhere = {
        .address = STR_EMPTY, .words = result.why, .lane = STR_EMPTY, .relays = STR_EMPTY
    };
    resolving->fn(resolving->arg, &nowhere);
}

/* .forward is left out: it is read from homes, which may be slow. */
void engine_resolve(void *arg, struct str sender, struct str recipient, api_resolved_fn *fn,
                    void *fn_arg)
{
    struct engine *engine = arg;
    struct resolving resolving = {
        .setup = engine->setup, .sender = sender, .fn = fn, .arg = fn_arg
    };
    struct alias_table *table;

    arena_init(&resolving.arena);
    struct local_rules rules = locals_rules(engine->setup->locals, false, &table);
    if (local_is_ours(&rules, recipient))
        tell_ours(&resolving, &rules, recipient);
    else
        tell(&resolving, recipient, STR_EMPTY);
    if (table)
        alias_unref(&table);
    arena_clear(&resolving.arena);
}
