/*
 * tls_impl.h - between tls_*.c and stream_tls.c: OpenSSL's types, private to this layer.
 */
#ifndef WAYPOST_NET_TLS_IMPL_H
#define WAYPOST_NET_TLS_IMPL_H

#include "relay/net/tls.h"

#include <openssl/ssl.h>

/* An SSL that needs only its BIO. It holds references to its context; SSL_free() drops them. */
enum err tls_server_ssl(struct tls_server *server, SSL **out_ssl, struct fault *fault);
/* Its handshake is done: learns whether clients come back with their tickets. */
void tls_server_shaken(SSL *ssl);
enum err tls_client_ssl(struct tls_client *client, const struct tls_request *request, SSL **out_ssl,
                        struct fault *fault);

/* After a handshake, good or bad. */
void tls_facts_learn(SSL *ssl, struct tls_facts *out);
/* What OpenSSL's error queue says, in words, as ERR_TLS; empties the queue. `problem`: what
 * verification found, may be empty. */
enum err tls_fault(struct fault *fault, const char *what, const char *problem);

/* Options and modes that both sides share. */
SSL_CTX *tls_context_new(const SSL_METHOD *method, struct fault *fault);

/* ---- a certificate of ours (tls_cert.c) ---- */

struct tls_cert {
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain;
    bool is_default; /* shown when no name fits */
};
/* On failure too, clear it. */
enum err tls_cert_load(const struct tls_pair *from, struct tls_cert *cert, struct fault *fault);
void tls_cert_clear(struct tls_cert *cert);
/* What makes some clients refuse it, in a sentence; "" when nothing does. */
void tls_cert_judge(const struct tls_cert *cert, const char *path, char *out, size_t size);

/* ---- what the SSL of a client carries with it (tls_verify.c) ---- */

struct tls_call {
    struct tls_client *client; /* a reference */
    char *host, *also_name;
    char *session_key; /* NULL: the session is not kept */
    enum policy_level level;
    bool is_identified; /* the handshake fails unless chain and name, or a TLSA record, are right */
    bool is_dane;       /* usable TLSA records decide */
    char problem[160];
};
struct tls_call *tls_call_attach(SSL *ssl, struct tls_client *client,
                                 const struct tls_request *request);
struct tls_call *tls_call_of(const SSL *ssl);        /* NULL on the server side */
int tls_on_verify(int is_ok, X509_STORE_CTX *store); /* SSL_verify_cb that keeps the reason */
bool tls_names_host(X509 *certificate, const char *name);
void tls_print_subject(X509 *certificate, char *out, size_t size);
int64_t tls_time_of(const ASN1_TIME *time); /* wall seconds; 0: unreadable */
size_t tls_print_date(const ASN1_TIME *time, char *out, size_t size); /* "2024-01-01" */

struct tls_client *tls_client_ref(struct tls_client *client);

/* ---- sessions kept for resumption (tls_sessions.c), any thread ---- */

struct tls_sessions;
struct tls_sessions *tls_sessions_new(void);
void tls_sessions_free(struct tls_sessions **sessions);
SSL_SESSION *tls_sessions_get(struct tls_sessions *sessions, const char *key); /* yours, or NULL */
void tls_sessions_put(struct tls_sessions *sessions, const char *key, SSL_SESSION *session_take);
struct tls_sessions *tls_client_sessions(struct tls_client *client);

#endif
