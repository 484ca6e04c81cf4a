/*
 * stream_impl.h - the inside of a stream, shared by the stream_*.c files only.
 *
 * What was written waits in `out` (clear) until the turn's flush; with TLS the
 * flush turns it into records in `wire`. What the kernel did not take at once
 * becomes `flying`, owned by the one uv_write that may be under way.
 *
 * Callbacks of libuv set bits in `events` and end with stream_emit(); calls
 * from outside set bits and end with stream_kick(). So an event never comes
 * from inside a call.
 */
#ifndef WAYPOST_NET_STREAM_IMPL_H
#define WAYPOST_NET_STREAM_IMPL_H

#include "relay/base/buf.h"
#include "relay/net/loop_uv.h"
#include "relay/net/stream.h"

/* OPENING -> OPEN -> LEAVING -> GONE;  OPENING | OPEN -> DEAD -> GONE */
enum stream_state {
    STREAM_OPENING, /* connecting */
    STREAM_OPEN,    /* bytes flow */
    STREAM_DEAD,    /* failed: the owner has been or will be told */
    STREAM_LEAVING, /* the owner has left; what is pending still goes out */
    STREAM_GONE,    /* libuv is closing the handle; memory lives until it has */
};

struct stream_tls;

struct stream {
    struct loop *loop;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    union { /* connecting is over before anything is written */
        uv_connect_t connect;
        uv_write_t write;
    } request;
    enum stream_state state;
    unsigned events; /* 1 << enum stream_event: to be emitted */
    stream_fn *fn;
    void *arg;
    struct deferred kick;
    struct timer timer;       /* the deadline; of lingering, when LEAVING */
    struct loop_end loop_end; /* when LEAVING */
    struct buf in, out, wire, flying;
    size_t read_limit; /* not 0: keep at most this many bytes unread (PROXY header) */
    bool is_reading;   /* uv_read_start is in force, also while nothing is wanted */
    bool is_paused;
    bool is_writing;  /* a uv_write is under way */
    bool is_out_dead; /* the peer takes nothing more; what it said is still read */
    bool has_output;  /* something was written since the last STREAM_DRAINED */
    bool has_eof;
    bool has_said_goodbye;
    bool has_parted; /* the other side said goodbye too, and sends nothing more */
    bool has_uid;
    uint32_t uid;
    struct endpoint peer, local; /* local: when somebody has asked */
    struct fault *fault;         /* made when needed: it is large */
    struct stream_tls *tls;
};

/* stream.c */
struct stream *stream_make(struct loop *loop);
void stream_emit(struct stream *stream);
void stream_kick(struct stream *stream);
void stream_update_reading(struct stream *stream);
void stream_got_eof(struct stream *stream);
void stream_fail(struct stream *stream, const struct fault *fault);
void stream_fail_text(struct stream *stream, enum err err, const char *text);
void stream_fail_uv(struct stream *stream, int status, const char *what);
struct fault *stream_fault_room(struct stream *stream);

static inline void stream_event_add(struct stream *stream, enum stream_event event)
{
    stream->events |= 1u << event;
}

/* stream_out.c: to the kernel, as much as it takes */
void stream_flush(struct stream *stream);
void stream_drop_output(struct stream *stream);

/* stream_close.c */
void stream_leave(struct stream *stream); /* the next step of leaving */
void stream_destroy(struct stream *stream);

/* stream_tls.c */
void stream_tls_feed(struct stream *stream, struct str bytes);
void stream_tls_pump(struct stream *stream); /* what was fed before and found no room */
bool stream_tls_has_rest(const struct stream *stream);
bool stream_tls_is_shaking(const struct stream *stream);
void stream_tls_encrypt(struct stream *stream, size_t most); /* out -> wire */
void stream_tls_goodbye(struct stream *stream);
void stream_tls_free(struct stream_tls **tls);

#endif
