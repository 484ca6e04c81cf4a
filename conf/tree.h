/*
 * tree.h - a configuration as it was written: sections and settings with their
 * places, names known to the schema, values not yet judged (inside this layer).
 */
#ifndef WAYPOST_CONF_TREE_H
#define WAYPOST_CONF_TREE_H

#include "conf/report.h"
#include "conf/schema.h"

struct tree_section {
    struct tree_section *next; /* in the order of the file */
    struct tree_section *around;
    unsigned number; /* its place in that order */
    enum section_kind kind;
    struct str title;
    struct place place;
    struct tree_setting *settings; /* its own, the last one first */
    void *item;                    /* the struct that build.c made for it */
};

struct tree_setting {
    struct tree_setting *next;      /* in the order of the file */
    struct tree_setting *next_here; /* in its section */
    struct tree_section *section;
    const struct option_row *row;
    struct str *values;
    size_t count;
    struct place place;
};

struct tree {
    struct arena *arena;
    struct report *report;
    struct tree_section *sections, **last_section; /* the root is the first */
    struct tree_setting *settings, **last_setting;
    const struct tree_setting **in_conf; /* by row: those that count over all sections */
    unsigned section_count;
    unsigned depth; /* of includes */
};

/* Everything that can be understood is in the tree afterwards; the rest was told. */
void tree_init(struct tree *tree, const char *file, struct arena *arena, struct report *report);
void tree_read(struct tree *tree, const char *file, struct str text);

void tree_check_titles(struct tree *tree);

/* The setting of this option in this section (root fields: in any), NULL: not set. */
const struct tree_setting *tree_find(const struct tree *tree, const struct tree_section *section,
                                     const char *option);

/* A regular file of at most `max` bytes, whole, in the arena. */
enum err tree_slurp(const char *file, size_t max, struct arena *arena, struct str *out_text,
                    unsigned *out_mode, struct fault *fault);

#endif
