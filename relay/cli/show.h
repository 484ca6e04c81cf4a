/*
 * show.h - pieces of text that tables and timelines are made of. Pure.
 *
 * Everything that came from outside passes show_text: it never starts a line or
 * a terminal sequence.
 */
#ifndef WAYPOST_CLI_SHOW_H
#define WAYPOST_CLI_SHOW_H

#include "relay/base/buf.h"

#include <jansson.h>

/* Terminal sequences, all "" when the output is no terminal. */
struct show_paint {
    const char *bold, *red, *yellow, *green, *dim, *end;
};
extern const struct show_paint show_plain;
struct show_paint show_paint_of(void *file); /* FILE */

void show_text(struct buf *out, struct str text, size_t max); /* escaped, cut with "..." */
void show_size(struct buf *out, uint64_t bytes);              /* "812", "12.3K", "4.0M" */
void show_span(struct buf *out, int64_t seconds);             /* "2h 05m"; below 0: "0s" */
/* "next in 12m" or "due now" */
void show_until(struct buf *out, int64_t then_s, int64_t now_s);
/* Spaces until the column, counted from `line_start`; at least one. */
void show_pad(struct buf *out, size_t line_start, size_t column);

bool show_iso(struct str text, int64_t *out_us); /* "2026-11-21T13:27:36.123Z" */

/* Fields of a JSON object: empty, 0 when missing. */
struct str show_field(const json_t *object, const char *key);
uint64_t show_number(const json_t *object, const char *key);
int64_t show_wall(const json_t *object, const char *key); /* seconds; 0 when missing */

#endif
