/*
 * api_queue.c - the queue shown: pages of it, and one message.
 */
#include "relay/api/queue_json.h"

#include "relay/api/api_impl.h"

#define PAGE 100
#define PAGE_MAX 500

struct listing {
    struct call *call;
    struct store_list list;
    struct listing *next; /* in the line */
};

static void listing_free(void *work)
{
    struct listing *listing = work;

    store_list_clear(&listing->list);
    free(listing);
}

/* ---- users who see own mail only ---- */

/* For each the whole queue may have to be read: one after the other, or they could keep
 * every disk worker from the mail. The first one's list is under way. */

static void leave_line(struct api *api)
{
    api->limited_first = api->limited_first->next;
    if (!api->limited_first)
        api->limited_last = NULL;
}

static void list_first(struct api *api)
{
    struct listing *first;

    while ((first = api->limited_first) != NULL && (api->is_closing || !first->call->connection)) {
        struct call *call = first->call;
        leave_line(api);
        if (call_back(call))
            call_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "the relay is stopping");
    }
    if (first)
        store_list(api->options.store, &first->list);
}

static void stand_in_line(struct api *api, struct listing *listing)
{
    bool is_first = !api->limited_first;

    if (is_first)
        api->limited_first = listing;
    else
        api->limited_last->next = listing;
    api->limited_last = listing;
    if (is_first)
        list_first(api);
}

/* ---- the list ---- */

static void listed(struct store_request *request)
{
    struct store_list *list = container_of(request, struct store_list, request);
    struct call *call = container_of(list, struct listing, list)->call;
    struct api *api = call->api;
    bool is_limited = call->is_limited;

    if (is_limited)
        leave_line(api);
    if (call_back(call)) {
        if (request->err)
            call_fault(call, request->err, &request->fault);
        else
            call_json(call, MHD_HTTP_OK, queue_json_page(list));
    }
    if (is_limited)
        list_first(api);
}

static bool read_after(struct call *call, struct msgid *out_after)
{
    struct str text;

    if (!call_param(call, "after", &text) || msgid_parse(text, out_after))
        return true;
    call_error(call, MHD_HTTP_BAD_REQUEST, "after is the id of a message (26 letters and digits)");
    return false;
}

void api_queue_list(struct call *call)
{
    struct listing *listing = mem_alloc(sizeof(*listing));
    struct store_list *list = &listing->list;
    uint64_t max;

    call->work = listing;
    call->free_work = listing_free;
    listing->call = call;
    if (!read_after(call, &list->after) || !call_number(call, "max", PAGE, PAGE_MAX, &max) ||
        !call_filter(call, &list->filter))
        return;
    if (call->is_limited)
        list->filter.user = str_of(call->user);
    list->max = (size_t)max;
    list->request.reply_to = &call->api->post->box;
    list->request.done = listed;
    call_out(call);
    if (call->is_limited)
        stand_in_line(call->api, listing);
    else
        store_list(call->api->options.store, list);
}

/* ---- one message ---- */

struct showing {
    struct call *call;
    struct store_get get;
};

static void showing_free(void *work)
{
    struct showing *showing = work;

    if (showing->get.message)
        message_unref(&showing->get.message);
    free(showing);
}

static void got(struct store_request *request)
{
    struct store_get *get = container_of(request, struct store_get, request);
    struct call *call = container_of(get, struct showing, get)->call;

    if (!call_back(call))
        return;
    if (request->err == ERR_NOT_FOUND ||
        (!request->err && !call_may_see(call, get->message->envelope.user)))
        call_error(call, MHD_HTTP_NOT_FOUND,
                   "message " STR_FMT " is not in the queue (its trace may still be there)",
                   STR_ARG(call->part));
    else if (request->err)
        call_fault(call, request->err, &request->fault);
    else
        call_json(call, MHD_HTTP_OK, queue_json_message(&get->message->envelope));
}

static bool wants_content(struct call *call)
{
    struct str text;

    return call_param(call, "content", &text) && !str_eq(text, STR("0"));
}

void api_queue_show(struct call *call)
{
    struct showing *showing;
    struct msgid id;
    bool content = wants_content(call);

    if (!call_no_more_params(call))
        return;
    if (!msgid_parse(call->part, &id)) {
        call_error(call, MHD_HTTP_BAD_REQUEST, "a message id has 26 letters and digits");
        return;
    }
    if (content) {
        api_queue_content(call, &id);
        return;
    }
    showing = mem_alloc(sizeof(*showing));
    call->work = showing;
    call->free_work = showing_free;
    showing->call = call;
    showing->get.id = id;
    showing->get.request.reply_to = &call->api->post->box;
    showing->get.request.done = got;
    call_out(call);
    store_get(call->api->options.store, &showing->get);
}
