/*
 * tls_verify.c - what a handshake proved, and in words what it did not.
 */
#include "relay/net/tls_impl.h"

#include "relay/base/buf.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- what a client's SSL carries ---- */

static int call_index = -1;

static void free_call(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long number,
                      void *arg)
{
    struct tls_call *call = pointer;

    (void)parent;
    (void)data;
    (void)index;
    (void)number;
    (void)arg;
    if (!call)
        return;
    tls_client_free(&call->client); /* drops a reference */
    free(call->host);
    free(call->also_name);
    free(call->session_key);
    free(call);
}

static void make_index(void) { call_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_call); }

struct tls_call *tls_call_attach(SSL *ssl, struct tls_client *client,
                                 const struct tls_request *request)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct tls_call *call = mem_alloc(sizeof(*call));

    pthread_once(&once, make_index);
    call->client = tls_client_ref(client);
    call->level = request->level;
    call->host = str_dup(str_of(request->host));
    if (request->also_name)
        call->also_name = str_dup(str_of(request->also_name));
    SSL_set_ex_data(ssl, call_index, call);
    return call;
}

struct tls_call *tls_call_of(const SSL *ssl)
{
    return call_index < 0 ? NULL : SSL_get_ex_data(ssl, call_index);
}

/* ---- certificates in words ---- */

int64_t tls_time_of(const ASN1_TIME *time)
{
    struct tm tm;

    if (!time || !ASN1_TIME_to_tm(time, &tm))
        return 0;
    return (int64_t)timegm(&tm);
}

size_t tls_print_date(const ASN1_TIME *time, char *out, size_t size)
{
    struct tm tm;

    if (!time || !ASN1_TIME_to_tm(time, &tm))
        return str_copy(out, size, STR("unreadable date"));
    return strftime(out, size, "%Y-%m-%d", &tm);
}

/* Names come from the peer: what could break a line or a terminal is escaped. */
static void put_name(struct str name, char *out, size_t size)
{
    struct buf safe;

    buf_init(&safe, 4 * size);
    buf_escaped(&safe, name, size / 2);
    str_copy(out, size, buf_view(&safe));
    buf_clear(&safe);
}

static bool put_common_name(X509_NAME *name, char *out, size_t size)
{
    unsigned char *utf8 = NULL;

    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    if (at < 0)
        return false;
    int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    if (len < 0)
        return false;
    put_name(str_make((const char *)utf8, (size_t)len), out, size);
    OPENSSL_free(utf8);
    return len > 0;
}

static bool put_dns_name(X509 *certificate, char *out, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool found = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS)
            continue;
        put_name(str_make((const char *)ASN1_STRING_get0_data(name->d.dNSName),
                          (size_t)ASN1_STRING_length(name->d.dNSName)),
                 out, size);
        found = true;
    }
    GENERAL_NAMES_free(names);
    return found;
}

void tls_print_subject(X509 *certificate, char *out, size_t size)
{
    /* The DNS name first: it is what verification looks at. */
    if (!put_dns_name(certificate, out, size) &&
        !put_common_name(X509_get_subject_name(certificate), out, size))
        str_copy(out, size, STR("(no name)"));
}

bool tls_names_host(X509 *certificate, const char *name)
{
    if (!name)
        return false;
    return X509_check_host(certificate, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1 ||
           X509_check_ip_asc(certificate, name, 0) == 1;
}

/* ---- verification ---- */

static void explain(struct tls_call *call, X509_STORE_CTX *store, int error)
{
    X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    char subject[64] = "?", issuer[64] = "?", date[32] = "";
    char *out = call->problem;
    size_t size = sizeof(call->problem);

    if (certificate) {
        tls_print_subject(certificate, subject, sizeof(subject));
        if (!put_common_name(X509_get_issuer_name(certificate), issuer, sizeof(issuer)))
            str_copy(issuer, sizeof(issuer), STR("an unnamed issuer"));
    }
    switch (error) { /* OpenSSL's list, not ours */
    case X509_V_ERR_CERT_HAS_EXPIRED:
        tls_print_date(certificate ? X509_get0_notAfter(certificate) : NULL, date, sizeof(date));
        snprintf(out, size, "certificate has expired (%s)", date);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        tls_print_date(certificate ? X509_get0_notBefore(certificate) : NULL, date, sizeof(date));
        snprintf(out, size, "certificate is not valid before %s", date);
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        snprintf(out, size, "certificate is for %s, not for %.70s", subject, call->host);
        break;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        snprintf(out, size, "certificate of %s is self-signed", subject);
        break;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        snprintf(out, size, "the root %s is not trusted here", issuer);
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        snprintf(out, size, "issuer %s is not trusted here, or its certificate was not sent",
                 issuer);
        break;
    case X509_V_ERR_DANE_NO_MATCH:
        snprintf(out, size, "no TLSA record matches the certificate of %s", subject);
        break;
    default:
        snprintf(out, size, "%s", X509_verify_cert_error_string(error));
        break;
    }
}

int tls_on_verify(int is_ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_call *call = tls_call_of(ssl);

    if (!is_ok && call && call->problem[0] == '\0')
        explain(call, store, X509_STORE_CTX_get_error(store));
    return is_ok;
}

static void learn_identity(SSL *ssl, const struct tls_call *call, X509 *certificate,
                           struct tls_facts *out)
{
    bool is_verified = call->is_identified && SSL_get_verify_result(ssl) == X509_V_OK;

    tls_print_subject(certificate, out->subject, sizeof(out->subject));
    out->expires_at = tls_time_of(X509_get0_notAfter(certificate));
    out->name_ok =
        tls_names_host(certificate, call->host) || tls_names_host(certificate, call->also_name);
    out->dane_ok = call->is_dane && is_verified && SSL_get0_dane_authority(ssl, NULL, NULL) >= 0;
    out->chain_ok = is_verified && !call->is_dane;
}

void tls_facts_learn(SSL *ssl, struct tls_facts *out)
{
    struct tls_call *call = tls_call_of(ssl);
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    unsigned long pending = ERR_peek_error(); /* the caller still needs it */

    *out = (struct tls_facts){ 0 };
    if (pending)
        ERR_set_mark();
    out->encrypted = SSL_is_init_finished(ssl) != 0;
    if (out->encrypted) {
        str_copy(out->version, sizeof(out->version), str_of(SSL_get_version(ssl)));
        str_copy(out->cipher, sizeof(out->cipher), str_of(SSL_get_cipher_name(ssl)));
        out->resumed = SSL_session_reused(ssl) == 1;
    }
    if (call && certificate)
        learn_identity(ssl, call, certificate, out);
    if (call)
        str_copy(out->problem, sizeof(out->problem), str_of(call->problem));
    if (pending)
        ERR_pop_to_mark();
    else
        ERR_clear_error();
}
