/*
 * queue_direct.c - requests to a store of our own, each waited for.
 */
#include "relay/cli/queue_direct.h"

#include "relay/api/queue_json.h"
#include "relay/base/hash.h"

#include <stdlib.h>

struct queue_direct {
    struct mailbox box;
    struct pool *pool;
    struct store *store;
};

enum err queue_direct_open(const char *folder, struct queue_direct **out_queue, struct fault *fault)
{
    struct queue_direct *queue = mem_alloc(sizeof(*queue));
    struct store_options options = { .folder = folder, .read_only = true };
    enum err rc;

    mailbox_init(&queue->box, NULL, NULL);
    queue->pool = pool_new(1, true);
    options.pool = queue->pool;
    rc = store_open_lmdb(&options, &queue->store, fault);
    if (rc) {
        queue_direct_close(&queue);
        return rc;
    }
    *out_queue = queue;
    return ERR_OK;
}

void queue_direct_close(struct queue_direct **queue_at)
{
    struct queue_direct *queue = *queue_at;

    if (!queue)
        return;
    *queue_at = NULL;
    if (queue->store)
        store_close(&queue->store);
    pool_free(&queue->pool);
    mailbox_drain(&queue->box);
    mailbox_clear(&queue->box);
    free(queue);
}

/* ---- waiting ---- */

static void answered(struct store_request *request) { request->op = UINT32_MAX; }

static struct store_request request_of(struct queue_direct *queue)
{
    return (struct store_request){ .reply_to = &queue->box, .done = answered };
}

static enum err wait_for(struct queue_direct *queue, struct store_request *request,
                         struct fault *fault)
{
    while (request->op != UINT32_MAX) {
        struct letter *letter = mailbox_wait(&queue->box, UINT64_MAX);
        while (letter) {
            struct letter *next = letter->next;
            letter->open(letter);
            letter = next;
        }
    }
    if (request->err)
        fault_set(fault, request->err, "%s",
                  request->fault.text[0] ? request->fault.text : err_text(request->err));
    return request->err;
}

/* ---- questions ---- */

json_t *queue_direct_list(struct queue_direct *queue, const struct store_filter *filter,
                          const struct msgid *after, size_t max, struct fault *fault)
{
    struct store_list list = {
        .request = request_of(queue), .filter = *filter, .after = *after, .max = max
    };
    json_t *page = NULL;

    store_list(queue->store, &list);
    if (!wait_for(queue, &list.request, fault))
        page = queue_json_page(&list);
    store_list_clear(&list);
    return page;
}

/* ---- places ---- */

struct lane {
    UT_hash_handle hh;
    uint64_t queued, held;
    int64_t next_due, oldest;
    size_t len;
    char name[];
};

static struct lane *lane_find(struct lane **lanes, struct str name)
{
    struct lane *lane;

    HASH_FIND(hh, *lanes, name.at, name.len, lane);
    if (lane)
        return lane;
    lane = mem_alloc(sizeof(*lane) + name.len + 1);
    lane->len = name.len;
    memcpy(lane->name, name.at, name.len);
    HASH_ADD_KEYPTR(hh, *lanes, lane->name, lane->len, lane);
    return lane;
}

static void count_message(struct lane **lanes, const struct envelope *envelope)
{
    int64_t arrived = envelope->arrived_us / 1000000;

    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct recipient *recipient = &envelope->recipients[i];
        bool is_queued = recipient->state == RECIPIENT_QUEUED;
        struct lane *lane;
        if (!is_queued && recipient->state != RECIPIENT_HELD)
            continue;
        lane = lane_find(lanes, recipient->lane);
        lane->queued += is_queued;
        lane->held += !is_queued;
        if (!lane->oldest || arrived < lane->oldest)
            lane->oldest = arrived;
        if (is_queued && (!lane->next_due || recipient->due_at < lane->next_due))
            lane->next_due = recipient->due_at;
    }
}

