/*
 * sasl.c - choosing a mechanism, deriving what is stored, small common parts.
 *
 * Only mechanisms of smtp/ext.h ever reach GNU SASL: it would also offer
 * ANONYMOUS, EXTERNAL, NTLM and others.
 */
#include "relay/net/sasl_impl.h"

#include <pthread.h>
#include <stdlib.h>

static Gsasl *library;

static void make_library(void)
{
    if (gsasl_init(&library) != GSASL_OK)
        abort(); /* memory is all that it can lack */
}

Gsasl *sasl_library(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_library);
    return library;
}

const char *sasl_word(enum mechanism mechanism)
{
    return mechanism_word((enum mechanism_index)__builtin_ctz((unsigned)mechanism));
}

bool sasl_choose(unsigned offered, unsigned refused, bool has_channel_binding,
                 enum mechanism *out_mechanism)
{
    unsigned usable = offered & ~refused;

    if (!has_channel_binding)
        usable &= ~(unsigned)MECHANISM_SCRAM_SHA_256_PLUS;
    if (!usable)
        return false;
    *out_mechanism = (enum mechanism)(usable & -usable); /* the lowest bit is the best */
    return true;
}

int sasl_step(Gsasl_session *session, struct str in, struct buf *out)
{
    char *text = str_dup(in), *answer = NULL;

    int rc = gsasl_step64(session, text, &answer);
    if ((rc == GSASL_OK || rc == GSASL_NEEDS_MORE) && answer)
        buf_cstr(out, answer);
    if (answer)
        explicit_bzero(answer, strlen(answer));
    gsasl_free(answer);
    explicit_bzero(text, in.len);
    free(text);
    return rc;
}

bool sasl_set(Gsasl_session *session, Gsasl_property property, struct str text)
{
    if (str_chr(text, '\0') < text.len)
        return false;
    return gsasl_property_set_raw(session, property, text.at, text.len) == GSASL_OK;
}

bool sasl_set_base64(Gsasl_session *session, Gsasl_property property, struct str raw)
{
    char *text = NULL;

    if (gsasl_base64_to(raw.at, raw.len, &text, NULL) != GSASL_OK)
        return false;
    bool ok = gsasl_property_set(session, property, text) == GSASL_OK;
    explicit_bzero(text, strlen(text));
    gsasl_free(text);
    return ok;
}

void sasl_finish(Gsasl_session **session)
{
    static const Gsasl_property secret[] = { GSASL_PASSWORD, GSASL_SCRAM_SALTED_PASSWORD,
                                             GSASL_SCRAM_SERVERKEY, GSASL_SCRAM_STOREDKEY };

    for (size_t i = 0; *session && i < sizeof(secret) / sizeof(secret[0]); i++) {
        /* The library frees its copies as they are; this pointer is into one. */
        char *text = (char *)(uintptr_t)gsasl_property_fast(*session, secret[i]);
        if (text)
            explicit_bzero(text, strlen(text));
    }
    if (*session)
        gsasl_finish(*session);
    *session = NULL;
}

enum err sasl_scram_derive(struct str password, struct str salt, unsigned iterations,
                           uint8_t out_stored_key[32], uint8_t out_server_key[32],
                           struct fault *fault)
{
    char salted[GSASL_HASH_MAX_SIZE], client[GSASL_HASH_MAX_SIZE];
    char server[GSASL_HASH_MAX_SIZE], stored[GSASL_HASH_MAX_SIZE];
    char *text;

    if (str_chr(password, '\0') < password.len || password.len == 0)
        return fault_set(fault, ERR_INVALID, "the password is empty or holds a NUL");
    text = str_dup(password);
    int rc = gsasl_scram_secrets_from_password(GSASL_HASH_SHA256, text, iterations, salt.at,
                                               salt.len, salted, client, server, stored);
    explicit_bzero(text, password.len);
    free(text);
    if (rc == GSASL_OK) {
        memcpy(out_stored_key, stored, 32);
        memcpy(out_server_key, server, 32);
    }
    explicit_bzero(salted, sizeof(salted));
    explicit_bzero(client, sizeof(client));
    explicit_bzero(server, sizeof(server));
    explicit_bzero(stored, sizeof(stored));
    if (rc == GSASL_SASLPREP_ERROR)
        return fault_set(fault, ERR_INVALID, "the password holds characters SASL does not allow");
    if (rc != GSASL_OK)
        return fault_set(fault, ERR_IO, "cannot derive SCRAM keys: %s", gsasl_strerror(rc));
    return ERR_OK;
}
