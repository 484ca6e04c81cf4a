/*
 * relay.c - the parts of a running relay, put together and taken apart.
 */
#include "tests/sim/relay.h"

#include "relay/base/container.h"

#include <stdio.h>
#include <stdlib.h>

#define RING_BYTES ((size_t)8 << 20)

/* ---- mail that becomes due (engine.c) ---- */

struct due {
    struct letter letter;
    struct relay *relay;
    char *lane;
    int64_t at;
};

static void due_open(struct letter *letter)
{
    struct due *due = container_of(letter, struct due, letter);

    if (due->relay->sched)
        sched_ready(due->relay->sched, due->lane, due->at, false);
    free(due->lane);
    free(due);
}

static void on_ready(void *arg, const char *lane, int64_t due_at, struct mailbox *near)
{
    struct relay *relay = arg;
    struct due *due = mem_alloc(sizeof(*due));

    (void)near; /* there is one loop */

    due->letter.open = due_open;
    due->relay = relay;
    due->lane = str_dup(str_of(lane));
    due->at = due_at;
    mailbox_post(loop_mailbox(relay->loop), &due->letter);
}

/* ---- the parts ---- */

/* ---- local names that led nowhere (engine_expand.c) ---- */

struct expanding {
    struct store_change change;
    struct relay *relay;
};

static size_t readdress(void *arg, const struct envelope *envelope,
                        const struct recipient *recipient, struct arena *arena,
                        const struct store_address **out)
{
    const struct expanding *expanding = arg;
    struct local_result led;

    return setup_lead(expanding->relay->setup, envelope, recipient, arena, &led, out);
}

static void expanded(struct store_request *request)
{
    struct store_change *change = container_of(request, struct store_change, request);

    free(container_of(change, struct expanding, change));
}

static void aliases_changed(void *arg)
{
    struct relay *relay = arg;
    struct expanding *expanding = mem_alloc(sizeof(*expanding));

    expanding->relay = relay;
    expanding->change = (struct store_change){
        .request = { .reply_to = loop_mailbox(relay->loop), .done = expanded },
        .kind = STORE_READDRESS,
        .filter = { .state = RECIPIENT_HELD },
        .readdress = readdress,
        .arg = expanding,
    };
    store_change(relay->store, &expanding->change);
}

static struct intake_options intake_options_of(const struct relay *relay, const struct setup *setup)
{
    return (struct intake_options){
        .store = relay->store,
        .keyring = setup->keyring,
        .hostname = setup->conf->hostname,
        .routes = setup->lane_routes,
        .route_count = setup->lane_route_count,
        .header_max = setup->conf->limits.header_size,
        .hops_max = setup->conf->limits.hops,
        .received_user = setup->conf->received_user,
        .locals = setup->locals,
        .aliases_changed = aliases_changed,
        .aliases_arg = (void *)(uintptr_t)relay,
    };
}

static enum err open_store(struct relay *relay, struct fault *fault)
{
    char folder[512];
    struct store_options options = {
        .folder = folder,
        .quota_bytes =
            relay->setup->conf->queue.size ? relay->setup->conf->queue.size : (uint64_t)1 << 40,
        .reserve_bytes = 1 << 20,
        .map_bytes = (uint64_t)8 << 30, /* sanitizers dislike large mappings */
        .pool = relay->pool,
        .ring = NULL, /* the writer is another thread than the loop's ring */
        .wall_us = world_wall_us,
    };

    if (relay->store)
        return ERR_OK;
    (void)snprintf(folder, sizeof(folder), "%s/queue", relay->options.folder);
    return relay->options.is_lmdb ? store_open_lmdb(&options, &relay->store, fault)
                                  : store_open_mem(&options, &relay->store, fault);
}

static enum err start(struct relay *relay, struct fault *fault)
{
    struct intake_options intake;
    struct sched_options sched = { .loop = relay->loop };
    enum err rc = open_store(relay, fault);

    if (!rc)
        rc = resolver_new(relay->loop, &relay->setup->dns, &relay->resolver, fault);
    if (rc)
        return rc;
    relay->world->store = relay->store;
    intake = intake_options_of(relay, relay->setup);
    relay->intake = intake_new(relay->loop, &intake);
    sched.store = relay->store;
    sched.resolver = relay->resolver;
    sched.intake = relay->intake;
    sched.keyring = relay->setup->keyring;
    sched.pace = &relay->reports;
    relay->sched = sched_new(&sched, &relay->setup->sched);
    store_watch(relay->store, on_ready, relay);
    return ERR_OK;
}

static void now_idle(void *arg)
{
    struct relay *relay = arg;

    relay->sched_is_idle = true;
}

static void stop(struct relay *relay, bool close_store)
{
    if (!relay->sched)
        return;
    relay->sched_is_idle = false;
    sched_drain(relay->sched, now_idle, relay);
    sched_abort(relay->sched);
    world_settle(relay->world);
    if (!relay->sched_is_idle) {
        (void)fprintf(stderr, "sim: the scheduler does not come to rest after an abort\n");
        abort();
    }
    sched_free(&relay->sched);
    world_settle(relay->world);
    intake_free(&relay->intake);
    resolver_free(&relay->resolver);
    if (!close_store)
        return;
    relay->world->store = NULL;
    store_close(&relay->store);
    world_settle(relay->world); /* letters of lanes that became due */
}

/* As the engine does (engine_fit.c), with descriptors to spare. */
static enum err load(struct conf *conf, struct setup **out_setup, struct fault *fault)
{
    enum err rc = setup_new(conf, out_setup, fault);

