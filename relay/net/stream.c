/*
 * stream.c - bytes in, events out, the deadline.
 *
 * The socket is read into the loop's one buffer and copied (or decrypted) into
 * the stream's own, which exists only while bytes are unread: thousands of idle
 * sessions own no buffers.
 */
#include "relay/net/sockaddr.h"
#include "relay/net/stream_impl.h"

#include <assert.h>
#include <stdlib.h>

#define TLS_RECORD                                                                                 \
    ((size_t)16 * 1024) /* a record is decrypted whole, past STREAM_IN_MAX if need be */

struct stream *stream_make(struct loop *loop)
{
    struct stream *stream = mem_alloc(sizeof(*stream));

    stream->loop = loop;
    buf_init(&stream->in, STREAM_IN_MAX + TLS_RECORD);
    buf_init(&stream->out, SIZE_MAX);
    buf_init(&stream->wire, SIZE_MAX);
    buf_init(&stream->flying, SIZE_MAX);
    return stream;
}

/* ---- events ---- */

/* A paused owner wants no bytes; the end comes after the bytes. */
static bool is_held(const struct stream *stream, enum stream_event event)
{
    return stream->is_paused && (event == STREAM_DATA || event == STREAM_EOF);
}

void stream_emit(struct stream *stream)
{
    static const enum stream_event order[] = { STREAM_CONNECTED, STREAM_TLS,     STREAM_DATA,
                                               STREAM_EOF,       STREAM_DRAINED, STREAM_TIMEOUT,
                                               STREAM_ERROR };

    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        unsigned bit = 1u << order[i];
        stream_fn *fn = stream->fn;
        if (!fn || stream->state >= STREAM_LEAVING)
            return;
        if (!(stream->events & bit) || is_held(stream, order[i]))
            continue;
        stream->events &= ~bit;
        if (order[i] == STREAM_ERROR)
            stream->fn = NULL; /* the last one */
        fn(stream->arg, stream, order[i]);
    }
}

/* The deferred part of every call from outside. */
static void turn(void *arg)
{
    struct stream *stream = arg;

    if (stream->state == STREAM_LEAVING) {
        stream_leave(stream);
        return;
    }
    if (stream->tls && stream_tls_has_rest(stream))
        stream_tls_pump(stream);
    stream_flush(stream);
    stream_update_reading(stream);
    stream_emit(stream);
}

void stream_kick(struct stream *stream)
{
    if (!stream->kick.is_queued)
        loop_defer(stream->loop, &stream->kick, turn, stream);
}

void stream_own(struct stream *stream, stream_fn *fn, void *arg)
{
    stream->fn = fn;
    stream->arg = arg;
    if (stream->in.len)
        stream_event_add(stream, STREAM_DATA);
    stream_kick(stream);
}

/* ---- failing ---- */

struct fault *stream_fault_room(struct stream *stream)
{
    if (!stream->fault)
        stream->fault = mem_alloc(sizeof(*stream->fault));
    return stream->fault;
}

/* Bytes that came before the failure are still told: a server's last reply
 * often stands right before its reset. */
void stream_fail(struct stream *stream, const struct fault *fault)
{
    if (stream->state >= STREAM_DEAD)
        return;
    if (fault != stream->fault)
        *stream_fault_room(stream) = *fault;
    stream->state = STREAM_DEAD;
    stream->events &= 1u << STREAM_DATA;
    stream_event_add(stream, STREAM_ERROR);
    stream_drop_output(stream);
    loop_timer_stop(stream->loop, &stream->timer);
    stream_update_reading(stream);
}

void stream_fail_text(struct stream *stream, enum err err, const char *text)
{
    struct fault fault;

    fault_set(&fault, err, "%s", text);
    stream_fail(stream, &fault);
}

void stream_fail_uv(struct stream *stream, int status, const char *what)
{
    struct fault fault;

    fault_uv(&fault, status, "%s", what);
    stream_fail(stream, &fault);
}

const struct fault *stream_fault(const struct stream *stream)
{
    static const struct fault none = { ERR_OK, "" };

    return stream->fault ? stream->fault : &none;
}

/* ---- reading ---- */

static bool wants_bytes(const struct stream *stream)
{
    if (stream->has_eof)
        return false;
    if (stream->state == STREAM_LEAVING)
        return stream->has_said_goodbye; /* to be dropped */
    if (stream->state != STREAM_OPEN || !stream->fn || stream->is_paused)
        return false;
    if (stream->read_limit)
        return stream->in.len < stream->read_limit;
    return stream->in.len < STREAM_IN_MAX && !(stream->tls && stream_tls_has_rest(stream));
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct stream *stream = handle->data;
    size_t room = LOOP_READ_BUFFER, most = loop_read_most(stream->loop);

    (void)suggested;
    if (!wants_bytes(stream)) {
        *out = uv_buf_init(NULL, 0); /* on_read() is told UV_ENOBUFS */
        return;
    }
    if (stream->state == STREAM_OPEN && !stream->tls)
        room = (stream->read_limit ? stream->read_limit : STREAM_IN_MAX) - stream->in.len;
    *out = uv_buf_init(loop_read_buffer(stream->loop), (unsigned)(room < most ? room : most));
}

