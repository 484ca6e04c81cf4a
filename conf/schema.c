/*
 * schema.c - the rows of schema.h as tables, and looking things up in them.
 */
#include "conf/schema.h"

#include "relay/base/hop.h"

#include <stddef.h>

const struct section_row section_rows[SECTION_COUNT] = {
#define X(kind, name, around, title, type, example, help)                                          \
    [SECTION_##kind] = { name, SECTION_##around, TITLE_##title, example, help },
    SECTION_MAP(X)
#undef X
};

/* Two steps, so that the macros for field and range become their several columns. */
#define ROW(...) ROW_(__VA_ARGS__)
#define ROW_(section, name, type, in_conf, offset, start, unset, example, min, max, form, words,   \
             help)                                                                                 \
    { SECTION_##section, name, TYPE_##type, in_conf, offset, start, unset,                         \
      example,           min,  max,         form,    words,  help },

const struct option_row option_rows[] = {
#define X(section, name, type, field, start, unset, example, range, help)                          \
    ROW(section, name, type, field, start, unset, example, range, help)
    OPTION_MAP(X)
#undef X
};

const size_t option_row_count = sizeof(option_rows) / sizeof(option_rows[0]);

#define WORDS_OF(function, ...)                                                                    \
    const char *function(unsigned index)                                                           \
    {                                                                                              \
        static const char *const words[] = { __VA_ARGS__ };                                        \
        return index < sizeof(words) / sizeof(words[0]) ? words[index] : NULL;                     \
    }
#define WORD(name, word) word,

WORDS_OF(words_listen_tls, "none", "starttls", "implicit")
WORDS_OF(words_listen_auth, "off", "optional", "required")
WORDS_OF(words_policy, POLICY_LEVEL_MAP(WORD))
WORDS_OF(words_canon, CANON_MAP(WORD))
WORDS_OF(words_log_to, LOG_TO_MAP(WORD))
WORDS_OF(words_log_format, LOG_FORMAT_MAP(WORD))
WORDS_OF(words_log_level, HOP_WEIGHT_MAP(WORD))

bool schema_has_title(enum section_kind section)
{
    enum section_title title = section_rows[section].title;

    return title == TITLE_NAME || title == TITLE_MATCH;
}

const struct option_row *schema_option(enum section_kind section, struct str name)
{
    for (size_t i = 0; i < option_row_count; i++) {
        if (option_rows[i].section == section && str_eq(str_of(option_rows[i].name), name))
            return &option_rows[i];
    }
    return NULL;
}

enum section_kind schema_section(enum section_kind around, struct str name)
{
    for (unsigned i = SECTION_ROOT + 1; i < SECTION_COUNT; i++) {
        if (section_rows[i].around == around && str_eq(str_of(section_rows[i].name), name))
            return (enum section_kind)i;
    }
    return SECTION_ROOT;
}

enum section_kind schema_home_of(struct str name)
{
    for (size_t i = 0; i < option_row_count; i++) {
        if (str_eq(str_of(option_rows[i].name), name))
            return option_rows[i].section;
    }
    return SECTION_ROOT;
}

#define NAME_MAX_LEN 32

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

/* Levenshtein's edit distance; "_" counts as "-", letters without case. */
static unsigned distance(struct str a, struct str b)
{
    unsigned row[NAME_MAX_LEN + 1];

    for (unsigned j = 0; j <= b.len; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            char c = a.at[i - 1];
            c = c == '_' ? '-' : c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
            unsigned change = diagonal + (c != b.at[j - 1]);
            diagonal = row[j];
            row[j] = least(change, row[j] + 1, row[j - 1] + 1);
        }
    }
    return row[b.len];
}

struct nearest {
    struct str name;
    const char *found;
    unsigned distance;
};

static void consider(struct nearest *nearest, const char *candidate)
{
    unsigned d = distance(nearest->name, str_of(candidate));

    if (d >= nearest->distance)
        return;
    nearest->distance = d;
    nearest->found = candidate;
}

const char *schema_nearest(enum section_kind section, struct str name)
{
    /* Up to a third of the letters wrong, but "x" is not like "to". */
    struct nearest nearest = { name, NULL, (unsigned)(name.len < 3 ? 2 : name.len / 3 + 2) };

    if (!name.len || name.len > NAME_MAX_LEN)
        return NULL;
    for (size_t i = 0; i < option_row_count; i++) {
        if (option_rows[i].section == section)
            consider(&nearest, option_rows[i].name);
    }
    for (unsigned i = SECTION_ROOT + 1; i < SECTION_COUNT; i++) {
        if (section_rows[i].around == section)
            consider(&nearest, section_rows[i].name);
    }
    return nearest.found;
}
