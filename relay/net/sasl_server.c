/*
 * sasl_server.c - a client logs in at ours.
 *
 * PLAIN and LOGIN are a few bytes each and are read here: they end with the
 * password in hand, unchanged, for a judge on another thread. SCRAM and
 * CRAM-MD5 are GNU SASL's.
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

enum place { /* START -> USER -> PASSWORD -> END;  PLAIN: START -> END */
             AT_START,
             AT_USER,     /* LOGIN: the user name comes next */
             AT_PASSWORD, /* LOGIN: the password */
             AT_LAST,     /* our proof has gone out, the client has to nod */
             AT_END,
};

struct sasl_server {
    enum mechanism mechanism;
    enum place place;
    Gsasl_session *session; /* SCRAM, CRAM-MD5 */
    sasl_lookup_fn *lookup;
    void *arg;
    char *hostname;
    struct str binding;                 /* a copy */
    bool was_asked;                     /* lookup was done */
    struct str user, authzid, password; /* copies, with a NUL behind */
};

/* ---- what GNU SASL asks ---- */

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

/* ---- life ---- */

static struct str copy(struct str text) { return str_make(str_dup(text), text.len); }

static void wipe(struct str *text)
{
    if (!text->at)
        return;
    char *bytes = (char *)(uintptr_t)text->at; /* ours, from copy() */
    explicit_bzero(bytes, text->len);
    free(bytes);
    *text = (struct str){ 0 };
}

struct sasl_server *sasl_server_new(enum mechanism mechanism, const char *hostname,
                                    struct str channel_binding, sasl_lookup_fn *lookup, void *arg)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct sasl_server *server = mem_alloc(sizeof(*server));

    pthread_once(&once, set_callback);
    server->mechanism = mechanism;
    server->lookup = lookup;
    server->arg = arg;
    server->hostname = str_dup(str_of(hostname));
    server->binding = copy(channel_binding);
    if (mechanism != MECHANISM_PLAIN && mechanism != MECHANISM_LOGIN &&
        gsasl_server_start(sasl_library(), sasl_word(mechanism), &server->session) == GSASL_OK)
        gsasl_session_hook_set(server->session, server);
    return server;
}

void sasl_server_free(struct sasl_server **server_at)
{
    struct sasl_server *server = *server_at;

    if (!server)
        return;
    sasl_finish(&server->session);
    wipe(&server->user);
    wipe(&server->authzid);
    wipe(&server->password);
    wipe(&server->binding);
    free(server->hostname);
    free(server);
    *server_at = NULL;
}

static struct str view(struct str text) { return text.at ? text : STR_EMPTY; }

struct str sasl_server_user(const struct sasl_server *server) { return view(server->user); }
struct str sasl_server_authzid(const struct sasl_server *server) { return view(server->authzid); }
struct str sasl_server_password(const struct sasl_server *server) { return view(server->password); }

/* ---- PLAIN and LOGIN ---- */

/* False: not base64. The bytes are yours to wipe. */
static bool decode(struct str text, struct str *out_bytes)
{
    char *bytes = NULL;
    size_t len = 0;

    if (text.len && gsasl_base64_from(text.at, text.len, &bytes, &len) != GSASL_OK)
        return false;
    *out_bytes = copy(str_make(bytes ? bytes : "", len));
    if (bytes)
        explicit_bzero(bytes, len);
    gsasl_free(bytes);
    return true;
}

/* RFC 4616: [authzid] NUL authcid NUL passwd */
static bool split_plain(struct sasl_server *server, struct str message)
{
    size_t first = str_chr(message, '\0');
    struct str rest = str_from(message, first + 1);
    size_t second = str_chr(rest, '\0');
    struct str password = str_from(rest, second + 1);

    if (first >= message.len || second == 0 || second >= rest.len || password.len == 0 ||
        str_chr(password, '\0') < password.len)
        return false;
    server->authzid = copy(str_head(message, first));
    server->user = copy(str_head(rest, second));
    server->password = copy(password);
    return true;
}

static enum sasl_state step_plain(struct sasl_server *server, struct str response)
{
    struct str message;

    if (!decode(response, &message))
        return SASL_BROKEN;
    bool ok = split_plain(server, message);
    wipe(&message);
    return ok ? SASL_NEEDS_PASSWORD : SASL_BROKEN;
}

