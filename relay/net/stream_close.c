/*
 * stream_close.c - leaving in order: what is pending goes out, goodbye is said,
 * the other side gets a moment to say the same.
 *
 * A socket closed while unread bytes lie in it sends a reset, and a reset can
 * overtake our last reply in the peer's kernel. So after the last byte we close
 * only our half and drop what still comes, for DISCARD_MS at most.
 */
#include "relay/net/stream_impl.h"

#include <stdlib.h>
#include <sys/socket.h>

#define LINGER_MS 10000
#define DISCARD_MS 2000
#define HURRY_MS 500 /* when the loop is stopping */

static void on_gone(uv_handle_t *handle)
{
    struct stream *stream = handle->data;

    buf_clear(&stream->in);
    buf_clear(&stream->out);
    buf_clear(&stream->wire);
    buf_clear(&stream->flying);
    stream_tls_free(&stream->tls);
    free(stream->fault);
    free(stream);
}

void stream_destroy(struct stream *stream)
{
    if (stream->state == STREAM_GONE)
        return;
    stream->state = STREAM_GONE;
    stream->fn = NULL;
    loop_undefer(stream->loop, &stream->kick);
    loop_timer_stop(stream->loop, &stream->timer);
    loop_end_remove(&stream->loop_end);
    uv_close(&stream->uv.handle, on_gone);
}

static void on_linger_over(void *arg) { stream_destroy(arg); }

static void on_loop_end(void *arg)
{
    struct stream *stream = arg;

    if (stream->has_said_goodbye && stream_pending(stream) == 0)
        stream_destroy(stream);
    else
        loop_timer_start(stream->loop, &stream->timer, HURRY_MS, on_linger_over, stream);
}

/* Everything is in the kernel: close our half, wait for theirs. Within TLS the
 * other side's goodbye is still to come. */
static void discard_until_eof(struct stream *stream)
{
    bool has_parted = stream->has_parted && !stream->tls && stream->in.len == 0;
    uv_os_fd_t fd = -1;

    if (has_parted || stream->has_eof || stream->is_out_dead || loop_is_stopping(stream->loop) ||
        uv_fileno(&stream->uv.handle, &fd)) {
        stream_destroy(stream);
        return;
    }
    shutdown(fd, SHUT_WR);
    loop_timer_start(stream->loop, &stream->timer, DISCARD_MS, on_linger_over, stream);
    stream_update_reading(stream);
}

void stream_leave(struct stream *stream)
{
    if (!stream->has_said_goodbye && stream->tls)
        stream_tls_goodbye(stream);
    stream->has_said_goodbye = true;
    stream_flush(stream);
    if (stream->state != STREAM_LEAVING)
        return;
    if (stream_pending(stream) && !stream->is_out_dead)
        return; /* on_written() comes back here */
    discard_until_eof(stream);
}

void stream_close(struct stream **stream_at)
{
    struct stream *stream = *stream_at;

    *stream_at = NULL;
    if (!stream)
        return;
    if (stream->state != STREAM_OPEN) {
        stream_destroy(stream);
        return;
    }
    stream->fn = NULL;
    stream->events = 0;
    stream->state = STREAM_LEAVING;
    stream_update_reading(stream);
    loop_timer_start(stream->loop, &stream->timer,
                     loop_is_stopping(stream->loop) ? HURRY_MS : LINGER_MS, on_linger_over, stream);
    loop_end_add(stream->loop, &stream->loop_end, on_loop_end, stream);
    stream_kick(stream);
}

void stream_part(struct stream **stream_at)
{
    if (*stream_at)
        (*stream_at)->has_parted = true;
    stream_close(stream_at);
}

void stream_abort(struct stream **stream_at)
{
    struct stream *stream = *stream_at;

    *stream_at = NULL;
    if (stream)
        stream_destroy(stream);
}
