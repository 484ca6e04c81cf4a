/*
 * sched_fixture.h - a scheduler with a real store and intake, on a virtual
 * clock; routes and deliveries are played, one `struct site` per place.
 */
#ifndef WAYPOST_TESTS_SCHED_FIXTURE_H
#define WAYPOST_TESTS_SCHED_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/store_backend.h"
#include "relay/base/container.h"
#include "relay/egress/sched.h"
#include "virtual_loop.h"

#include <stdio.h>
#include <stdlib.h>

#define SECOND ((uint64_t)1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

/* What a place does to those who come. */
enum site_mood {
    SITE_TAKES,
    SITE_DOWN,      /* no connection */
    SITE_HANGS,     /* for an hour, then it is down */
    SITE_REFUSES,   /* 550 for every recipient */
    SITE_PUTS_OFF,  /* 450 for every recipient */
    SITE_DROPS,     /* the connection, after the first message */
    SITE_LOGIN_BAD, /* a smarthost that refuses our password: later, dest, alarm */
    SITE_OWN_FAULT, /* our own trouble */
    SITE_UNKNOWN,   /* no reply to the final dot */
};

struct site {
    const char *place; /* domain, or "*" */
    const char *host;  /* of its best MX; NULL: "mx.PLACE" */
    enum site_mood mood;
    unsigned message_ms; /* how long a message takes */
    bool offers_dsn;
    unsigned lookups, connects, messages, open, open_most, quits;
};

struct delivery {
    struct delivery_options options;
    struct site *site;
    struct claim *claim;
    struct timer timer;
    unsigned sent;
    bool is_free;
};

struct route_lookup {
    struct timer timer;
    struct site *site;
    struct route_lookup **at;
    route_fn *fn;
    void *arg;
};

#define SITES 64

static struct fixture {
    struct site sites[SITES];
    size_t site_count;
    char names[SITES][64]; /* of those a test did not name */
    struct store *store;
    struct store_backend backend; /* the real one, with a settle that can fail */
    const struct store_backend *real;
    unsigned settle_failures; /* so many fail */
    unsigned settle_calls, settlements, claim_calls;
    unsigned passed; /* due mail that other loops were told of */
    unsigned lost;   /* times that mail was found in a lane without a route */
    struct pool *pool;
    struct hops *hops;
    struct intake *intake;
    struct sched *sched;
    struct route_settings routes[3];
    struct sched_destination destinations[4];
    struct sched_settings settings;
    unsigned hop_count[STAGE_COUNT][RESULT_COUNT];
    char last_settle[4096], last_trouble[4096]; /* the latter: not delivered */
    bool is_idle;
    unsigned open, open_most;
} fx;

/* ---- places ---- */

static struct site *site_add(const char *place, enum site_mood mood)
{
    struct site *site = &fx.sites[fx.site_count++];

    assert_true(fx.site_count <= SITES);
    *site = (struct site){ .place = place, .mood = mood, .message_ms = 100 };
    return site;
}

static struct site *site_of(struct str place)
{
    for (size_t i = 0; i < fx.site_count; i++)
        if (str_eq(str_of(fx.sites[i].place), place))
            return &fx.sites[i];
    str_copy(fx.names[fx.site_count], sizeof(fx.names[0]), place);
    return site_add(fx.names[fx.site_count], SITE_TAKES);
}

/* ---- played routes ---- */

struct route_plan *route_plan_ref(struct route_plan *plan)
{
    plan->refs++;
    return plan;
}

void route_plan_unref(struct route_plan **plan_at)
{
    struct route_plan *plan = *plan_at;

    *plan_at = NULL;
    if (!plan || --plan->refs > 0)
        return;
    free(plan->hosts);
    free(plan);
}

static void lookup_done(void *arg)
{
    struct route_lookup *lookup = arg;
    struct route_plan *plan = mem_alloc(sizeof(*plan));
    const char *host = lookup->site->host;

    plan->refs = 1;
    plan->host_count = 1;
    plan->ttl_s = 3600;
    plan->step_count = 1;
    plan->hosts = mem_alloc(sizeof(*plan->hosts));
    if (host)
        snprintf(plan->hosts[0].name, sizeof(plan->hosts[0].name), "%s", host);
    else
        snprintf(plan->hosts[0].name, sizeof(plan->hosts[0].name), "mx.%.200s",
                 lookup->site->place);
    lookup->site->lookups++;
    *lookup->at = NULL;
    lookup->fn(lookup->arg, plan);
    free(lookup);
}

