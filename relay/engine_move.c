/*
 * engine_move.c - mail that waits follows the routes in force.
 *
 * Which lane it waits in was chosen when it came. At the start and after a reload
 * that changed the rules it moves to the lanes that they give now, and is due
 * there. Where the rules are the same and a next hop is reached another way (its
 * host was mended, its password), what waits for it is tried once.
 *
 * A lane whose route is gone and that has mail all the same is found by the
 * scheduler: then all mail is looked at, whatever the store thinks was moved.
 */
#include "relay/engine_impl.h"

#include "relay/egress/route_same.h"

#include <inttypes.h>

/* ---- moving ---- */

struct moving {
    struct chore_run run;
    struct setup *setup;
};

static void lane_now(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                     char out_lane[LANE_MAX])
{
    struct moving *moving = arg;

    setup_lane(moving->setup, envelope, recipient, out_lane);
}

static bool rules_changed(const struct setup *before, const struct setup *now)
{
    if (before->lane_route_count != now->lane_route_count)
        return true;
    for (size_t i = 0; i < now->lane_route_count; i++) {
        const struct lane_route *a = &before->lane_routes[i], *b = &now->lane_routes[i];
        if (!str_eq(a->name, b->name) || a->is_smarthost != b->is_smarthost ||
            !str_lists_eq(a->match, a->match_count, b->match, b->match_count) ||
            !str_lists_eq(a->match_sender, a->match_sender_count, b->match_sender,
                          b->match_sender_count))
            return true;
    }
    return false;
}

static uint64_t add_list(uint64_t name, const struct str *list, size_t count)
{
    name = name * 31 + count;
    for (size_t i = 0; i < count; i++)
        name = str_hash(list[i], name);
    return name;
}

/* The same for all routes that rules_changed() finds alike. Never 0. */
static uint64_t name_of_rules(const struct setup *setup)
{
    uint64_t name = setup->lane_route_count + 1;

    for (size_t i = 0; i < setup->lane_route_count; i++) {
        const struct lane_route *route = &setup->lane_routes[i];
        name = str_hash(route->name, name) * 2 + route->is_smarthost;
        name = add_list(name, route->match, route->match_count);
        name = add_list(name, route->match_sender, route->match_sender_count);
    }
    return name ? name : 1;
}

static struct chore_run *move(struct engine *engine)
{
    struct moving *moving = mem_alloc(sizeof(*moving));

    moving->setup = setup_ref(engine->setup);
    moving->run.change = (struct store_change){
        .kind = STORE_REROUTE,
        .filter = { .any_state = true },
        .routes = name_of_rules(moving->setup),
        .routes_in_doubt = engine->move_in_doubt,
        .reroute = lane_now,
        .arg = moving,
    };
    return &moving->run;
}

static void say_found(struct engine *engine, uint64_t messages)
{
    char text[120];

    (void)snprintf(text, sizeof(text),
                   "%" PRIu64 " messages waited in lanes without a route, and were moved",
                   messages);
    engine_say(engine, STAGE_ALARM, HOP_ALARM, STR_EMPTY, str_of(text));
}

static void moved(struct engine *engine, struct chore_run *run)
{
    struct moving *moving = container_of(run, struct moving, run);
    const struct store_change *change = &run->change;

    if (!change->request.err && change->routes_in_doubt) {
        engine->move_in_doubt = false;
        if (change->messages > 0)
            say_found(engine, change->messages);
    }
    setup_unref(&moving->setup);
    free(moving);
}

const struct chore_kind engine_move_kind = {
    .failed = "mail that waits could not be moved to its routes; it is tried again",
    .over = "mail that waited was moved to its routes",
    .make = move,
    .done = moved,
};

/* While it moves, or is about to, some is still where it was. */
static void look_for_lost(struct engine_loop *first, void *arg)
{
    struct engine *engine = first->engine;

    (void)arg;
    if (engine->reload || chore_is_pending(&engine->move))
        return;
    engine->move_in_doubt = true;
    chore_ask(&engine->move);
}

void engine_lane_lost(void *arg)
{
    struct engine_loop *own = arg;

    engine_tell(&own->engine->loops[0], look_for_lost, NULL);
}

/* ---- waking ---- */

struct waking {
    struct chore_run run;
    char **names; /* of routes; owned */
    struct str *routes;
    size_t count;
};

static void wake_later(struct engine *engine, struct str route)
{
    for (size_t i = 0; i < engine->wake_count; i++)
        if (str_eq(str_of(engine->wake_routes[i]), route))
            return;
    engine->wake_routes =
        mem_realloc(engine->wake_routes, (engine->wake_count + 1) * sizeof(char *));
    engine->wake_routes[engine->wake_count++] = str_dup(route);
}

static void forget_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

static struct chore_run *wake(struct engine *engine)
{
    struct waking *waking;

    if (engine->wake_count == 0)
        return NULL;
    waking = mem_alloc(sizeof(*waking));
    waking->names = engine->wake_routes;
    waking->count = engine->wake_count;
    engine->wake_routes = NULL;
    engine->wake_count = 0;
    waking->routes = mem_alloc(waking->count * sizeof(*waking->routes));
    for (size_t i = 0; i < waking->count; i++)
        waking->routes[i] = str_of(waking->names[i]);
    waking->run.change = (struct store_change){
        .kind = STORE_RETRY,
        .filter = { .state = RECIPIENT_QUEUED,
                    .of_routes = waking->routes,
                    .of_route_count = waking->count },
    };
    return &waking->run;
}

static void woken(struct engine *engine, struct chore_run *run)
{
    struct waking *waking = container_of(run, struct waking, run);

    for (size_t i = 0; run->change.request.err && i < waking->count; i++)
        wake_later(engine, waking->routes[i]);
    forget_names(waking->names, waking->count);
    free(waking->routes);
    free(waking);
}

const struct chore_kind engine_wake_kind = {
    .failed = "mail for a next hop that changed could not be made due; it is tried again",
    .over = "mail for a next hop that changed is due",
    .make = wake,
    .done = woken,
};

/* ---- a reload ---- */

void engine_move_compare(struct engine *engine, const struct setup *before, const struct setup *now)
{
    engine->mail_to_move = rules_changed(before, now);
    for (size_t i = 0; i < now->sched.route_count; i++) {
        const struct route_settings *is = &now->sched.routes[i];
        const struct route_settings *was = route_named(
            before->sched.routes, before->sched.route_count, is->name, is->relay_count > 0);
        if (was && !route_same(was, is))
            wake_later(engine, is->name);
    }
}

void engine_move_followed(struct engine *engine)
{
    if (engine->mail_to_move)
        chore_ask(&engine->move);
    engine->mail_to_move = false;
    chore_ask(&engine->wake);
}

void engine_move_free(struct engine *engine)
{
    forget_names(engine->wake_routes, engine->wake_count);
}
