/*
 * again.h - a second power cut, inside the recovery from the first.
 *
 * What the first left is on the disk, all of it: the machine has started anew. It
 * is opened as a relay would open it, with the recorder preloaded, and of what
 * that writes there are images as of any other recording, held against what was
 * promised before the first cut.
 */
#ifndef WAYPOST_TESTS_CRASH_AGAIN_H
#define WAYPOST_TESTS_CRASH_AGAIN_H

#include "tests/crash/plan.h"
#include "tests/crash/verify.h"

struct again {
    unsigned long cuts, seed;
    const char *recorder; /* the library, and what has to be loaded before it */
    const char *keep;     /* failing images are left here, or NULL */
    enum lie lie;         /* of the disk after the first cut */
    struct promises *promises;
    struct verify_count *count;
};

/* The folder holds the image of `first`, and is changed. True: nothing was wrong. */
bool again_check(const struct again *again, const struct plan *first, const char *folder,
                 const char *label);

/* In a process of its own, with the recorder: the opening that is recorded. */
int again_open(const char *folder, const char *at_open);

#endif
