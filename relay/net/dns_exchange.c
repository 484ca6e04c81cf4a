/*
 * dns_exchange.c - what a question by UDP and one by TCP have in common.
 */
#include "relay/net/dns_exchange_uv.h"

#include <stdlib.h>

void dns_exchange_init(struct dns_exchange *exchange, uv_handle_t *handle, struct loop *loop,
                       const struct dns_exchange_request *request)
{
    exchange->handle = handle;
    exchange->loop = loop;
    exchange->answered = request->answered;
    exchange->failed = request->failed;
    exchange->arg = request->arg;
    handle->data = exchange;
}

void dns_exchange_fail(struct dns_exchange *exchange, int status)
{
    struct fault fault;

    fault_set(&fault, err_of_errno(-status), "%s",
              status == UV_EOF ? "connection closed" : uv_strerror(status));
    exchange->failed(exchange->arg, &fault);
}

static void on_closed(uv_handle_t *handle)
{
    struct dns_exchange *exchange = handle->data;

    if (exchange->clear)
        exchange->clear(exchange);
    free(exchange);
}

void dns_exchange_close(struct dns_exchange **exchange)
{
    if (*exchange)
        uv_close((*exchange)->handle, on_closed);
    *exchange = NULL;
}
