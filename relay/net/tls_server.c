/*
 * tls_server.c - the certificates we show.
 *
 * One SSL_CTX with the default certificates; a client that names a host (SNI)
 * gets, of each key type, the first pair that fits the name: an exact name
 * before a wildcard. So an ECDSA and an RSA certificate for the same host stand
 * side by side, and old clients still find the one they can use.
 */
#include "relay/net/tls_impl.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct tls_server {
    atomic_uint refs;
    SSL_CTX *context;
    struct tls_cert *pairs;
    size_t count;
    int64_t expires_at;
    size_t first_to_expire;
    char problem[256];
    atomic_uint full, resumed; /* handshakes */
};

static int server_index = -1;

/* ---- choosing by name ---- */

enum fit { FIT_NONE, FIT_WILDCARD, FIT_EXACT };

static enum fit fit_of(X509 *leaf, const char *name)
{
    char *matched = NULL;
    enum fit fit = FIT_NONE;

    if (X509_check_host(leaf, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, &matched) == 1)
        fit = matched && strchr(matched, '*') ? FIT_WILDCARD : FIT_EXACT;
    OPENSSL_free(matched);
    return fit;
}

/* The best pair with this key type, or NULL. */
static const struct tls_cert *best_of_type(const struct tls_server *server, int type,
                                           const char *name)
{
    const struct tls_cert *best = NULL;
    enum fit best_fit = FIT_NONE;

    for (size_t i = 0; i < server->count; i++) {
        const struct tls_cert *pair = &server->pairs[i];
        if (EVP_PKEY_get_base_id(pair->key) != type)
            continue;
        enum fit fit = fit_of(pair->leaf, name);
        if (fit > best_fit) {
            best = pair;
            best_fit = fit;
        }
    }
    return best;
}

static bool is_first_of_type(const struct tls_server *server, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (EVP_PKEY_get_base_id(server->pairs[j].key) ==
            EVP_PKEY_get_base_id(server->pairs[i].key))
            return false;
    }
    return true;
}

static size_t choose(const struct tls_server *server, const char *name, const struct tls_cert **out)
{
    size_t count = 0;

    for (size_t i = 0; i < server->count; i++) {
        if (!is_first_of_type(server, i))
            continue;
        const struct tls_cert *best =
            best_of_type(server, EVP_PKEY_get_base_id(server->pairs[i].key), name);
        if (best)
            out[count++] = best;
    }
    return count;
}

static bool is_default_set(const struct tls_server *server, const struct tls_cert **chosen,
                           size_t count)
{
    size_t defaults = 0;

    for (size_t i = 0; i < server->count; i++)
        defaults += server->pairs[i].is_default;
    for (size_t i = 0; i < count; i++) {
        if (!chosen[i]->is_default)
            return false;
    }
    return count == defaults;
}

#define TYPES_MAX 8 /* key types OpenSSL can sign with in TLS: five */

/* ---- tickets ---- */

#define TICKETS_FIRST 64U  /* handshakes that all get one */
#define TICKETS_SAMPLE 16U /* then one of so many, while nobody comes back with one */
#define TICKETS_KEPT 4096U /* handshakes the memory is long */

/* A ticket costs a tenth of a full handshake and spares most of one to a
 * client that comes back with it. Many programs that submit mail never do. */
static bool is_worth_a_ticket(struct tls_server *server)
{
    unsigned full = atomic_fetch_add(&server->full, 1);
    unsigned resumed = atomic_load(&server->resumed);

    if (full >= TICKETS_KEPT) { /* a rough count: two threads here at once do no harm */
        atomic_store(&server->full, full / 2);
        atomic_store(&server->resumed, resumed / 2);
    }
    return full < TICKETS_FIRST || resumed >= full / TICKETS_SAMPLE || full % TICKETS_SAMPLE == 0;
}

void tls_server_shaken(SSL *ssl)
{
    struct tls_server *server = SSL_get_ex_data(ssl, server_index);

    if (SSL_session_reused(ssl))
        atomic_fetch_add(&server->resumed, 1);
}

/* ---- the certificate ---- */

/* Called when a certificate is needed, so not on resumption. */
static int on_certificate(SSL *ssl, void *arg)
{
    struct tls_server *server = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const struct tls_cert *chosen[TYPES_MAX];

    if (!is_worth_a_ticket(server)) {
        SSL_set_num_tickets(ssl, 0);
        SSL_set_options(ssl, SSL_OP_NO_TICKET); /* TLS 1.2 */
    }
    size_t count = name ? choose(server, name, chosen) : 0;
    if (count == 0 || is_default_set(server, chosen, count))
        return 1;
    SSL_certs_clear(ssl);
    for (size_t i = 0; i < count; i++) {
        if (!SSL_use_cert_and_key(ssl, chosen[i]->leaf, chosen[i]->key, chosen[i]->chain, 1))
            return 0;
    }
    return 1;
}

/* Without it OpenSSL would not tie a TLS 1.2 session to the name it was made for. */
static int on_servername(SSL *ssl, int *alert, void *arg)
{
    (void)ssl;
    (void)alert;
    (void)arg;
    return SSL_TLSEXT_ERR_OK;
}

/* ---- the context ---- */

static void drop_server(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long number,
                        void *arg)
{
    struct tls_server *server = pointer;

    (void)parent;
    (void)data;
    (void)index;
    (void)number;
    (void)arg;
    tls_server_unref(&server);
}

