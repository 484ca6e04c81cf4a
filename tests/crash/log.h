/*
 * log.h - what the recorder writes and the checker reads: one record per system
 * call that matters, in one file, over all threads and all lives of the relay.
 *
 * `begin` and `end` come from one counter that every process shares: it was
 * stepped just before the call and just after it. So "this write had returned
 * before that sync began" is a comparison of two numbers.
 */
#ifndef WAYPOST_TESTS_CRASH_LOG_H
#define WAYPOST_TESTS_CRASH_LOG_H

#include <stddef.h>
#include <stdint.h>

#define LOG_MAGIC 0x57504352U

enum log_op {
    LOG_START,    /* a process began; handles count from 1 again, offset by `at` */
    LOG_OPEN,     /* text: path; flags: as given to open() */
    LOG_WRITE,    /* handle; at: offset; data; flags: LOG_SYNCED */
    LOG_TRUNCATE, /* handle, or text: path; at: size */
    LOG_SYNC,     /* handle of a file or a folder */
    LOG_MKDIR,    /* text */
    LOG_RMDIR,    /* text */
    LOG_UNLINK,   /* text; handle, if there is one: of the folder it is in */
    LOG_RENAME,   /* text, text2 */
    LOG_SAID,     /* data that left on a socket or on standard output */
    LOG_HEARD,    /* data that came on a socket */
    LOG_SYNC_ALL, /* of the whole file system */
    LOG_RANGE,    /* handle; sync_file_range() */
    LOG_STRANGE,  /* text: a call that the model of the disk does not know */
};

enum { LOG_SYNCED = 1 }; /* written through a descriptor with O_DSYNC or O_SYNC */

struct log_record {
    uint32_t magic;
    uint16_t op;
    uint16_t flags;
    uint64_t begin, end;
    uint32_t handle;     /* which open(); 0: none. SAID, HEARD: the descriptor */
    uint32_t open_flags; /* LOG_OPEN */
    uint64_t at;
    uint32_t len, len2; /* of what follows: text or data, second text */
};

#define LOG_ALIGN 8 /* records begin at multiples of this */

static inline size_t log_padded(size_t len)
{
    return (len + LOG_ALIGN - 1) / LOG_ALIGN * LOG_ALIGN;
}

#endif
