/*
 * verify.h - opens the store of one image and holds it against the promises.
 */
#ifndef WAYPOST_TESTS_CRASH_VERIFY_H
#define WAYPOST_TESTS_CRASH_VERIFY_H

#include "tests/crash/promise.h"

#include <stdatomic.h>

/* Over all images; in memory that the forked checks share. */
struct verify_count {
    atomic_ulong images, failed;
    atomic_ulong messages, side_files, reports, recipients; /* found whole */
    atomic_ulong acknowledged, gone, lying;                 /* of these: rightly not there */
    atomic_ulong settled, dropped;                          /* seen not to be back */
    atomic_ulong no_store;                                  /* cut before there was one */
    atomic_ulong recoveries, idle, commits, paged; /* recorded; of these: that wrote nothing */
};

/* The folder holds `queue` and `trace`. Everything that is wrong is said on
 * stdout, each line behind `label`. True: nothing was. */
bool verify_image(const char *folder, struct promises *promises, uint64_t cut, const char *label,
                  struct verify_count *count);

/* Opens what a relay would, and waits until all of the queue can be claimed: recovery is over. */
bool verify_recovery(const char *folder, size_t at_open, const char *label);

#endif