    if (!rc)
        (*out_setup)->sched.connections_max = conf->max_connections;
    return rc;
}

enum err relay_open(struct relay *relay, struct world *world, const struct relay_options *options,
                    struct conf *conf, struct fault *fault)
{
    struct loop_options loop = { .count = 1 };
    enum err rc;

    *relay = (struct relay){ .options = *options, .world = world };
    relay->hops = hops_new(RING_BYTES);
    relay->ring = hops_ring(relay->hops);
    if (options->tap)
        hops_tap(relay->hops, options->tap, NULL, options->tap_arg);
    relay->pool = pool_new(1, true);
    loop.pool = relay->pool;
    loop.ring = relay->ring;
    rc = loop_new(&loop, &relay->loop, fault);
    loop_settle_in(relay->loop, world);
    world->hops = relay->hops;
    if (!rc)
        rc = load(conf, &relay->setup, fault);
    return rc ? rc : start(relay, fault);
}

void relay_close(struct relay *relay)
{
    stop(relay, true);
    relay->world->hops = NULL;
    for (size_t i = 0; i < relay->before_count; i++)
        setup_unref(&relay->before[i]);
    if (relay->setup)
        setup_unref(&relay->setup);
    loop_free(&relay->loop);
    pool_free(&relay->pool);
    hops_free(&relay->hops);
}

enum err relay_restart(struct relay *relay, struct fault *fault)
{
    stop(relay, relay->options.is_lmdb);
    return start(relay, fault);
}

enum err relay_reload(struct relay *relay, struct conf *conf, struct fault *fault)
{
    struct setup *setup = NULL;
    struct intake_options intake;
    enum err rc;

    if (relay->before_count == sizeof(relay->before) / sizeof(relay->before[0]))
        return fault_set(fault, ERR_LIMIT, "too many reloads in one replay");
    rc = load(conf, &setup, fault);
    if (rc)
        return rc;
    intake = intake_options_of(relay, setup);
    intake_set(relay->intake, &intake);
    sched_set(relay->sched, &setup->sched, setup->keyring);
    relay->before[relay->before_count++] = relay->setup;
    relay->setup = setup;
    /* Mail that waits may belong elsewhere now (engine_reload.c). */
    (void)relay_change(relay, STORE_REROUTE, &(struct store_filter){ .any_state = true });
    aliases_changed(relay);
    world_settle(relay->world);
    return ERR_OK;
}

/* ---- mail in ---- */

struct taking {
    struct relay *relay;
    struct arrival *arrival;
    char *content;
    size_t len, at;
    struct arrival_end end;
    relay_answered_fn *answered;
    void *arg;
};

static void taken(void *arg, const struct reply *reply)
{
    struct taking *taking = arg;

    taking->answered(taking->arg, reply);
    free(taking->content);
    free(taking);
}

static void feed(void *arg)
{
    struct taking *taking = arg;

    while (taking->at < taking->len) {
        struct str piece = str_head(str_from(str_make(taking->content, taking->len), taking->at),
                                    (size_t)64 * 1024);
        taking->at += piece.len;
        if (!arrival_feed(taking->arrival, piece, feed, taking))
            return;
    }
    arrival_end(taking->arrival, &taking->end, taken, taking);
}

static void look(struct str content, struct arrival_end *end)
{
    struct str body = str_from(content, str_find(content, STR("\r\n\r\n"))), line;

    end->has_8bit = !str_is_ascii(body);
    while (str_next(&body, '\n', &line))
        end->has_long_line |= line.len > 999;
}

void relay_take(struct relay *relay, const struct envelope *envelope, struct str content,
                bool is_local, relay_answered_fn *answered, void *arg)
{
    struct taking *taking = mem_alloc(sizeof(*taking));
    struct arrival_facts facts = {
        .with = STR("ESMTP"),
        .client_address = STR("192.0.2.200"),
        .is_submission = true,
        .is_local_origin = is_local,
    };

    taking->relay = relay;
    taking->content = str_dup(content);
    taking->len = content.len;
    taking->answered = answered;
    taking->arg = arg;
    look(content, &taking->end);
    taking->arrival = arrival_begin(relay->intake, envelope, &facts);
    feed(taking);
}

/* ---- operators ---- */

static void done(struct store_request *request) { request->op = UINT32_MAX; }

static struct store_request request_of(struct relay *relay)
{
    return (struct store_request){ .reply_to = loop_mailbox(relay->loop), .done = done };
}

static void reroute(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                    char out_lane[LANE_MAX])
{
    const struct relay *relay = arg;

    setup_lane(relay->setup, envelope, recipient, out_lane);
}

uint64_t relay_change(struct relay *relay, enum store_change_kind kind,
                      const struct store_filter *filter)
{
    struct store_change change = {
        .request = request_of(relay),
        .kind = kind,
        .filter = *filter,
        .reroute = reroute,
        .arg = relay,
    };

    store_change(relay->store, &change);
    world_settle(relay->world);
    return change.recipients;
}

void relay_flush(struct relay *relay, struct str lane)
{
    sched_flush(relay->sched, lane);
    world_settle(relay->world);
}

void relay_list(struct relay *relay, struct store_list *out_list)
{
    *out_list = (struct store_list){
        .request = request_of(relay),
        .filter = { .any_state = true },
        .max = 1000000,
    };
    store_list(relay->store, out_list);
    world_settle(relay->world);
}
