/*
 * deliver.c - the life of a delivery: addresses in order, one claim after the
 * other, and the one place where it ends.
 */
#include "relay/egress/deliver_impl.h"

const struct route_host *delivery_route_host(const struct delivery *delivery)
{
    return &delivery->plan->hosts[delivery->plan->steps[delivery->step].host];
}

bool delivery_is_last_step(const struct delivery *delivery)
{
    return delivery->step + 1 >= delivery->plan->step_count;
}

static const struct endpoint *step_address(const struct delivery *delivery)
{
    return &delivery_route_host(delivery)->addresses[delivery->plan->steps[delivery->step].address];
}

unsigned delivery_sent(const struct delivery *delivery) { return delivery->sent; }

const char *delivery_host(const struct delivery *delivery)
{
    return delivery->step < delivery->plan->step_count ? delivery_route_host(delivery)->name : "";
}

/* ---- ending ---- */

void delivery_drop_stream(struct delivery *delivery)
{
    delivery_follow_undo(delivery);
    /* A final dot that counts as not sent must not leave behind our back. */
    if (delivery->stream && delivery->client && smtp_client_content_sent(delivery->client) &&
        !delivery_content_sent(delivery))
        stream_abort(&delivery->stream);
    else if (delivery->stream)
        stream_close(&delivery->stream);
    smtp_client_free(&delivery->client);
    sasl_client_free(&delivery->sasl);
    delivery->tls_active = delivery->tls_begun = false;
    delivery->needs_rset = delivery->send_waits = delivery->mail_refused = false;
    delivery->era++;
    delivery->tls_words[0] = '\0';
    delivery->refused_mechanisms = 0;
}

void delivery_maybe_free(struct delivery *delivery)
{
    if (delivery->state != DELIVERY_GONE || delivery->jobs > 0 || delivery->is_pumping)
        return;
    loop_undefer(delivery->options.loop, &delivery->deferred);
    delivery_send_clear(delivery);
    arena_clear(&delivery->arena);
    route_plan_unref(&delivery->plan);
    if (delivery->options.keyring)
        keyring_unref(&delivery->options.keyring);
    arena_clear(&delivery->senders_arena);
    tlspolicy_clear(&delivery->policy);
    free(delivery->lane);
    free(delivery->hostname);
    free(delivery);
}

void delivery_end(struct delivery *delivery, const struct outcome *trouble)
{
    struct outcome copy;

    if (delivery->state == DELIVERY_GONE)
        return;
    if (trouble)
        copy = *trouble;
    if (delivery->policy_lookup)
        tlspolicy_cancel(&delivery->policy_lookup);
    loop_undefer(delivery->options.loop, &delivery->step_deferred);
    loop_timer_stop(delivery->options.loop, &delivery->total_timer);
    delivery_drop_stream(delivery);
    delivery->state = DELIVERY_GONE;
    delivery->options.ended(delivery->options.arg, delivery, trouble ? &copy : NULL);
    delivery_maybe_free(delivery);
}

/* ---- claims ---- */

static void start_total(struct delivery *delivery)
{
    loop_timer_start(delivery->options.loop, &delivery->total_timer,
                     delivery->options.total_ms ? delivery->options.total_ms : DELIVERY_TOTAL_MS,
                     delivery->total_timer.fn, delivery);
}

void delivery_take_claim(struct delivery *delivery, struct claim *claim)
{
    const struct recipient *first = &claim->message->envelope.recipients[claim->indexes[0]];

    delivery->claim = claim;
    delivery->attempt = first->attempts + 1;
    delivery->slots = mem_alloc(claim->count * sizeof(*delivery->slots));
    delivery->has_last = delivery->mail_refused = false;
    start_total(delivery);
}

void delivery_claim_done(struct delivery *delivery)
{
    struct claim *claim = delivery->claim;
    struct delivery_slot *slots = delivery->slots;
    struct delivery_result *results;

    if (!claim)
        return;
    results = mem_alloc(claim->count * sizeof(*results));
    for (size_t i = 0; i < claim->count; i++)
        results[i] = slots[i].result;
    delivery->claim = NULL;
    delivery->slots = NULL;
    delivery->has_last = false;
    delivery->last_result = (struct delivery_result){ 0 };
    loop_timer_stop(delivery->options.loop, &delivery->total_timer);
    delivery_send_clear(delivery);
    delivery->options.done(delivery->options.arg, delivery, claim, results);
    free(results);
    free(slots);
    arena_clear(&delivery->arena);
}

/* ---- addresses ---- */