/* The words are those every client knows, "Username:" and "Password:". */
static enum sasl_state step_login(struct sasl_server *server, struct str response, struct buf *out)
{
    struct str text;

    if (!decode(response, &text))
        return SASL_BROKEN;
    if (text.len == 0 || str_chr(text, '\0') < text.len) {
        wipe(&text);
        return SASL_BROKEN;
    }
    if (server->place == AT_USER) {
        server->user = text;
        server->place = AT_PASSWORD;
        buf_cstr(out, "UGFzc3dvcmQ6");
        return SASL_MORE;
    }
    server->password = text;
    return SASL_NEEDS_PASSWORD;
}

/* ---- the steps ---- */

static enum sasl_state judge(struct sasl_server *server, int rc, const struct buf *out)
{
    if (rc == GSASL_NEEDS_MORE)
        return SASL_MORE;
    if (rc == GSASL_AUTHENTICATION_ERROR)
        return SASL_REFUSED;
    if (rc != GSASL_OK)
        return SASL_BROKEN;
    if (!out->len)
        return SASL_DONE;
    /* SMTP has no room for data in the 235: our proof goes out as a challenge
     * and the client answers with an empty line (RFC 4954, 4). */
    server->place = AT_LAST;
    return SASL_MORE;
}

static void learn_user(struct sasl_server *server)
{
    const char *user = gsasl_property_fast(server->session, GSASL_AUTHID);
    const char *authzid = gsasl_property_fast(server->session, GSASL_AUTHZID);

    wipe(&server->user);
    wipe(&server->authzid);
    server->user = copy(str_of(user));
    server->authzid = copy(str_of(authzid));
}

static enum sasl_state step_gsasl(struct sasl_server *server, struct str response, struct buf *out)
{
    bool is_scram = server->mechanism != MECHANISM_CRAM_MD5;

    if (!server->session || (is_scram && !response.len)) /* a client's turn is never empty */
        return SASL_BROKEN;
    enum sasl_state state = judge(server, sasl_step(server->session, response, out), out);
    learn_user(server);
    return state;
}

/* The first call: a mechanism where the client speaks first needs its words, and
 * gets an empty challenge when it sent none. */
static bool is_waiting_for_first(const struct sasl_server *server, bool has_response)
{
    bool server_first =
        server->mechanism == MECHANISM_LOGIN || server->mechanism == MECHANISM_CRAM_MD5;

    return server->place == AT_START && !has_response && !server_first;
}

static enum sasl_state first_step_login(struct sasl_server *server, struct str response,
                                        bool has_response, struct buf *out)
{
    server->place = AT_USER;
    if (has_response) /* "AUTH LOGIN dXNlcg==" is in no RFC, but in many clients */
        return step_login(server, response, out);
    buf_cstr(out, "VXNlcm5hbWU6");
    return SASL_MORE;
}

static enum sasl_state step(struct sasl_server *server, struct str response, bool has_response,
                            struct buf *out)
{
    bool is_first = server->place == AT_START;

    if (server->place == AT_LAST)
        return response.len ? SASL_BROKEN : SASL_DONE;
    if (is_waiting_for_first(server, has_response)) {
        server->place = AT_USER;
        return SASL_MORE;
    }
    if (server->mechanism == MECHANISM_PLAIN)
        return step_plain(server, response);
    if (server->mechanism == MECHANISM_LOGIN)
        return is_first ? first_step_login(server, response, has_response, out)
                        : step_login(server, response, out);
    if (server->mechanism == MECHANISM_CRAM_MD5 && is_first && has_response)
        return SASL_BROKEN; /* RFC 4954, 4: the server speaks first */
    server->place = AT_USER;
    return step_gsasl(server, response, out);
}

enum sasl_state sasl_server_step(struct sasl_server *server, struct str response, bool has_response,
                                 struct buf *out)
{
    if (response.len > SASL_TEXT_MAX || server->place == AT_END)
        return SASL_BROKEN;
    if (str_eq(response, STR("="))) /* RFC 4954: an initial response of no bytes */
        response = STR_EMPTY;
    enum sasl_state state = step(server, response, has_response, out);
    if (state != SASL_MORE)
        server->place = AT_END;
    return state;
}
