/*
 * api_lanes.c - places with mail: what waits there, and how it goes.
 *
 * What waits is the store's knowledge, how it goes the schedulers'. A lane of a
 * smarthost runs on every loop; here it is one.
 */
#include "relay/api/queue_json.h"

#include "relay/api/api_impl.h"

#define PAGE 200
#define PAGE_MAX 1000

struct laning {
    struct call *call;
    struct store_lanes lanes;
};

static void laning_free(void *work)
{
    struct laning *laning = work;

    store_lanes_clear(&laning->lanes);
    free(laning);
}

/* ---- lanes as loops see them ---- */

static int by_name(const void *a, const void *b)
{
    const struct api_lane *left = a, *right = b;

    return str_cmp(left->lane, right->lane);
}

static struct str worse(struct str a, struct str b)
{
    return str_eq(b, STR("sleeping")) || a.len == 0 ? b : a;
}

/* Sorted by name and joined over loops; returns how many are left. */
size_t api_lanes_join(struct api_lane *lanes, size_t count)
{
    size_t kept = 0;

    if (count)
        qsort(lanes, count, sizeof(*lanes), by_name);
    for (size_t i = 0; i < count; i++) {
        struct api_lane *one = &lanes[i], *into = kept ? &lanes[kept - 1] : NULL;
        if (!into || !str_eq(into->lane, one->lane)) {
            lanes[kept++] = *one;
            continue;
        }
        into->connections += one->connections;
        into->window += one->window;
        into->delivered += one->delivered;
        into->later += one->later;
        into->failed += one->failed;
        into->state = worse(into->state, one->state);
        if (into->trouble.len == 0)
            into->trouble = one->trouble;
        if (into->host.len == 0)
            into->host = one->host;
        if (into->wake_at < one->wake_at)
            into->wake_at = one->wake_at;
        if (one->next_due && (!into->next_due || one->next_due < into->next_due))
            into->next_due = one->next_due;
    }
    return kept;
}

/* ---- as JSON ---- */

static void put(json_t *json, const char *key, struct str text)
{
    if (text.len)
        json_object_set_new(json, key, json_text(text));
}

static void put_number(json_t *json, const char *key, uint64_t number)
{
    json_object_set_new(json, key, json_integer((json_int_t)number));
}

static void put_wall(json_t *json, const char *key, int64_t wall_s)
{
    if (wall_s)
        json_object_set_new(json, key, json_wall(wall_s));
}

static void put_run(json_t *json, const struct api_lane *lane)
{
    put(json, "state", lane->state);
    put(json, "dest", lane->dest);
    put(json, "host", lane->host);
    put(json, "trouble", lane->trouble);
    put_number(json, "connections", lane->connections);
    put_number(json, "window", lane->window);
    put_wall(json, "wakes", lane->wake_at);
    put_number(json, "delivered", lane->delivered);
    put_number(json, "later", lane->later);
    put_number(json, "failed", lane->failed);
}

static json_t *lane_json(const struct lane_info *info, const struct api_state *state)
{
    struct api_lane key = { .lane = str_of(info->lane) };
    const struct api_lane *run = NULL;
    json_t *json = json_object();

    if (state->lane_count)
        run = bsearch(&key, state->lanes, state->lane_count, sizeof(key), by_name);
    put(json, "lane", key.lane);
    put_number(json, "queued", info->queued);
    put_number(json, "held", info->held);
    put_wall(json, "oldest", info->oldest);
    put_wall(json, "due", info->next_due);
    if (run)
        put_run(json, run);
    else
        put(json, "state", STR("idle"));
    return json;
}

static void gathered(void *arg, const struct api_state *state)
{
    struct laning *laning = arg;
    struct call *call = laning->call;
    const struct store_lanes *lanes = &laning->lanes;
    struct api_state joined = *state;
    json_t *page, *list;

    if (!call_back_engine(call))
        return;
    joined.lane_count = api_lanes_join(state->lanes, state->lane_count);
    page = json_object();
    list = json_array();
    for (size_t i = 0; i < lanes->count; i++)
        json_array_append_new(list, lane_json(&lanes->lanes[i], &joined));
    json_object_set_new(page, "lanes", list);
    json_object_set_new(page, "more", json_boolean(lanes->more));
    if (lanes->count)
        put(page, "after", str_of(lanes->lanes[lanes->count - 1].lane));
    call_json(call, MHD_HTTP_OK, page);
}

static void lanes_listed(struct store_request *request)
{
    struct store_lanes *lanes = container_of(request, struct store_lanes, request);
    struct laning *laning = container_of(lanes, struct laning, lanes);
    struct call *call = laning->call;

    if (!call_back(call))
        return;
    if (request->err) {
        call_fault(call, request->err, &request->fault);
        return;
    }
    if (call->api->is_closing) {
        call_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "the relay is stopping");
        return;
    }
    call_out_engine(call);
    call->api->options.control.gather(call->api->options.control.arg, true, gathered, laning);
}

void api_lanes(struct call *call)
{
    struct laning *laning = mem_alloc(sizeof(*laning));
    struct str after = STR_EMPTY;
    uint64_t max;

    call->work = laning;
    call->free_work = laning_free;
    laning->call = call;
    call_param(call, "after", &after);
    if (!call_number(call, "max", PAGE, PAGE_MAX, &max) || !call_no_more_params(call))
        return;
    laning->lanes.after = after.len ? after.at : NULL;
    laning->lanes.max = (size_t)max;
    laning->lanes.request.reply_to = &call->api->post->box;
    laning->lanes.request.done = lanes_listed;
    call_out(call);
    store_lanes(call->api->options.store, &laning->lanes);
}
