/*
 * sockaddr.h - endpoints as the kernel wants them; private to this layer.
 */
#ifndef WAYPOST_NET_SOCKADDR_H
#define WAYPOST_NET_SOCKADDR_H

#include "relay/net/endpoint.h"

#include <sys/socket.h>

union sockaddr_any {
    struct sockaddr any;
    struct sockaddr_storage room;
};

socklen_t endpoint_to_sockaddr(const struct endpoint *endpoint, union sockaddr_any *out);
/* IPv4-mapped IPv6 addresses come out as IPv4. */
void endpoint_of_sockaddr(const union sockaddr_any *address, socklen_t len, struct endpoint *out);

#endif
