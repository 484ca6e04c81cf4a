/*
 * manual.c - the schema as a sample configuration and as the option list of
 * waypost.conf(5).
 *
 * Both are committed (conf/waypost.conf, conf/waypost.conf.5); a unit test
 * compares them with what this file writes.
 */
#include "conf/build.h"
#include "conf/value.h"

#include <stdio.h>

#define TEXT_WIDTH 76

/* ---- words of a paragraph, filled into lines ---- */

struct filled {
    struct buf *out;
    const char *before; /* every line begins with it */
    bool one_sentence_a_line;
    size_t column;
};

static void put_word(struct filled *filled, struct str word)
{
    if (filled->column && filled->column + 1 + word.len > TEXT_WIDTH) {
        buf_char(filled->out, '\n');
        filled->column = 0;
    }
    if (filled->column) {
        buf_char(filled->out, ' ');
    } else {
        buf_cstr(filled->out, filled->before);
        filled->column = strlen(filled->before);
        /* A dot or quote at the start of a line would be a request to roff. */
        if (filled->one_sentence_a_line && (word.at[0] == '.' || word.at[0] == '\''))
            buf_cstr(filled->out, "\\&");
    }
    buf_str(filled->out, word);
    filled->column += 1 + word.len;
}

static void put_text(struct filled *filled, const char *text)
{
    struct str rest = str_of(text), word;

    while (str_next(&rest, ' ', &word)) {
        if (!word.len)
            continue;
        put_word(filled, word);
        if (filled->one_sentence_a_line && word.at[word.len - 1] == '.') {
            buf_char(filled->out, '\n');
            filled->column = 0;
        }
    }
}

static void end_text(struct filled *filled)
{
    if (filled->column)
        buf_char(filled->out, '\n');
    filled->column = 0;
}

/* ---- values as they are written in a file ---- */

static bool is_quoted(const struct option_row *row, const char *value)
{
    switch (row->type) {
    case TYPE_TEXT:
    case TYPE_LIST:
        return true;
    case TYPE_SIZE:
    case TYPE_SECONDS:
    case TYPE_MILLIS:
    case TYPE_RATE:
        return value[0] >= '0' && value[0] <= '9'; /* not: auto, never, unlimited */
    case TYPE_FLAG:
    case TYPE_COUNT:
    case TYPE_WORD:
        return false;
    }
    return false;
}

static void put_value(const struct option_row *row, const char *value, struct buf *out)
{
    const char *quote = is_quoted(row, value) ? "\"" : "";
    bool is_list = row->type == TYPE_LIST;

    buf_printf(out, "%s%s%s%s%s", is_list ? "{" : "", quote, value, quote, is_list ? "}" : "");
}

static void default_in_words(const struct option_row *row, char *out, size_t size)
{
    if (!row->start)
        snprintf(out, size, "none, it must be given");
    else
        snprintf(out, size, "%s", row->start[0] ? row->start : row->unset);
}

static bool has_range(const struct option_row *row) { return row->max != 0; }

/* "Default: 4h. Range: 1s to 7d." */
static void put_facts(const struct option_row *row, struct filled *filled)
{
    char start[160], line[400];
    struct buf range;

    default_in_words(row, start, sizeof(start));
    snprintf(line, sizeof(line), "Default: %s.", start);
    put_text(filled, line);
    if (!has_range(row))
        return;
    buf_init(&range, 200);
    value_print_range(row, &range);
    snprintf(line, sizeof(line), "Range: " STR_FMT ".", STR_ARG(buf_view(&range)));
    put_text(filled, line);
    buf_clear(&range);
}

/* ---- the sample ---- */

static void sample_option(const struct option_row *row, const char *prose, const char *code,
                          struct buf *out)
{
    struct filled filled = { out, prose, false, 0 };
    const char *value = row->example ? row->example : row->start;

    put_text(&filled, row->help);
    put_facts(row, &filled);
    end_text(&filled);
    buf_printf(out, "%s%s = ", code, row->name);
    put_value(row, value, out);
    buf_char(out, '\n');
}

