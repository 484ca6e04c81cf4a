/*
 * tls_client.c - how we shake hands as a client, by level.
 *
 * Three contexts, each made when first needed: for encryption alone (lenient:
 * any TLS beats clear text), for DANE (strict, no roots) and for identity
 * (strict, with roots). Loading a whole CA bundle takes 40 ms, so nobody pays
 * for it who asks for no identity.
 */
#include "relay/net/tls_impl.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum kind { ENCRYPT, DANE, IDENTIFY, KINDS };

struct tls_client {
    atomic_uint refs;
    char *ca_file; /* NULL: the system's */
    pthread_mutex_t lock;
    SSL_CTX *contexts[KINDS]; /* under lock until made, constant after */
    struct tls_sessions *sessions;
};

/* ---- contexts ---- */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    const struct tls_call *call = tls_call_of(ssl);

    if (!call || !call->session_key)
        return 0;
    tls_sessions_put(tls_client_sessions(call->client), call->session_key, session);
    return 1; /* the reference is ours now */
}

static bool load_roots(const struct tls_client *client, SSL_CTX *context, struct fault *fault)
{
    if (!client->ca_file)
        return SSL_CTX_set_default_verify_paths(context) == 1;
    if (SSL_CTX_load_verify_locations(context, client->ca_file, NULL) != 1) {
        ERR_clear_error();
        fault_set(fault, ERR_TLS, "%s does not hold CA certificates in PEM form", client->ca_file);
        return false;
    }
    /* Whoever names a file may put a server's own certificate there. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
    return true;
}

static bool set_up(const struct tls_client *client, enum kind kind, SSL_CTX *context,
                   struct fault *fault)
{
    switch (kind) {
    case ENCRYPT:
        /* An old key or digest is no reason to go on in clear. */
        SSL_CTX_set_security_level(context, 0);
        SSL_CTX_set_options(context, SSL_OP_LEGACY_SERVER_CONNECT);
        return true;
    case DANE:
        SSL_CTX_set_security_level(context, 2);
        if (SSL_CTX_dane_enable(context) <= 0)
            return false;
        SSL_CTX_dane_set_flags(context, DANE_FLAG_NO_DANE_EE_NAMECHECKS); /* RFC 7672 3.1.1 */
        return true;
    case IDENTIFY:
        SSL_CTX_set_security_level(context, 2);
        return load_roots(client, context, fault);
    case KINDS:
        break;
    }
    return false;
}

static SSL_CTX *make_context(const struct tls_client *client, enum kind kind, struct fault *fault)
{
    SSL_CTX *context = tls_context_new(TLS_client_method(), fault);

    if (!context)
        return NULL;
    fault_set(fault, ERR_TLS, "cannot set up TLS");
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_session_cache_mode(context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(context, on_session);
    if (set_up(client, kind, context, fault))
        return context;
    SSL_CTX_free(context);
    ERR_clear_error();
    return NULL;
}

static SSL_CTX *context_of(struct tls_client *client, enum kind kind, struct fault *fault)
{
    pthread_mutex_lock(&client->lock);
    if (!client->contexts[kind])
        client->contexts[kind] = make_context(client, kind, fault);
    SSL_CTX *context = client->contexts[kind];
    pthread_mutex_unlock(&client->lock);
    return context;
}

/* ---- life ---- */

enum err tls_client_new(const char *ca_file, struct tls_client **out_client, struct fault *fault)
{
    if (ca_file && access(ca_file, R_OK))
        return fault_errno(fault, errno, "cannot read the CA file %s", ca_file);
    struct tls_client *client = mem_alloc(sizeof(*client));
    atomic_init(&client->refs, 1);
    pthread_mutex_init(&client->lock, NULL);
    if (ca_file)
        client->ca_file = str_dup(str_of(ca_file));
    client->sessions = tls_sessions_new();
    *out_client = client;
    return ERR_OK;
}

struct tls_client *tls_client_ref(struct tls_client *client)
{
    atomic_fetch_add(&client->refs, 1);
    return client;
}

void tls_client_free(struct tls_client **client_at)
{
    struct tls_client *client = *client_at;

    *client_at = NULL;
    if (!client || atomic_fetch_sub(&client->refs, 1) != 1)
        return;
    tls_sessions_free(&client->sessions);
    for (size_t kind = 0; kind < KINDS; kind++)
        SSL_CTX_free(client->contexts[kind]);
    pthread_mutex_destroy(&client->lock);
    free(client->ca_file);
    free(client);
}

struct tls_sessions *tls_client_sessions(struct tls_client *client) { return client->sessions; }

/* ---- one handshake ---- */

static bool is_usable(const struct tlsa *tlsa)
{
    /* RFC 7672 3.1.3: PKIX usages 0 and 1 mean nothing here. OpenSSL would take them. */
    return tlsa->usage == 2 || tlsa->usage == 3;
}

static size_t add_tlsa(SSL *ssl, const struct tls_request *request)
{
    size_t added = 0;

    for (size_t i = 0; i < request->tlsa_count; i++) {
        const struct tlsa *tlsa = &request->tlsa[i];
        if (is_usable(tlsa) && SSL_dane_tlsa_add(ssl, tlsa->usage, tlsa->selector, tlsa->matching,
                                                 tlsa->data, tlsa->len) == 1)
            added++;
    }
    ERR_clear_error(); /* an unusable record is not an error */
    return added;
}

static bool is_ip(const char *host)
{
    ASN1_OCTET_STRING *ip = a2i_IPADDRESS(host);
    bool yes = ip != NULL;

    ASN1_OCTET_STRING_free(ip);
    ERR_clear_error();
    return yes;
}

static void require_identity(SSL *ssl, const struct tls_request *request)
{
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (is_ip(request->host))
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), request->host);
    else
        SSL_set1_host(ssl, request->host);
    if (request->also_name)
        SSL_add1_host(ssl, request->also_name);
    SSL_set_verify(ssl, SSL_VERIFY_PEER, tls_on_verify);
}

