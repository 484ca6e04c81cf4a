/*
 * api_status.c - is the relay well, what has it done, what is it.
 */
#include "relay/api/api_impl.h"

#include "relay/api/metrics.h"
#include "relay/base/clock.h"

#include <jansson.h>
#include <unistd.h>

/* ---- /healthz ---- */

static const char *trouble_of(enum store_state state)
{
    switch (state) {
    case STORE_FINE:
        return NULL;
    case STORE_FULL_QUOTA:
        return "the queue is full (its quota is used up): new mail gets 452";
    case STORE_FULL_DISK:
        return "the queue's disk is full: new mail gets 452";
    case STORE_BROKEN:
        return "the queue cannot be written: new mail gets 452";
    }
    return NULL;
}

void api_healthz(struct call *call)
{
    struct store_health health;
    const char *trouble;

    if (!call_no_more_params(call))
        return;
    store_health(call->api->options.store, &health);
    trouble = trouble_of(health.state);
    if (trouble) {
        call_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "%s", trouble);
        return;
    }
    buf_cstr(&call->body, "ok\n");
    call_answer(call, MHD_HTTP_OK, API_TYPE_TEXT);
}

/* ---- /metrics ---- */

static void gather(struct call *call, bool with_lanes, api_state_fn *fn)
{
    const struct api_control *control = &call->api->options.control;

    call_out_engine(call);
    control->gather(control->arg, with_lanes, fn, call);
}

static void render(struct call *call, const struct api_state *state)
{
    struct hop_counts hops;
    struct store_health health;

    hops_counts(call->api->options.hops, &hops);
    store_health(call->api->options.store, &health);
    metrics_render(&(struct metrics){ .hops = &hops, .store = &health, .state = state },
                   &call->body);
    call_answer(call, MHD_HTTP_OK, API_TYPE_METRICS);
}

static void metrics_with_lanes(void *arg, const struct api_state *state)
{
    struct call *call = arg;
    struct api_state joined = *state;

    if (!call_back_engine(call))
        return;
    joined.lane_count = api_lanes_join(state->lanes, state->lane_count);
    render(call, &joined);
}

/* Lanes are many and copied for us; mostly none of them sleeps. */
static void metrics_gathered(void *arg, const struct api_state *state)
{
    struct call *call = arg;

    if (!call_back_engine(call))
        return;
    if (state->lanes_sleeping && !call->api->is_closing)
        gather(call, true, metrics_with_lanes);
    else
        render(call, state);
}

void api_metrics(struct call *call)
{
    if (call_no_more_params(call))
        gather(call, false, metrics_gathered);
}

/* ---- /v1/info ---- */

static void put(json_t *json, const char *key, uint64_t number)
{
    json_object_set_new(json, key, json_integer((json_int_t)number));
}

static void put_wall(json_t *json, const char *key, int64_t wall_us)
{
    char text[32];

    if (wall_us == 0)
        return;
    clock_iso(wall_us, text, sizeof(text));
    json_object_set_new(json, key, json_string(text));
}

static void info_gathered(void *arg, const struct api_state *state)
{
    struct call *call = arg;
    struct store_health health;
    json_t *json;

    if (!call_back_engine(call))
        return;
    store_health(call->api->options.store, &health);
    json = json_object();
    json_object_set_new(json, "version", json_string(WAYPOST_VERSION));
    put(json, "pid", (uint64_t)getpid());
    put_wall(json, "started", state->started_us);
    put_wall(json, "certificate-expires", state->certificate_expires_at * 1000000);
    if (state->certificate_is_stale)
        json_object_set_new(json, "certificate-renewed-on-disk", json_true());
    put(json, "sessions", state->sessions);
    put(json, "connections-out", state->connections_out);
    put(json, "lanes", state->lanes_known);
    put(json, "lanes-sleeping", state->lanes_sleeping);
    put(json, "messages", health.messages);
    put(json, "queued", health.recipients_queued);
    put(json, "held", health.recipients_held);
    put(json, "reloads", state->reloads);
    put(json, "reloads-failed", state->reloads_failed);
    if (state->stuck_s)
        json_object_set_new(json, "hangs", json_stringn(state->stuck.at, state->stuck.len));
    if (trouble_of(health.state))
        json_object_set_new(json, "trouble", json_string(trouble_of(health.state)));
    call_json(call, MHD_HTTP_OK, json);
}

void api_info(struct call *call)
{
    if (call_no_more_params(call))
        gather(call, false, info_gathered);
}

/* ---- /v1/reload ---- */

void api_reload(struct call *call)
{
    const struct api_control *control = &call->api->options.control;

    if (!call_no_more_params(call))
        return;
    control->reload(control->arg);
    buf_cstr(&call->body, "{\"reload\": \"started, the log says how it went\"}\n");
    call_answer(call, MHD_HTTP_ACCEPTED, API_TYPE_JSON);
}
