/*
 * endpoint.h - an address and port, or the path of a unix socket, as a value.
 */
#ifndef WAYPOST_NET_ENDPOINT_H
#define WAYPOST_NET_ENDPOINT_H

#include "relay/base/err.h"
#include "relay/base/str.h"

enum endpoint_family { ENDPOINT_NONE, ENDPOINT_IPV4, ENDPOINT_IPV6, ENDPOINT_UNIX };

#define ENDPOINT_TEXT 128

struct endpoint {
    enum endpoint_family family;
    uint16_t port;
    uint32_t scope_id; /* IPv6 link-local */
    uint8_t ip[16];    /* network order; 4 used by IPv4 */
    char path[108];    /* ENDPOINT_UNIX */
};

/* "192.0.2.1:25", "[2001:db8::1]:25", "*:25" (wildcard: IPv6 any, dual stack), "0.0.0.0:25",
 * "unix:/path". `default_port` when none is written (0: a port is needed). */
enum err endpoint_parse(struct str text, uint16_t default_port, struct endpoint *out,
                        struct fault *fault);
bool endpoint_ip(struct str text, struct endpoint *out); /* an address without port or brackets */
size_t endpoint_print(const struct endpoint *endpoint, char *out,
                      size_t size); /* "[2001:db8::1]:25" */
size_t endpoint_print_ip(const struct endpoint *endpoint, char *out,
                         size_t size); /* no port, no brackets */
/* RFC 5321 4.1.3: "[192.0.2.1]" or "[IPv6:2001:db8::1]" */
size_t endpoint_literal(const struct endpoint *endpoint, char *out, size_t size);
bool endpoint_same_ip(const struct endpoint *a, const struct endpoint *b); /* v4-mapped equals v4 */
bool endpoint_is_loopback(const struct endpoint *endpoint);

struct network { /* "192.0.2.0/24", "::1", "2001:db8::/32" */
    uint8_t ip[16];
    unsigned bits;
    enum endpoint_family family;
};
bool network_parse(struct str text, struct network *out);
bool network_has(const struct network *network, const struct endpoint *endpoint);

#endif
