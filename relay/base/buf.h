/*
 * buf.h - a growing run of bytes with a mandatory upper limit.
 *
 * The limit is part of every buf, so that nothing a peer sends can grow
 * without end. Appending past it fails and leaves the buf as it was; the
 * failure is remembered in `overflowed`, so a caller that composes many
 * pieces may check once, at the end.
 *
 * Bytes may be taken from the front (buf_consume) cheaply; `at` then moves.
 */
#ifndef WAYPOST_BASE_BUF_H
#define WAYPOST_BASE_BUF_H

#include "relay/base/str.h"

#include <stdarg.h>

struct buf {
    char *at;        /* first valid byte; owned through `start` */
    size_t len;      /* valid bytes from `at` */
    char *start;     /* allocation, NULL until the first append */
    size_t cap;      /* size of the allocation */
    size_t max;      /* len never exceeds this */
    bool overflowed; /* an append was refused */
};

void buf_init(struct buf *buf, size_t max);
void buf_clear(struct buf *buf); /* frees the bytes; usable again with the same max */
void buf_reset(struct buf *buf); /* len = 0, overflowed = false; keeps the memory */

bool buf_append(struct buf *buf, const void *bytes, size_t len);
bool buf_str(struct buf *buf, struct str s);
bool buf_cstr(struct buf *buf, const char *s);
bool buf_char(struct buf *buf, char c);
bool buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool buf_vprintf(struct buf *buf, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

/* Room for at least `len` more bytes to write into directly; NULL when over
 * max. Follow with buf_commit() of what was really written. */
char *buf_reserve(struct buf *buf, size_t len);
void buf_commit(struct buf *buf, size_t len);

void buf_consume(struct buf *buf, size_t len); /* drop bytes from the front */
struct str buf_view(const struct buf *buf);
char *buf_take(struct buf *buf,
               size_t *out_len); /* NUL-terminated, yours to free; buf is empty after */

/* Text that came from outside, made safe to show: control characters, DEL,
 * invalid UTF-8, U+0080-U+009F and what breaks lines or turns the writing
 * direction become \xNN, backslash becomes \\; at most
 * `max_in` input bytes are shown, then "...". Never starts a new line or a
 * terminal sequence. */
bool buf_escaped(struct buf *buf, struct str s, size_t max_in);

/* The same as a JSON string with its quotes: what buf_escaped() would not show
 * becomes \uXXXX; a byte that is not UTF-8 becomes the \u00XX of its value. */
bool buf_json(struct buf *buf, struct str s);

#endif
