/*
 * visit.c - the delivery that carries nothing, and its steps in words.
 */
#include "relay/cli/visit.h"

#include "relay/cli/cmd.h"
#include "relay/cli/show.h"
#include "relay/egress/deliver.h"

#include <inttypes.h>
#include <stdlib.h>

/* A person waits: a step that takes longer has failed. */
#define STEP_MS 20000
#define CONNECT_MS 10000
#define TOTAL_MS 90000

struct visit {
    const struct setup *setup;
    const struct route_settings *route;
    FILE *out;
    struct loop *loop;
    struct hops *hops;
    struct resolver *resolver;
    struct route_plan *plan;
    bool came_up;
    enum stage failed_at;
    int code;
};

/* ---- printing ---- */

static void print_step(struct visit *visit, const char *step, bool ok, struct str what)
{
    struct buf text;

    buf_init(&text, 4096);
    buf_printf(&text, "  %-9s %s%-7s%s ", step,
               cmd_colour(visit->out, ok ? COLOUR_GREEN : COLOUR_RED), ok ? "ok" : "failed",
               cmd_colour(visit->out, COLOUR_NONE));
    show_text(&text, what, 600);
    buf_char(&text, '\n');
    (void)cmd_put(visit->out, &text);
    buf_clear(&text);
}

static void print_more(FILE *out, const char *label, struct str what)
{
    if (what.len > 0)
        (void)fprintf(out, "            %-7s " STR_FMT "\n", label, STR_ARG(what));
}

static void on_hop(void *arg, const struct hop *hop, struct str encoded)
{
    struct visit *visit = arg;
    bool ok = hop->fault.len == 0 && hop->cause.len == 0;
    struct buf what;

    (void)encoded;
    if (hop->side != HOP_OUT)
        return;
    buf_init(&what, 4096);
    buf_printf(&what, STR_FMT "%s" STR_FMT, STR_ARG(hop->host), hop->peer.len ? " " : "",
               STR_ARG(hop->peer));
    buf_printf(&what, " %" PRId64 " ms", (hop->ended_us - hop->began_us) / 1000);
    for (int i = 0; i < 4; i++) {
        struct str one = (struct str[]){ hop->tls, hop->policy, hop->said, hop->fault }[i];
        if (one.len > 0)
            buf_printf(&what, "; " STR_FMT, STR_ARG(one));
    }
    print_step(visit, stage_word(hop->stage), ok, buf_view(&what));
    print_more(visit->out, "cause:", hop->cause);
    print_more(visit->out, "fix:", hop->fix);
    if (!ok)
        visit->failed_at = hop->stage;
    buf_clear(&what);
}

/* ---- the session ---- */

static void is_up(void *arg, struct delivery *delivery)
{
    struct visit *visit = arg;

    visit->came_up = true;
    delivery_quit(delivery);
}

static void has_ended(void *arg, struct delivery *delivery, const struct outcome *trouble)
{
    struct visit *visit = arg;

    (void)delivery, (void)trouble;
    loop_stop(visit->loop);
}

static void no_claim(void *arg, struct delivery *delivery, struct claim *claim,
                     const struct delivery_result *results)
{
    (void)arg, (void)delivery, (void)claim, (void)results; /* none is ever given */
}

static void has_plan(void *arg, struct route_plan *plan)
{
    struct visit *visit = arg;
    struct delivery_options options = {
        .loop = visit->loop,
        .resolver = visit->resolver,
        .route = visit->route,
        .plan = plan,
        .lane = STR("visit"),
        .hostname = visit->setup->conf->hostname,
        .timeouts = { STEP_MS, STEP_MS, STEP_MS, STEP_MS },
        .connect_ms = CONNECT_MS,
        .total_ms = TOTAL_MS,
        .done = no_claim,
        .free_now = is_up,
        .ended = has_ended,
        .arg = visit,
    };

    visit->plan = plan;
    if (plan->step_count == 0) {
        print_step(visit, "resolve", false, str_of(plan->fault));
        print_more(visit->out, "fix:", STR("check the name, and the servers in /etc/resolv.conf"));
        visit->failed_at = STAGE_ROUTE;
        loop_stop(visit->loop);
        return;
    }
    print_step(visit, "resolve", true, str_of(plan->evidence));
    delivery_start(&options, NULL);
}

static int code_of(const struct visit *visit)
{
    if (visit->came_up)
        return EX_OK;
    if (visit->failed_at == STAGE_ROUTE)
        return EX_NOHOST;
    if (visit->failed_at == STAGE_AUTH)
        return EX_NOPERM;
    return visit->failed_at == STAGE_CONNECT ? EX_TEMPFAIL : EX_UNAVAILABLE;
}

static enum err run(struct visit *visit, struct str place, struct fault *fault)
{
    struct loop_options loop_options = { .ring = hops_ring(visit->hops), .count = 1 };
    struct route_options options = { .hostname = "" };
    struct route_lookup *lookup = NULL;
    enum err rc = loop_new(&loop_options, &visit->loop, fault);

    if (!rc)
        rc = resolver_new(visit->loop, &visit->setup->dns, &visit->resolver, fault);
    if (rc)
        return rc;
    options.resolver = visit->resolver;
    route_find(visit->loop, &options, visit->route, place, has_plan, visit, &lookup);
    loop_run(visit->loop);
    return ERR_OK;
}

int visit_next_hop(const struct setup *setup, const struct route_settings *route, struct str place,
                   FILE *out)
{
    struct visit visit = { .setup = setup, .route = route, .out = out, .hops = hops_new(1 << 18) };
    struct fault fault;
    int code;
    enum err rc;

    hops_tap(visit.hops, on_hop, NULL, &visit);
    rc = run(&visit, place, &fault);
    (void)hops_drain(visit.hops);
    code = rc ? cmd_fail(cmd_code(rc), "%s", fault.text) : code_of(&visit);
    if (visit.plan)
        route_plan_unref(&visit.plan);
    if (visit.resolver)
        resolver_free(&visit.resolver);
    if (visit.loop)
        loop_free(&visit.loop);
    hops_free(&visit.hops);
    return code;
}
