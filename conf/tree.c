/*
 * tree.c - from tokens to sections and settings.
 *
 * After a mistake the rest of its line (or of an unknown section) is skipped
 * and reading goes on, so that one run of `waypost check` shows them all.
 */
#include "conf/tree.h"

#include "conf/include.h"
#include "conf/lex.h"

#include <stdlib.h>

static void read_statements(struct tree *tree, struct lex *lex, struct tree_section *section,
                            bool is_file);

static struct place place_of(const struct lex *lex, struct token token)
{
    return (struct place){ lex->file, token.line };
}

void tree_init(struct tree *tree, const char *file, struct arena *arena, struct report *report)
{
    struct tree_section *root = arena_alloc(arena, sizeof(*root));

    root->place = (struct place){ file, 0 };
    *tree = (struct tree){ .arena = arena, .report = report, .sections = root };
    tree->last_section = &root->next;
    tree->last_setting = &tree->settings;
    tree->in_conf = arena_alloc(arena, option_row_count * sizeof(struct tree_setting *));
}

/* ---- going on after a mistake ---- */

/* Skip what is left of this line; a brace that opens there takes its block along. */
static void skip_statement(struct lex *lex, struct token token)
{
    unsigned line = token.line, open = 0;

    for (;;) {
        open += lex_is(token, '{');
        if (lex_is(token, '}') && open > 0 && --open == 0)
            return;
        struct lex before = *lex;
        token = lex_next(lex);
        bool ends_around = lex_is(token, '}') && open == 0;
        if (token.kind == TOKEN_END || ends_around || (open == 0 && token.line != line)) {
            *lex = before; /* the next statement begins here */
            return;
        }
    }
}

/* Behind an unknown name. Lines often hold several settings, so that only this
 * one is skipped when it looks like one. */
static void skip_unknown(struct lex *lex, struct token name)
{
    struct lex before = *lex;
    struct token token = lex_next(lex);

    if (lex_is(token, '=')) {
        token = lex_next(lex);
        if (lex_is(token, '{'))
            skip_statement(lex, token);
        if (lex_is(token, '{') || token_is_value(token) || token.kind == TOKEN_WRONG)
            return;
    }
    *lex = before;
    skip_statement(lex, name);
}

static void expected(struct tree *tree, struct lex *lex, struct token token, const char *fix,
                     const char *what)
{
    if (token.kind != TOKEN_WRONG)
        report_error(tree->report, place_of(lex, token), fix, "%s expected, found \"%s\"", what,
                     report_shown(tree->arena, token.text));
}

/* ---- unknown names ---- */

static void tell_unknown(struct tree *tree, struct place place, enum section_kind section,
                         struct str name)
{
    const char *shown = report_shown(tree->arena, name);
    const char *near = schema_nearest(section, name);
    const char *inside = section_rows[section].name;
    enum section_kind home = schema_home_of(name);
    const char *fix;

    if (home != SECTION_ROOT)
        fix = arena_printf(tree->arena, "it belongs in %s", section_rows[home].name);
    else if (near)
        fix = arena_printf(tree->arena, "did you mean %s?", near);
    else
        fix = "see waypost.conf(5)";
    if (section == SECTION_ROOT)
        report_error(tree->report, place, fix, "unknown option \"%s\"", shown);
    else
        report_error(tree->report, place, fix, "unknown option \"%s\" in %s", shown, inside);
}

/* ---- settings ---- */

const struct tree_setting *tree_find(const struct tree *tree, const struct tree_section *section,
                                     const char *option)
{
    const struct option_row *row = schema_option(section->kind, str_of(option));

    if (row->in_conf)
        return tree->in_conf[row - option_rows];
    for (const struct tree_setting *s = section->settings; s; s = s->next_here) {
        if (s->row == row)
            return s;
    }
    return NULL;
}

