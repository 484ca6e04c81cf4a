/*
 * sasl.h - SASL mechanisms, both sides, over GNU SASL with an allow-list.
 *
 * Steps are text in, text out (base64, as SMTP carries it); the caller moves
 * them. Secrets are wiped when freed. One session, one thread; nothing here
 * blocks except where noted.
 */
#ifndef WAYPOST_NET_SASL_H
#define WAYPOST_NET_SASL_H

#include "relay/base/buf.h"
#include "relay/base/err.h"
#include "relay/smtp/ext.h"

/* ---- client: we log in at a next hop ---- */

struct sasl_client;
struct sasl_login {
    struct str user, password, authzid; /* authzid usually empty */
    struct str channel_binding;         /* empty: none */
};
/* The best of `offered` (bits of enum mechanism) less `refused`; false: none is left. */
bool sasl_choose(unsigned offered, unsigned refused, bool has_channel_binding,
                 enum mechanism *out_mechanism);
enum err sasl_client_new(enum mechanism mechanism, const struct sasl_login *login,
                         struct sasl_client **out_client, struct fault *fault);
void sasl_client_free(struct sasl_client **client);
bool sasl_client_has_initial(const struct sasl_client *client); /* speaks first */
/* Answer a challenge (base64; empty for the initial response). Output is base64. */
enum err sasl_client_step(struct sasl_client *client, struct str challenge, struct buf *out,
                          struct fault *fault);
/* The last step is done: a 235 before that comes from a server that has not
 * proved (SCRAM) that it knows the password. */
bool sasl_client_is_done(const struct sasl_client *client);

/* ---- server: a client logs in at ours ---- */

struct sasl_server;

/* What the mechanisms need to know about a user. PLAIN and LOGIN end with the
 * password in hand (SASL_NEEDS_PASSWORD): the caller checks it off the loop. */
struct sasl_secret {
    bool known;                  /* false: salt and keys are made up, so that nobody can tell */
    struct str scram_salt;       /* raw; when not known, only its length counts (0: 16) */
    unsigned scram_iterations;   /* give the usual number when not known (0: 4096) */
    struct str scram_stored_key; /* raw, 32 octets (SCRAM-SHA-256) */
    struct str scram_server_key;
    struct str clear_password; /* CRAM-MD5 only */
};
typedef void sasl_lookup_fn(void *arg, struct str user, struct sasl_secret *out_secret);

enum sasl_state {
    SASL_MORE,           /* send *out as a challenge, come back with the response */
    SASL_NEEDS_PASSWORD, /* sasl_server_user() and _password() are there: judge them */
    SASL_DONE,           /* proved; sasl_server_user() says who */
    SASL_REFUSED,        /* wrong proof */
    SASL_BROKEN,         /* malformed: 501 */
};
struct sasl_server *sasl_server_new(enum mechanism mechanism, const char *hostname,
                                    struct str channel_binding, sasl_lookup_fn *lookup, void *arg);
void sasl_server_free(struct sasl_server **server);
/* has_response false: the client sent no initial response. */
enum sasl_state sasl_server_step(struct sasl_server *server, struct str response, bool has_response,
                                 struct buf *out);
struct str sasl_server_user(const struct sasl_server *server);
struct str sasl_server_authzid(
    const struct sasl_server *server); /* empty or equal to the user: fine */
struct str sasl_server_password(const struct sasl_server *server);

/* For the users file: derive what SCRAM-SHA-256 stores. Slow (PBKDF2): never on a loop. */
enum err sasl_scram_derive(struct str password, struct str salt, unsigned iterations,
                           uint8_t out_stored_key[32], uint8_t out_server_key[32],
                           struct fault *fault);

#endif
