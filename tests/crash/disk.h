/*
 * disk.h - a model of what a disk may hold after the power went.
 *
 * Fed with recorded calls in the order of their beginnings and ends, it keeps
 * two things for every file and folder: what is surely on the disk, and what
 * was done since. disk_image() writes out one state that the disk may be in:
 * all that is sure, and of the rest whatever the dice say.
 *
 * Sure is only: of a file, what had returned before a sync of that same file
 * began that has returned; of an O_DSYNC write, its own pages; of a folder, its
 * entries at the beginning of a finished sync of that same folder. A synced
 * file whose entry is not is lost. Of the rest each sector (512 bytes) of each
 * write, each change of size and each entry of a folder may be there or not, on
 * its own, in any order; a sector is never torn, a rename within a folder
 * happens whole. What was never written reads as zeros.
 */
#ifndef WAYPOST_TESTS_CRASH_DISK_H
#define WAYPOST_TESTS_CRASH_DISK_H

#include "tests/crash/log.h"

#include <stdbool.h>
#include <stddef.h>

#define DISK_SECTOR 512

struct dice {
    uint64_t state;
};
uint64_t dice_next(struct dice *dice);
uint64_t dice_below(struct dice *dice, uint64_t n);
bool dice_chance(struct dice *dice, unsigned percent);

/* What becomes of what is not sure. */
enum fate {
    FATE_LOST,  /* nothing of it is there */
    FATE_KEPT,  /* everything: the process died, the machine did not */
    FATE_SOME,  /* each call wholly or not */
    FATE_TORN,  /* each sector or not */
    FATE_MIXED, /* each call wholly, not, or torn */
    FATE_LATE,  /* what came late is there, what came before it is not */
    FATE_COUNT,
};
const char *fate_word(enum fate fate);

/* A lie about the disk, to show that the checker would notice. */
enum lie {
    LIE_NONE,
    LIE_DATA_SYNC,   /* fdatasync of the database does nothing */
    LIE_META_SYNC,   /* O_DSYNC does nothing */
    LIE_BODY_SYNC,   /* fdatasync of a side file does nothing */
    LIE_FOLDER_SYNC, /* fsync of a folder does nothing */
    LIE_EARLY,       /* acknowledgements came fifty calls before they did */
    LIE_COUNT,
};
const char *lie_word(enum lie lie);

struct disk;

struct disk *disk_new(const char *root, enum lie lie);
void disk_load(struct disk *disk); /* what lies below the root is there, and sure */
void disk_begin(struct disk *disk, const struct log_record *record); /* the call began */
void disk_end(struct disk *disk, const struct log_record *record);   /* it returned */
/* `percent`: of what is not sure, for the fates with dice. */
bool disk_image(struct disk *disk, enum fate fate, unsigned percent, struct dice *dice,
                const char *folder);

#endif
