/*
 * endpoint.c - addresses read, written and compared; networks too.
 *
 * inet_pton is the judge of what an address is. "*" means every address of
 * both families and is kept as the IPv6 wildcard; whoever binds falls back to
 * IPv4 where there is no IPv6.
 */
#include "relay/net/endpoint.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>

static bool pton(int family, struct str text, uint8_t *out)
{
    char s[INET6_ADDRSTRLEN];

    if (text.len == 0 || text.len >= sizeof(s) || memchr(text.at, '\0', text.len))
        return false;
    str_copy(s, sizeof(s), text);
    return inet_pton(family, s, out) == 1;
}

/* "eth0" or "2" behind the % of a link-local address */
static bool scope_of(struct str text, uint32_t *out_id)
{
    char name[IF_NAMESIZE];
    uint64_t number = 0;

    if (str_u64(text, &number) && number > 0 && number <= UINT32_MAX) {
        *out_id = (uint32_t)number;
        return true;
    }
    if (text.len == 0 || text.len >= sizeof(name))
        return false;
    str_copy(name, sizeof(name), text);
    *out_id = if_nametoindex(name);
    return *out_id != 0;
}

bool endpoint_ip(struct str text, struct endpoint *out)
{
    struct endpoint endpoint = { 0 };
    size_t percent = str_chr(text, '%');

    if (pton(AF_INET, text, endpoint.ip)) {
        endpoint.family = ENDPOINT_IPV4;
    } else if (pton(AF_INET6, str_head(text, percent), endpoint.ip)) {
        endpoint.family = ENDPOINT_IPV6;
        if (percent < text.len && !scope_of(str_from(text, percent + 1), &endpoint.scope_id))
            return false;
    } else {
        return false;
    }
    *out = endpoint;
    return true;
}

static enum err parse_unix(struct str path, struct endpoint *out, struct fault *fault)
{
    struct endpoint endpoint = { .family = ENDPOINT_UNIX };

    if (path.len == 0 || path.at[0] != '/')
        return fault_set(fault, ERR_INVALID, "the path of a unix socket must begin with /");
    if (path.len >= sizeof(endpoint.path))
        return fault_set(fault, ERR_INVALID, "the path of a unix socket is too long (at most %zu)",
                         sizeof(endpoint.path) - 1);
    str_copy(endpoint.path, sizeof(endpoint.path), path);
    *out = endpoint;
    return ERR_OK;
}

/* Split "host:port", "[v6]:port", "host", "[v6]" and a bare v6 address. */
static bool split_port(struct str text, struct str *out_host, struct str *out_port)
{
    size_t colon = str_chr(text, ':');
    size_t close = str_chr(text, ']');

    *out_port = STR_EMPTY;
    *out_host = text;
    if (text.len && text.at[0] == '[') {
        if (close >= text.len)
            return false;
        *out_host = str_from(str_head(text, close), 1);
        *out_port = str_from(text, close + 1);
        if (out_port->len == 0)
            return true;
        if (out_port->at[0] != ':' || out_port->len == 1)
            return false;
        *out_port = str_from(*out_port, 1);
        return true;
    }
    if (colon >= text.len || str_chr(str_from(text, colon + 1), ':') + colon + 1 < text.len)
        return true; /* no colon, or an IPv6 address without brackets */
    *out_host = str_head(text, colon);
    *out_port = str_from(text, colon + 1);
    return out_port->len > 0;
}

static enum err parse_port(struct str text, uint16_t default_port, uint16_t *out_port,
                           struct fault *fault)
{
    uint64_t port = default_port;

    if (text.len && (!str_u64(text, &port) || port > UINT16_MAX))
        return fault_set(fault, ERR_INVALID, "\"" STR_FMT "\" is not a port (0 to 65535)",
                         STR_ARG(str_head(text, 20)));
    if (!text.len && !default_port)
        return fault_set(fault, ERR_INVALID, "a port is missing (write ADDRESS:PORT)");
    *out_port = (uint16_t)port;
    return ERR_OK;
}

enum err endpoint_parse(struct str text, uint16_t default_port, struct endpoint *out,
                        struct fault *fault)
{
    struct str host, port;
    struct endpoint endpoint = { 0 };

    if (str_starts(text, STR("unix:")))
        return parse_unix(str_from(text, 5), out, fault);
    if (!split_port(text, &host, &port))
        return fault_set(fault, ERR_INVALID, "\"" STR_FMT "\" is not ADDRESS:PORT",
                         STR_ARG(str_head(text, 80)));
    if (str_eq(host, STR("*")))
        endpoint.family = ENDPOINT_IPV6;
    else if (!endpoint_ip(host, &endpoint))
        return fault_set(fault, ERR_INVALID, "\"" STR_FMT "\" is not an IPv4 or IPv6 address",
                         STR_ARG(str_head(host, 80)));
    enum err err = parse_port(port, default_port, &endpoint.port, fault);
    if (err)
        return err;
    *out = endpoint;
    return ERR_OK;
}

