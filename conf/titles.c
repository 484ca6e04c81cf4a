/*
 * titles.c - the titles of sections: usable as names, and each one only once.
 */
#include "conf/tree.h"

#include <stdlib.h>
#include <strings.h>

static bool is_name(struct str title)
{
    for (size_t i = 0; i < title.len; i++) {
        char c = title.at[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_' || c == '.'))
            return false;
    }
    return title.len > 0 && title.len <= 63;
}

/* Names go into logs and lanes ("ses/example.com"): no slash, no blank. */
static void check_name(struct tree *tree, const struct tree_section *section)
{
    if (section_rows[section->kind].title != TITLE_NAME || is_name(section->title))
        return;
    report_error(tree->report, section->place, "use letters, digits, - _ . only, at most 63",
                 "\"%s\" cannot be the name of a %s", report_shown(tree->arena, section->title),
                 section_rows[section->kind].name);
}

/* By kind, section around and title without case; then as written. */
static int by_title(const void *a_at, const void *b_at)
{
    const struct tree_section *a = *(const struct tree_section *const *)a_at;
    const struct tree_section *b = *(const struct tree_section *const *)b_at;

    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->around->number != b->around->number)
        return a->around->number < b->around->number ? -1 : 1;
    int order = strcasecmp(a->title.at, b->title.at);
    if (order)
        return order;
    return a->number < b->number ? -1 : 1;
}

static void tell_twins(struct tree *tree, struct tree_section **sections, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct tree_section *before = sections[i - 1], *section = sections[i];
        if (before->kind != section->kind || before->around != section->around ||
            strcasecmp(before->title.at, section->title.at) != 0)
            continue;
        report_error(tree->report, section->place, "give each its own",
                     "%s \"%s\" is there twice, first in line %u", section_rows[section->kind].name,
                     report_shown(tree->arena, section->title), before->place.line);
    }
}

/* Sorted, because there may be a section for each of ten thousand domains. */
void tree_check_titles(struct tree *tree)
{
    struct tree_section **titled =
        arena_alloc(tree->arena, (tree->section_count + 1) * sizeof(struct tree_section *));
    size_t count = 0;

    for (struct tree_section *s = tree->sections; s; s = s->next) {
        if (!schema_has_title(s->kind))
            continue;
        check_name(tree, s);
        titled[count++] = s;
    }
    qsort(titled, count, sizeof(struct tree_section *), by_title);
    tell_twins(tree, titled, count);
}
