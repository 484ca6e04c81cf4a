/*
 * str.c - compare, search and cut borrowed text; memory that aborts when there is none.
 */
#include "relay/base/str.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned char lower(char c)
{
    unsigned char u = (unsigned char)c;

    return u >= 'A' && u <= 'Z' ? (unsigned char)(u + ('a' - 'A')) : u;
}

static bool same_letters(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (lower(a[i]) != lower(b[i]))
            return false;
    }
    return true;
}

/* memcmp and memchr may not be given NULL even for no bytes at all, and an
 * empty str may have one: hence the tests on the length in this file. */
bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

bool str_lists_eq(const struct str *a, size_t a_count, const struct str *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++)
        if (!str_eq(a[i], b[i]))
            return false;
    return true;
}

bool str_ieq(struct str a, struct str b)
{
    return a.len == b.len && same_letters(a.at, b.at, a.len);
}

int str_cmp(struct str a, struct str b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.at, b.at, common) : 0;

    if (order != 0)
        return order < 0 ? -1 : 1;
    return a.len == b.len ? 0 : a.len < b.len ? -1 : 1;
}

bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_eq(str_head(s, prefix.len), prefix);
}

bool str_istarts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_ieq(str_head(s, prefix.len), prefix);
}

bool str_iends(struct str s, struct str suffix)
{
    return s.len >= suffix.len && str_ieq(str_from(s, s.len - suffix.len), suffix);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

struct str str_trim(struct str s)
{
    while (s.len && is_space(s.at[0]))
        s = str_from(s, 1);
    while (s.len && is_space(s.at[s.len - 1]))
        s.len--;
    return s;
}

size_t str_chr(struct str s, char c)
{
    const char *hit = s.len ? memchr(s.at, c, s.len) : NULL;

    return hit ? (size_t)(hit - s.at) : s.len;
}

size_t str_find(struct str s, struct str needle)
{
    if (needle.len == 0)
        return 0;
    const char *hit = s.len ? memmem(s.at, s.len, needle.at, needle.len) : NULL;
    return hit ? (size_t)(hit - s.at) : s.len;
}

size_t str_ifind(struct str s, struct str needle)
{
    for (size_t i = 0; needle.len <= s.len && i <= s.len - needle.len; i++) {
        if (same_letters(s.at + i, needle.at, needle.len))
            return i;
    }
    return s.len;
}

struct str str_from(struct str s, size_t n)
{
    if (n > s.len)
        n = s.len;
    if (n == 0)
        return s;
    return (struct str){ s.at + n, s.len - n };
}

struct str str_head(struct str s, size_t n)
{
    if (n < s.len)
        s.len = n;
    return s;
}

bool str_next(struct str *rest, char sep, struct str *out_piece)
{
    if (rest->len == 0)
        return false;
    size_t end = str_chr(*rest, sep);
    *out_piece = str_head(*rest, end);
    *rest = str_from(*rest, end + 1);
    return true;
}

bool str_u64(struct str s, uint64_t *out_value)
{
    uint64_t value = 0;

    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(s.at[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out_value = value;
    return true;
}

char *str_dup(struct str s)
{
    char *copy = mem_alloc(s.len + 1);

    if (s.len)
        memcpy(copy, s.at, s.len);
    return copy;
}

size_t str_copy(char *to, size_t size, struct str s)
{
    if (size == 0)
        return 0;
    size_t len = s.len < size ? s.len : size - 1;
    if (len)
        memcpy(to, s.at, len);
    to[len] = '\0';
    return len;
}

void str_lower(char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        s[i] = (char)lower(s[i]);
}

/* FNV-1a, then MurmurHash3's last mixing so that the low bits are usable as a
 * table index. */
uint64_t str_hash(struct str s, uint64_t seed)
{
    uint64_t hash = 0xcbf29ce484222325u ^ seed;

    for (size_t i = 0; i < s.len; i++)
        hash = (hash ^ (unsigned char)s.at[i]) * 0x100000001b3u;
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
    hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53u;
    return hash ^ (hash >> 33);
}

/* Every byte of every message passes here: eight at a time. */
bool str_is_ascii(struct str s)
{
    size_t i = 0;

    for (uint64_t eight; i + sizeof(eight) <= s.len; i += sizeof(eight)) {
        memcpy(&eight, s.at + i, sizeof(eight));
        if (eight & UINT64_C(0x8080808080808080))
            return false;
    }
    for (; i < s.len; i++) {
        if ((unsigned char)s.at[i] >= 0x80)
            return false;
    }
    return true;
}

/* Length of a sequence by its first byte, and the least code point that may
 * need so many bytes: a longer form of a shorter one is not well-formed. */
static size_t utf8_lead(unsigned char lead, uint32_t *out_bits, uint32_t *out_least)
{
    if (lead < 0x80) {
        *out_bits = lead, *out_least = 0;
        return 1;
    }
    if (lead >= 0xC2 && lead <= 0xDF) {
        *out_bits = lead & 0x1Fu, *out_least = 0x80;
        return 2;
    }
    if (lead >= 0xE0 && lead <= 0xEF) {
        *out_bits = lead & 0x0Fu, *out_least = 0x800;
        return 3;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        *out_bits = lead & 0x07u, *out_least = 0x10000;
        return 4;
    }
    return 0;
}

size_t str_utf8(struct str s, uint32_t *out_point)
{
    uint32_t point, least;
    size_t len = s.len ? utf8_lead((unsigned char)s.at[0], &point, &least) : 0;

    if (len == 0 || len > s.len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        unsigned char byte = (unsigned char)s.at[i];
        if ((byte & 0xC0) != 0x80)
            return 0;
        point = point << 6 | (byte & 0x3Fu);
    }
    if (point < least || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
        return 0;
    *out_point = point;
    return len;
}

bool str_is_utf8(struct str s)
{
    uint32_t point;

    while (s.len) {
        size_t len = str_utf8(s, &point);
        if (len == 0)
            return false;
        s = str_from(s, len);
    }
    return true;
}

static void no_memory(size_t size)
{
    fprintf(stderr, "waypost: out of memory (%zu bytes asked for)\n", size);
    abort();
}

void *mem_alloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);

    if (!p)
        no_memory(size);
    return p;
}

void *mem_realloc(void *p, size_t size)
{
    void *moved = realloc(p, size ? size : 1);

    if (!moved)
        no_memory(size);
    return moved;
}
