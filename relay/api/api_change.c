/*
 * api_change.c - mail held, released, retried, dropped, moved; places woken.
 *
 * A retry means "now": when a place sleeps because its hosts are down, its mail
 * would be due and still wait. So retrying wakes the places too - of one
 * message those it is bound for, else those that the lane filter names.
 */
#include "relay/api/api_impl.h"

#include "relay/api/filter.h"

#include <jansson.h>

#define TOLD_MAX 1000 /* messages whose trace says that they were changed by a filter */

struct changing {
    struct call *call;
    struct store_change change;
    struct msgid ids[TOLD_MAX];
    struct store_get get; /* RETRY of one message: which lanes to wake */
    bool is_flush;
};

static void changing_free(void *work)
{
    struct changing *changing = work;

    if (changing->get.message)
        message_unref(&changing->get.message);
    free(changing);
}

static void tell_counts(struct changing *changing)
{
    json_t *json = json_object();

    json_object_set_new(json, "messages", json_integer((json_int_t)changing->change.messages));
    json_object_set_new(json, "recipients", json_integer((json_int_t)changing->change.recipients));
    json_object_set_new(json, "under_way", json_integer((json_int_t)changing->change.leased));
    call_json(changing->call, MHD_HTTP_OK, json);
}

/* The line is for the log; each message's own trace has it too. */
static void tell_each(const struct changing *changing, const struct hop *line)
{
    const struct store_change *change = &changing->change;
    struct hop hop = *line;

    hop.weight = HOP_DETAIL;
    hop.count = 0;
    for (size_t i = 0; i < change->ids_max && i < change->messages; i++) {
        hop.id = change->ids[i];
        hop_emit(loop_ring(changing->call->api->options.loop), &hop);
    }
}

/* Who changes mail by hand leaves a line: what was asked, and how much it was. */
static void tell_operator(const struct changing *changing)
{
    static const char *const words[] = {
        [STORE_HOLD] = "hold", [STORE_RELEASE] = "release", [STORE_RETRY] = "retry",
        [STORE_DROP] = "drop", [STORE_REROUTE] = "reroute",
    };
    const struct call *call = changing->call;
    struct loop *loop = call->api->options.loop;
    int64_t now = loop_wall_us(loop);
    struct hop hop = { .id = changing->change.filter.id,
                       .began_us = now,
                       .ended_us = now,
                       .weight = HOP_EVENT,
                       .stage = STAGE_OPERATOR,
                       .count = (uint32_t)changing->change.recipients };
    struct buf text;

    if (changing->change.messages == 0)
        return;
    buf_init(&text, HOP_TEXT_LIMIT);
    buf_cstr(&text, changing->is_flush ? "flush" : words[changing->change.kind]);
    for (size_t i = 0; i < call->param_count; i++)
        buf_printf(&text, " " STR_FMT "=" STR_FMT, STR_ARG(call->params[i].key),
                   STR_ARG(call->params[i].value));
    hop.text = buf_view(&text);
    hop_emit(loop_ring(loop), &hop);
    if (msgid_is_nil(&hop.id))
        tell_each(changing, &hop);
    buf_clear(&text);
}

static void wake_lane(struct call *call, struct str lane)
{
    const struct api_control *control = &call->api->options.control;

    control->flush(control->arg, lane);
}

static void lanes_known(struct store_request *request)
{
    struct store_get *get = container_of(request, struct store_get, request);
    struct changing *changing = container_of(get, struct changing, get);
    struct call *call = changing->call;

    if (!call_back(call))
        return;
    if (!request->err) {
        const struct envelope *envelope = &get->message->envelope;
        struct str last = STR_EMPTY;
        for (size_t i = 0; i < envelope->recipient_count; i++) {
            const struct recipient *recipient = &envelope->recipients[i];
            if (recipient->state == RECIPIENT_QUEUED && !str_eq(recipient->lane, last))
                wake_lane(call, recipient->lane);
            last = recipient->lane;
        }
    }
    tell_counts(changing); /* it may have been delivered meanwhile: no error */
}

static void ask_for_lanes(struct changing *changing)
{
    struct call *call = changing->call;

    changing->get.id = changing->change.filter.id;
    changing->get.request.reply_to = &call->api->post->box;
    changing->get.request.done = lanes_known;
    call_out(call);
    store_get(call->api->options.store, &changing->get);
}

static void changed(struct store_request *request)
{
    struct store_change *change = container_of(request, struct store_change, request);
    struct changing *changing = container_of(change, struct changing, change);
    struct call *call = changing->call;

    tell_operator(changing); /* also when part of it failed, or nobody waits for the answer */
    if (!call_back(call))
        return;
    if (request->err) {
        call_fault(call, request->err, &request->fault);
    } else if (change->kind == STORE_RETRY && !msgid_is_nil(&change->filter.id)) {
        ask_for_lanes(changing);
    } else {
        if (change->kind == STORE_RETRY)
            wake_lane(call, change->filter.lane);
        tell_counts(changing);
    }
}

static struct changing *changing_new(struct call *call, enum store_change_kind kind)
{
    struct changing *changing = mem_alloc(sizeof(*changing));
    const struct api_control *control = &call->api->options.control;

    call->work = changing;
    call->free_work = changing_free;
    changing->call = call;
    changing->change.kind = kind;
    changing->change.ids = changing->ids;
    changing->change.ids_max = TOLD_MAX;
    changing->change.reroute = control->reroute;
    changing->change.arg = control->arg;
    changing->change.request.reply_to = &call->api->post->box;
    changing->change.request.done = changed;
    return changing;
}

static void change_start(struct changing *changing)
{
    call_out(changing->call);
    store_change(changing->call->api->options.store, &changing->change);
}

void api_queue_change(struct call *call)
{
    struct changing *changing = changing_new(call, (enum store_change_kind)call->route->arg);
    struct str all = STR_EMPTY;

    call_param(call, "all", &all);
    if (!call_filter(call, &changing->change.filter))
        return;
    if (changing->change.kind == STORE_DROP && filter_is_all(&changing->change.filter) &&
        !str_eq(all, STR("1"))) {
        call_error(call, MHD_HTTP_BAD_REQUEST,
                   "dropping needs a filter or an id; all=1 really drops the whole queue");
        return;
    }
    change_start(changing);
}

void api_flush(struct call *call)
{
    struct changing *changing = changing_new(call, STORE_RETRY);
    struct store_filter *filter = &changing->change.filter;

    changing->is_flush = true;
    filter_init(filter);
    call_param(call, "lane", &filter->lane);
    if (call_no_more_params(call))
        change_start(changing);
}
