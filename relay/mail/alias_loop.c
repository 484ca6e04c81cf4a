/*
 * alias_loop.c - names of a table that lead back to themselves, told when the
 * table is read: a person mends it before mail runs into it.
 *
 * "joe: \joe, joe@example.com" and "joe: joe" are no loops, they mean the name itself.
 */
#include "relay/mail/alias_impl.h"

#include <stdlib.h>

enum colour { NOT_SEEN, ON_THE_WAY, DONE };

struct walk {
    struct alias_parser *parser;
    const struct alias_table *table;
    unsigned char *colours; /* of table->entries */
};

static void tell(struct walk *walk, const struct alias_target *target,
                 const struct alias_entry *entry, const char *what)
{
    walk->parser->file = target->file;
    walk->parser->line = target->line;
    alias_tell(walk->parser, ALIAS_ERROR, "\"" STR_FMT "\" %s \"" STR_FMT "\"",
               STR_ARG(str_head(entry->name, 100)), what, STR_ARG(str_head(target->text, 100)));
}

// NOLINTNEXTLINE(misc-no-recursion): down to ALIAS_DEPTH_MAX
static void visit(struct walk *walk, const struct alias_entry *entry, unsigned depth)
{
    unsigned char *colour = &walk->colours[entry - walk->table->entries];

    *colour = ON_THE_WAY;
    for (size_t i = 0; i < entry->count; i++) {
        const struct alias_target *target = &entry->targets[i];
        const struct alias_entry *next =
            target->kind == ALIAS_NAME ? alias_find(walk->table, target->text) : NULL;
        if (!next || next == entry)
            continue;
        enum colour seen = walk->colours[next - walk->table->entries];
        if (seen == ON_THE_WAY)
            tell(walk, target, entry, "is in a loop of names through");
        else if (depth >= ALIAS_DEPTH_MAX)
            tell(walk, target, entry, "is at the end of too long a chain before");
        else if (seen == NOT_SEEN)
            visit(walk, next, depth + 1);
    }
    *colour = DONE;
}

void alias_check_loops(struct alias_parser *parser)
{
    const struct alias_table *table = parser->table;
    struct walk walk = { .parser = parser, .table = table };

    walk.colours = mem_alloc(table->count + 1);
    for (size_t i = 0; i < table->count; i++)
        if (walk.colours[i] == NOT_SEEN)
            visit(&walk, &table->entries[i], 1);
    free(walk.colours);
}
