/*
 * value.c - range checks, what is wrong in words, writing into fields.
 */
#include "conf/value.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert(sizeof(enum policy_level) == sizeof(unsigned), "words are written as unsigned");

static void print_number(const struct option_row *row, uint64_t value, struct buf *out)
{
    if (row->type == TYPE_SIZE)
        value_print_size(value, out);
    else if (row->type == TYPE_SECONDS)
        value_print_duration(value * 1000, out);
    else if (row->type == TYPE_MILLIS)
        value_print_duration(value, out);
    else
        buf_printf(out, "%llu", (unsigned long long)value);
}

void value_print_range(const struct option_row *row, struct buf *out)
{
    print_number(row, row->min, out);
    buf_cstr(out, " to ");
    print_number(row, row->max, out);
}

/* ---- what is wrong, in words ---- */

__attribute__((format(printf, 3, 4))) static bool say(struct wrong *wrong, const char *what,
                                                      const char *fix, ...)
{
    va_list args;

    snprintf(wrong->what, sizeof(wrong->what), "%s", what);
    va_start(args, fix);
    vsnprintf(wrong->fix, sizeof(wrong->fix), fix, args);
    va_end(args);
    return false;
}

static bool say_range(const struct option_row *row, struct wrong *wrong)
{
    struct buf range;

    buf_init(&range, 200);
    value_print_range(row, &range);
    buf_char(&range, '\0');
    say(wrong, "is out of range", "%s%s%s", range.at, row->unset ? ", or " : "",
        row->unset ? row->unset : "");
    buf_clear(&range);
    return false;
}

static bool say_words(words_fn *words, struct wrong *wrong)
{
    char list[200] = "";
    size_t len = 0;

    for (unsigned i = 0; words(i); i++)
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "", words(i));
    return say(wrong, "is not one of its words", "one of: %s", list);
}

/* ---- one function per type ---- */

static void *field(const struct option_row *row, void *home) { return (char *)home + row->offset; }

static bool set_u64(const struct option_row *row, void *home, uint64_t value, struct wrong *wrong)
{
    if (value < row->min || value > row->max)
        return say_range(row, wrong);
    *(uint64_t *)field(row, home) = value;
    return true;
}

static bool set_text(const struct option_row *row, void *home, struct str text, struct wrong *wrong)
{
    const char *wants;

    if (!form_fits(row->form, text, &wants))
        return say(wrong, "cannot be used here", "%s", wants);
    *(struct str *)field(row, home) = text;
    return true;
}

static bool set_flag(const struct option_row *row, void *home, struct str text, struct wrong *wrong)
{
    bool is_true = str_eq(text, STR("true")) || str_eq(text, STR("yes")) || str_eq(text, STR("on"));
    bool is_false =
        str_eq(text, STR("false")) || str_eq(text, STR("no")) || str_eq(text, STR("off"));

    if (!is_true && !is_false)
        return say(wrong, "is neither true nor false", "write true or false");
    *(bool *)field(row, home) = is_true;
    return true;
}

static bool set_count(const struct option_row *row, void *home, struct str text,
                      struct wrong *wrong)
{
    uint64_t value;

    if (!str_u64(text, &value))
        return say(wrong, "is not a whole number", "write digits only%s%s",
                   row->unset ? ", or " : "", row->unset ? row->unset : "");
    if (value < row->min || value > row->max)
        return say_range(row, wrong);
    *(unsigned *)field(row, home) = (unsigned)value;
    return true;
}

static bool set_size(const struct option_row *row, void *home, struct str text, struct wrong *wrong)
{
    uint64_t value;

    if (!value_size(text, &value))
        return say(wrong, "is not a size", "write a number with K, M, G or T, as in 50M");
    return set_u64(row, home, value, wrong);
}

static bool set_duration(const struct option_row *row, void *home, struct str text,
                         struct wrong *wrong)
{
    uint64_t ms;

    if (!value_duration(text, &ms))
        return say(wrong, "is not a duration",
                   "write numbers with ms, s, m, h, d or w, as in 1m30s");
    if (row->type == TYPE_MILLIS)
        return set_u64(row, home, ms, wrong);
    if (ms % 1000)
        return say(wrong, "is finer than a second", "write whole seconds");
    return set_u64(row, home, ms / 1000, wrong);
}

static bool set_rate(const struct option_row *row, void *home, struct str text, struct wrong *wrong)
{
    if (!value_rate(text, field(row, home)))
        return say(wrong, "is not a rate", "write a number and /s, /m or /h, as in 50/s");
    return true;
}

static bool set_word(const struct option_row *row, void *home, struct str text, struct wrong *wrong)
{
    for (unsigned i = 0; row->words(i); i++) {
        if (!str_eq(text, str_of(row->words(i))))
            continue;
        *(unsigned *)field(row, home) = i;
        return true;
    }
    return say_words(row->words, wrong);
}

static bool set_list(const struct option_row *row, void *home, const struct str *values,
                     size_t count, struct arena *arena, struct wrong *wrong)
{
    struct str *items = arena_alloc(arena, (count ? count : 1) * sizeof(*items));
    const char *wants;

    for (size_t i = 0; i < count; i++) {
        wrong->index = i;
        if (!form_fits(row->form, values[i], &wants))
            return say(wrong, "cannot be used here", "%s", wants);
        items[i] = values[i];
    }
    *(struct conf_list *)field(row, home) = (struct conf_list){ items, count };
    return true;
}

/* A word that stands for zero: "auto", "never", "unlimited". */
static bool set_zero(const struct option_row *row, void *home, struct str text)
{
    if (!row->unset || !str_eq(text, str_of(row->unset)))
        return false;
    switch (row->type) {
    case TYPE_COUNT:
        *(unsigned *)field(row, home) = 0;
        return true;
    case TYPE_SIZE:
    case TYPE_SECONDS:
    case TYPE_MILLIS:
        *(uint64_t *)field(row, home) = 0;
        return true;
    case TYPE_RATE:
        *(double *)field(row, home) = 0;
        return true;
    case TYPE_TEXT:
    case TYPE_LIST:
    case TYPE_FLAG:
    case TYPE_WORD:
        return false;
    }
    return false;
}

bool value_set(const struct option_row *row, void *home, const struct str *values, size_t count,
               struct arena *arena, struct wrong *wrong)
{
    wrong->index = 0;
    if (row->type == TYPE_LIST)
        return set_list(row, home, values, count, arena, wrong);
    if (set_zero(row, home, values[0]))
        return true;
    switch (row->type) {
    case TYPE_TEXT:
        return set_text(row, home, values[0], wrong);
    case TYPE_FLAG:
        return set_flag(row, home, values[0], wrong);
    case TYPE_COUNT:
        return set_count(row, home, values[0], wrong);
    case TYPE_SIZE:
        return set_size(row, home, values[0], wrong);
    case TYPE_SECONDS:
    case TYPE_MILLIS:
        return set_duration(row, home, values[0], wrong);
    case TYPE_RATE:
        return set_rate(row, home, values[0], wrong);
    case TYPE_WORD:
        return set_word(row, home, values[0], wrong);
    case TYPE_LIST:
        return false; /* done above */
    }
    return false;
}

bool value_set_default(const struct option_row *row, void *home, struct arena *arena)
{
    struct str start = str_of(row->start);
    struct wrong wrong;

    if (start.len)
        return value_set(row, home, &start, 1, arena, &wrong);
    if (row->type == TYPE_TEXT)
        *(struct str *)field(row, home) = STR_EMPTY;
    return true; /* the rest is zero already */
}
