/*
 * sockaddr.c - between struct endpoint and struct sockaddr.
 */
#include "relay/net/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/un.h>

static socklen_t to_in(const struct endpoint *endpoint, struct sockaddr_in *in)
{
    in->sin_family = AF_INET;
    in->sin_port = htons(endpoint->port);
    memcpy(&in->sin_addr, endpoint->ip, 4);
    return sizeof(*in);
}

static socklen_t to_in6(const struct endpoint *endpoint, struct sockaddr_in6 *in6)
{
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(endpoint->port);
    in6->sin6_scope_id = endpoint->scope_id;
    memcpy(&in6->sin6_addr, endpoint->ip, 16);
    return sizeof(*in6);
}

static socklen_t to_un(const struct endpoint *endpoint, struct sockaddr_un *un)
{
    un->sun_family = AF_UNIX;
    str_copy(un->sun_path, sizeof(un->sun_path), str_of(endpoint->path));
    return sizeof(*un);
}

socklen_t endpoint_to_sockaddr(const struct endpoint *endpoint, union sockaddr_any *out)
{
    memset(out, 0, sizeof(*out));
    switch (endpoint->family) {
    case ENDPOINT_IPV4:
        return to_in(endpoint, (struct sockaddr_in *)&out->room);
    case ENDPOINT_IPV6:
        return to_in6(endpoint, (struct sockaddr_in6 *)&out->room);
    case ENDPOINT_UNIX:
        return to_un(endpoint, (struct sockaddr_un *)&out->room);
    case ENDPOINT_NONE:
        break;
    }
    return 0;
}

static void of_in6(const struct sockaddr_in6 *in6, struct endpoint *out)
{
    out->port = ntohs(in6->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        out->family = ENDPOINT_IPV4;
        memcpy(out->ip, in6->sin6_addr.s6_addr + 12, 4);
        return;
    }
    out->family = ENDPOINT_IPV6;
    out->scope_id = in6->sin6_scope_id;
    memcpy(out->ip, &in6->sin6_addr, 16);
}

void endpoint_of_sockaddr(const union sockaddr_any *address, socklen_t len, struct endpoint *out)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address->room;
    const struct sockaddr_un *un = (const struct sockaddr_un *)&address->room;

    *out = (struct endpoint){ 0 };
    if (len < sizeof(sa_family_t))
        return;
    if (address->any.sa_family == AF_INET && len >= sizeof(*in)) {
        out->family = ENDPOINT_IPV4;
        out->port = ntohs(in->sin_port);
        memcpy(out->ip, &in->sin_addr, 4);
    } else if (address->any.sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        of_in6((const struct sockaddr_in6 *)&address->room, out);
    } else if (address->any.sa_family == AF_UNIX) {
        out->family = ENDPOINT_UNIX;
        if (len > offsetof(struct sockaddr_un, sun_path)) /* else: a peer without a name */
            str_copy(out->path, sizeof(out->path), str_of(un->sun_path));
    }
}
