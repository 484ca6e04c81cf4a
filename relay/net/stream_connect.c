/*
 * stream_connect.c - the way out: a socket of our own, bound when asked, then
 * connected by libuv.
 *
 * Not uv_tcp_bind: after it failed, uv_tcp_connect still goes out, from
 * another address. IP_BIND_ADDRESS_NO_PORT leaves the choice of the port to
 * connect(), so that one source address serves more than 28,000 connections.
 */
#include "relay/net/sockaddr.h"
#include "relay/net/stream_impl.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

static enum err bind_source(int fd, const struct endpoint *to, const struct endpoint *source,
                            struct fault *fault)
{
    union sockaddr_any address;
    char text[ENDPOINT_TEXT];
    int on = 1;
    struct endpoint from = *source;

    from.port = 0;
    endpoint_print_ip(&from, text, sizeof(text));
    if (from.family != to->family)
        return fault_set(fault, ERR_UNREACHABLE,
                         "source address %s is of another family than the destination", text);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    socklen_t len = endpoint_to_sockaddr(&from, &address);
    if (bind(fd, &address.any, len) == 0)
        return ERR_OK;
    if (errno == EADDRNOTAVAIL) /* no trouble on the way to the peer: our own */
        return fault_set(fault, ERR_NOT_FOUND, "source address %s is not of this machine", text);
    return fault_errno(fault, errno, "cannot use source address %s", text);
}

static enum err open_socket(const struct endpoint *to, const struct endpoint *source, int *out_fd,
                            struct fault *fault)
{
    int family = to->family == ENDPOINT_IPV4 ? AF_INET : AF_INET6;

    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fault_errno(fault, errno, "cannot make a socket");
    enum err err = source ? bind_source(fd, to, source, fault) : ERR_OK;
    if (err) {
        close(fd);
        return err;
    }
    *out_fd = fd;
    return ERR_OK;
}

static void on_connect(uv_connect_t *request, int status)
{
    struct stream *stream = request->handle->data;

    if (stream->state != STREAM_OPENING)
        return; /* closed or timed out meanwhile */
    if (status < 0) {
        stream_fail_uv(stream, status, "cannot connect");
    } else {
        stream->state = STREAM_OPEN;
        loop_timer_stop(stream->loop, &stream->timer);
        stream_event_add(stream, STREAM_CONNECTED);
        stream_update_reading(stream);
        stream_kick(stream);
    }
    stream_emit(stream);
}

static void connect_unix(struct stream *stream)
{
    uv_pipe_init(loop_uv(stream->loop), &stream->uv.pipe, 0);
    stream->uv.handle.data = stream;
    uv_pipe_connect(&stream->request.connect, &stream->uv.pipe, stream->peer.path, on_connect);
}

static enum err connect_tcp(struct stream *stream, const struct endpoint *source,
                            struct fault *fault)
{
    union sockaddr_any address;
    int fd = -1;

    enum err err = open_socket(&stream->peer, source, &fd, fault);
    if (err)
        return err;
    uv_tcp_init(loop_uv(stream->loop), &stream->uv.tcp);
    stream->uv.handle.data = stream;
    int rc = uv_tcp_open(&stream->uv.tcp, fd);
    if (rc) { /* cannot happen with a fresh socket; the stream reports it like a refusal */
        close(fd);
    } else {
        uv_tcp_nodelay(&stream->uv.tcp, 1);
        endpoint_to_sockaddr(&stream->peer, &address);
        rc = uv_tcp_connect(&stream->request.connect, &stream->uv.tcp, &address.any, on_connect);
    }
    if (rc) {
        stream_fail_uv(stream, rc, "cannot connect");
        stream_kick(stream);
    }
    return ERR_OK;
}

enum err stream_connect(struct loop *loop, const struct endpoint *to, const struct endpoint *source,
                        uint64_t deadline_ms, stream_fn *fn, void *arg, struct stream **out_stream,
                        struct fault *fault)
{
    struct stream *stream = stream_make(loop);

    stream->peer = *to;
    stream->fn = fn;
    stream->arg = arg;
    if (to->family == ENDPOINT_UNIX) {
        connect_unix(stream);
    } else {
        enum err err = connect_tcp(stream, source, fault);
        if (err) {
            free(stream); /* nothing of it is known to libuv yet */
            return err;
        }
    }
    stream_deadline(stream, deadline_ms);
    *out_stream = stream;
    return ERR_OK;
}