static void add_setting(struct tree *tree, struct tree_setting *setting)
{
    const struct tree_setting *before = tree_find(tree, setting->section, setting->row->name);

    if (before) {
        report_error(tree->report, setting->place, "leave one of them out",
                     "%s is given twice, first in line %u%s%s", setting->row->name,
                     before->place.line, before->place.file == setting->place.file ? "" : " of ",
                     before->place.file == setting->place.file ? "" : before->place.file);
        return;
    }
    *tree->last_setting = setting;
    tree->last_setting = &setting->next;
    setting->next_here = setting->section->settings;
    setting->section->settings = setting;
    if (setting->row->in_conf)
        tree->in_conf[setting->row - option_rows] = setting;
}

static void add_value(struct tree *tree, struct tree_setting *setting, struct str value)
{
    /* Room doubles whenever the count is a power of two. */
    if ((setting->count & (setting->count - 1)) == 0) {
        size_t room = setting->count ? setting->count * 2 : 1;
        struct str *values = arena_alloc(tree->arena, room * sizeof(*values));
        if (setting->count)
            memcpy(values, setting->values, setting->count * sizeof(*values));
        setting->values = values;
    }
    setting->values[setting->count++] = value;
}

/* Behind "{": values with commas between, one may stand behind the last. A list
 * with a mistake is told once and does not count. */
static bool read_list(struct tree *tree, struct lex *lex, struct tree_setting *setting)
{
    bool is_good = true, wants_comma = false;

    for (;;) {
        struct lex before = *lex;
        struct token token = lex_next(lex);
        bool is_value = token_is_value(token);
        if (lex_is(token, '}'))
            return is_good;
        if (is_good && (wants_comma ? !lex_is(token, ',') : !is_value))
            expected(tree, lex, token, "write {\"one\", \"two\"}",
                     wants_comma ? "a comma or }" : "a value");
        is_good &= wants_comma ? lex_is(token, ',') : is_value;
        if (is_value)
            add_value(tree, setting, token.text);
        if (!is_value && !lex_is(token, ',') && token.kind != TOKEN_WRONG) {
            *lex = before; /* most likely the list is not closed */
            skip_statement(lex, (struct token){ .line = before.line });
            return false;
        }
        wants_comma = !lex_is(token, ',');
    }
}

static void read_setting(struct tree *tree, struct lex *lex, struct tree_section *section,
                         const struct option_row *row, struct token name)
{
    struct tree_setting *setting = arena_alloc(tree->arena, sizeof(*setting));
    struct lex before = *lex;
    struct token token = lex_next(lex);

    *setting =
        (struct tree_setting){ .section = section, .row = row, .place = place_of(lex, name) };
    if (!lex_is(token, '=')) {
        expected(tree, lex, token, arena_printf(tree->arena, "write %s = ...", row->name),
                 "an equal sign");
        *lex = before;
        skip_statement(lex, name);
        return;
    }
    before = *lex;
    unsigned line = token.line;
    token = lex_next(lex);
    if (lex_is(token, '{') && row->type == TYPE_LIST) {
        if (read_list(tree, lex, setting))
            add_setting(tree, setting);
    } else if (token_is_value(token) && token.line == line) {
        add_value(tree, setting, token.text);
        add_setting(tree, setting);
    } else if (token.kind != TOKEN_WRONG) {
        token.line = line; /* where it is missing */
        expected(tree, lex, token,
                 lex_is(token, '{') ? "write one value, without braces" : "write a value behind it",
                 "a value");
        *lex = before;
        skip_statement(lex, name);
    }
}

/* ---- sections ---- */

static struct tree_section *add_section(struct tree *tree, struct tree_section *around,
                                        enum section_kind kind, struct str title,
                                        struct place place)
{
    struct tree_section *section = arena_alloc(tree->arena, sizeof(*section));

    *section = (struct tree_section){ .around = around,
                                      .number = ++tree->section_count,
                                      .kind = kind,
                                      .title = title,
                                      .place = place };
    *tree->last_section = section;
    tree->last_section = &section->next;
    return section;
}