void route_find(struct loop *loop, const struct route_options *options,
                const struct route_settings *route, struct str place, route_fn *fn, void *arg,
                struct route_lookup **out_lookup)
{
    struct route_lookup *lookup = mem_alloc(sizeof(*lookup));

    (void)options;
    (void)route;
    *lookup =
        (struct route_lookup){ .site = site_of(place), .at = out_lookup, .fn = fn, .arg = arg };
    *out_lookup = lookup;
    loop_timer_start(loop, &lookup->timer, 20, lookup_done, lookup);
}

void route_cancel(struct route_lookup **lookup)
{
    loop_timer_stop(&virtual_loop, &(*lookup)->timer);
    free(*lookup);
    *lookup = NULL;
}

/* ---- played deliveries ---- */

unsigned delivery_sent(const struct delivery *delivery) { return delivery->sent; }
const char *delivery_host(const struct delivery *delivery)
{
    return delivery->options.plan->hosts[0].name;
}

static struct delivery_result result_of(const struct site *site)
{
    static const struct delivery_result moods[] = {
        [SITE_TAKES] = { .outcome = { .result = RESULT_DELIVERED, .status = { 2, 0, 0 } },
                         .stage = STAGE_CONTENT,
                         .said = { "250 2.0.0 Ok: queued as 4XyZ", 28 },
                         .remote_id = { "4XyZ", 4 } },
        [SITE_DOWN] = { .outcome = { .result = RESULT_LATER,
                                     .scope = SCOPE_DEST,
                                     .kind = CLASS_NETWORK,
                                     .status = { 4, 4, 1 },
                                     .row = "connect-timeout",
                                     .cause = "No host of the place answers.",
                                     .fix = "Nothing." },
                        .stage = STAGE_CONNECT,
                        .said = { "connection timed out", 20 } },
        [SITE_HANGS] = { .outcome = { .result = RESULT_LATER,
                                      .scope = SCOPE_DEST,
                                      .kind = CLASS_NETWORK,
                                      .row = "hangs",
                                      .cause = "It said nothing.",
                                      .fix = "Nothing." },
                         .stage = STAGE_BANNER },
        [SITE_REFUSES] = { .outcome = { .result = RESULT_FAILED,
                                        .scope = SCOPE_RECIPIENT,
                                        .kind = CLASS_HARD,
                                        .status = { 5, 1, 1 },
                                        .row = "no-such-user",
                                        .cause = "There is no such mailbox.",
                                        .fix = "Check the address." },
                           .stage = STAGE_RCPT,
                           .said = { "550 5.1.1 No such user", 22 } },
        [SITE_PUTS_OFF] = { .outcome = { .result = RESULT_LATER,
                                         .scope = SCOPE_RECIPIENT,
                                         .kind = CLASS_SOFT,
                                         .status = { 4, 2, 2 },
                                         .row = "mailbox-full",
                                         .cause = "The mailbox is full.",
                                         .fix = "Wait." },
                            .stage = STAGE_RCPT,
                            .said = { "452 4.2.2 Mailbox full", 22 } },
        [SITE_LOGIN_BAD] = { .outcome = { .result = RESULT_LATER,
                                          .scope = SCOPE_DEST,
                                          .kind = CLASS_AUTH,
                                          .status = { 4, 7, 8 },
                                          .alarm = true,
                                          .row = "auth-refused",
                                          .cause = "The smarthost refused the password.",
                                          .fix = "Check it." },
                             .stage = STAGE_AUTH,
                             .said = { "535 5.7.8 no", 12 } },
        [SITE_OWN_FAULT] = { .outcome = { .result = RESULT_LATER,
                                          .scope = SCOPE_US,
                                          .kind = CLASS_CONFIG,
                                          .status = { 4, 3, 0 },
                                          .row = "own",
                                          .cause = "A file could not be read.",
                                          .fix = "Look at the disk." },
                             .stage = STAGE_DATA },
        [SITE_UNKNOWN] = { .outcome = { .result = RESULT_LATER,
                                        .scope = SCOPE_MESSAGE,
                                        .kind = CLASS_NETWORK,
                                        .status = { 4, 4, 2 },
                                        .unknown_delivery = true,
                                        .row = "unknown",
                                        .cause = "It may have arrived.",
                                        .fix = "Ask." },
                           .stage = STAGE_CONTENT },
    };
    struct delivery_result result = moods[site->mood == SITE_DROPS ? SITE_TAKES : site->mood];

