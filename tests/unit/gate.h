/*
 * gate.h - a job for a pool that runs until the test lets it go.
 */
#ifndef WAYPOST_TESTS_GATE_H
#define WAYPOST_TESTS_GATE_H

#include "relay/base/pool.h"

#include <sched.h>
#include <stdatomic.h>

static atomic_bool gate; /* open: jobs end */

static inline void wait_at_gate(struct job *job)
{
    (void)job;
    while (!atomic_load(&gate))
        sched_yield();
}

#endif
