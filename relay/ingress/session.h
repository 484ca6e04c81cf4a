/*
 * session.h - the driver of the server machine: one client's visit.
 *
 * Joins a stream, an smtp_server, access and auth, and intake. A session owns
 * itself: it begins with a stream and ends by itself when the client leaves,
 * misbehaves, or the relay stops. One loop.
 */
#ifndef WAYPOST_INGRESS_SESSION_H
#define WAYPOST_INGRESS_SESSION_H

#include "relay/base/stuck.h"
#include "relay/ingress/auth.h"
#include "relay/ingress/caps.h"
#include "relay/intake/intake.h"
#include "relay/net/stream.h"
#include "relay/net/tls.h"
#include "relay/smtp/server.h"

/* What all sessions of one listener on one loop share; immutable while a
 * session uses it (counted), replaced at a reload. */
struct service {
    unsigned refs;
    struct str name;     /* of the listen section; owned */
    struct str hostname; /* owned */
    struct loop *loop;
    struct intake *intake;
    struct auth *auth;
    struct caps *caps;
    struct store *store;    /* health at MAIL */
    struct tls_server *tls; /* a reference; NULL: none */
    bool tls_implicit, tls_starttls;
    bool auth_offered, auth_required, auth_in_clear, cram_md5;
    const struct network *trust; /* owned */
    size_t trust_count;
    bool is_local;                     /* unix socket: the caller's uid is the user, trusted */
    struct smtp_server_options limits; /* sizes, counts, timeouts; the rest is filled per session */
    struct sessions *sessions;         /* the list of this loop */
};
struct service *service_ref(struct service *service);
void service_unref(struct service **service);

/* All sessions of one loop. */
struct sessions;
struct sessions *sessions_new(struct loop *loop);
void sessions_free(struct sessions **sessions); /* must be empty */
size_t sessions_count(const struct sessions *sessions);
/* The one that has waited longest for us: intake, the store, a worker. */
void sessions_stuck(const struct sessions *sessions, struct stuck *stuck);
/* Drain: idle sessions leave now, the others at their next command boundary;
 * `empty` is called once when none is left. */
void sessions_drain(struct sessions *sessions, loop_fn *empty, void *arg);
void sessions_abort(struct sessions *sessions); /* all of them, now */

void session_begin(struct service *service, struct stream *stream);

#endif
