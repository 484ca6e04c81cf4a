/*
 * sasl_client.c - we log in at a next hop.
 */
#include "relay/net/sasl_impl.h"

#include <stdlib.h>

#define ITERATIONS_MAX 100000 /* a tenth of a second of this loop; usual are 4096 to 15000 */

struct sasl_client {
    enum mechanism mechanism;
    Gsasl_session *session;
    bool is_done;
};

static bool is_scram(enum mechanism mechanism)
{
    return mechanism == MECHANISM_SCRAM_SHA_256 || mechanism == MECHANISM_SCRAM_SHA_256_PLUS ||
           mechanism == MECHANISM_SCRAM_SHA_1;
}

static bool fill(struct sasl_client *client, const struct sasl_login *login)
{
    bool ok = sasl_set(client->session, GSASL_AUTHID, login->user) &&
              sasl_set(client->session, GSASL_PASSWORD, login->password);

    if (login->authzid.len)
        ok = ok && sasl_set(client->session, GSASL_AUTHZID, login->authzid);
    /* Without -PLUS we say that we know no binding ("n"): "y" would make a server
     * that offers -PLUS, but refused it a moment ago, see an attack. */
    if (client->mechanism == MECHANISM_SCRAM_SHA_256_PLUS)
        ok = ok && sasl_set_base64(client->session, GSASL_CB_TLS_EXPORTER, login->channel_binding);
    return ok;
}

enum err sasl_client_new(enum mechanism mechanism, const struct sasl_login *login,
                         struct sasl_client **out_client, struct fault *fault)
{
    struct sasl_client *client = mem_alloc(sizeof(*client));

    client->mechanism = mechanism;
    int rc = gsasl_client_start(sasl_library(), sasl_word(mechanism), &client->session);
    if (rc != GSASL_OK) {
        sasl_client_free(&client);
        return fault_set(fault, ERR_UNSUPPORTED, "%s: %s", sasl_word(mechanism),
                         gsasl_strerror(rc));
    }
    if (!fill(client, login)) {
        sasl_client_free(&client);
        return fault_set(fault, ERR_INVALID, "user name or password holds a NUL");
    }
    *out_client = client;
    return ERR_OK;
}

void sasl_client_free(struct sasl_client **client)
{
    if (!*client)
        return;
    sasl_finish(&(*client)->session);
    free(*client);
    *client = NULL;
}

bool sasl_client_has_initial(const struct sasl_client *client)
{
    return client->mechanism == MECHANISM_PLAIN || is_scram(client->mechanism);
}

bool sasl_client_is_done(const struct sasl_client *client) { return client->is_done; }

/* The value of `name` in "r=...,s=...,i=4096". */
static struct str scram_value(struct str text, char name)
{
    struct str piece;

    while (str_next(&text, ',', &piece)) {
        if (piece.len > 2 && piece.at[0] == name && piece.at[1] == '=')
            return str_from(piece, 2);
    }
    return STR_EMPTY;
}

/* A server names the number of iterations: a hostile one could keep this loop
 * busy for hours. GNU SASL has no limit. */
static enum err check_iterations(const struct sasl_client *client, struct str challenge,
                                 struct fault *fault)
{
    char *text = NULL;
    size_t len = 0;
    uint64_t iterations = 0;

    if (!is_scram(client->mechanism) ||
        gsasl_base64_from(challenge.at, challenge.len, &text, &len) != GSASL_OK)
        return ERR_OK; /* what is not base64 fails in the step */
    struct str value = scram_value(str_make(text, len), 'i');
    bool is_bad = value.len && (!str_u64(value, &iterations) || iterations > ITERATIONS_MAX);
    gsasl_free(text);
    if (is_bad)
        return fault_set(fault, ERR_LIMIT, "the server asks for too many SCRAM iterations");
    return ERR_OK;
}

static enum err judge(struct sasl_client *client, int rc, struct fault *fault)
{
    const char *word = sasl_word(client->mechanism);

    if (rc == GSASL_NEEDS_MORE)
        return ERR_OK;
    if (rc == GSASL_OK) {
        client->is_done = true;
        return ERR_OK;
    }
    if (rc == GSASL_AUTHENTICATION_ERROR && is_scram(client->mechanism))
        return fault_set(fault, ERR_DENIED,
                         "%s: the server refused, or could not prove that it knows the password",
                         word);
    if (rc == GSASL_BASE64_ERROR || rc == GSASL_MECHANISM_PARSE_ERROR)
        return fault_set(fault, ERR_INVALID, "%s: the server's challenge makes no sense", word);
    if (rc == GSASL_SASLPREP_ERROR)
        return fault_set(fault, ERR_INVALID,
                         "%s: user name or password holds characters SASL does not allow", word);
    return fault_set(fault, ERR_INVALID, "%s: %s", word, gsasl_strerror(rc));
}

enum err sasl_client_step(struct sasl_client *client, struct str challenge, struct buf *out,
                          struct fault *fault)
{
    if (client->is_done)
        return fault_set(fault, ERR_INVALID, "%s: the server asks on after the last step",
                         sasl_word(client->mechanism));
    if (challenge.len > SASL_TEXT_MAX)
        return fault_set(fault, ERR_LIMIT, "%s: the server's challenge is too long",
                         sasl_word(client->mechanism));
    /* What these two are asked does not matter, and some servers ask in clear text. */
    if (client->mechanism == MECHANISM_LOGIN || client->mechanism == MECHANISM_PLAIN)
        challenge = STR_EMPTY;
    enum err err = check_iterations(client, challenge, fault);
    if (err)
        return err;
    return judge(client, sasl_step(client->session, challenge, out), fault);
}
