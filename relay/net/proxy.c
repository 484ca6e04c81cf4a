/*
 * proxy.c - read a PROXY protocol v2 header.
 */
#include "relay/net/proxy.h"

#define COMMAND_LOCAL 0
#define COMMAND_PROXY 1
#define FAMILY_TCP4 0x11
#define FAMILY_TCP6 0x21

static unsigned octet(struct str s, size_t at) { return (unsigned char)s.at[at]; }

static uint16_t number(struct str s, size_t at)
{
    return (uint16_t)(octet(s, at) << 8 | octet(s, at + 1));
}

enum err proxy_length(struct str fixed, size_t *out_len, struct fault *fault)
{
    static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";

    if (fixed.len < PROXY_FIXED || memcmp(fixed.at, signature, 12) != 0)
        return fault_set(fault, ERR_INVALID, "no PROXY protocol v2 header came first");
    if (octet(fixed, 12) >> 4 != 2)
        return fault_set(fault, ERR_VERSION, "PROXY header of version %u (only 2 is known)",
                         octet(fixed, 12) >> 4);
    size_t body = number(fixed, 14);
    if (body > PROXY_MAX_BODY)
        return fault_set(fault, ERR_LIMIT, "PROXY header of %zu octets", body);
    *out_len = PROXY_FIXED + body;
    return ERR_OK;
}

static void address(struct endpoint *out, enum endpoint_family family, struct str from, size_t at,
                    size_t port_at)
{
    struct endpoint endpoint = { .family = family, .port = number(from, port_at) };
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    memcpy(endpoint.ip, from.at + at, family == ENDPOINT_IPV4 ? 4 : 16);
    if (family == ENDPOINT_IPV6 && memcmp(endpoint.ip, mapped, sizeof(mapped)) == 0) {
        endpoint.family = ENDPOINT_IPV4;
        memmove(endpoint.ip, endpoint.ip + 12, 4);
        memset(endpoint.ip + 4, 0, 12);
    }
    *out = endpoint;
}

enum err proxy_parse(struct str header, struct proxy_facts *out, struct fault *fault)
{
    struct proxy_facts facts = { 0 };
    size_t len = 0;

    enum err err = proxy_length(header, &len, fault);
    if (err)
        return err;
    if (header.len != len)
        return fault_set(fault, ERR_INVALID, "PROXY header cut short");
    unsigned command = octet(header, 12) & 0x0f;
    unsigned family = octet(header, 13);
    if (command != COMMAND_LOCAL && command != COMMAND_PROXY)
        return fault_set(fault, ERR_INVALID, "PROXY header with unknown command %u", command);
    if (command == COMMAND_LOCAL || (family != FAMILY_TCP4 && family != FAMILY_TCP6)) {
        facts.is_local = true;
    } else if (len < PROXY_FIXED + (family == FAMILY_TCP4 ? 12u : 36u)) {
        return fault_set(fault, ERR_INVALID, "PROXY header too short for its addresses");
    } else if (family == FAMILY_TCP4) {
        address(&facts.client, ENDPOINT_IPV4, header, 16, 24);
        address(&facts.server, ENDPOINT_IPV4, header, 20, 26);
    } else {
        address(&facts.client, ENDPOINT_IPV6, header, 16, 48);
        address(&facts.server, ENDPOINT_IPV6, header, 32, 50);
    }
    *out = facts;
    return ERR_OK;
}