/* From here to the end of the file functions call each other in a circle, as the
 * grammar does; the schema nests sections two deep, include.c stops at eight files.
 * NOLINTBEGIN(misc-no-recursion) */
static void read_section(struct tree *tree, struct lex *lex, struct tree_section *around,
                         enum section_kind kind, struct token name)
{
    const struct section_row *row = &section_rows[kind];
    bool has_title = schema_has_title(kind);
    struct lex before = *lex;
    struct token token = lex_next(lex);
    struct str title = STR_EMPTY;

    if (has_title && token_is_value(token)) {
        title = token.text;
        token = lex_next(lex);
    } else if (has_title) {
        expected(tree, lex, token,
                 arena_printf(tree->arena, "write %s \"%s\" { ... }", row->name, row->example),
                 "a name in quotes");
        *lex = before;
        skip_statement(lex, name);
        return;
    }
    if (!lex_is(token, '{')) {
        expected(
            tree, lex, token,
            arena_printf(tree->arena, "write %s%s { ... }", row->name, has_title ? " \"...\"" : ""),
            "{");
        *lex = before;
        skip_statement(lex, name);
        return;
    }
    read_statements(tree, lex, add_section(tree, around, kind, title, place_of(lex, name)), false);
}

static void read_include(struct tree *tree, struct lex *lex, struct tree_section *section,
                         struct token name)
{
    struct lex before = *lex;
    struct token open = lex_next(lex), file = lex_next(lex), close = lex_next(lex);

    if (!lex_is(open, '(') || !token_is_value(file) || !lex_is(close, ')')) {
        report_error(tree->report, place_of(lex, name), "write include(\"file\")",
                     "include needs the name of a file");
        *lex = before;
        skip_statement(lex, name);
        return;
    }
    if (section->kind != SECTION_ROOT) {
        report_error(tree->report, place_of(lex, name), "move it out of the section",
                     "include stands inside a section");
        return;
    }
    include_files(tree, place_of(lex, name), arena_cstr(tree->arena, file.text));
}

static void read_statement(struct tree *tree, struct lex *lex, struct tree_section *section,
                           struct token name)
{
    const struct option_row *row = schema_option(section->kind, name.text);
    enum section_kind kind = schema_section(section->kind, name.text);

    if (row) {
        read_setting(tree, lex, section, row, name);
    } else if (kind != SECTION_ROOT) {
        read_section(tree, lex, section, kind, name);
    } else if (str_eq(name.text, STR("include"))) {
        read_include(tree, lex, section, name);
    } else {
        tell_unknown(tree, place_of(lex, name), section->kind, name.text);
        skip_unknown(lex, name);
    }
}

static void read_statements(struct tree *tree, struct lex *lex, struct tree_section *section,
                            bool is_file)
{
    for (;;) {
        struct token token = lex_next(lex);
        if (token.kind == TOKEN_END && is_file)
            return;
        if (token.kind == TOKEN_END) {
            report_error(tree->report, section->place, "add a }", "section %s is not closed",
                         section_rows[section->kind].name);
            return;
        }
        if (lex_is(token, '}') && !is_file)
            return;
        if (lex_is(token, '}')) {
            report_error(tree->report, place_of(lex, token), "remove it", "} closes nothing");
        } else if (token.kind == TOKEN_WORD) {
            read_statement(tree, lex, section, token);
        } else {
            expected(tree, lex, token, "write name = value, or name { ... }", "a name");
            skip_statement(lex, token);
        }
    }
}

void tree_read(struct tree *tree, const char *file, struct str text)
{
    struct lex lex;

    lex_init(&lex, file, text, tree->arena, tree->report);
    read_statements(tree, &lex, tree->sections, true);
    if (tree->depth == 0) /* the file itself, with all that it includes */
        tree_check_titles(tree);
}
/* NOLINTEND(misc-no-recursion) */
