/*
 * engine_chore.h - changes of the whole queue that must come to pass.
 *
 * What a configuration asks of mail that waits already (other lanes, another
 * try, an address) is a store_change over all of it, and the store may be unable
 * to make it: the disk is full. Then there is an alarm, and it is asked again,
 * by the configuration then in force, until the store has done it. Loop 0's.
 */
#ifndef WAYPOST_ENGINE_CHORE_H
#define WAYPOST_ENGINE_CHORE_H

#include "queue/store.h"
#include "relay/base/timers.h"

struct engine;
struct chore;

/* One time that it is asked of the store. */
struct chore_run {
    struct store_change change; /* all but its request is chore_kind.make's */
    struct chore *chore;
};

struct chore_kind {
    const char *failed, *over; /* in the log; `over` when it worked after it had failed */
    /* By the configuration in force; NULL: there is nothing to do. */
    struct chore_run *(*make)(struct engine *engine);
    void (*done)(struct engine *engine, struct chore_run *run); /* frees it */
};

struct chore {
    struct engine *engine;
    const struct chore_kind *kind;
    struct timer timer; /* it failed, and is asked again */
    bool is_out;        /* with the store */
    bool is_stale;      /* and asked for anew meanwhile */
    unsigned failures;  /* in a row */
    uint64_t said_ms;   /* the last alarm */
};

void chore_init(struct chore *chore, struct engine *engine, const struct chore_kind *kind);
/* Do it, or do it anew: what was asked for before is superseded. */
void chore_ask(struct chore *chore);
bool chore_is_pending(const struct chore *chore); /* asked for, and not done */
void chore_stop(struct chore *chore);             /* the relay stops */

#endif
