/*
 * sasl_server.c - a client logs in at ours.
 *
 * PLAIN and LOGIN are a few bytes each and are read here: they end with the
 * password in hand, unchanged, for a judge on another thread. SCRAM and
 * CRAM-MD5 are GNU SASL's, see sasl_secret.c for what it asks.
 */
#include "relay/net/sasl_impl.h"

#include <stdlib.h>

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
    struct sasl_server *server = mem_alloc(sizeof(*server));

    sasl_answer_questions();
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
    if (server->place == SASL_AT_USER) {
        server->user = text;
        server->place = SASL_AT_PASSWORD;
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
    server->place = SASL_AT_LAST;
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

    return server->place == SASL_AT_START && !has_response && !server_first;
}

static enum sasl_state first_step_login(struct sasl_server *server, struct str response,
                                        bool has_response, struct buf *out)
{
    server->place = SASL_AT_USER;
    if (has_response) /* "AUTH LOGIN dXNlcg==" is in no RFC, but in many clients */
        return step_login(server, response, out);
    buf_cstr(out, "VXNlcm5hbWU6");
    return SASL_MORE;
}

static enum sasl_state step(struct sasl_server *server, struct str response, bool has_response,
                            struct buf *out)
{
    bool is_first = server->place == SASL_AT_START;

    if (server->place == SASL_AT_LAST)
        return response.len ? SASL_BROKEN : SASL_DONE;
    if (is_waiting_for_first(server, has_response)) {
        server->place = SASL_AT_USER;
        return SASL_MORE;
    }
    if (server->mechanism == MECHANISM_PLAIN)
        return step_plain(server, response);
    if (server->mechanism == MECHANISM_LOGIN)
        return is_first ? first_step_login(server, response, has_response, out)
                        : step_login(server, response, out);
    if (server->mechanism == MECHANISM_CRAM_MD5 && is_first && has_response)
        return SASL_BROKEN; /* RFC 4954, 4: the server speaks first */
    server->place = SASL_AT_USER;
    return step_gsasl(server, response, out);
}

enum sasl_state sasl_server_step(struct sasl_server *server, struct str response, bool has_response,
                                 struct buf *out)
{
    if (response.len > SASL_TEXT_MAX || server->place == SASL_AT_END)
        return SASL_BROKEN;
    if (str_eq(response, STR("="))) /* RFC 4954: an initial response of no bytes */
        response = STR_EMPTY;
    enum sasl_state state = step(server, response, has_response, out);
    if (state != SASL_MORE)
        server->place = SASL_AT_END;
    return state;
}
