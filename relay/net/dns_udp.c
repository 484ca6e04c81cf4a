/*
 * dns_udp.c - a question in a datagram.
 */
#include "relay/net/dns_exchange_uv.h"
#include "relay/net/sockaddr.h"

struct udp {
    struct dns_exchange exchange;
    uv_udp_t socket;
};

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct dns_exchange *exchange = handle->data;

    (void)suggested;
    *out = uv_buf_init(loop_read_buffer(exchange->loop), LOOP_READ_BUFFER);
}

static void on_packet(uv_udp_t *socket, ssize_t len, const uv_buf_t *buf,
                      const struct sockaddr *from, unsigned flags)
{
    struct dns_exchange *exchange = socket->data;

    (void)flags; /* the buffer holds any datagram: none is cut */
    if (len < 0)
        dns_exchange_fail(exchange, (int)len);
    else if (from) /* else: nothing more to read */
        exchange->answered(exchange->arg, (const uint8_t *)buf->base, (size_t)len);
}

static int begin(struct udp *udp, const struct dns_exchange_request *request)
{
    union sockaddr_any to;
    uv_buf_t buf = uv_buf_init((char *)request->bytes, (unsigned)request->len);

    endpoint_to_sockaddr(request->server, &to);
    int status = uv_udp_connect(&udp->socket, &to.any);
    if (status == 0)
        status = uv_udp_recv_start(&udp->socket, on_room, on_packet);
    if (status == 0)
        status = uv_udp_try_send(&udp->socket, &buf, 1, NULL);
    return status < 0 ? status : 0;
}

enum err dns_exchange_udp(struct loop *loop, const struct dns_exchange_request *request,
                          struct dns_exchange **out_exchange, struct fault *fault)
{
    struct udp *udp = mem_alloc(sizeof(*udp));
    struct dns_exchange *exchange = &udp->exchange;

    uv_udp_init(loop_uv(loop), &udp->socket); /* makes no socket yet: cannot fail */
    dns_exchange_init(exchange, (uv_handle_t *)&udp->socket, loop, request);
    int status = begin(udp, request);
    if (status) {
        dns_exchange_close(&exchange);
        return fault_set(fault, err_of_errno(-status), "%s", uv_strerror(status));
    }
    *out_exchange = exchange;
    return ERR_OK;
}
