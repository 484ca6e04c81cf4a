/*
 * sasl_secret.c - what GNU SASL asks while somebody logs in, and our answers.
 *
 * Who does not exist goes through the same steps as who does: SCRAM gets a salt
 * made from the name and a secret of this process, always the same for a name,
 * and keys nobody has; CRAM-MD5 a random password.
 */
#include "relay/net/sasl_impl.h"

#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define FAKE_ITERATIONS 4096
#define FAKE_SALT 16

static uint8_t process_secret[32];

static void make_secret(void)
{
    if (RAND_bytes(process_secret, sizeof(process_secret)) != 1)
        abort();
}

/* 32 bytes that belong to `user` and to what `use` says, and to this process. */
static void fake_bytes(const char *use, struct str user, uint8_t out[32])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct buf text;
    unsigned len = 32;

    pthread_once(&once, make_secret);
    buf_init(&text, SASL_TEXT_MAX + 64);
    buf_printf(&text, "%s:", use);
    buf_str(&text, user);
    if (!HMAC(EVP_sha256(), process_secret, sizeof(process_secret),
              (const unsigned char *)buf_view(&text).at, text.len, out, &len))
        abort();
    buf_clear(&text);
}

static void fake_secret(struct sasl_secret *secret, struct str user, uint8_t room[3][32])
{
    size_t salt_len = secret->scram_salt.len ? secret->scram_salt.len : FAKE_SALT;

    fake_bytes("salt", user, room[0]);
    fake_bytes("stored", user, room[1]);
    fake_bytes("server", user, room[2]);
    secret->scram_salt = str_make((const char *)room[0], salt_len < 32 ? salt_len : 32);
    if (!secret->scram_iterations)
        secret->scram_iterations = FAKE_ITERATIONS;
    secret->scram_stored_key = str_make((const char *)room[1], 32);
    secret->scram_server_key = str_make((const char *)room[2], 32);
}

static bool give_scram(struct sasl_server *server, const struct sasl_secret *secret)
{
    char iterations[16];

    snprintf(iterations, sizeof(iterations), "%u", secret->scram_iterations);
    return gsasl_property_set(server->session, GSASL_SCRAM_ITER, iterations) == GSASL_OK &&
           sasl_set_base64(server->session, GSASL_SCRAM_SALT, secret->scram_salt) &&
           sasl_set_base64(server->session, GSASL_SCRAM_STOREDKEY, secret->scram_stored_key) &&
           sasl_set_base64(server->session, GSASL_SCRAM_SERVERKEY, secret->scram_server_key);
}

static bool give_password(struct sasl_server *server, const struct sasl_secret *secret)
{
    uint8_t nobody_knows[32];

    if (secret->known && secret->clear_password.len)
        return sasl_set(server->session, GSASL_PASSWORD, secret->clear_password);
    if (RAND_bytes(nobody_knows, sizeof(nobody_knows)) != 1)
        abort();
    return sasl_set_base64(server->session, GSASL_PASSWORD,
                           str_make((const char *)nobody_knows, sizeof(nobody_knows)));
}

static bool has_scram(const struct sasl_secret *secret)
{
    return secret->known && secret->scram_salt.len && secret->scram_iterations &&
           secret->scram_stored_key.len == 32 && secret->scram_server_key.len == 32;
}

static int look_up(struct sasl_server *server)
{
    struct sasl_secret secret = { 0 };
    uint8_t room[3][32];
    struct str user = str_of(gsasl_property_fast(server->session, GSASL_AUTHID));

    if (server->was_asked)
        return GSASL_OK;
    server->was_asked = true;
    server->lookup(server->arg, user, &secret);
    if (server->mechanism == MECHANISM_CRAM_MD5)
        return give_password(server, &secret) ? GSASL_OK : GSASL_NO_PASSWORD;
    if (!has_scram(&secret))
        fake_secret(&secret, user, room);
    return give_scram(server, &secret) ? GSASL_OK : GSASL_NO_PASSWORD;
}

static int on_question(Gsasl *library, Gsasl_session *session, Gsasl_property property)
{
    struct sasl_server *server = gsasl_session_hook_get(session);

    (void)library;
    if (!server) /* a client's session: everything it needs was set before */
        return GSASL_NO_CALLBACK;
    switch ((int)property) { /* GNU SASL's list, not ours */
    case GSASL_SCRAM_ITER:
    case GSASL_SCRAM_SALT:
    case GSASL_SCRAM_STOREDKEY:
    case GSASL_SCRAM_SERVERKEY:
        return look_up(server);
    case GSASL_PASSWORD: /* SCRAM must not fall back to it */
        return server->mechanism == MECHANISM_CRAM_MD5 ? look_up(server) : GSASL_NO_CALLBACK;
    case GSASL_CB_TLS_EXPORTER:
        return server->binding.len &&
                       sasl_set_base64(session, GSASL_CB_TLS_EXPORTER, server->binding)
                   ? GSASL_OK
                   : GSASL_NO_CALLBACK;
    case GSASL_HOSTNAME:
        return gsasl_property_set(session, GSASL_HOSTNAME, server->hostname);
    case GSASL_SERVICE:
        return gsasl_property_set(session, GSASL_SERVICE, "smtp");
    default:
        return GSASL_NO_CALLBACK;
    }
}

static void set_callback(void) { gsasl_callback_set(sasl_library(), on_question); }

void sasl_answer_questions(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, set_callback);
}
