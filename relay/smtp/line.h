/*
 * line.h - the one strict codec for SMTP's bytes, every way in and out.
 *
 * It alone knows CRLF, length limits and dots. Used by the server machine, the
 * client machine, `sendmail -bs` and the dev relay, so that no second input
 * path can disagree about where a line or a message ends (SMTP smuggling).
 *
 * Command and reply lines end in CRLF and in nothing else; a bare CR, a bare
 * LF or a NUL inside is reported, never treated as an end. In DATA only
 * CRLF "." CRLF ends the content; a bare CR, bare LF or NUL in the content is
 * reported, and the content is read to its true end so that the session stays in step.
 * Pure, no allocation.
 */
#ifndef WAYPOST_SMTP_LINE_H
#define WAYPOST_SMTP_LINE_H

#include "relay/base/str.h"

enum line_got {
    LINE_MORE,     /* no whole line yet */
    LINE_WHOLE,    /* *out_line is the line without CRLF */
    LINE_BARE,     /* a whole line, but with a bare CR, bare LF or NUL in it */
    LINE_TOO_LONG, /* over `max` octets CRLF included; bytes up to its CRLF are to be dropped */
};

/* The next line at the front of `in`. *out_used: bytes to consume (0 with
 * LINE_MORE; with LINE_TOO_LONG what may be dropped now, call again until the
 * line's end was seen: *skipping carries that over calls). *scanned remembers how far `in` was
 * searched, so that a slow sender costs no quadratic time; start with 0. */
enum line_got line_next(struct str in, size_t max, bool *skipping, size_t *scanned,
                        struct str *out_line, size_t *out_used);

/* ---- content in, after DATA ---- */

enum {
    LINE_CONTENT_BARE_CR = 1,
    LINE_CONTENT_BARE_LF = 2,
    LINE_CONTENT_NUL = 4,
    LINE_CONTENT_LONG = 8
};

struct line_content {
    unsigned state;
    unsigned faults; /* LINE_CONTENT_*; LONG: a line over 998 octets was seen */
    size_t line_len; /* octets in the current line */
    bool has_8bit;
    bool ended;
};

void line_content_init(struct line_content *content);
/* Undo dot-stuffing. Takes from `in`, writes at most in.len + 1 octets to `out`;
 * returns octets written and *out_used octets taken. Stops right behind the
 * final CRLF "." CRLF (content->ended); the CRLF before the dot belongs to the content. */
size_t line_content_decode(struct line_content *content, struct str in, char *out,
                           size_t *out_used);
/* The same judgement for BDAT's raw octets, which are not changed. Call it for
 * each piece, chunk after chunk, and _finish behind the last: a CR there is bare. */
void line_content_inspect(struct line_content *content, struct str in);
void line_content_finish(struct line_content *content);
bool line_content_lacks_crlf(const struct line_content *content); /* content does not end in CRLF */

/* ---- content out ---- */

struct line_stuff {
    unsigned state; /* starts at the beginning of a line */
};
void line_stuff_init(struct line_stuff *stuff);
/* Dot-stuff canonical (CRLF) text into `out`, which must have room for
 * 2 * in.len; returns octets written. */
size_t line_stuff(struct line_stuff *stuff, struct str in, char *out);
bool line_stuff_at_start(const struct line_stuff *stuff); /* the text so far ends in CRLF */

#endif
