/*
 * alias_impl.h - the inside of a table; shared by alias's own files only.
 */
#ifndef WAYPOST_MAIL_ALIAS_IMPL_H
#define WAYPOST_MAIL_ALIAS_IMPL_H

#include "relay/mail/alias.h"

#include <stdatomic.h>

struct alias_table {
    atomic_uint refs;
    struct arena arena;
    struct alias_entry *entries; /* by name */
    size_t count, cap;
    struct str *files;
    size_t file_count;
};

/* Targets while they are read: grows, then is moved into an arena. */
struct alias_list {
    struct alias_target *items;
    size_t count, cap;
};

struct alias_parser {
    const struct alias_reader *reader;
    struct arena *arena;
    struct alias_table *table; /* NULL: a .forward, where :include: is refused */
    struct str file;
    unsigned line;
    unsigned include_depth;
    size_t targets;
    bool had_error;
};

void alias_tell(struct alias_parser *parser, enum alias_severity severity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* alias_target.c: the targets of one entry, or of one line of an included file. */
void alias_targets(struct alias_parser *parser, struct str text, struct alias_list *list);
void alias_included(struct alias_parser *parser, struct str text, struct alias_list *list);

/* alias_loop.c: names that lead to themselves. */
void alias_check_loops(struct alias_parser *parser);

#endif
