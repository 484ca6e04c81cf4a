/*
 * tls_cert.c - a certificate with its chain and key, read from files and judged.
 */
#include "relay/net/tls_impl.h"

#include "relay/base/clock.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

/* ---- reading files ---- */

static int no_passphrase(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return 0; /* never ask on the terminal */
}

static enum err open_file(const char *path, const char *what, FILE **out_file, struct fault *fault)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return fault_errno(fault, errno, "cannot read the %s %s", what, path);
    *out_file = file;
    return ERR_OK;
}

static enum err read_certificates(const char *path, struct tls_cert *cert, struct fault *fault)
{
    FILE *file = NULL;
    X509 *next;

    enum err err = open_file(path, "certificate", &file, fault);
    if (err)
        return err;
    cert->leaf = PEM_read_X509(file, NULL, no_passphrase, NULL);
    cert->chain = sk_X509_new_null();
    while (cert->leaf && (next = PEM_read_X509(file, NULL, no_passphrase, NULL)))
        sk_X509_push(cert->chain, next);
    fclose(file);
    ERR_clear_error(); /* the end of the file is an error to PEM_read */
    if (!cert->leaf)
        return fault_set(fault, ERR_INVALID, "%s does not hold a certificate in PEM form", path);
    return ERR_OK;
}

static enum err read_key(const char *path, struct tls_cert *cert, struct fault *fault)
{
    FILE *file = NULL;

    enum err err = open_file(path, "key", &file, fault);
    if (err)
        return err;
    cert->key = PEM_read_PrivateKey(file, NULL, no_passphrase, NULL);
    fclose(file);
    ERR_clear_error();
    if (!cert->key)
        return fault_set(fault, ERR_INVALID,
                         "%s does not hold a private key in PEM form without a passphrase", path);
    return ERR_OK;
}

enum err tls_cert_load(const struct tls_pair *from, struct tls_cert *cert, struct fault *fault)
{
    enum err err = read_certificates(from->certificate, cert, fault);
    if (err)
        return err;
    err = read_key(from->key, cert, fault);
    if (err)
        return err;
    if (X509_check_private_key(cert->leaf, cert->key) == 1)
        return ERR_OK;
    ERR_clear_error();
    return fault_set(fault, ERR_INVALID, "the key %s does not belong to the certificate %s",
                     from->key, from->certificate);
}

void tls_cert_clear(struct tls_cert *cert)
{
    X509_free(cert->leaf);
    EVP_PKEY_free(cert->key);
    sk_X509_pop_free(cert->chain, X509_free);
}

/* ---- judging them ---- */

/* Many clients put a shuffled chain in order, some do not. */
static bool is_chain_in_order(const struct tls_cert *cert)
{
    X509 *below = cert->leaf;

    for (int i = 0; i < sk_X509_num(cert->chain); i++) {
        X509 *issuer = sk_X509_value(cert->chain, i);
        if (X509_check_issued(issuer, below) != X509_V_OK)
            return false;
        below = issuer;
    }
    return true;
}

void tls_cert_judge(const struct tls_cert *cert, const char *path, char *out, size_t size)
{
    const ASN1_TIME *begins = X509_get0_notBefore(cert->leaf);
    const ASN1_TIME *ends = X509_get0_notAfter(cert->leaf);
    int64_t now = clock_wall_us() / 1000000;
    char date[32];

    out[0] = '\0';
    if (tls_time_of(begins) > now) {
        tls_print_date(begins, date, sizeof(date));
        snprintf(out, size, "certificate %.150s is not valid before %s", path, date);
    } else if (tls_time_of(ends) < now) {
        tls_print_date(ends, date, sizeof(date));
        snprintf(out, size, "certificate %.150s has expired (%s)", path, date);
    } else if (!is_chain_in_order(cert)) {
        snprintf(out, size, "the chain in %.150s is out of order: leaf first, then each issuer",
                 path);
    }
}
