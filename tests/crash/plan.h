/*
 * plan.h - which moment and which fate an image has, and the image as files.
 */
#ifndef WAYPOST_TESTS_CRASH_PLAN_H
#define WAYPOST_TESTS_CRASH_PLAN_H

#include "tests/crash/recording.h"

struct plan {
    unsigned long number;
    uint64_t cut;
    enum fate fate;
    unsigned percent;
    struct dice dice;
};

/* Number `number` of `images`, spread evenly over the edges of the recording:
 * the same again for the same seed. */
struct plan plan_make(const struct recording *recording, unsigned long images, unsigned long seed,
                      unsigned long number);
/* All of them, in the order of their cuts; malloc'd. */
struct plan *plan_all(const struct recording *recording, unsigned long images, unsigned long seed);
/* What the disk, played up to the cut, may be: written out as files. */
bool plan_image(struct disk *disk, struct plan plan, const char *folder);
void plan_remove(const char *folder); /* with all that is in it */

#endif
