/*
 * deliver.h - one connection to a next hop, and the messages sent over it.
 *
 * The driver of the client machine. A delivery takes a plan and a first claim,
 * tries the plan's addresses in order until one will talk (connect, banner,
 * EHLO, STARTTLS, AUTH, judged by policy and outcome), sends the claim, then
 * asks for the next. A host that turns out bad in the middle is left for the
 * plan's next address with what is unfinished. It ends by itself.
 *
 * Every claim given is answered exactly once, by `done`, with an outcome for
 * each of its recipients, whatever happens; one taken may also go back untouched.
 */
#ifndef WAYPOST_EGRESS_DELIVER_H
#define WAYPOST_EGRESS_DELIVER_H

#include "dkim/keyring.h"
#include "queue/store.h"
#include "relay/egress/tlspolicy.h"
#include "relay/smtp/client.h"

struct delivery;

/* What happened to one recipient of a claim. Text lives until `done` returns. */
struct delivery_result {
    struct outcome outcome;
    enum stage stage;
    bool attempted;       /* it got as far as trying this recipient or its host */
    struct str host;      /* "mx1.example.com [192.0.2.1]:25"; empty: none was reached */
    struct str said;      /* the reply on one line, or our fault text */
    struct str remote_id; /* of the next hop, from its 250 */
    bool
        relayed_with_dsn; /* delivered to a hop that offers DSN (else we owe a "relayed" report when SUCCESS was asked) */
};

typedef void delivery_done_fn(void *arg, struct delivery *delivery, struct claim *claim,
                              const struct delivery_result *results); /* claim->count of them */
/* The session is up and free. Answer now or later with delivery_give() or delivery_quit(). */
typedef void delivery_free_fn(void *arg, struct delivery *delivery);
/* Gone; forget the pointer. `trouble`: the outcome that ended it when the place
 * is to blame (scope host or dest), NULL after an orderly end. */
typedef void delivery_ended_fn(void *arg, struct delivery *delivery, const struct outcome *trouble);

/* Another claim, to be sent behind the present one without waiting for its reply, or
 * NULL. It comes back by `untake` when nothing came of it. Both may be NULL. */
typedef struct claim *delivery_take_fn(void *arg, struct delivery *delivery);
typedef void delivery_untake_fn(void *arg, struct delivery *delivery, struct claim *claim);

#define DELIVERY_TOTAL_MS ((uint64_t)2 * 3600 * 1000)

struct delivery_options {
    struct loop *loop;
    struct resolver *resolver;
    struct store *store;     /* its folder, for large converted copies */
    struct keyring *keyring; /* for re-signing converted copies; may be NULL */
    const struct route_settings *route;
    struct route_plan *plan; /* a reference is taken */
    struct str lane;
    struct str hostname; /* EHLO name, or "[192.0.2.1]" is made when it has no dot */
    struct smtp_client_timeouts timeouts;
    uint64_t connect_ms;
    uint64_t total_ms; /* hard deadline of one attempt of one claim; 0: DELIVERY_TOTAL_MS */
    uint32_t attempt;  /* of the first claim, for hops */
    delivery_done_fn *done;
    delivery_free_fn *free_now;
    delivery_take_fn *take;
    delivery_untake_fn *untake;
    delivery_ended_fn *ended;
    void *arg;
};

/* first NULL: a visit, for which the plan must have an address: once the session is up,
 * free_now is called. */
struct delivery *delivery_start(const struct delivery_options *options, struct claim *first);
void delivery_give(struct delivery *delivery, struct claim *claim); /* only when free */
void delivery_quit(struct delivery *delivery); /* only when free: QUIT, then ended */
/* The relay stops: claims under way come back through `done` as later, scope us, not attempted... at once. */
void delivery_abort(struct delivery *delivery);
unsigned delivery_sent(const struct delivery *delivery); /* messages over this connection */
const char *delivery_host(
    const struct delivery *delivery); /* name of the host it talks to; "" before */

#endif
