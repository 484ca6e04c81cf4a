/*
 * loop_watch.c - descriptors that a library owns, watched for reading.
 */
#include "relay/net/loop_uv.h"

#include "relay/base/str.h"

#include <stdlib.h>

struct loop_watch {
    uv_poll_t poll;
    loop_fn *fn;
    void *arg;
};

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct loop_watch *watch = poll->data;

    (void)status; /* whoever owns the descriptor meets its error when reading */
    (void)events;
    if (watch->fn)
        watch->fn(watch->arg);
}

enum err loop_watch_fd(struct loop *loop, int fd, loop_fn *fn, void *arg,
                       struct loop_watch **out_watch)
{
    struct loop_watch *watch = mem_alloc(sizeof(*watch));

    watch->fn = fn;
    watch->arg = arg;
    int rc = uv_poll_init(loop_uv(loop), &watch->poll, fd);
    if (rc) {
        free(watch);
        return fault_uv(NULL, rc, "watch");
    }
    watch->poll.data = watch;
    uv_poll_start(&watch->poll, UV_READABLE, on_readable);
    *out_watch = watch;
    return ERR_OK;
}

static void free_watch(uv_handle_t *handle) { free(handle->data); }

void loop_unwatch(struct loop_watch **watch_at)
{
    struct loop_watch *watch = *watch_at;

    if (!watch)
        return;
    watch->fn = NULL;
    uv_close((uv_handle_t *)&watch->poll, free_watch);
    *watch_at = NULL;
}