    result.attempted = site->mood != SITE_OWN_FAULT;
    result.relayed_with_dsn = site->offers_dsn;
    result.host = STR("mx.test [192.0.2.1]:25");
    return result;
}

static void delivery_gone(struct delivery *delivery, const struct outcome *trouble)
{
    loop_timer_stop(&virtual_loop, &delivery->timer);
    delivery->site->open--;
    fx.open--;
    delivery->options.ended(delivery->options.arg, delivery, trouble);
    route_plan_unref(&delivery->options.plan);
    free(delivery);
}

static void delivery_answer(struct delivery *delivery, const struct delivery_result *result)
{
    struct claim *claim = delivery->claim;
    struct delivery_result *results = mem_alloc(claim->count * sizeof(*results));

    for (size_t i = 0; i < claim->count; i++)
        results[i] = *result;
    delivery->claim = NULL;
    delivery->options.done(delivery->options.arg, delivery, claim, results);
    free(results);
}

static void delivery_step(void *arg)
{
    struct delivery *delivery = arg;
    struct site *site = delivery->site;
    struct delivery_result result = result_of(site);

    if (site->mood == SITE_DROPS && delivery->sent > 0) {
        result.outcome = (struct outcome){
            .result = RESULT_LATER, .scope = SCOPE_DEST, .kind = CLASS_NETWORK, .row = "lost"
        };
        result.stage = STAGE_MAIL;
        delivery_answer(delivery, &result);
        delivery_gone(delivery, &result.outcome);
        return;
    }
    if (result.outcome.scope != SCOPE_DEST)
        site->messages++;
    delivery_answer(delivery, &result);
    if (result.outcome.scope == SCOPE_DEST) {
        delivery_gone(delivery, &result.outcome);
        return;
    }
    delivery->sent++;
    delivery->is_free = true;
    delivery->options.free_now(delivery->options.arg, delivery);
}

static void delivery_gone_now(void *arg) { delivery_gone(arg, NULL); }

static uint64_t connect_ms(const struct site *site)
{
    if (site->mood == SITE_HANGS)
        return HOUR;
    return site->mood == SITE_DOWN ? 30 * SECOND : 200;
}

struct delivery *delivery_start(const struct delivery_options *options, struct claim *first)
{
    struct delivery *delivery = mem_alloc(sizeof(*delivery));

    delivery->options = *options;
    delivery->options.plan = route_plan_ref(options->plan);
    delivery->site = site_of(lane_place(options->lane));
    delivery->claim = first;
    delivery->site->connects++;
    if (++delivery->site->open > delivery->site->open_most)
        delivery->site->open_most = delivery->site->open;
    if (++fx.open > fx.open_most)
        fx.open_most = fx.open;
    loop_timer_start(options->loop, &delivery->timer,
                     connect_ms(delivery->site) + delivery->site->message_ms, delivery_step,
                     delivery);
    return delivery;
}

void delivery_give(struct delivery *delivery, struct claim *claim)
{
    assert_true(delivery->is_free);
    assert_null(delivery->claim);
    delivery->is_free = false;
    delivery->claim = claim;
    loop_timer_start(&virtual_loop, &delivery->timer, delivery->site->message_ms, delivery_step,
                     delivery);
}

void delivery_quit(struct delivery *delivery)
{
    assert_true(delivery->is_free);
    delivery->is_free = false;
    delivery->site->quits++;
    loop_timer_start(&virtual_loop, &delivery->timer, 10, delivery_gone_now, delivery);
}

