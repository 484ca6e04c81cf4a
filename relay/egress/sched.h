/*
 * sched.h - when what is sent where: one scheduler per loop.
 *
 * Knows the lanes of its loop (by hash of the lane; a smarthost lane runs on
 * every loop), their next due times, their dests and plans. A due lane whose
 * dest has room gets a plan, a claim, a delivery; results go to the dest and,
 * with the reports they cause, to the store. Round robin over due lanes, one cap on
 * connections in all. A lane with nothing due costs nothing.
 *
 * When a whole place is down its mail is not attempted one by one: one probe
 * per interval; the lane's oldest entries are still looked at, so that lifetime
 * and delay warnings hold.
 */
#ifndef WAYPOST_EGRESS_SCHED_H
#define WAYPOST_EGRESS_SCHED_H

#include "relay/base/stuck.h"
#include "relay/egress/bounce.h"
#include "relay/egress/deliver.h"
#include "relay/egress/dest.h"

struct sched;

struct sched_destination {
    struct str match; /* recipient domain, or suffix of MX host names */
    struct dest_limits limits;
};

/* Immutable while in use; engine owns it and tells when it changes. */
struct sched_settings {
    struct str hostname;
    const struct route_settings *routes; /* in order; the last is the built-in "direct" */
    size_t route_count;
    const struct sched_destination *destinations;
    size_t destination_count;
    struct dest_limits default_limits;
    unsigned connections_max; /* at least 1; this loop's share of the cap in all */
    struct backoff backoff;   /* of recipients */
    uint64_t lifetime_s, warn_after_s;
    unsigned reports_per_hour;
    struct smtp_client_timeouts timeouts;
    uint64_t connect_ms;
    uint64_t reuse_ms; /* how long an idle connection is kept: 0: 5 s */
    const struct endpoint *locals;
    size_t local_count;
};

/* This lane has something due that this loop cannot claim at once: other loops may. */
typedef void sched_pass_fn(void *arg, const char *lane, int64_t due_at);

/* Mail is due in a lane whose route is gone: it cannot leave before it is moved. Told
 * again while that is so, once a minute. */
typedef void sched_lost_fn(void *arg);

struct sched_options {
    struct loop *loop;
    struct store *store;
    struct resolver *resolver;
    struct intake *intake;
    struct keyring *keyring;
    struct report_pace *pace; /* shared by all loops; NULL: reports leave at once */
    sched_pass_fn *pass;      /* NULL: there is no other loop */
    void *pass_arg;
    sched_lost_fn *lost; /* NULL: nobody can do anything about it */
    void *lost_arg;
};

struct sched *sched_new(const struct sched_options *options, const struct sched_settings *settings);
/* Reload. Deliveries under way end with the old settings: keep those until
 * sched_settings_idle() says nobody uses them. Where a lane's next hop is reached another
 * way than before, its old failures are forgotten and one probe finds out. */
void sched_set(struct sched *sched, const struct sched_settings *settings, struct keyring *keyring);
bool sched_settings_idle(const struct sched *sched, const struct sched_settings *settings);

/* Which loop a lane belongs to, out of `loops`. A smarthost lane belongs to all. */
unsigned sched_loop_of(struct str lane, unsigned loops);

/* From the store's watch, brought over by letter: this lane has something due
 * at due_at (wall s). Ignored when the lane is another loop's. Of a smarthost lane one
 * loop is told, and passes on what it cannot claim at once: is_passed on the others. */
void sched_ready(struct sched *sched, const char *lane, int64_t due_at, bool is_passed);
/* Operator: wake the dests of lanes that match (empty: all) and look again. */
void sched_flush(struct sched *sched, struct str lane);

/* The wall clock was set: look at it now, what is due by the new time is due. Mail
 * from before grows no older by it, whether this was called or not. */
void sched_clock_set(struct sched *sched);

/* Stop taking new work; `idle` once nothing is under way. */
void sched_drain(struct sched *sched, loop_fn *idle, void *arg);
void sched_abort(struct sched *sched); /* end what is under way now; then drain's `idle` comes */
void sched_free(struct sched **sched); /* idle only */

/* For the API: what is going on. Called on the loop's thread. */
struct sched_lane_info {
    struct str lane, dest, host;
    enum dest_state state;
    unsigned connections, window;
    int64_t next_due, wake_at; /* wall s; 0: none */
    uint64_t delivered, later, failed;
    struct str trouble; /* why it sleeps, plain words */
};
typedef bool sched_lane_fn(void *arg, const struct sched_lane_info *info);
void sched_each_lane(const struct sched *sched, sched_lane_fn *fn, void *arg);
struct sched_counts {
    unsigned connections, lanes, lanes_sleeping;
    uint64_t attempts, delivered, later, failed;
};
/* The oldest of what waits for the store, and attempts that outlived their deadline. */
void sched_stuck(const struct sched *sched, struct stuck *stuck);
void sched_counts(const struct sched *sched, struct sched_counts *out_counts);

#endif
