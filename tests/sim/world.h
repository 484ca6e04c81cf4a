/*
 * world.h - everything that is not the relay: time, names, hosts.
 *
 * A replay runs the relay's real code over this world instead of libuv, ldns,
 * OpenSSL and sockets: the files sim_*.c here implement net's loop.h, stream.h,
 * dns.h and tls.h, and come first on the link line. Time is virtual: it jumps
 * to the next timer once nothing more can happen at the present instant, so a
 * week of retries takes milliseconds, and every run goes the same way.
 */
#ifndef WAYPOST_SIM_WORLD_H
#define WAYPOST_SIM_WORLD_H

#include "queue/store.h"
#include "relay/base/hop.h"
#include "relay/net/loop.h"

#define WORLD_BEGAN_S INT64_C(1800000000) /* wall clock at virtual time 0 */

struct zone;
struct host;

struct world {
    struct loop *loop;
    struct zone *zone;   /* the names there are */
    struct host *hosts;  /* the hosts there are */
    struct hops *hops;   /* drained after each turn */
    struct store *store; /* whose writer is waited for; NULL: none is open */
    uint64_t messages;   /* taken by all hosts */
};

void world_init(struct world *world);
/* Everything the relay had of it must be gone. */
void world_clear(struct world *world);

uint64_t world_now_ms(const struct world *world);             /* since the beginning */
int64_t world_wall_us(void);                                  /* for stores; any thread */
void world_set_clock(struct world *world, int64_t forward_s); /* wall clock alone */

/* A relay that starts knows nothing of clocks that were set before. */
void world_forget_clock(void);

/* Until nothing more happens at this instant. */
void world_settle(struct world *world);
/* The same, and every instant up to this one. */
void world_run_until(struct world *world, uint64_t at_ms);

/* The loop runs in this world from now on. */
void loop_settle_in(struct loop *loop, struct world *world);
struct world *loop_world(struct loop *loop);

#endif
