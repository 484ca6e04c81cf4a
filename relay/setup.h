/*
 * setup.h - what a configuration means to the running parts, all loaded.
 *
 * Keys, certificates, users and route tables of one configuration, built
 * blocking (at start, and on a worker at reload), then immutable and counted.
 * A reload builds a new one; loops swap it, and what still runs keeps the old.
 */
#ifndef WAYPOST_SETUP_H
#define WAYPOST_SETUP_H

#include "conf/conf.h"
#include "dkim/keyring.h"
#include "relay/egress/sched.h"
#include "relay/ingress/users.h"
#include "relay/intake/locals.h"
#include "relay/net/tls.h"

#include <stdatomic.h>

struct setup_listen {
    const struct conf_listen *conf;
    const struct network *trust;
    size_t trust_count;
    const struct network *proxy;
    size_t proxy_count;
};

struct setup {
    atomic_uint refs;
    struct conf *conf;
    struct arena arena;
    struct keyring *keyring; /* never NULL */
    struct users *users;     /* NULL: no users file */
    struct locals *locals;   /* never NULL */
    enum err aliases_err;    /* of reading the alias file */
    struct str alias_words;  /* the findings that are worst; empty: none */
    struct tls_server *tls;  /* NULL: no certificate */
    struct tls_client *tls_client;
    struct tls_client **route_tls; /* of routes with a CA file of their own; NULL entries */
    size_t route_tls_count;
    struct lane_route *lane_routes;
    size_t lane_route_count;
    struct setup_listen *listens; /* as conf->listens, serve_count of them */
    struct sched_settings sched;
    struct resolver_options dns;
};

/* Reads the certificates that the configuration names; blocks. *out_tls NULL: none. */
enum err setup_certificates(const struct conf *conf, struct tls_server **out_tls,
                            struct fault *fault);
enum err setup_new(struct conf *conf, struct setup **out_setup, struct fault *fault);
struct setup *setup_ref(struct setup *setup); /* any thread */
void setup_unref(struct setup **setup);       /* any thread */

/* The rules for this machine's own names; `check` makes the same. Reads nothing yet. */
struct locals *setup_locals(const struct conf *conf);

/* STORE_READDRESS: where a held local name leads by these rules, *out_led the same in
 * words. .forward files are not asked: nothing may block a store thread. */
size_t setup_lead(const struct setup *setup, const struct envelope *envelope,
                  const struct recipient *recipient, struct arena *arena,
                  struct local_result *out_led, const struct store_address **out_addresses);

/* STORE_REROUTE: which lane these rules give. */
void setup_lane(const struct setup *setup, const struct envelope *envelope,
                const struct recipient *recipient, char out_lane[LANE_MAX]);

#endif
