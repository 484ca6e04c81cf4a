/*
 * header.h - reading a header block field by field (RFC 5322 2.2).
 *
 * Pure; views into the block. A block is CRLF text up to and including the
 * empty line; each field's `raw` has its folding and its final CRLF.
 */
#ifndef WAYPOST_MAIL_HEADER_H
#define WAYPOST_MAIL_HEADER_H

#include "relay/base/arena.h"
#include "relay/base/buf.h"
#include "relay/base/err.h"

struct header_field {
    struct str raw;   /* "Name: value CRLF", folded lines included */
    struct str name;  /* up to the colon, trailing blanks removed */
    struct str value; /* behind the colon, still folded, without the final CRLF */
};

/* Cut the next field off the front of *rest. False at the empty line or the
 * end. A line that is no field (no colon, blank or control or 8-bit in the name)
 * gives ERR_INVALID through *out_err and stops. */
bool header_next(struct str *rest, struct header_field *out_field, enum err *out_err);

/* First field of that name; *count: how many there are (may be NULL). */
bool header_find(struct str block, struct str name, struct header_field *out_field,
                 size_t *out_count);

/* Unfolded value, comments kept, trimmed; in the arena. */
struct str header_unfold(struct str value, struct arena *arena);

/* A parameter of a structured field such as Content-Type ("boundary"): quoted
 * strings undone, RFC 2231 continuations joined. Empty when absent. */
struct str header_param(struct str value, struct str name, struct arena *arena);

/* Where the header block ends in a stream fed piece by piece. */
struct header_scan {
    size_t seen; /* bytes fed so far */
    unsigned state;
};
void header_scan_init(struct header_scan *scan);
/* Feed bytes; true when the empty line was completed, *out_used then says how
 * many of these bytes belong to the block (empty line included). */
bool header_scan_feed(struct header_scan *scan, struct str in, size_t *out_used);

#endif