static void make_index(void)
{
    server_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, drop_server);
}

/* The first pair, and those with another key type for the same name. */
static void mark_defaults(struct tls_server *server)
{
    char name[256];

    tls_print_subject(server->pairs[0].leaf, name, sizeof(name));
    if (name[0] == '*')
        name[0] = 'x'; /* some name under the wildcard */
    for (size_t i = 0; i < server->count; i++) {
        struct tls_cert *pair = &server->pairs[i];
        int type = EVP_PKEY_get_base_id(pair->key);
        bool is_other_type = type != EVP_PKEY_get_base_id(server->pairs[0].key);
        pair->is_default = i == 0 || (is_other_type && best_of_type(server, type, name) == pair);
    }
}

static enum err make_context(struct tls_server *server, const struct tls_pair *from,
                             struct fault *fault)
{
    server->context = tls_context_new(TLS_server_method(), fault);
    if (!server->context)
        return ERR_TLS;
    SSL_CTX_set_min_proto_version(server->context, TLS1_2_VERSION);
    SSL_CTX_set_options(server->context,
                        SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    /* All three are strong; the first hashes with SHA-256, for which CPUs have instructions:
     * a tenth of the handshake, on both sides. */
    SSL_CTX_set_ciphersuites(server->context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                              "TLS_CHACHA20_POLY1305_SHA256");
    SSL_CTX_set_session_cache_mode(server->context, SSL_SESS_CACHE_OFF); /* tickets do it */
    SSL_CTX_set_num_tickets(server->context, 1);
    SSL_CTX_set_session_id_context(server->context, (const unsigned char *)"waypost", 7);
    SSL_CTX_set_cert_cb(server->context, on_certificate, server);
    SSL_CTX_set_tlsext_servername_callback(server->context, on_servername);
    for (size_t i = 0; i < server->count; i++) {
        const struct tls_cert *pair = &server->pairs[i];
        /* Loading those that are not default too, into nothing, would be lost
         * work; but a key the security level forbids must be found now. */
        SSL *trial = pair->is_default ? NULL : SSL_new(server->context);
        int ok = trial ? SSL_use_cert_and_key(trial, pair->leaf, pair->key, pair->chain, 1)
                       : SSL_CTX_use_cert_and_key(server->context, pair->leaf, pair->key,
                                                  pair->chain, 1);
        SSL_free(trial);
        if (!ok)
            return tls_fault(fault, from[i].certificate, "");
    }
    return ERR_OK;
}

/* ---- life ---- */

static void judge(struct tls_server *server, const struct tls_pair *from)
{
    for (size_t i = 0; i < server->count; i++) {
        int64_t expires_at = tls_time_of(X509_get0_notAfter(server->pairs[i].leaf));
        if (!server->problem[0])
            tls_cert_judge(&server->pairs[i], from[i].certificate, server->problem,
                           sizeof(server->problem));
        if (i == 0 || expires_at < server->expires_at) {
            server->expires_at = expires_at;
            server->first_to_expire = i;
        }
    }
}

static void free_server(struct tls_server *server)
{
    for (size_t i = 0; i < server->count; i++)
        tls_cert_clear(&server->pairs[i]);
    SSL_CTX_free(server->context);
    free(server->pairs);
    free(server);
}

enum err tls_server_new(const struct tls_pair *pairs, size_t count, struct tls_server **out_server,
                        struct fault *fault)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    enum err err = ERR_OK;

    if (count == 0)
        return fault_set(fault, ERR_INVALID, "TLS needs a certificate and its key");
    pthread_once(&once, make_index);
    struct tls_server *server = mem_alloc(sizeof(*server));
    atomic_init(&server->refs, 1);
    server->pairs = mem_alloc(count * sizeof(server->pairs[0]));
    server->count = count;
    for (size_t i = 0; i < count && !err; i++)
        err = tls_cert_load(&pairs[i], &server->pairs[i], fault);
    if (!err) {
        judge(server, pairs);
        mark_defaults(server);
        err = make_context(server, pairs, fault);
    }
    if (err) {
        free_server(server);
        return err;
    }
    *out_server = server;
    return ERR_OK;
}

struct tls_server *tls_server_ref(struct tls_server *server)
{
    atomic_fetch_add(&server->refs, 1);
    return server;
}

void tls_server_unref(struct tls_server **server)
{
    if (*server && atomic_fetch_sub(&(*server)->refs, 1) == 1)
        free_server(*server);
    *server = NULL;
}

int64_t tls_server_expires_at(const struct tls_server *server) { return server->expires_at; }
size_t tls_server_first_to_expire(const struct tls_server *server)
{
    return server->first_to_expire;
}

bool tls_server_same(const struct tls_server *a, const struct tls_server *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (X509_cmp(a->pairs[i].leaf, b->pairs[i].leaf) != 0)
            return false;
    return true;
}

const char *tls_server_problem(const struct tls_server *server) { return server->problem; }

enum err tls_server_ssl(struct tls_server *server, SSL **out_ssl, struct fault *fault)
{
    SSL *ssl = SSL_new(server->context);

    if (!ssl)
        return tls_fault(fault, "cannot start TLS", "");
    SSL_set_ex_data(ssl, server_index, tls_server_ref(server));
    *out_ssl = ssl;
    return ERR_OK;
}
