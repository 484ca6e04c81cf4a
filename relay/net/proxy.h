/*
 * proxy.h - the PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt):
 * a header in front of the connection that names the real client.
 *
 * Pure: bytes in, addresses out. Private to this layer.
 */
#ifndef WAYPOST_NET_PROXY_H
#define WAYPOST_NET_PROXY_H

#include "relay/net/endpoint.h"

#define PROXY_FIXED 16      /* signature, version and command, family, length */
#define PROXY_MAX_BODY 4096 /* addresses take 36 octets, the rest are TLVs we skip */

struct proxy_facts {
    bool is_local; /* the proxy speaks for itself (health check): keep the socket's addresses */
    struct endpoint client, server;
};

/* How long the whole header is, from its first PROXY_FIXED octets. */
enum err proxy_length(struct str fixed, size_t *out_len, struct fault *fault);
/* The whole header. An address family we do not know counts as local. */
enum err proxy_parse(struct str header, struct proxy_facts *out, struct fault *fault);

#endif
