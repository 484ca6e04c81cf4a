/*
 * api_trace.c - the kept hops of a message, read by a disk worker.
 */
#include "relay/api/api_impl.h"

#include "queue/tracelog.h"

#define MESSAGES 10
#define MESSAGES_MAX 100
#define TRACE_MAX ((size_t)16 << 20)
#define TRACE_LIMITED_MAX ((size_t)4 << 20) /* other users hold dozens of answers unread */
#define HOP_ROOM ((size_t)8 * HOP_ENCODED_MAX)
#define CUT_LINE "{\"cut\":true}\n"

struct tracing {
    struct call *call;
    struct job job;
    char *folder;
    struct str handle;
    size_t max;
    struct buf lines;
    bool is_cut;
    bool is_limited; /* only messages that `user` handed in */
    char user[24];   /* empty: of anybody */
    enum err err;
    struct fault fault;
};

static void tracing_free(void *work)
{
    struct tracing *tracing = work;

    buf_clear(&tracing->lines);
    free(tracing->folder);
    free(tracing);
}

/* ---- on a worker ---- */

static bool add_hop(void *arg, const struct hop *hop)
{
    struct tracing *tracing = arg;
    struct buf *lines = &tracing->lines;

    if (atomic_load_explicit(&tracing->call->is_cancelled, memory_order_relaxed))
        return false;
    /* Every octet of a hop may become six as JSON; its keys take little. */
    if (lines->len + HOP_ROOM > (tracing->is_limited ? TRACE_LIMITED_MAX : TRACE_MAX)) {
        tracing->is_cut = true;
        return false;
    }
    hop_json(hop, lines);
    buf_char(lines, '\n');
    return true;
}

static void trace_run(struct job *job)
{
    struct tracing *tracing = container_of(job, struct tracing, job);

    tracing->err = tracelog_find_own(tracing->folder, str_of(tracing->user), tracing->handle,
                                     tracing->max, add_hop, tracing, &tracing->fault);
}

/* ---- back on the loop ---- */

static void trace_done(struct job *job)
{
    struct tracing *tracing = container_of(job, struct tracing, job);
    struct call *call = tracing->call;

    if (!call_back(call))
        return;
    if (tracing->err && tracing->err != ERR_NOT_FOUND) {
        call_fault(call, tracing->err, &tracing->fault);
        return;
    }
    if (tracing->lines.len == 0) {
        call_error(call, MHD_HTTP_NOT_FOUND, "no trace of this handle");
        return;
    }
    if (tracing->is_cut)
        buf_cstr(&tracing->lines, CUT_LINE);
    buf_clear(&call->body);
    call->body = tracing->lines;
    buf_init(&tracing->lines, TRACE_MAX);
    call_answer(call, MHD_HTTP_OK, API_TYPE_LINES);
}

void api_trace(struct call *call)
{
    struct tracing *tracing = mem_alloc(sizeof(*tracing));
    uint64_t max;

    buf_init(&tracing->lines, TRACE_MAX);
    call->work = tracing;
    call->free_work = tracing_free;
    tracing->call = call;
    if (!call_number(call, "max", MESSAGES, MESSAGES_MAX, &max))
        return;
    if (!call_param(call, "handle", &tracing->handle) || tracing->handle.len == 0) {
        call_error(call, MHD_HTTP_BAD_REQUEST,
                   "handle is missing: a message id, Message-ID, recipient or remote queue id");
        return;
    }
    if (!call_no_more_params(call))
        return;
    tracing->max = (size_t)max;
    tracing->is_limited = call->is_limited;
    if (call->is_limited)
        str_copy(tracing->user, sizeof(tracing->user), str_of(call->user));
    tracing->folder = str_dup(str_of(call->api->options.trace_folder));
    tracing->job =
        (struct job){ .run = trace_run, .done = trace_done, .reply_to = &call->api->post->box };
    call_out(call);
    if (pool_post(loop_pool(call->api->options.loop), POOL_DISK, &tracing->job)) {
        call->pending--;
        call->api->pending--;
        call_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "too much is being read already");
    }
}
