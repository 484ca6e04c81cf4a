/*
 * tls.h - TLS contexts: certificates to show, certificates to ask for.
 *
 * A tls_server holds one or more certificate/key pairs chosen by SNI (the
 * first is the default) and is immutable: a reload builds a new one and swaps
 * it, running sessions keep theirs. A tls_client holds one trust store and a
 * session cache per destination, shared by all loops (its own lock); CA files
 * are loaded when first needed.
 */
#ifndef WAYPOST_NET_TLS_H
#define WAYPOST_NET_TLS_H

#include "relay/base/err.h"
#include "relay/mail/policy.h"

struct tls_server;
struct tls_client;

struct tls_pair {
    const char *certificate, *key;
}; /* PEM files; chain in the certificate file */

/* Refuses what cannot work: unreadable files, a key that does not match. What works
 * for some clients only (expired, chain out of order) is told by tls_server_problem(),
 * so that a certificate that runs out does not keep the relay from starting. */
enum err tls_server_new(const struct tls_pair *pairs, size_t count, struct tls_server **out_server,
                        struct fault *fault);
struct tls_server *tls_server_ref(struct tls_server *server); /* any thread */
void tls_server_unref(struct tls_server **server);
/* Wall seconds when the first of its certificates expires. */
int64_t tls_server_expires_at(const struct tls_server *server);
size_t tls_server_first_to_expire(const struct tls_server *server); /* index of that pair */
/* Do both show the same certificates? */
bool tls_server_same(const struct tls_server *a, const struct tls_server *b);
/* One sentence for a person, "" when all is well. */
const char *tls_server_problem(const struct tls_server *server);

/* ca_file NULL: the system's bundle. */
enum err tls_client_new(const char *ca_file, struct tls_client **out_client, struct fault *fault);
void tls_client_free(struct tls_client **client);

struct tlsa { /* RFC 6698; only usages 2 and 3 count for SMTP (RFC 7672) */
    uint8_t usage, selector, matching;
    const uint8_t *data;
    size_t len;
};

struct tls_request {
    const char
        *host; /* SNI and reference identity: the MX host or smarthost name; or an IP literal */
    const char *also_name; /* a second reference identity (DANE: the recipient domain), or NULL */
    enum policy_level level;
    const struct tlsa *tlsa; /* level DANE */
    size_t tlsa_count;
    const char *session_key; /* cache key: destination and level; NULL: no resumption */
};
/* A handshake that does not meet the level fails with ERR_TLS; for levels below
 * verified the facts tell what was proved all the same. */

/* For quickstart and tests: a self-signed certificate (ECDSA P-256, ten years). The key's
 * file is 0600; files that exist already are not touched (ERR_EXISTS). */
enum err tls_self_signed(const char *hostname, const char *certificate, const char *key,
                         struct fault *fault);

#endif
