/*
 * dns_exchange_uv.h - what the two kinds of exchange have in common.
 */
#ifndef WAYPOST_NET_DNS_EXCHANGE_UV_H
#define WAYPOST_NET_DNS_EXCHANGE_UV_H

#include "relay/net/dns_exchange.h"
#include "relay/net/loop_uv.h"

/* The first member of both; freed once libuv has let go of the handle. */
struct dns_exchange {
    uv_handle_t *handle; /* inside the same object */
    struct loop *loop;
    dns_answered_fn *answered;
    dns_failed_fn *failed;
    void *arg;
    void (*clear)(struct dns_exchange *exchange); /* what the kind owns besides; may be NULL */
};

void dns_exchange_init(struct dns_exchange *exchange, uv_handle_t *handle, struct loop *loop,
                       const struct dns_exchange_request *request);
void dns_exchange_fail(struct dns_exchange *exchange, int status);

#endif
