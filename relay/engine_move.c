/*
 * engine_move.c - mail that waits follows the routes in force.
 *
 * Which lane it waits in was chosen when it came. At the start and after a reload
 * that changed the rules it moves to the lanes that they give now, and is due
 * there. Where a next hop is reached another way than when the store was told last
 * (its host was mended, its password), what waits for it is tried once.
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
    struct setup *setup;
    struct store_hop *hops;
    struct str *changed;
};

/* The store knows what they were, at the last reload or before a restart. */
static struct chore_run *wake(struct engine *engine)
{
    struct waking *waking = mem_alloc(sizeof(*waking));
    const struct sched_settings *sched = &engine->setup->sched;

    waking->setup = setup_ref(engine->setup);
    waking->hops = mem_alloc(sched->route_count * sizeof(*waking->hops));
    waking->changed = mem_alloc(sched->route_count * sizeof(*waking->changed));
    for (size_t i = 0; i < sched->route_count; i++)
        waking->hops[i] = (struct store_hop){ .route = sched->routes[i].name,
                                              .print = route_print(&sched->routes[i]) };
    waking->run.change = (struct store_change){
        .kind = STORE_RETRY,
        .filter = { .state = RECIPIENT_QUEUED },
        .hops = waking->hops,
        .changed = waking->changed,
        .hop_count = sched->route_count,
    };
    return &waking->run;
}

static void woken(struct engine *engine, struct chore_run *run)
{
    struct waking *waking = container_of(run, struct waking, run);
    char text[120];

    (void)snprintf(text, sizeof(text), "%" PRIu64 " messages for a next hop that changed are due",
                   run->change.messages);
    if (run->change.messages > 0)
        engine_say(engine, STAGE_SERVICE, HOP_EVENT, str_of(text), STR_EMPTY);
    setup_unref(&waking->setup);
    free(waking->hops);
    free(waking->changed);
    free(waking);
}

const struct chore_kind engine_wake_kind = {
    .failed = "mail for a next hop that changed could not be made due; it is tried again",
    .over = "mail for a next hop that changed is due",
    .make = wake,
    .done = woken,
};

/* ---- a start, a reload ---- */

void engine_move_begin(struct engine *engine)
{
    chore_ask(&engine->move);
    chore_ask(&engine->wake);
}

void engine_move_compare(struct engine *engine, const struct setup *before, const struct setup *now)
{
    engine->mail_to_move = rules_changed(before, now);
}

void engine_move_followed(struct engine *engine)
{
    if (engine->mail_to_move)
        chore_ask(&engine->move);
    engine->mail_to_move = false;
    chore_ask(&engine->wake);
}
