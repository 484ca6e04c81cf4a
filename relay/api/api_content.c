/*
 * api_content.c - a message as it is sent: the head, then the body, streamed.
 *
 * What is in memory is copied from there. A side file is read in windows by
 * disk workers, the connection suspended meanwhile: a slow reader or a cold
 * disk costs one window of memory and never holds up the loop.
 */
#include "relay/api/api_impl.h"

#include "queue/body.h"

struct content {
    struct call *call;
    struct store_get get;
    struct job job;
    char *window;       /* of a side file; NULL until one is read */
    uint64_t window_at; /* offset in the body */
    size_t window_len;
    bool is_reading;
    enum err err;
};

static void content_free(void *work)
{
    struct content *content = work;

    if (content->get.message)
        message_unref(&content->get.message);
    free(content->window);
    free(content);
}

/* ---- windows ---- */

static void read_window(struct job *job)
{
    struct content *content = container_of(job, struct content, job);

    content->err = body_read(content->get.message->body, content->window_at, content->window,
                             BODY_WINDOW, &content->window_len, NULL);
}

static void window_read(struct job *job)
{
    struct content *content = container_of(job, struct content, job);
    struct call *call = content->call;

    if (!call_back(call))
        return;
    content->is_reading = false;
    if (content->window_len == 0 && !content->err)
        content->err = ERR_CORRUPT; /* the file is shorter than it was */
    call_resume(call);
}

static ssize_t ask_for_window(struct content *content, uint64_t at)
{
    struct call *call = content->call;

    if (content->err || call->api->is_closing)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (!content->window)
        content->window = mem_alloc(BODY_WINDOW);
    content->window_at = at;
    content->window_len = 0;
    content->is_reading = true;
    content->job =
        (struct job){ .run = read_window, .done = window_read, .reply_to = &call->api->post->box };
    call_out(call);
    if (pool_post(loop_pool(call->api->options.loop), POOL_DISK, &content->job)) {
        content->is_reading = false;
        call_back(call);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    call->is_suspended = true;
    MHD_suspend_connection(call->connection);
    return 0;
}

/* ---- what the library asks for ---- */

static ssize_t give(struct str from, uint64_t at, char *out, size_t max)
{
    struct str piece = str_head(str_from(from, (size_t)at), max);

    memcpy(out, piece.at, piece.len);
    return (ssize_t)piece.len;
}

static ssize_t next_bytes(void *arg, uint64_t at, char *out, size_t max)
{
    struct content *content = arg;
    const struct message *message = content->get.message;
    struct str inline_body;

    if (at < message->head_len)
        return give(str_make(message->head, message->head_len), at, out, max);
    at -= message->head_len;
    if (body_is_inline(message->body, &inline_body))
        return give(inline_body, at, out, max);
    if (at >= content->window_at && at < content->window_at + content->window_len)
        return give(str_make(content->window, content->window_len), at - content->window_at, out,
                    max);
    return ask_for_window(content, at);
}

static void loaded(struct store_request *request)
{
    struct store_get *get = container_of(request, struct store_get, request);
    struct content *content = container_of(get, struct content, get);
    struct call *call = content->call;

    if (!call_back(call))
        return;
    if (request->err) {
        call_fault(call, request->err, &request->fault);
        return;
    }
    if (!call_may_see(call, get->message->envelope.user)) {
        call_error(call, MHD_HTTP_NOT_FOUND, "no such message is in the queue");
        return;
    }
    call->response =
        MHD_create_response_from_callback(get->message->head_len + body_size(get->message->body),
                                          BODY_WINDOW, next_bytes, content, NULL);
    call_answer(call, MHD_HTTP_OK, API_TYPE_MAIL);
}

void api_queue_content(struct call *call, const struct msgid *id)
{
    struct content *content = mem_alloc(sizeof(*content));

    call->work = content;
    call->free_work = content_free;
    content->call = call;
    content->get.id = *id;
    content->get.with_content = true;
    content->get.request.reply_to = &call->api->post->box;
    content->get.request.done = loaded;
    call_out(call);
    store_get(call->api->options.store, &content->get);
}
