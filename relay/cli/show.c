/*
 * show.c - text, sizes, spans and columns.
 */
#include "relay/cli/show.h"

#include "relay/base/clock.h"
#include "relay/cli/cmd.h"

#include <time.h>

const struct show_paint show_plain = { "", "", "", "", "", "" };

struct show_paint show_paint_of(void *file)
{
    return (struct show_paint){
        .bold = cmd_colour(file, COLOUR_BOLD),
        .red = cmd_colour(file, COLOUR_RED),
        .yellow = cmd_colour(file, COLOUR_YELLOW),
        .green = cmd_colour(file, COLOUR_GREEN),
        .dim = cmd_colour(file, COLOUR_DIM),
        .end = cmd_colour(file, COLOUR_NONE),
    };
}

void show_text(struct buf *out, struct str text, size_t max) { buf_escaped(out, text, max); }

void show_size(struct buf *out, uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    uint64_t tenths = bytes;
    size_t unit = 0;

    if (bytes < 1000) {
        buf_printf(out, "%u", (unsigned)bytes);
        return;
    }
    for (tenths = (bytes * 10 + 512) / 1024; tenths >= 10000 && units[unit + 1]; unit++)
        tenths = (tenths + 512) / 1024;
    buf_printf(out, "%u.%u%c", (unsigned)(tenths / 10), (unsigned)(tenths % 10), units[unit]);
}

void show_span(struct buf *out, int64_t seconds)
{
    char text[24];

    clock_span(seconds > 0 ? (uint64_t)seconds : 0, text, sizeof(text));
    buf_cstr(out, text);
}

void show_until(struct buf *out, int64_t then_s, int64_t now_s)
{
    if (then_s <= now_s) {
        buf_cstr(out, "due now");
        return;
    }
    buf_cstr(out, "next in ");
    show_span(out, then_s - now_s);
}

void show_pad(struct buf *out, size_t line_start, size_t column)
{
    do
        buf_char(out, ' ');
    while (out->len - line_start < column && !out->overflowed);
}

/* ---- time ---- */

static bool digits(struct str text, size_t at, size_t count, int *out_value)
{
    uint64_t value;

    if (!str_u64(str_head(str_from(text, at), count), &value))
        return false;
    *out_value = (int)value;
    return true;
}

bool show_iso(struct str text, int64_t *out_us)
{
    static const char form[] = "0000-00-00T00:00:00.000Z";
    struct tm tm = { 0 };
    int ms = 0;

    if (text.len != sizeof(form) - 1)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (form[i] != '0' && form[i] != text.at[i])
            return false;
    if (!digits(text, 0, 4, &tm.tm_year) || !digits(text, 5, 2, &tm.tm_mon) ||
        !digits(text, 8, 2, &tm.tm_mday) || !digits(text, 11, 2, &tm.tm_hour) ||
        !digits(text, 14, 2, &tm.tm_min) || !digits(text, 17, 2, &tm.tm_sec) ||
        !digits(text, 20, 3, &ms))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *out_us = (int64_t)timegm(&tm) * 1000000 + (int64_t)ms * 1000;
    return true;
}

/* ---- JSON ---- */

struct str show_field(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    if (!json_is_string(value))
        return STR_EMPTY;
    return str_make(json_string_value(value), json_string_length(value));
}

uint64_t show_number(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));

    return value > 0 ? (uint64_t)value : 0;
}

int64_t show_wall(const json_t *object, const char *key)
{
    int64_t us = 0;

    return show_iso(show_field(object, key), &us) ? us / 1000000 : 0;
}