static size_t put(char *out, size_t size, const char *text)
{
    return str_copy(out, size, str_of(text));
}

size_t endpoint_print_ip(const struct endpoint *endpoint, char *out, size_t size)
{
    char ip[INET6_ADDRSTRLEN + 16] = "";

    switch (endpoint->family) {
    case ENDPOINT_IPV4:
        inet_ntop(AF_INET, endpoint->ip, ip, sizeof(ip));
        return put(out, size, ip);
    case ENDPOINT_IPV6:
        inet_ntop(AF_INET6, endpoint->ip, ip, sizeof(ip));
        if (endpoint->scope_id) {
            size_t len = strlen(ip);
            snprintf(ip + len, sizeof(ip) - len, "%%%u", endpoint->scope_id);
        }
        return put(out, size, ip);
    case ENDPOINT_UNIX:
        return put(out, size, endpoint->path);
    case ENDPOINT_NONE:
        break;
    }
    return put(out, size, "");
}

size_t endpoint_print(const struct endpoint *endpoint, char *out, size_t size)
{
    char ip[ENDPOINT_TEXT], text[ENDPOINT_TEXT + 16];

    endpoint_print_ip(endpoint, ip, sizeof(ip));
    switch (endpoint->family) {
    case ENDPOINT_IPV4:
        snprintf(text, sizeof(text), "%s:%u", ip, endpoint->port);
        return put(out, size, text);
    case ENDPOINT_IPV6:
        snprintf(text, sizeof(text), "[%s]:%u", ip, endpoint->port);
        return put(out, size, text);
    case ENDPOINT_UNIX:
        snprintf(text, sizeof(text), "unix:%s", ip);
        return put(out, size, text);
    case ENDPOINT_NONE:
        break;
    }
    return put(out, size, "");
}

size_t endpoint_literal(const struct endpoint *endpoint, char *out, size_t size)
{
    char ip[ENDPOINT_TEXT], text[ENDPOINT_TEXT + 16];
    struct endpoint bare = *endpoint;

    bare.scope_id = 0; /* RFC 5321 has no place for it */
    endpoint_print_ip(&bare, ip, sizeof(ip));
    snprintf(text, sizeof(text), endpoint->family == ENDPOINT_IPV6 ? "[IPv6:%s]" : "[%s]", ip);
    return put(out, size, text);
}

/* The 16 octets of an address, IPv4 as ::ffff:a.b.c.d; false: it has none. */
static bool as_ipv6(enum endpoint_family family, const uint8_t ip[16], uint8_t out[16])
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    if (family == ENDPOINT_IPV6) {
        memcpy(out, ip, 16);
        return true;
    }
    if (family != ENDPOINT_IPV4)
        return false;
    memcpy(out, mapped, 12);
    memcpy(out + 12, ip, 4);
    return true;
}

bool endpoint_same_ip(const struct endpoint *a, const struct endpoint *b)
{
    uint8_t x[16], y[16];

    if (!as_ipv6(a->family, a->ip, x) || !as_ipv6(b->family, b->ip, y))
        return false;
    return memcmp(x, y, 16) == 0 && a->scope_id == b->scope_id;
}

bool endpoint_is_loopback(const struct endpoint *endpoint)
{
    static const struct network v4 = { { 127 }, 8, ENDPOINT_IPV4 };
    static const struct network v6 = { { [15] = 1 }, 128, ENDPOINT_IPV6 };

    return endpoint->family == ENDPOINT_UNIX || network_has(&v4, endpoint) ||
           network_has(&v6, endpoint);
}

bool network_parse(struct str text, struct network *out)
{
    size_t slash = str_chr(text, '/');
    struct endpoint address = { 0 };
    uint64_t bits = 0;

    if (!endpoint_ip(str_head(text, slash), &address) || address.scope_id)
        return false;
    unsigned width = address.family == ENDPOINT_IPV4 ? 32 : 128;
    if (slash >= text.len)
        bits = width;
    else if (!str_u64(str_from(text, slash + 1), &bits) || bits > width)
        return false;
    *out = (struct network){ .bits = (unsigned)bits, .family = address.family };
    memcpy(out->ip, address.ip, sizeof(out->ip));
    return true;
}

bool network_has(const struct network *network, const struct endpoint *endpoint)
{
    uint8_t net[16], ip[16];
    unsigned bits = network->bits + (network->family == ENDPOINT_IPV4 ? 96 : 0);

    if (!as_ipv6(network->family, network->ip, net) || !as_ipv6(endpoint->family, endpoint->ip, ip))
        return false;
    /* 0.0.0.0/0 must not have IPv6 addresses, nor ::/0 IPv4 ones. */
    bool is_v4 =
        endpoint->family == ENDPOINT_IPV4 || memcmp(ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0;
    if (is_v4 != (network->family == ENDPOINT_IPV4))
        return false;
    if (memcmp(net, ip, bits / 8) != 0)
        return false;
    unsigned rest = bits % 8;
    return rest == 0 || ((net[bits / 8] ^ ip[bits / 8]) >> (8 - rest)) == 0;
}
