/*
 * queue_direct.c - requests to a store of our own, each waited for.
 */
#include "relay/cli/queue_direct.h"

#include "relay/api/queue_json.h"

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

static json_t *lane_json(const struct lane_info *info)
{
    json_t *json = json_object();

    json_object_set_new(json, "lane", json_text(str_of(info->lane)));
    json_object_set_new(json, "queued", json_integer((json_int_t)info->queued));
    json_object_set_new(json, "held", json_integer((json_int_t)info->held));
    if (info->oldest)
        json_object_set_new(json, "oldest", json_wall(info->oldest));
    if (info->next_due)
        json_object_set_new(json, "due", json_wall(info->next_due));
    return json;
}

json_t *queue_direct_lanes(struct queue_direct *queue, const char *after, size_t max,
                           struct fault *fault)
{
    struct store_lanes lanes = { .request = request_of(queue), .after = after, .max = max };
    json_t *page = NULL, *list;

    store_lanes(queue->store, &lanes);
    if (!wait_for(queue, &lanes.request, fault)) {
        page = json_object();
        list = json_array();
        for (size_t i = 0; i < lanes.count; i++)
            json_array_append_new(list, lane_json(&lanes.lanes[i]));
        json_object_set_new(page, "lanes", list);
        json_object_set_new(page, "more", json_boolean(lanes.more));
        if (lanes.count)
            json_object_set_new(page, "after",
                                json_text(str_of(lanes.lanes[lanes.count - 1].lane)));
    }
    store_lanes_clear(&lanes);
    return page;
}

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
