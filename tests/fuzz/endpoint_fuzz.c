/*
 * endpoint_fuzz.c - any bytes as a PROXY header, an endpoint and a network.
 *
 * What was read can be written and read again; a header is never read past its end.
 */
#include "relay/net/endpoint.h"
#include "relay/net/proxy.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
    if (!is_true)
        abort();
}

static void check_endpoint(struct str text)
{
    struct endpoint first, second;
    char printed[ENDPOINT_TEXT];

    if (endpoint_parse(text, 25, &first, NULL))
        return;
    endpoint_print(&first, printed, sizeof(printed));
    must(endpoint_parse(str_of(printed), 0, &second, NULL) == ERR_OK);
    must(first.family == second.family && first.port == second.port);
    must(first.family == ENDPOINT_UNIX || endpoint_same_ip(&first, &second));
}

static void check_network(struct str text)
{
    struct network network;
    struct endpoint address;

    if (!network_parse(text, &network))
        return;
    address = (struct endpoint){ .family = network.family };
    memcpy(address.ip, network.ip, sizeof(address.ip));
    network_has(&network, &address);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str bytes = str_make((const char *)data, size);
    struct proxy_facts facts;
    size_t len = 0;

    if (proxy_length(bytes, &len, NULL) == ERR_OK)
        must(len >= PROXY_FIXED && len <= PROXY_FIXED + PROXY_MAX_BODY);
    if (proxy_parse(bytes, &facts, NULL) == ERR_OK && !facts.is_local)
        must(facts.client.family == facts.server.family || facts.client.family == ENDPOINT_IPV4 ||
             facts.server.family == ENDPOINT_IPV4);
    check_endpoint(bytes);
    check_network(bytes);
    return 0;
}