static enum err count_all(struct queue_direct *queue, struct lane **lanes, struct fault *fault)
{
    struct msgid after = { { 0 } };
    bool more = true;
    enum err rc = ERR_OK;

    while (more && !rc) {
        struct store_list list = { .request = request_of(queue),
                                   .filter = { .any_state = true },
                                   .after = after,
                                   .max = 500 };
        store_list(queue->store, &list);
        rc = wait_for(queue, &list.request, fault);
        for (size_t i = 0; !rc && i < list.count; i++) {
            if (!list.is_corrupt[i])
                count_message(lanes, &list.envelopes[i]);
            after = list.envelopes[i].id;
        }
        more = list.more && list.count;
        store_list_clear(&list);
    }
    return rc;
}

static int lane_order(struct lane *a, struct lane *b) { return strcmp(a->name, b->name); }

static json_t *lane_json(const struct lane *lane)
{
    json_t *json = json_object();

    json_object_set_new(json, "lane", json_text(str_make(lane->name, lane->len)));
    json_object_set_new(json, "queued", json_integer((json_int_t)lane->queued));
    json_object_set_new(json, "held", json_integer((json_int_t)lane->held));
    if (lane->oldest)
        json_object_set_new(json, "oldest", json_wall(lane->oldest));
    if (lane->next_due)
        json_object_set_new(json, "due", json_wall(lane->next_due));
    return json;
}

static void lanes_free(struct lane *lanes)
{
    struct lane *lane = lanes, *next;

    HASH_CLEAR(hh, lanes); /* only the table: the links stay */
    for (; lane; lane = next) {
        next = lane->hh.next;
        free(lane);
    }
}

json_t *queue_direct_lanes(struct queue_direct *queue, struct fault *fault)
{
    struct lane *lanes = NULL;
    enum err rc = count_all(queue, &lanes, fault);
    json_t *page = json_object(), *list = json_array();

    HASH_SORT(lanes, lane_order);
    for (const struct lane *lane = lanes; lane; lane = lane->hh.next)
        json_array_append_new(list, lane_json(lane));
    lanes_free(lanes);
    json_object_set_new(page, "lanes", list);
    if (!rc)
        return page;
    json_decref(page);
    return NULL;
}

/* ---- one message ---- */

static struct message *get(struct queue_direct *queue, const struct msgid *id, bool with_content,
                           struct fault *fault)
{
    struct store_get get = { .request = request_of(queue),
                             .id = *id,
                             .with_content = with_content };

    store_get(queue->store, &get);
    return wait_for(queue, &get.request, fault) ? NULL : get.message;
}

json_t *queue_direct_show(struct queue_direct *queue, const struct msgid *id, struct fault *fault)
{
    struct message *message = get(queue, id, false, fault);
    json_t *json = NULL;

    if (message) {
        json = queue_json_message(&message->envelope);
        message_unref(&message);
    }
    return json;
}

static enum err copy_body(struct body *body, queue_direct_fn *fn, void *arg, struct fault *fault)
{
    char *window = mem_alloc(BODY_WINDOW);
    uint64_t at = 0;
    size_t len = 1;
    enum err rc = ERR_OK;

    while (!rc && len) {
        rc = body_read(body, at, window, BODY_WINDOW, &len, fault);
        if (!rc && len && !fn(arg, str_make(window, len)))
            rc = fault_set(fault, ERR_CANCELLED, "broken off");
        at += len;
    }
    free(window);
    return rc;
}

enum err queue_direct_content(struct queue_direct *queue, const struct msgid *id,
                              queue_direct_fn *fn, void *arg, struct fault *fault)
{
    struct message *message = get(queue, id, true, fault);
    enum err rc = ERR_OK;

    if (!message)
        return fault->err;
    if (!fn(arg, str_make(message->head, message->head_len)))
        rc = fault_set(fault, ERR_CANCELLED, "broken off");
    if (!rc)
        rc = copy_body(message->body, fn, arg, fault);
    message_unref(&message);
    return rc;
}
