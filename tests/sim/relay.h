/*
 * relay.h - the system under test: store, intake, scheduler and deliveries,
 * put together as relay/engine_loop.c does it, on one loop of a simulated world.
 */
#ifndef WAYPOST_SIM_RELAY_H
#define WAYPOST_SIM_RELAY_H

#include "relay/setup.h"
#include "tests/sim/world.h"

struct relay_options {
    const char *folder; /* the queue, and what the configuration names */
    bool is_lmdb;
    hop_tap_fn *tap; /* every hop */
    void *tap_arg;
};

struct relay {
    struct relay_options options;
    struct world *world;
    struct hops *hops;
    struct hop_ring *ring;
    struct pool *pool;
    struct loop *loop;
    struct store *store;
    struct resolver *resolver;
    struct intake *intake;
    struct sched *sched;
    struct report_pace reports;
    struct setup *setup;
    struct setup *before[32]; /* replaced by reloads; deliveries may use their routes */
    size_t before_count;
    bool sched_is_idle;
};

enum err relay_open(struct relay *relay, struct world *world, const struct relay_options *options,
                    struct conf *conf, struct fault *fault);
void relay_close(struct relay *relay);

/* As after a stop that waits for nothing: what was under way is due again. The
 * store in memory is kept, the one on disk is closed and opened. */
enum err relay_restart(struct relay *relay, struct fault *fault);
enum err relay_reload(struct relay *relay, struct conf *conf, struct fault *fault);

/* Take a message as ingress would; `is_local`: from this machine. `answered` comes once. */
typedef void relay_answered_fn(void *arg, const struct reply *reply);
void relay_take(struct relay *relay, const struct envelope *envelope, struct str content,
                bool is_local, relay_answered_fn *answered, void *arg);

/* What an operator does; settles. */
uint64_t relay_change(struct relay *relay, enum store_change_kind kind,
                      const struct store_filter *filter);
void relay_flush(struct relay *relay, struct str lane);
/* Every message in the queue; free with store_list_clear(). */
void relay_list(struct relay *relay, struct store_list *out_list);

#endif
