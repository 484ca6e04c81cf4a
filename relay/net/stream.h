/*
 * stream.h - bytes in and out over TCP or a unix socket, with or without TLS,
 * with a deadline and limits.
 *
 * A stream belongs to its loop. Events come by one function, always from the
 * loop and never from inside a call on the stream. stream_close() may be
 * called at any time, also from the event function: no event follows it.
 *
 * Reading is pull: STREAM_DATA says that stream_in() has bytes; take them with
 * stream_consume(). Bytes left there are kept; reading from the socket stops
 * while STREAM_IN_MAX are unread or the stream is paused.
 * TCP_NODELAY is set; what is written within one turn of the loop leaves in one write.
 */
#ifndef WAYPOST_NET_STREAM_H
#define WAYPOST_NET_STREAM_H

#include "relay/base/err.h"
#include "relay/mail/policy.h"
#include "relay/net/endpoint.h"
#include "relay/net/loop.h"

#define STREAM_IN_MAX ((size_t)64 * 1024)

struct stream;
struct listener;
struct tls_server; /* tls.h */
struct tls_client; /* tls.h */

enum stream_event {
    STREAM_CONNECTED, /* connecting worked; for implicit TLS call stream_tls_client() now */
    STREAM_TLS,       /* the handshake is done: stream_tls_facts() */
    STREAM_DATA,      /* stream_in() grew */
    STREAM_DRAINED,   /* everything written has reached the kernel */
    STREAM_EOF,       /* the peer closed its side in order; writing may still work */
    STREAM_TIMEOUT,   /* the deadline passed; the stream is still usable */
    STREAM_ERROR,     /* dead: stream_fault() says why; only stream_close() is left */
};
typedef void stream_fn(void *arg, struct stream *stream, enum stream_event event);

/* ERR_* only for what is wrong at once (no descriptors, bad source address);
 * refused, unreachable, timed out come as STREAM_ERROR with that err. `source`
 * may be NULL; its port is ignored. `deadline_ms` absolute, covers connecting. */
enum err stream_connect(struct loop *loop, const struct endpoint *to, const struct endpoint *source,
                        uint64_t deadline_ms, stream_fn *fn, void *arg, struct stream **out_stream,
                        struct fault *fault);

struct str stream_in(const struct stream *stream);
void stream_consume(struct stream *stream, size_t len);
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream); /* bytes already there give STREAM_DATA again */

void stream_write(struct stream *stream, struct str bytes); /* copies */
size_t stream_pending(const struct stream *stream);         /* written, not yet in the kernel */

/* One deadline at a time; UINT64_MAX: none. On loop_now_ms()'s clock. */
void stream_deadline(struct stream *stream, uint64_t at_ms);

/* Start TLS on what is now a clear stream. Unread clear bytes must have been
 * consumed (the caller has judged them), else the stream fails with ERR_INVALID.
 * The context is kept by reference. */
void stream_tls_server(struct stream *stream, struct tls_server *tls);
/* `host` is the name for SNI and verification; `alpn` none. TLSA records for level DANE: see tls.h. */
struct tls_request;
void stream_tls_client(struct stream *stream, struct tls_client *tls,
                       const struct tls_request *request);
const struct tls_facts *stream_tls_facts(const struct stream *stream);
/* Channel binding for SCRAM-PLUS: tls-exporter (RFC 9266), so with TLS 1.3 only; else empty. */
struct str stream_channel_binding(const struct stream *stream);

const struct endpoint *stream_peer(const struct stream *stream);
const struct endpoint *stream_local(struct stream *stream);
const struct fault *stream_fault(const struct stream *stream); /* after STREAM_ERROR */
/* uid of the process at the other end of a unix socket; false: not known. */
bool stream_peer_uid(const struct stream *stream, uint32_t *out_uid);

/* Send what is pending (for 10 s at most, a moment when the loop is stopping), say goodbye,
 * free. NULLs the pointer. */
void stream_close(struct stream **stream);
/* The same when both sides have said goodbye in their protocol: does not wait for the
 * end of the other side's bytes. */
void stream_part(struct stream **stream);
/* Drop what is pending and free at once. */
void stream_abort(struct stream **stream);

/* ---- listening ---- */

/* A new connection; set its function with stream_own(). Not owning it closes it. */
typedef void listener_fn(void *arg, struct stream *stream);

struct listener_options {
    struct endpoint at;
    int fd; /* an already bound and listening descriptor (listener_bind, socket activation), then
             * the listener's own; -1: bind `at` */
    bool reuse_port; /* SO_REUSEPORT, for several loops */
    bool proxy;      /* a PROXY protocol v2 header comes first when the peer is in proxy_from */
    const struct network *proxy_from; /* copied */
    size_t proxy_from_count;
    unsigned unix_mode; /* file mode of a unix socket; 0: as the umask gives */
};
/* Bind (may need root) apart from serving, so that privileges can be dropped in between. */
enum err listener_bind(const struct listener_options *options, int *out_fd, struct fault *fault);
enum err listener_new(struct loop *loop, const struct listener_options *options, listener_fn *fn,
                      void *arg, struct listener **out_listener, struct fault *fault);
void listener_close(struct listener **listener);
void listener_pause(
    struct listener *listener); /* out of descriptors or sessions: leave them in the backlog */
void listener_resume(struct listener *listener);
/* Of the sockets bound to its address with reuse_port, the first `open` take new clients,
 * by chance; sockets count in the order they were bound. Any of them may be asked. In vain
 * on others, and on kernels that cannot: they go on as before. */
void listener_spread(struct listener *listener, unsigned open);
const struct endpoint *listener_at(const struct listener *listener); /* with the real port */

void stream_own(struct stream *stream, stream_fn *fn, void *arg);

#endif
