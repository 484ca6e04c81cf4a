/*
 * tls_self.c - a self-signed certificate, for trying things out.
 */
#include "relay/net/tls.h"

#include "relay/base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <unistd.h>

#define VALID_S (10L * 365 * 86400)

/* What goes into an extension's text form must not bring syntax of its own. */
static bool is_plain_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:";

    return name[0] && strspn(name, allowed) == strlen(name) && strlen(name) < 254;
}

static bool add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension && X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

static bool set_serial(X509 *certificate)
{
    uint64_t serial = 0;

    return RAND_bytes((unsigned char *)&serial, sizeof(serial)) == 1 &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1);
}

static bool fill(X509 *certificate, EVP_PKEY *key, const char *hostname)
{
    char names[300];
    X509_NAME *subject = X509_get_subject_name(certificate);
    bool is_ip = strchr(hostname, ':') || strspn(hostname, "0123456789.") == strlen(hostname);
    const char *common = strlen(hostname) <= 64 ? hostname : "waypost"; /* X.520's limit */

    snprintf(names, sizeof(names), "%s:%s", is_ip ? "IP" : "DNS", hostname);
    return X509_set_version(certificate, X509_VERSION_3) && set_serial(certificate) &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) &&
           X509_gmtime_adj(X509_getm_notAfter(certificate), VALID_S) &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)common,
                                      -1, -1, 0) &&
           X509_set_issuer_name(certificate, subject) && X509_set_pubkey(certificate, key) &&
           add_extension(certificate, NID_subject_alt_name, names) &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           X509_sign(certificate, key, EVP_sha256()) > 0;
}

static enum err open_new(const char *path, mode_t mode, FILE **out_file, struct fault *fault)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

    if (fd < 0)
        return fault_errno(fault, errno, "cannot write %s", path);
    *out_file = fdopen(fd, "w");
    return ERR_OK;
}

static enum err write_pem(const char *path, mode_t mode, X509 *certificate, EVP_PKEY *key,
                          struct fault *fault)
{
    FILE *file = NULL;

    enum err err = open_new(path, mode, &file, fault);
    if (err)
        return err;
    bool ok = key ? PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL)
                  : PEM_write_X509(file, certificate);
    ok = fflush(file) == 0 && fsync(fileno(file)) == 0 && ok;
    ok = fclose(file) == 0 && ok;
    if (ok)
        return ERR_OK;
    unlink(path);
    return fault_set(fault, ERR_IO, "cannot write %s", path);
}

enum err tls_self_signed(const char *hostname, const char *certificate_path, const char *key_path,
                         struct fault *fault)
{
    if (!is_plain_name(hostname))
        return fault_set(fault, ERR_INVALID, "a certificate needs a host name in ASCII");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    enum err err = ERR_OK;
    if (!key || !certificate || !fill(certificate, key, hostname))
        err = fault_set(fault, ERR_TLS, "cannot make a certificate for %s", hostname);
    ERR_clear_error();
    if (!err)
        err = write_pem(key_path, 0600, certificate, key, fault);
    if (!err) {
        err = write_pem(certificate_path, 0644, certificate, NULL, fault);
        if (err)
            unlink(key_path);
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    return err;
}
