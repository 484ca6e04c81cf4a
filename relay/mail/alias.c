/*
 * alias.c - a table: its lines, its entries, looking a name up.
 */
#include "relay/mail/alias_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void alias_tell(struct alias_parser *parser, enum alias_severity severity, const char *format, ...)
{
    char what[FAULT_MAX];
    va_list args;

    parser->had_error |= severity == ALIAS_ERROR;
    if (!parser->reader->tell)
        return;
    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    parser->reader->tell(parser->reader->arg, severity, parser->file, parser->line, what);
}

/* ---- logical lines ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static bool is_comment(struct str line)
{
    struct str text = str_trim(line);

    return text.len == 0 || text.at[0] == '#';
}

/* An entry with its continuation lines (those that begin with a blank), joined
 * by line feeds; comments and empty lines between them are passed over. */
static bool next_entry(struct alias_parser *parser, struct str *rest, struct buf *entry,
                       unsigned *next_line)
{
    struct str line, after;

    buf_reset(entry);
    while (rest->len > 0) {
        after = *rest;
        str_next(&after, '\n', &line);
        if (is_comment(line)) {
            *rest = after;
            (*next_line)++;
            continue;
        }
        if (entry->len > 0 && !is_blank(line.at[0]))
            return true;
        if (entry->len == 0)
            parser->line = *next_line;
        else
            buf_char(entry, '\n');
        buf_str(entry, line);
        *rest = after;
        (*next_line)++;
    }
    return entry->len > 0;
}

/* ---- entries ---- */

/* Where the name ends: the colon outside quotes; text.len when there is none. */
static size_t name_end(struct str text)
{
    bool quoted = false;

    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '\\')
            i++;
        else if (text.at[i] == '"')
            quoted = !quoted;
        else if (text.at[i] == ':' && !quoted)
            return i;
    }
    return text.len;
}

/* Lower case, quotes and backslashes undone; empty: it cannot be a name. */
static struct str clean_name(struct alias_parser *parser, struct str text)
{
    char *name = arena_alloc(parser->arena, text.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '\\' && i + 1 < text.len)
            i++;
        else if (text.at[i] == '"')
            continue;
        if ((unsigned char)text.at[i] < ' ' || text.at[i] == 127)
            return STR_EMPTY;
        name[len++] = text.at[i];
    }
    str_lower(name, len);
    if (str_eq(str_make(name, len), STR("default"))) /* msmtp's word for dma's star */
        return STR("*");
    return str_make(name, len);
}

static struct alias_entry *entry_add(struct alias_table *table)
{
    if (table->count == table->cap) {
        table->cap = table->cap ? table->cap * 2 : 64;
        table->entries = mem_realloc(table->entries, table->cap * sizeof(*table->entries));
    }
    return &table->entries[table->count++];
}

static const struct alias_target *list_into(struct alias_list *list, struct arena *arena)
{
    struct alias_target *targets = arena_alloc(arena, (list->count + 1) * sizeof(*targets));

    if (list->count)
        memcpy(targets, list->items, list->count * sizeof(*targets));
    free(list->items);
    return targets;
}

static void take_entry(struct alias_parser *parser, struct str text)
{
    struct alias_list list = { 0 };
    size_t end = name_end(text);
    struct str name;

    if (end == text.len) {
        alias_tell(parser, ALIAS_ERROR, "no colon in this line (name: address, address ...)");
        return;
    }
    name = clean_name(parser, str_trim(str_head(text, end)));
    if (name.len == 0) {
        alias_tell(parser, ALIAS_ERROR, "no name in front of the colon");
        return;
    }
    if (str_chr(name, '@') < name.len) {
        alias_tell(parser, ALIAS_ERROR,
                   "\"" STR_FMT "\": only local names have aliases, without a domain",
                   STR_ARG(str_head(name, 100)));
        return;
    }
    alias_targets(parser, str_from(text, end + 1), &list);
    struct alias_entry *entry = entry_add(parser->table);
    *entry = (struct alias_entry){
        .name = name, .count = list.count, .file = parser->file, .line = parser->line
    };
    entry->targets = list_into(&list, parser->arena);
    if (entry->count == 0)
        alias_tell(parser, ALIAS_WARNING,
                   "\"" STR_FMT "\" leads nowhere: its mail goes where root's goes",
                   STR_ARG(str_head(name, 100)));
}