void delivery_host_failed(struct delivery *delivery, const struct outcome_facts *facts)
{
    struct outcome_facts judged = *facts;
    struct delivery_result result;

    judged.is_smarthost = delivery->options.route->relay_count > 0;
    judged.is_last_host = delivery_is_last_step(delivery);
    result = delivery_judge(delivery, &judged);
    delivery_tell(delivery, facts->stage, facts->reply, &result.outcome, facts->fault);
    delivery_drop_stream(delivery);
    delivery->last = result.outcome;
    delivery->last_result = result;
    delivery->has_last = true;
    /* What a host says about itself is its own affair: the next one is asked,
     * whatever the verdict, as long as there is one (RFC 5321 5.1). */
    if ((delivery->claim || delivery->is_visit) && !judged.is_last_host &&
        result.outcome.scope != SCOPE_MESSAGE && result.outcome.scope != SCOPE_RECIPIENT) {
        delivery->step++;
        delivery->clear_only = false;
        delivery_next_address(delivery);
        return;
    }
    for (size_t i = 0; delivery->claim && i < delivery->claim->count; i++)
        if (!delivery->slots[i].is_settled) {
            delivery->slots[i].is_settled = true;
            delivery->slots[i].result = result;
        }
    result.host = result.said = result.remote_id = STR_EMPTY; /* their arena goes with the claim */
    delivery_claim_done(delivery);
    delivery_end(delivery, &result.outcome);
}

static const struct endpoint *source_for(const struct delivery *delivery, const struct endpoint *to)
{
    const struct route_settings *route = delivery->options.route;
    size_t count = 0, pick;

    for (size_t i = 0; i < route->source_count; i++)
        count += route->source[i].family == to->family;
    if (count == 0)
        return NULL;
    /* The numbers of one loop have a common divisor: mixed, they have none. */
    pick = (size_t)((delivery->number * 0x9E3779B97F4A7C15U >> 32) % count);
    for (size_t i = 0; i < route->source_count; i++)
        if (route->source[i].family == to->family && pick-- == 0)
            return &route->source[i];
    return NULL;
}

static void connect_now(struct delivery *delivery)
{
    const struct endpoint *to = step_address(delivery);
    struct loop *loop = delivery->options.loop;
    struct outcome_facts facts = { .stage = STAGE_CONNECT };
    struct fault fault;

    endpoint_print(to, delivery->peer, sizeof(delivery->peer));
    (void)snprintf(delivery->host_words, sizeof(delivery->host_words), "%s [%s]",
                   delivery_route_host(delivery)->name, delivery->peer);
    delivery->state = DELIVERY_CONNECTING;
    delivery->stage_began_us = loop_wall_us(loop);
    if (source_for(delivery, to) == NULL && delivery->options.route->source_count > 0) {
        facts.err = ERR_UNREACHABLE;
        facts.fault = STR("no source address of this family is configured for the route");
        delivery_host_failed(delivery, &facts);
        return;
    }
    facts.err = stream_connect(loop, to, source_for(delivery, to),
                               loop_now_ms(loop) + delivery->options.connect_ms,
                               delivery_stream_event, delivery, &delivery->stream, &fault);
    if (facts.err) {
        facts.fault = str_of(fault.text);
        delivery_host_failed(delivery, &facts);
    }
}

/* No address of a host whose TLSA records are kept from us is used, not only the first. */
static void policy_known(struct delivery *delivery)
{
    struct outcome_facts facts = { .stage = STAGE_POLICY, .err = ERR_DNS };

    if (!delivery->policy.deferred) {
        connect_now(delivery);
        return;
    }
    delivery->peer[0] = '\0'; /* of the host before this one */
    (void)snprintf(delivery->host_words, sizeof(delivery->host_words), "%s",
                   delivery_route_host(delivery)->name);
    facts.fault = str_of(delivery->policy.evidence);
    delivery_host_failed(delivery, &facts);
}

static void policy_found(void *arg, const struct tlspolicy *policy)
{
    struct delivery *delivery = arg;

    delivery->policy_lookup = NULL;
    tlspolicy_clear(&delivery->policy);
    tlspolicy_copy(policy, &delivery->policy);
    delivery->policy_host = delivery->plan->steps[delivery->step].host;
    policy_known(delivery);
}

static void next_now(void *arg)
{
    struct delivery *delivery = arg;

    if (delivery->policy_host == delivery->plan->steps[delivery->step].host) {
        policy_known(delivery);
        return;
    }
    tlspolicy_find(delivery->options.loop, delivery->options.resolver, delivery->options.route,
                   delivery_route_host(delivery), policy_found, delivery, &delivery->policy_lookup);
}

void delivery_next_address(struct delivery *delivery)
{
    delivery->state = DELIVERY_LOOKING;
    loop_defer(delivery->options.loop, &delivery->step_deferred, next_now, delivery);
}

void delivery_reconnect(struct delivery *delivery)
{
    delivery_drop_stream(delivery);
    delivery->is_reused = false;
    delivery->sent = 0;
    delivery_next_address(delivery);
}

