/*
 * recording.h - a log in memory: its calls, their beginnings and ends in order.
 */
#ifndef WAYPOST_TESTS_CRASH_RECORDING_H
#define WAYPOST_TESTS_CRASH_RECORDING_H

#include "tests/crash/disk.h"

struct moment { /* a call begins or ends */
    uint64_t at;
    const struct log_record *record;
};

struct recording {
    const struct log_record **records;
    size_t count, cap;
    struct moment *moments; /* in order */
    size_t moment_count;
    uint64_t *edges; /* of syncs and acknowledgements, in order */
    size_t edge_count;
};

/* False: not a whole recording. What it points to stays mapped. Edges up to
 * `after` are none. */
bool recording_read(struct recording *recording, const char *path, uint64_t after);
/* How many calls: writes through O_DSYNC, each of which ends a commit; sync_file_range(). */
size_t recording_commits(const struct recording *recording);
size_t recording_ranges(const struct recording *recording);
/* Tell the disk of everything before `cut`, from moment number *next on. */
void recording_play(const struct recording *recording, struct disk *disk, size_t *next,
                    uint64_t cut);

#endif
