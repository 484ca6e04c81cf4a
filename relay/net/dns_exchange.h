/*
 * dns_exchange.h - one question to one server over one socket of its own.
 *
 * A fresh socket for each try: the kernel gives it a random port, and since
 * it is connected only packets from that server's address and port come in
 * (RFC 5452 section 9), and a closed port is heard of at once.
 *
 * `answered` is called for every packet, until dns_exchange_close(); it may
 * close. `failed` is called once, with what happened in words ("connection
 * refused"); only closing is left then. Neither is called from inside a call.
 */
#ifndef WAYPOST_NET_DNS_EXCHANGE_H
#define WAYPOST_NET_DNS_EXCHANGE_H

#include "relay/net/endpoint.h"
#include "relay/net/loop.h"

typedef void dns_answered_fn(void *arg, const uint8_t *bytes, size_t len);
typedef void dns_failed_fn(void *arg, const struct fault *fault);

struct dns_exchange_request {
    const struct endpoint *server;
    const uint8_t *bytes; /* the question; copied */
    size_t len;
    dns_answered_fn *answered;
    dns_failed_fn *failed;
    void *arg;
};

struct dns_exchange;

enum err dns_exchange_udp(struct loop *loop, const struct dns_exchange_request *request,
                          struct dns_exchange **out_exchange, struct fault *fault);
enum err dns_exchange_tcp(struct loop *loop, const struct dns_exchange_request *request,
                          struct dns_exchange **out_exchange, struct fault *fault);
void dns_exchange_close(struct dns_exchange **exchange); /* NULL: nothing to do */

#endif