void delivery_abort(struct delivery *delivery)
{
    struct delivery_result stopped = {
        .outcome = { .result = RESULT_LATER, .scope = SCOPE_US, .row = "stopped" }
    };

    if (delivery->claim)
        delivery_answer(delivery, &stopped);
    delivery_gone(delivery, NULL);
}

/* ---- the store ---- */

static void play_settle(struct store *store, struct store_settle *request)
{
    fx.settle_calls++;
    fx.settlements += (unsigned)request->count;
    if (fx.settle_failures == 0) {
        fx.real->settle(store, request);
        return;
    }
    fx.settle_failures--;
    store_answer(&request->request, ERR_IO);
}

static void play_claim(struct store *store, struct store_claim *request)
{
    fx.claim_calls++;
    fx.real->claim(store, request);
}

struct told_due {
    struct letter letter;
    int64_t at;
    char lane[LANE_MAX];
};

static void told_due_open(struct letter *letter)
{
    struct told_due *told = container_of(letter, struct told_due, letter);

    if (fx.sched)
        sched_ready(fx.sched, told->lane, told->at, false);
    free(told);
}

static void on_ready(void *arg, const char *lane, int64_t at, struct mailbox *near)
{
    struct told_due *told = mem_alloc(sizeof(*told));

    (void)arg, (void)near;
    snprintf(told->lane, sizeof(told->lane), "%s", lane);
    told->at = at;
    told->letter.open = told_due_open;
    mailbox_post(&virtual_loop.mailbox, &told->letter);
}

/* ---- hops ---- */

static void on_hop(void *arg, const struct hop *hop, struct str encoded)
{
    (void)arg;
    (void)encoded;
    fx.hop_count[hop->stage][hop->result]++;
    if (hop->stage == STAGE_SETTLE) {
        struct buf line;
        buf_init(&line, sizeof(fx.last_settle) - 1);
        hop_line(hop, &line);
        str_copy(fx.last_settle, sizeof(fx.last_settle), buf_view(&line));
        if (hop->result != RESULT_DELIVERED)
            str_copy(fx.last_trouble, sizeof(fx.last_trouble), buf_view(&line));
        buf_clear(&line);
    }
}

/* ---- mail ---- */

static struct envelope *message_begin(struct message *message, const char *sender)
{
    struct envelope *envelope = &message->envelope;

    envelope->id = loop_msgid(&virtual_loop);
    envelope->arrived_us = virtual_wall_us();
    envelope->sender = arena_str(&envelope->arena, str_of(sender));
    message->head = str_dup(STR("Subject: hello\r\n\r\n"));
    message->head_len = strlen(message->head);
    message->body = body_of_bytes(STR("body\r\n"));
    return envelope;
}

static void accepted(struct store_request *request)
{
    struct store_accept *accept = container_of(request, struct store_accept, request);

    assert_int_equal(request->err, ERR_OK);
    message_unref(&accept->message);
    free(accept);
}

static void post(struct message *message)
{
    struct store_accept *accept = mem_alloc(sizeof(*accept));

    accept->message = message;
    accept->request.reply_to = &virtual_loop.mailbox;
    accept->request.done = accepted;
    store_accept(fx.store, accept);
}

static struct recipient *add_to(struct envelope *envelope, const char *lane, const char *to)
{
    struct recipient *recipient = envelope_add(envelope, str_of(to));

    recipient->lane = arena_str(&envelope->arena, str_of(lane));
    recipient->due_at = envelope->arrived_us / 1000000;
    return recipient;
}

/* `lane` as text: "direct/there.test", "ses/" and a star. */
static void submit(const char *lane, const char *sender, uint8_t notify)
{
    struct message *message = message_new();
    struct envelope *envelope = message_begin(message, sender);

    add_to(envelope, lane, "b@there.test")->notify = notify;
    post(message);
}

static void submit_many(const char *lane, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        submit(lane, "a@here.test", 0);
        if (i % 1000 == 999)
            virtual_turn(); /* let the answers go */
    }
}

/* ---- life ---- */