/* ---- beginning ---- */

static void begin(void *arg)
{
    struct delivery *delivery = arg;
    struct outcome_facts facts = { .stage = STAGE_ROUTE, .err = ERR_DNS };

    if (delivery->plan->step_count > 0) {
        delivery_next_address(delivery);
        return;
    }
    /* Nothing to connect to: the look-up itself is the outcome. */
    facts.dns = delivery->plan->dns;
    facts.fault = str_of(delivery->plan->fault);
    facts.is_smarthost = delivery->options.route->relay_count > 0;
    facts.is_last_host = true;
    delivery_settle_open(delivery, &facts);
    struct outcome outcome = delivery->slots[0].result.outcome;
    delivery_claim_done(delivery);
    delivery_end(delivery, outcome.scope == SCOPE_RECIPIENT ? NULL : &outcome);
}

/* One attempt may not last for ever, however politely the peer drips. */
static void took_too_long(void *arg)
{
    struct delivery *delivery = arg;
    struct outcome_facts facts = {
        .stage = delivery->client ? smtp_client_stage(delivery->client) : STAGE_CONNECT,
        .err = ERR_TIMEOUT,
        .fault = STR("the attempt as a whole took too long"),
        .content_sent = delivery_content_sent(delivery),
    };

    if (delivery->state == DELIVERY_SENDING) {
        delivery->step = delivery->plan->step_count - 1; /* enough for one attempt */
        delivery_host_failed(delivery, &facts);
        return;
    }
    delivery->step = delivery->plan->step_count ? delivery->plan->step_count - 1 : 0;
    loop_undefer(delivery->options.loop, &delivery->step_deferred);
    if (delivery->policy_lookup)
        tlspolicy_cancel(&delivery->policy_lookup);
    delivery_host_failed(delivery, &facts);
}

struct delivery *delivery_start(const struct delivery_options *options, struct claim *first)
{
    struct delivery *delivery = mem_alloc(sizeof(*delivery));

    delivery->options = *options;
    delivery->plan = route_plan_ref(options->plan);
    delivery->options.plan = delivery->plan;
    if (options->keyring) /* a job may outlive the settings it came with */
        keyring_ref(options->keyring);
    sender_rules_copy(&options->route->senders, &delivery->senders_arena, &delivery->senders);
    delivery->lane = str_dup(options->lane);
    delivery->hostname = str_dup(options->hostname);
    delivery->options.lane = str_of(delivery->lane);
    delivery->options.hostname = str_of(delivery->hostname);
    delivery->number = loop_number(options->loop);
    delivery->policy_host = SIZE_MAX;
    delivery->total_timer.fn = took_too_long;
    arena_init(&delivery->arena);
    if (first)
        delivery_take_claim(delivery, first);
    else
        start_total(delivery);
    delivery->is_visit = !first;
    loop_defer(options->loop, &delivery->deferred, begin, delivery);
    return delivery;
}

static void send_deferred(void *arg)
{
    struct delivery *delivery = arg;

    if (delivery->state != DELIVERY_SENDING || !delivery->client)
        return; /* it fell meanwhile, and the claim goes with the next connection */
    if (!smtp_client_is_usable(delivery->client)) {
        delivery_reconnect(delivery);
        return;
    }
    delivery_send(delivery);
    delivery_pump(delivery);
}

void delivery_give(struct delivery *delivery, struct claim *claim)
{
    delivery_take_claim(delivery, claim);
    delivery->is_reused = true;
    delivery->state = DELIVERY_SENDING;
    loop_defer(delivery->options.loop, &delivery->deferred, send_deferred, delivery);
}

void delivery_quit(struct delivery *delivery)
{
    delivery->state = DELIVERY_QUITTING;
    smtp_client_quit(delivery->client);
    delivery_pump(delivery);
}

void delivery_abort(struct delivery *delivery)
{
    for (size_t i = 0; delivery->claim && i < delivery->claim->count; i++) {
        struct delivery_slot *slot = &delivery->slots[i];
        bool sent = slot->is_accepted && delivery_content_sent(delivery);
        if (slot->is_settled)
            continue;
        slot->result = (struct delivery_result){
            .outcome = { .result = RESULT_LATER,
                         .scope = SCOPE_US,
                         .kind = CLASS_NONE,
                         .status = STATUS(4, 3, 2),
                         .unknown_delivery = sent,
                         .row = "stopped",
                         .cause = "the relay was stopped during the attempt",
                         .fix = "none needed: it is tried again after the start" },
            .stage = delivery->client ? smtp_client_stage(delivery->client) : STAGE_CONNECT,
            .attempted = sent,
        };
        slot->is_settled = true;
    }
    delivery_claim_done(delivery);
    delivery_end(delivery, NULL);
}
