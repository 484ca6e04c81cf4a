/*
 * arena.h - many small allocations that die together.
 *
 * A session's or message's small things live in its arena. Not for things
 * that are freed one by one. One thread at a time.
 */
#ifndef WAYPOST_BASE_ARENA_H
#define WAYPOST_BASE_ARENA_H

#include "relay/base/str.h"

struct arena_block;

struct arena {
    struct arena_block *blocks;
    size_t used_bytes; /* handed out since init or the last clear */
};

void arena_init(struct arena *arena);
void arena_clear(struct arena *arena); /* frees everything; usable again */
/* About so much will be needed: an empty arena takes it as one block of just that size. */
void arena_expect(struct arena *arena, size_t size);
void *arena_alloc(struct arena *arena, size_t size);     /* zeroed, aligned for any type */
struct str arena_str(struct arena *arena, struct str s); /* a copy, with a NUL behind it */
char *arena_cstr(struct arena *arena, struct str s);
size_t arena_room(const struct arena *arena); /* what its blocks take, used or not */
char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