/* ---- the table ---- */

static int by_name(const void *a_at, const void *b_at)
{
    const struct alias_entry *a = a_at, *b = b_at;
    int order = str_cmp(a->name, b->name);

    return order ? order : (a->line > b->line) - (a->line < b->line);
}

/* The first of two entries counts, as with Postfix. */
static void drop_doubles(struct alias_parser *parser)
{
    struct alias_table *table = parser->table;
    size_t kept = 0;

    for (size_t i = 0; i < table->count; i++) {
        struct alias_entry *entry = &table->entries[i];
        if (kept > 0 && str_eq(entry->name, table->entries[kept - 1].name)) {
            parser->line = entry->line;
            alias_tell(parser, ALIAS_WARNING,
                       "\"" STR_FMT "\" is there twice: line %u counts, this one does not",
                       STR_ARG(str_head(entry->name, 100)), table->entries[kept - 1].line);
            continue;
        }
        table->entries[kept++] = *entry;
    }
    table->count = kept;
}

static void read_lines(struct alias_parser *parser, struct str text)
{
    unsigned next_line = 1;
    struct buf entry;

    buf_init(&entry, ALIAS_TEXT_MAX + 1);
    while (next_entry(parser, &text, &entry, &next_line))
        take_entry(parser, buf_view(&entry));
    buf_clear(&entry);
}

enum err alias_parse(struct str file, struct str text, const struct alias_reader *reader,
                     struct alias_table **out_table)
{
    struct alias_table *table = mem_alloc(sizeof(*table));
    struct alias_parser parser = { .reader = reader, .arena = &table->arena, .table = table };

    atomic_init(&table->refs, 1);
    arena_init(&table->arena);
    table->files = arena_alloc(&table->arena, (ALIAS_INCLUDES_MAX + 1) * sizeof(*table->files));
    table->files[table->file_count++] = parser.file = arena_str(&table->arena, file);
    if (text.len > ALIAS_TEXT_MAX)
        alias_tell(&parser, ALIAS_ERROR, "the file is larger than %zu MB", ALIAS_TEXT_MAX >> 20);
    else
        read_lines(&parser, text);
    if (table->count)
        qsort(table->entries, table->count, sizeof(*table->entries), by_name);
    drop_doubles(&parser);
    alias_check_loops(&parser);
    *out_table = table;
    return parser.had_error ? ERR_INVALID : ERR_OK;
}

struct alias_table *alias_ref(struct alias_table *table)
{
    atomic_fetch_add(&table->refs, 1);
    return table;
}

void alias_unref(struct alias_table **table_at)
{
    struct alias_table *table = *table_at;

    *table_at = NULL;
    if (!table || atomic_fetch_sub(&table->refs, 1) != 1)
        return;
    free(table->entries);
    arena_clear(&table->arena);
    free(table);
}

static int compare_key(const void *key, const void *entry)
{
    return str_cmp(*(const struct str *)key, ((const struct alias_entry *)entry)->name);
}

const struct alias_entry *alias_find(const struct alias_table *table, struct str name)
{
    char lower[256];
    struct str key = str_make(lower, name.len);

    if (table->count == 0 || name.len >= sizeof(lower))
        return NULL;
    if (name.len)
        memcpy(lower, name.at, name.len);
    str_lower(lower, name.len);
    return bsearch(&key, table->entries, table->count, sizeof(*table->entries), compare_key);
}

size_t alias_count(const struct alias_table *table) { return table->count; }

struct str alias_file(const struct alias_table *table, size_t index)
{
    return index < table->file_count ? table->files[index] : STR_EMPTY;
}

/* ---- .forward ---- */

enum err alias_parse_forward(struct str file, struct str text, const struct alias_reader *reader,
                             struct arena *arena, const struct alias_target **out_targets,
                             size_t *out_count)
{
    struct alias_parser parser = { .reader = reader, .arena = arena };
    struct alias_list list = { 0 };

    parser.file = arena_str(arena, file);
    alias_included(&parser, str_head(text, ALIAS_TEXT_MAX), &list);
    *out_count = list.count;
    *out_targets = list_into(&list, arena);
    return parser.had_error ? ERR_INVALID : ERR_OK;
}