static void no_identity(SSL *ssl, struct tls_call *call, const char *why)
{
    SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    str_copy(call->problem, sizeof(call->problem), str_of(why));
}

/* The SSL of a DANE handshake, or NULL when no record can be used: OpenSSL
 * would then go back to PKIX without a word, we do not. */
static SSL *dane_ssl(struct tls_client *client, const struct tls_request *request,
                     struct fault *fault)
{
    SSL_CTX *context = context_of(client, DANE, fault);
    SSL *ssl = context ? SSL_new(context) : NULL;

    if (!ssl)
        return NULL;
    if (SSL_dane_enable(ssl, is_ip(request->host) ? NULL : request->host) > 0 &&
        add_tlsa(ssl, request) > 0)
        return ssl;
    SSL_free(ssl);
    return NULL;
}

/* Sessions are kept apart by level and host, whatever the caller's key says: a
 * resumed session proves what the first one proved, no more. */
static char *full_key(const struct tls_request *request)
{
    char *key = NULL;

    if (!request->session_key ||
        asprintf(&key, "%d %s %s %s", (int)request->level, request->host,
                 request->also_name ? request->also_name : "", request->session_key) < 0)
        return NULL;
    return key;
}

static void resume(SSL *ssl, struct tls_call *call)
{
    SSL_SESSION *session =
        call->session_key ? tls_sessions_get(call->client->sessions, call->session_key) : NULL;

    if (session)
        SSL_set_session(ssl, session);
    SSL_SESSION_free(session);
}

enum err tls_client_ssl(struct tls_client *client, const struct tls_request *request, SSL **out_ssl,
                        struct fault *fault)
{
    struct fault why = { ERR_TLS, "cannot start TLS" };
    bool wants_identity = request->level == POLICY_VERIFIED || request->level == POLICY_IMPLICIT;
    bool wants_dane = request->level == POLICY_DANE && request->tlsa_count > 0;

    SSL *ssl = wants_dane ? dane_ssl(client, request, &why) : NULL;
    bool is_dane = ssl != NULL;
    if (!ssl) {
        SSL_CTX *context = context_of(client, wants_identity ? IDENTIFY : ENCRYPT, &why);
        ssl = context ? SSL_new(context) : NULL;
    }
    if (!ssl)
        return fault_set(fault, why.err, "%s", why.text);
    struct tls_call *call = tls_call_attach(ssl, client, request);
    call->is_dane = is_dane;
    call->is_identified = is_dane || wants_identity;
    if (is_dane) {
        if (request->also_name)
            SSL_add1_host(ssl, request->also_name); /* RFC 7672 3.2.3 */
        SSL_set_verify(ssl, SSL_VERIFY_PEER, tls_on_verify);
    } else if (wants_identity) {
        require_identity(ssl, request);
    } else {
        no_identity(ssl, call,
                    wants_dane ? "not checked: no TLSA record is usable" : "not checked");
    }
    if (!is_ip(request->host) && request->host[0])
        SSL_set_tlsext_host_name(ssl, request->host);
    /* TLSA records may have changed since a session was made: DANE asks anew each time. */
    call->session_key = is_dane ? NULL : full_key(request);
    resume(ssl, call);
    *out_ssl = ssl;
    return ERR_OK;
}