static void sample_options(enum section_kind kind, const char *prose, const char *code,
                           struct buf *out)
{
    for (size_t i = 0; i < option_row_count; i++) {
        if (option_rows[i].section == kind)
            sample_option(&option_rows[i], prose, code, out);
        if (option_rows[i].section == kind && kind == SECTION_ROOT)
            buf_char(out, '\n');
    }
}

static void sample_open(enum section_kind kind, const char *prose, const char *code,
                        struct buf *out)
{
    const struct section_row *section = &section_rows[kind];
    struct filled filled = { out, prose, false, 0 };

    put_text(&filled, section->help);
    end_text(&filled);
    buf_printf(out, "%s%s", code, section->name);
    if (schema_has_title(kind))
        buf_printf(out, " \"%s\"", section->example);
    buf_cstr(out, " {\n");
}

static void sample_section(enum section_kind kind, struct buf *out)
{
    sample_open(kind, "# ", "#", out);
    sample_options(kind, "#    # ", "#    ", out);
    for (unsigned inner = SECTION_ROOT + 1; inner < SECTION_COUNT; inner++) {
        if (section_rows[inner].around != kind)
            continue;
        sample_open((enum section_kind)inner, "#    # ", "#    ", out);
        sample_options((enum section_kind)inner, "#        # ", "#        ", out);
        buf_cstr(out, "#    }\n");
    }
    buf_cstr(out, "#}\n\n");
}

void conf_sample(struct buf *out)
{
    buf_cstr(out, "# waypost.conf - every section and option; see waypost.conf(5).\n"
                  "#\n"
                  "# All of it is commented out: the defaults are meant to be left alone. What a\n"
                  "# relay needs is a listener, and for mail from other machines a certificate\n"
                  "# and users. Try a change with: waypost check\n\n");
    sample_options(SECTION_ROOT, "# ", "#", out);
    for (unsigned kind = SECTION_ROOT + 1; kind < SECTION_COUNT; kind++) {
        if (section_rows[kind].around == SECTION_ROOT)
            sample_section((enum section_kind)kind, out);
    }
    if (out->len && out->at[out->len - 1] == '\n') /* no empty line at the end */
        out->len--;
}

/* ---- the manual ---- */

static const char *kind_of_value(const struct option_row *row)
{
    switch (row->type) {
    case TYPE_TEXT:
        return row->form == FORM_FILE ? "file" : "text";
    case TYPE_LIST:
        return "list";
    case TYPE_FLAG:
        return "true | false";
    case TYPE_COUNT:
        return "number";
    case TYPE_SIZE:
        return "size";
    case TYPE_SECONDS:
    case TYPE_MILLIS:
        return "duration";
    case TYPE_RATE:
        return "rate";
    case TYPE_WORD:
        return "word";
    }
    return "value";
}

static void manual_options(enum section_kind kind, struct buf *out)
{
    struct filled filled = { out, "", true, 0 };

    buf_cstr(out, ".Bl -tag -width Ds\n");
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_row *row = &option_rows[i];
        if (row->section != kind)
            continue;
        buf_printf(out, ".It Ic %s No = Ar %s\n", row->name, kind_of_value(row));
        put_text(&filled, row->help);
        end_text(&filled);
        put_facts(row, &filled);
        end_text(&filled);
    }
    buf_cstr(out, ".El\n");
}

static void manual_section(enum section_kind kind, struct buf *out)
{
    const struct section_row *section = &section_rows[kind];
    struct filled filled = { out, "", true, 0 };

    buf_printf(out, ".Ss %s", section->name);
    if (schema_has_title(kind))
        buf_printf(out, " \"%s\"", section->title == TITLE_NAME ? "name" : "title");
    buf_cstr(out, " { ... }\n");
    put_text(&filled, section->help);
    end_text(&filled);
    manual_options(kind, out);
}

void conf_manual(struct buf *out)
{
    buf_cstr(out, ".Ss Outside of sections\n");
    manual_options(SECTION_ROOT, out);
    for (unsigned kind = SECTION_ROOT + 1; kind < SECTION_COUNT; kind++)
        manual_section((enum section_kind)kind, out);
}
