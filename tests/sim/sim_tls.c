/*
 * sim_tls.c - net/tls.h without certificates: what a handshake proves is a word
 * of the far host's script (see host.h).
 */
#include "relay/net/tls.h"

#include "relay/base/str.h"

#include <stdlib.h>

struct tls_client {
    char unused;
};

enum err tls_client_new(const char *ca_file, struct tls_client **out_client, struct fault *fault)
{
    (void)ca_file;
    (void)fault;
    *out_client = mem_alloc(sizeof(**out_client));
    return ERR_OK;
}

void tls_client_free(struct tls_client **client)
{
    free(*client);
    *client = NULL;
}

/* Replays have no listeners, so no certificates of ours either. */
enum err tls_server_new(const struct tls_pair *pairs, size_t count, struct tls_server **out_server,
                        struct fault *fault)
{
    (void)pairs;
    (void)count;
    (void)out_server;
    return fault_set(fault, ERR_UNSUPPORTED, "the simulation has no server certificates");
}

struct tls_server *tls_server_ref(struct tls_server *server) { return server; }
void tls_server_unref(struct tls_server **server) { *server = NULL; }
