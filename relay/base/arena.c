/*
 * arena.c - a list of blocks, filled from the front, freed together.
 */
#include "relay/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_FIRST 1024
#define ARENA_LARGEST 65536
#define ARENA_ALIGN _Alignof(max_align_t)

struct arena_block {
    struct arena_block *next;
    size_t size, used;
    max_align_t bytes[];
};

void arena_init(struct arena *arena) { *arena = (struct arena){ 0 }; }

void arena_clear(struct arena *arena)
{
    while (arena->blocks) {
        struct arena_block *block = arena->blocks;
        arena->blocks = block->next;
        free(block);
    }
    arena->used_bytes = 0;
}

static size_t aligned(size_t size)
{
    size_t need = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;

    if (need < size) /* wrapped around: no such memory exists */
        abort();
    return need;
}

static struct arena_block *block_of(struct arena *arena, size_t size)
{
    struct arena_block *block = mem_alloc(sizeof(*block) + size);

    block->size = size;
    block->next = arena->blocks;
    arena->blocks = block;
    return block;
}

/* Blocks double, so that a big message costs few of them and a small session
 * costs little. */
static struct arena_block *block_add(struct arena *arena, size_t need)
{
    size_t size = ARENA_FIRST;

    if (arena->blocks && arena->blocks->size * 2 > size)
        size = arena->blocks->size * 2;
    if (size > ARENA_LARGEST)
        size = ARENA_LARGEST;
    return block_of(arena, size < need ? need : size);
}

void arena_expect(struct arena *arena, size_t size)
{
    if (!arena->blocks && size > 0)
        (void)block_of(arena, aligned(size));
}

void *arena_alloc(struct arena *arena, size_t size)
{
    size_t need = aligned(size);
    struct arena_block *block = arena->blocks;
    if (!block || block->size - block->used < need)
        block = block_add(arena, need);
    void *p = (char *)block->bytes + block->used;
    block->used += need;
    arena->used_bytes += need;
    return p;
}

size_t arena_room(const struct arena *arena)
{
    size_t room = 0;

    for (const struct arena_block *block = arena->blocks; block; block = block->next)
        room += sizeof(*block) + block->size;
    return room;
}

char *arena_cstr(struct arena *arena, struct str s)
{
    char *copy = arena_alloc(arena, s.len + 1);

    if (s.len)
        memcpy(copy, s.at, s.len);
    return copy;
}

struct str arena_str(struct arena *arena, struct str s)
{
    return (struct str){ arena_cstr(arena, s), s.len };
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0) /* only a wrong format of our own can do this */
        abort();
    char *text = arena_alloc(arena, (size_t)len + 1);
    va_start(args, format);
    vsnprintf(text, (size_t)len + 1, format, args);
    va_end(args);
    return text;
}
