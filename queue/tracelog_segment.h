/*
 * tracelog_segment.h - the files of the trace log; internal to queue/.
 *
 *   NUMBER.trace   header, then records: length BE32, checksum BE32, encoded hop
 *   NUMBER.index   written once, when the segment is full
 *
 * An index has two sorted arrays of (key, offset): by the first 8 bytes of the
 * message id, one entry for each hop; and by the hash of a text (Message-ID,
 * recipient, remote queue id), one for each message. The segment that is being
 * written has none: a reader goes through it and makes the same arrays.
 */
#ifndef WAYPOST_QUEUE_TRACELOG_SEGMENT_H
#define WAYPOST_QUEUE_TRACELOG_SEGMENT_H

#include "relay/base/hop.h"

#define SEGMENT_HEADER 8
#define SEGMENT_FRAME 8 /* in front of each hop */

struct segment_entry {
    uint64_t key;
    uint64_t id; /* first 8 bytes of the message id */
    uint32_t offset;
};

/* What is known of a segment while it is being filled or gone through. */
struct segment_index {
    struct segment_entry *ids, *texts;
    size_t id_count, id_cap, text_count, text_cap;
    int64_t last_us; /* of its newest hop */
};

void segment_index_clear(struct segment_index *index);
void segment_index_add(struct segment_index *index, const struct hop *hop, uint32_t offset);
void segment_index_pack(struct segment_index *index, struct buf *out); /* sorts it */

/* A packed index; views into the bytes. */
struct segment_view {
    const uint8_t *ids, *texts;
    size_t id_count, text_count;
    int64_t last_us;
};
bool segment_view(struct str packed, struct segment_view *out_view); /* false: damaged */
/* Entries with low <= key <= high: calls fn for each offset; false stops. */
typedef bool segment_fn(void *arg, uint32_t offset);
void segment_ids(const struct segment_view *view, uint64_t low, uint64_t high, segment_fn *fn,
                 void *arg);
void segment_texts(const struct segment_view *view, uint64_t key, segment_fn *fn, void *arg);

uint64_t segment_id_key(const struct msgid *id);
/* Angle brackets off, case ignored. */
struct str segment_text(struct str text);
uint64_t segment_text_key(struct str text);

/* ---- the log file ---- */
void segment_header(char out[SEGMENT_HEADER]);
void segment_frame(char out[SEGMENT_FRAME], struct str encoded);
/* The hop at `offset`. *out_next: where the next begins; 0: no whole record is there. */
bool segment_record(struct str bytes, size_t offset, struct hop *out_hop, size_t *out_next);
/* Goes through the whole; returns where the last whole record ends. 0: not ours. */
size_t segment_scan(struct str bytes, struct segment_index *index);

void segment_path(char *out, size_t size, const char *folder, uint64_t number, const char *kind);
/* Numbers of the segments in the folder, ascending; malloc'd. */
enum err segment_list(const char *folder, uint64_t **out_numbers, size_t *out_count,
                      struct fault *fault);

#endif
