/*
 * dns_tcp.c - a question over a connection: both ways two octets of length come first.
 */
#include "relay/net/dns_exchange_uv.h"
#include "relay/net/sockaddr.h"

#include "relay/base/buf.h"
#include "relay/base/container.h"

#include <stdlib.h>

struct tcp {
    struct dns_exchange exchange;
    uv_tcp_t socket;
    uv_connect_t connect;
    uv_write_t write;
    struct buf in;
    size_t out_len;
    char out[]; /* length and question */
};

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct dns_exchange *exchange = handle->data;

    (void)suggested;
    *out = uv_buf_init(loop_read_buffer(exchange->loop), LOOP_READ_BUFFER);
}

/* Packets are taken out one by one; after each the exchange may have been closed. */
static void deliver(struct tcp *tcp)
{
    struct dns_exchange *exchange = &tcp->exchange;

    while (!uv_is_closing(exchange->handle) && tcp->in.len >= 2) {
        const uint8_t *at = (const uint8_t *)tcp->in.at;
        size_t len = (size_t)(at[0] << 8 | at[1]);
        if (tcp->in.len < 2 + len)
            return;
        exchange->answered(exchange->arg, at + 2, len);
        buf_consume(&tcp->in, 2 + len);
    }
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct tcp *tcp = stream->data;

    if (len < 0) {
        uv_read_stop(stream);
        dns_exchange_fail(&tcp->exchange, (int)len);
        return;
    }
    /* One packet and one read always fit, so this only fails when the bound does not hold. */
    if (!buf_append(&tcp->in, buf->base, (size_t)len)) {
        uv_read_stop(stream);
        dns_exchange_fail(&tcp->exchange, UV_EMSGSIZE);
        return;
    }
    deliver(tcp);
}

static void on_written(uv_write_t *write, int status)
{
    struct tcp *tcp = write->data;

    if (status < 0 && !uv_is_closing(tcp->exchange.handle))
        dns_exchange_fail(&tcp->exchange, status);
}

static int send_question(struct tcp *tcp)
{
    uv_stream_t *stream = (uv_stream_t *)&tcp->socket;
    uv_buf_t buf = uv_buf_init(tcp->out, (unsigned)tcp->out_len);

    tcp->write.data = tcp;
    int status = uv_write(&tcp->write, stream, &buf, 1, on_written);
    return status ? status : uv_read_start(stream, on_room, on_read);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct tcp *tcp = connect->data;

    if (uv_is_closing(tcp->exchange.handle))
        return;
    if (status == 0)
        status = send_question(tcp);
    if (status < 0)
        dns_exchange_fail(&tcp->exchange, status);
}

static void tcp_clear(struct dns_exchange *exchange)
{
    struct tcp *tcp = container_of(exchange, struct tcp, exchange);

    buf_clear(&tcp->in);
}

static struct tcp *tcp_new(const struct dns_exchange_request *request)
{
    struct tcp *tcp = mem_alloc(sizeof(*tcp) + 2 + request->len);

    buf_init(&tcp->in, 2 + UINT16_MAX + LOOP_READ_BUFFER);
    tcp->out_len = 2 + request->len;
    tcp->out[0] = (char)(request->len >> 8);
    tcp->out[1] = (char)(request->len & 0xff);
    memcpy(tcp->out + 2, request->bytes, request->len);
    tcp->connect.data = tcp;
    return tcp;
}

enum err dns_exchange_tcp(struct loop *loop, const struct dns_exchange_request *request,
                          struct dns_exchange **out_exchange, struct fault *fault)
{
    struct tcp *tcp = tcp_new(request);
    struct dns_exchange *exchange = &tcp->exchange;
    union sockaddr_any to;

    uv_tcp_init(loop_uv(loop), &tcp->socket); /* makes no socket yet: cannot fail */
    dns_exchange_init(exchange, (uv_handle_t *)&tcp->socket, loop, request);
    exchange->clear = tcp_clear;
    endpoint_to_sockaddr(request->server, &to);
    int status = uv_tcp_connect(&tcp->connect, &tcp->socket, &to.any, on_connected);
    if (status) {
        dns_exchange_close(&exchange);
        return fault_set(fault, err_of_errno(-status), "%s", uv_strerror(status));
    }
    *out_exchange = exchange;
    return ERR_OK;
}