static void went_idle(void *arg)
{
    (void)arg;
    fx.is_idle = true;
}

static void on_pass(void *arg, const char *lane, int64_t at)
{
    (void)arg;
    assert_true(lane_is_smarthost(str_of(lane)));
    assert_true(at > 0);
    fx.passed++;
}

static void on_lost(void *arg)
{
    (void)arg;
    fx.lost++;
}

static void sched_begin(void)
{
    struct sched_options options = {
        .loop = &virtual_loop,
        .store = fx.store,
        .intake = fx.intake,
        .pass = on_pass,
        .lost = on_lost,
    };

    fx.sched = sched_new(&options, &fx.settings);
}

static void default_settings(void)
{
    fx.routes[0] = (struct route_settings){ .name = STR("ses") };
    static const struct str relay[] = { { "smtp.ses.test", 13 } };
    fx.routes[0].relay = relay;
    fx.routes[0].relay_count = 1;
    fx.routes[1] = (struct route_settings){ .name = STR("direct") };
    fx.settings = (struct sched_settings){
        .hostname = STR("relay.here.test"),
        .routes = fx.routes,
        .route_count = 2,
        .destinations = fx.destinations,
        .default_limits = { .max_connections = 20, .backoff = { .first_s = 60, .max_s = 1800 } },
        .connections_max = 100,
        .backoff = { .first_s = 60, .max_s = 4 * 3600 },
        .lifetime_s = 5 * 86400,
        .warn_after_s = 4 * 3600,
    };
}

static int setup(void **state)
{
    struct store_options store = { .wall_us = virtual_wall_us };
    struct loop_options options = { .count = 1 };
    struct intake_options intake = { .hostname = STR("relay.here.test"),
                                     .header_max = 1 << 20,
                                     .hops_max = 50 };

    (void)state;
    fx = (struct fixture){ 0 };
    fx.pool = pool_new(1, true);
    fx.hops = hops_new(1 << 22);
    hops_tap(fx.hops, on_hop, NULL, NULL);
    options.pool = fx.pool;
    options.ring = hops_ring(fx.hops);
    virtual_begin(&options);
    store.pool = fx.pool;
    assert_int_equal(store_open_mem(&store, &fx.store, NULL), ERR_OK);
    fx.real = fx.store->backend;
    fx.backend = *fx.real;
    fx.backend.settle = play_settle;
    fx.backend.claim = play_claim;
    fx.store->backend = &fx.backend;
    store_watch(fx.store, on_ready, NULL);
    intake.store = fx.store;
    fx.intake = intake_new(&virtual_loop, &intake);
    default_settings();
    sched_begin();
    return 0;
}

static void sched_end(void)
{
    sched_drain(fx.sched, went_idle, NULL);
    virtual_run(MINUTE);
    assert_true(fx.is_idle);
    sched_free(&fx.sched);
    virtual_turn();
}

static int teardown(void **state)
{
    (void)state;
    if (fx.sched)
        sched_end();
    assert_int_equal(fx.open, 0);
    intake_free(&fx.intake);
    store_watch(fx.store, NULL, NULL);
    store_close(&fx.store);
    virtual_turn();
    hops_free(&fx.hops);
    pool_free(&fx.pool);
    virtual_end();
    return 0;
}

/* ---- looking ---- */

static struct store_health health(void)
{
    struct store_health health;

    store_health(fx.store, &health);
    return health;
}

static unsigned hops_of(enum stage stage, enum result result)
{
    hops_drain(fx.hops);
    return fx.hop_count[stage][result];
}

struct found {
    struct store_list list;
    bool is_done;
};

static void listed(struct store_request *request)
{
    struct store_list *list = container_of(request, struct store_list, request);

    container_of(list, struct found, list)->is_done = true;
}

/* Everything in the queue; free with store_list_clear. */
static void list_all(struct found *found)
{
    *found = (struct found){ 0 };
    found->list.filter.any_state = true;
    found->list.max = 1000;
    found->list.request.reply_to = &virtual_loop.mailbox;
    found->list.request.done = listed;
    store_list(fx.store, &found->list);
    virtual_turn();
    assert_true(found->is_done);
}

#endif
