/*
 * stream_out.c - what was written within a turn leaves in one write.
 *
 * The kernel is asked directly first (uv_try_write): nearly always it takes
 * everything and no request, copy or callback is needed. Only the rest becomes
 * a uv_write, and new bytes gather behind it.
 */
#include "relay/net/stream_impl.h"

#include <limits.h>

#define FLUSH_STEP ((size_t)128 * 1024) /* encrypted at a time, so that records do not pile up */

void stream_write(struct stream *stream, struct str bytes)
{
    if (stream->state > STREAM_OPEN || stream->is_out_dead || bytes.len == 0)
        return; /* the owner has been told, or will be */
    buf_str(&stream->out, bytes);
    stream->has_output = true;
    stream_kick(stream);
}

size_t stream_pending(const struct stream *stream)
{
    return stream->out.len + stream->wire.len + stream->flying.len;
}

void stream_drop_output(struct stream *stream)
{
    buf_clear(&stream->out);
    buf_clear(&stream->wire);
    stream->has_output = false;
    /* `flying` belongs to libuv until its callback. */
}

/* The peer takes nothing more. What it said before that may still lie in the
 * kernel (a 421, most likely), so reading goes on to its end. */
static void write_failed(struct stream *stream, int status)
{
    if (stream->state == STREAM_LEAVING || stream->has_eof || stream->is_paused) {
        stream->is_out_dead = true;
        stream_drop_output(stream);
        stream_fail_uv(stream, status, "cannot send");
        return;
    }
    stream->is_out_dead = true;
    fault_uv(stream_fault_room(stream), status, "cannot send");
    stream_drop_output(stream);
    stream_update_reading(stream);
}

static void on_written(uv_write_t *request, int status)
{
    struct stream *stream = request->handle->data;

    stream->is_writing = false;
    buf_clear(&stream->flying);
    if (stream->state == STREAM_GONE)
        return;
    if (status < 0 && stream->state != STREAM_DEAD)
        write_failed(stream, status);
    if (stream->state == STREAM_LEAVING) {
        stream_leave(stream);
        return;
    }
    stream_flush(stream);
    stream_emit(stream);
}

static void hand_over(struct stream *stream, struct buf *rest)
{
    unsigned len = rest->len < UINT_MAX ? (unsigned)rest->len : UINT_MAX;

    stream->flying = *rest;
    buf_init(rest, rest->max);
    uv_buf_t piece = uv_buf_init(stream->flying.at, len);
    int rc = uv_write(&stream->request.write, &stream->uv.stream, &piece, 1, on_written);
    if (rc) {
        buf_clear(&stream->flying);
        write_failed(stream, rc);
        return;
    }
    stream->is_writing = true;
}

/* True when all of it is in the kernel. */
static bool write_now(struct stream *stream, struct buf *from)
{
    unsigned len = from->len < INT_MAX ? (unsigned)from->len : INT_MAX;
    uv_buf_t piece = uv_buf_init(from->at, len);

    int n = uv_try_write(&stream->uv.stream, &piece, 1);
    if (n < 0 && n != UV_EAGAIN) {
        write_failed(stream, n);
        return false;
    }
    if (n > 0)
        buf_consume(from, (size_t)n);
    if (from->len) {
        hand_over(stream, from);
        return false;
    }
    buf_clear(from);
    return true;
}

void stream_flush(struct stream *stream)
{
    struct buf *from = stream->tls ? &stream->wire : &stream->out;
    bool is_open = stream->state == STREAM_OPEN || stream->state == STREAM_LEAVING;

    if (!is_open || stream->is_writing || stream->is_out_dead)
        return;
    for (;;) {
        if (stream->tls)
            stream_tls_encrypt(stream, FLUSH_STEP);
        if (from->len == 0)
            break;
        if (!write_now(stream, from))
            return;
    }
    if (stream->has_output && stream_pending(stream) == 0) {
        stream->has_output = false;
        stream_event_add(stream, STREAM_DRAINED);
    }
}
