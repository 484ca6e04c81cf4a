/*
 * str.h - a borrowed piece of text: pointer and length, no terminator.
 *
 * A `struct str` never owns its bytes; it is valid as long as what it points
 * into. Everything that came from a peer is handled as one of these until it
 * has been judged. ASCII rules only: SMTP and header words compare without
 * regard to case in ASCII and bytes above 127 compare as they are.
 */
#ifndef WAYPOST_BASE_STR_H
#define WAYPOST_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *at;
    size_t len;
};

#define STR(literal) ((struct str){ "" literal, sizeof(literal) - 1 })
#define STR_EMPTY ((struct str){ "", 0 })
#define STR_FMT "%.*s"
#define STR_ARG(s) ((int)(s).len), ((s).at)

static inline struct str str_of(const char *cstr) /* NULL gives the empty string */
{
    return (struct str){ cstr ? cstr : "", cstr ? strlen(cstr) : 0 };
}

static inline struct str str_make(const char *at, size_t len) { return (struct str){ at, len }; }

bool str_eq(struct str a, struct str b);
bool str_ieq(struct str a, struct str b);
bool str_lists_eq(const struct str *a, size_t a_count, const struct str *b, size_t b_count);
int str_cmp(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_istarts(struct str s, struct str prefix);
bool str_iends(struct str s, struct str suffix);
struct str str_trim(struct str s); /* space, tab, CR, LF at both ends */

/* Offset of the first match, or s.len when there is none. */
size_t str_chr(struct str s, char c);
size_t str_find(struct str s, struct str needle);
size_t str_ifind(struct str s, struct str needle);

/* s.at + n onwards; n past the end gives an empty view. */
struct str str_from(struct str s, size_t n);
struct str str_head(struct str s, size_t n);

/* Cut the next piece up to `sep` off the front of *rest. False when *rest is
 * used up; a trailing separator does not make an empty last piece. */
bool str_next(struct str *rest, char sep, struct str *out_piece);

/* Decimal, whole string, no sign, no spaces. False on anything else or overflow. */
bool str_u64(struct str s, uint64_t *out_value);

char *str_dup(struct str s); /* malloc'd, NUL at the end */
size_t str_copy(char *to, size_t size,
                struct str s);                  /* cut to fit, always terminated; bytes copied */
void str_lower(char *s, size_t len);            /* ASCII, in place */
uint64_t str_hash(struct str s, uint64_t seed); /* not for secrets */
bool str_is_ascii(struct str s);
bool str_is_utf8(struct str s); /* well-formed, RFC 3629 */
/* Bytes of the well-formed UTF-8 sequence that s begins with; 0: it does not. */
size_t str_utf8(struct str s, uint32_t *out_point);

/* Malloc that aborts: allocation failure is not a case anyone handles. */
void *mem_alloc(size_t size); /* zeroed */
void *mem_realloc(void *p, size_t size);

#endif