void stream_got_eof(struct stream *stream)
{
    if (stream->has_eof)
        return;
    stream->has_eof = true;
    if (stream->is_out_dead && stream->fault)
        stream_fail(stream, stream->fault);
    else
        stream_event_add(stream, STREAM_EOF);
}

static void take_bytes(struct stream *stream, struct str bytes)
{
    if (stream->tls) {
        stream_tls_feed(stream, bytes);
        return;
    }
    buf_str(&stream->in, bytes); /* on_alloc() left no more room than `in` has */
    stream_event_add(stream, STREAM_DATA);
}

static void end_of_bytes(struct stream *stream, int status)
{
    if (status != UV_EOF)
        stream_fail_uv(stream, status, "the connection broke");
    else if (stream->tls && stream_tls_is_shaking(stream))
        stream_fail_text(stream, ERR_CLOSED,
                         "the other side closed the connection during the TLS handshake");
    else
        stream_got_eof(stream);
}

static void on_read(uv_stream_t *handle, ssize_t got, const uv_buf_t *buffer)
{
    struct stream *stream = handle->data;

    if (got == 0)
        return;
    if (got == UV_ENOBUFS && !wants_bytes(stream)) {
        stream->is_reading = false;
        uv_read_stop(handle);
        return;
    }
    if (stream->state == STREAM_LEAVING) {
        if (got < 0)
            stream_destroy(stream);
        return;
    }
    if (got < 0)
        end_of_bytes(stream, (int)got);
    else
        take_bytes(stream, str_make(buffer->base, (size_t)got));
    stream_update_reading(stream);
    stream_emit(stream);
}

/* Reading is stopped only when bytes come that nobody wants, see on_alloc():
 * most pauses are over before that, and each stop and start costs two system calls. */
void stream_update_reading(struct stream *stream)
{
    if (stream->is_reading || stream->state == STREAM_GONE || !wants_bytes(stream))
        return;
    stream->is_reading = true;
    uv_read_start(&stream->uv.stream, on_alloc, on_read);
}

struct str stream_in(const struct stream *stream) { return buf_view(&stream->in); }

void stream_consume(struct stream *stream, size_t len)
{
    assert(len <= stream->in.len);
    buf_consume(&stream->in, len);
    if (stream->in.len == 0) {
        buf_clear(&stream->in);
        stream->events &= ~(1u << STREAM_DATA);
    }
    if (!stream->is_reading && !stream->has_eof)
        stream_kick(stream);
    else if (stream->tls && stream_tls_has_rest(stream))
        stream_kick(stream);
}

void stream_pause(struct stream *stream)
{
    stream->is_paused = true;
    stream_update_reading(stream);
}

void stream_resume(struct stream *stream)
{
    stream->is_paused = false;
    if (stream->in.len)
        stream_event_add(stream, STREAM_DATA);
    stream_kick(stream);
}

/* ---- the deadline ---- */

static void on_deadline(void *arg)
{
    struct stream *stream = arg;

    if (stream->state == STREAM_OPENING)
        stream_fail_text(stream, ERR_TIMEOUT, "no answer to the connection attempt");
    else
        stream_event_add(stream, STREAM_TIMEOUT);
    stream_emit(stream);
}

void stream_deadline(struct stream *stream, uint64_t at_ms)
{
    uint64_t now = loop_now_ms(stream->loop);

    if (stream->state >= STREAM_DEAD)
        return;
    stream->events &= ~(1u << STREAM_TIMEOUT);
    if (at_ms == UINT64_MAX)
        loop_timer_stop(stream->loop, &stream->timer);
    else
        loop_timer_start(stream->loop, &stream->timer, at_ms > now ? at_ms - now : 0, on_deadline,
                         stream);
}

/* ---- who is there ---- */

const struct endpoint *stream_peer(const struct stream *stream) { return &stream->peer; }

/* Few ask, so the kernel is asked only then. */
const struct endpoint *stream_local(struct stream *stream)
{
    union sockaddr_any address;
    socklen_t len = sizeof(address);
    uv_os_fd_t fd;

    if (stream->local.family == ENDPOINT_NONE && stream->state != STREAM_OPENING &&
        uv_fileno(&stream->uv.handle, &fd) == 0 && getsockname(fd, &address.any, &len) == 0)
        endpoint_of_sockaddr(&address, len, &stream->local);
    return &stream->local;
}

bool stream_peer_uid(const struct stream *stream, uint32_t *out_uid)
{
    if (stream->has_uid)
        *out_uid = stream->uid;
    return stream->has_uid;
}
