/*
 * buf.c - growing bytes within a limit, and text made safe to show.
 *
 * The allocation always has one byte more than is asked for, so that
 * buf_take() and vsnprintf() can set a NUL without growing it.
 */
#include "relay/base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST 256

void buf_init(struct buf *buf, size_t max)
{
    /* -1: room for the NUL must be expressible */
    *buf = (struct buf){ .max = max < SIZE_MAX / 2 ? max : SIZE_MAX / 2 - 1 };
}

void buf_clear(struct buf *buf)
{
    free(buf->start);
    buf_init(buf, buf->max);
}

void buf_reset(struct buf *buf)
{
    buf->at = buf->start;
    buf->len = 0;
    buf->overflowed = false;
}

static void buf_grow(struct buf *buf, size_t need)
{
    size_t cap = buf->cap < BUF_FIRST ? BUF_FIRST : buf->cap;

    while (cap < need)
        cap *= 2;
    if (cap > buf->max + 1)
        cap = buf->max + 1;
    buf->start = mem_realloc(buf->start, cap);
    buf->at = buf->start;
    buf->cap = cap;
}

char *buf_reserve(struct buf *buf, size_t len)
{
    if (len > buf->max - buf->len) {
        buf->overflowed = true;
        return NULL;
    }
    size_t need = buf->len + len + 1;
    size_t front = buf->start ? (size_t)(buf->at - buf->start) : 0;
    if (buf->start && buf->cap - front >= need)
        return buf->at + buf->len;
    if (front) {
        memmove(buf->start, buf->at, buf->len);
        buf->at = buf->start;
    }
    /* Moving down must leave space worth the move, or a long queue of bytes
     * would be moved again for every few that are consumed. */
    if (buf->cap < need || buf->cap - need < front / 2)
        buf_grow(buf, need);
    return buf->at + buf->len;
}

void buf_commit(struct buf *buf, size_t len) { buf->len += len; }

bool buf_append(struct buf *buf, const void *bytes, size_t len)
{
    char *to = buf_reserve(buf, len);

    if (!to)
        return false;
    if (len)
        memcpy(to, bytes, len);
    buf->len += len;
    return true;
}

bool buf_str(struct buf *buf, struct str s) { return buf_append(buf, s.at, s.len); }

bool buf_cstr(struct buf *buf, const char *s) { return buf_append(buf, s, strlen(s)); }

bool buf_char(struct buf *buf, char c) { return buf_append(buf, &c, 1); }

bool buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    bool ok = buf_vprintf(buf, format, args);
    va_end(args);
    return ok;
}

bool buf_vprintf(struct buf *buf, const char *format, va_list args)
{
    va_list again;
    char small[256];

    va_copy(again, args);
    int want = vsnprintf(small, sizeof(small), format, args);
    size_t len = want < 0 ? 0 : (size_t)want;
    char *to = want < 0 ? NULL : buf_reserve(buf, len);
    if (to && len < sizeof(small))
        memcpy(to, small, len);
    else if (to)
        vsnprintf(to, len + 1, format, again);
    if (to)
        buf->len += len;
    va_end(again);
    return to != NULL;
}

void buf_consume(struct buf *buf, size_t len)
{
    if (len >= buf->len) {
        buf->at = buf->start;
        buf->len = 0;
        return;
    }
    buf->at += len;
    buf->len -= len;
}

struct str buf_view(const struct buf *buf)
{
    return buf->len ? (struct str){ buf->at, buf->len } : STR_EMPTY;
}

char *buf_take(struct buf *buf, size_t *out_len)
{
    char *bytes = buf->start;
    size_t len = buf->len;

    if (!bytes)
        bytes = mem_alloc(1);
    else if (buf->at != buf->start)
        memmove(bytes, buf->at, len);
    bytes[len] = '\0';
    buf_init(buf, buf->max);
    if (out_len)
        *out_len = len;
    return bytes;
}

/* Characters that a terminal or a log reader may act on: controls, and the
 * Unicode ones that break lines or turn the writing direction around. */
static bool is_unsafe(uint32_t point)
{
    return point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0x061C ||
           (point >= 0x200E && point <= 0x200F) || (point >= 0x2028 && point <= 0x202E) ||
           (point >= 0x2066 && point <= 0x2069) || point == 0xFEFF;
}

/* One character or one stray byte; *out_len says how many bytes it was. */
static bool escape_one(struct buf *buf, struct str s, size_t *out_len)
{
    uint32_t point = 0;
    size_t len = str_utf8(s, &point);
    bool show = len > 0 && !is_unsafe(point);

    *out_len = len ? len : 1;
    if (show && point == '\\')
        return buf_cstr(buf, "\\\\");
    if (show)
        return buf_append(buf, s.at, len);
    for (size_t i = 0; i < *out_len; i++) {
        if (!buf_printf(buf, "\\x%02X", (unsigned char)s.at[i]))
            return false;
    }
    return true;
}

/* How many bytes from here on need no thought: printable ASCII but for quote
 * and backslash. Nearly all that is shown is that, so it is copied in runs. */
static size_t plain_run(struct str s)
{
    size_t len = 0;

    while (len < s.len && s.at[len] >= 0x20 && s.at[len] < 0x7F && s.at[len] != '\\' &&
           s.at[len] != '"')
        len++;
    return len;
}

bool buf_escaped(struct buf *buf, struct str s, size_t max_in)
{
    size_t before = buf->len, shown = 0, len = 0;
    bool ok = true;

    while (ok && shown < s.len && shown < max_in) {
        uint32_t point;
        struct str rest = str_from(s, shown);
        size_t run = plain_run(str_head(rest, max_in - shown));
        if (run) {
            ok = buf_append(buf, rest.at, run);
            shown += run;
            continue;
        }
        if (str_utf8(rest, &point) > max_in - shown)
            break; /* no half character at the cut */
        ok = escape_one(buf, rest, &len);
        shown += len;
    }
    if (ok && shown < s.len)
        ok = buf_cstr(buf, "...");
    if (!ok)
        buf->len = before;
    return ok;
}

static bool json_point(struct buf *buf, uint32_t point)
{
    if (point <= 0xFFFF)
        return buf_printf(buf, "\\u%04x", point);
    point -= 0x10000;
    return buf_printf(buf, "\\u%04x\\u%04x", 0xD800 + (point >> 10), 0xDC00 + (point & 0x3FF));
}

bool buf_json(struct buf *buf, struct str s)
{
    size_t before = buf->len;
    bool ok = buf_char(buf, '"');

    while (ok && s.len) {
        uint32_t point = 0;
        size_t run = plain_run(s);
        if (run) {
            ok = buf_append(buf, s.at, run);
            s = str_from(s, run);
            continue;
        }
        size_t len = str_utf8(s, &point);
        if (len && (point == '"' || point == '\\'))
            ok = buf_char(buf, '\\') && buf_char(buf, (char)point);
        else if (len && !is_unsafe(point))
            ok = buf_append(buf, s.at, len);
        else
            ok = json_point(buf, len ? point : (unsigned char)s.at[0]);
        s = str_from(s, len ? len : 1);
    }
    ok = ok && buf_char(buf, '"');
    if (!ok)
        buf->len = before;
    return ok;
}
