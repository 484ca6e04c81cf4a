/*
 * tls_fault.c - what went wrong in TLS, in words a postmaster can act on.
 */
#include "relay/net/tls_impl.h"

#include <ctype.h>
#include <openssl/err.h>
#include <stdio.h>

static const struct {
    int reason;
    const char *words;
} reasons[] = {
    { SSL_R_WRONG_VERSION_NUMBER, "wrong version number: the other side does not speak TLS here" },
    { SSL_R_HTTP_REQUEST, "the other side speaks HTTP" },
    { SSL_R_UNSUPPORTED_PROTOCOL, "no TLS version in common (TLS 1.2 or newer is needed)" },
    { SSL_R_VERSION_TOO_LOW, "no TLS version in common (TLS 1.2 or newer is needed)" },
    { SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "the other side refuses our TLS versions" },
    { SSL_R_NO_SHARED_CIPHER, "no cipher in common" },
    { SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, "no signature algorithm in common" },
    { SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE,
      "the other side found nothing in common (alert: handshake failure)" },
    { SSL_R_TLSV1_ALERT_UNKNOWN_CA,
      "the other side does not trust our certificate (alert: unknown CA)" },
    { SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "the other side refuses our certificate (alert)" },
    { SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "the other side refuses our certificate (alert)" },
    { SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED,
      "the other side says that our certificate has expired" },
    { SSL_R_TLSV1_UNRECOGNIZED_NAME, "the other side does not know the host name we asked for" },
    { SSL_R_TLSV1_ALERT_INTERNAL_ERROR, "the other side had an internal error (alert)" },
    { SSL_R_DH_KEY_TOO_SMALL, "the other side's Diffie-Hellman key is too small" },
    { SSL_R_EE_KEY_TOO_SMALL, "the certificate's key is too small" },
    { SSL_R_CA_KEY_TOO_SMALL, "the key of a certificate in the chain is too small" },
    { SSL_R_CA_MD_TOO_WEAK, "the certificate is signed with a digest that is too weak" },
    { SSL_R_UNSAFE_LEGACY_RENEGOTIATION_DISABLED,
      "the other side knows only the old, unsafe renegotiation" },
};

static void words_of(unsigned long code, char *out, size_t size)
{
    for (size_t i = 0; ERR_GET_LIB(code) == ERR_LIB_SSL && i < sizeof(reasons) / sizeof(reasons[0]);
         i++) {
        if (ERR_GET_REASON(code) == reasons[i].reason) {
            snprintf(out, size, "%s", reasons[i].words);
            return;
        }
    }
    const char *reason = ERR_reason_error_string(code);
    snprintf(out, size, "%s", reason ? reason : "failed for a reason OpenSSL does not name");
}

enum err tls_fault(struct fault *fault, const char *what, const char *problem)
{
    char words[200];
    unsigned long code = ERR_peek_error(); /* the first is the cause, later ones its echo */

    words_of(code, words, sizeof(words));
    bool is_verify =
        ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    ERR_clear_error();
    return fault_set(fault, ERR_TLS, "%s: %s", what, is_verify && problem[0] ? problem : words);
}

SSL_CTX *tls_context_new(const SSL_METHOD *method, struct fault *fault)
{
    SSL_CTX *context = SSL_CTX_new(method);

    if (!context) {
        tls_fault(fault, "cannot start TLS", "");
        return NULL;
    }
    /* An idle session must not sit on 34 KB of buffers. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    return context;
}
