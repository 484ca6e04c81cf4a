/*
 * alias_target.c - the right side of an alias: addresses, names, includes, and
 * what is refused.
 */
#include "relay/mail/addr.h"
#include "relay/mail/alias_impl.h"

#include <stdlib.h>

#define INCLUDE_DEPTH_MAX 5

static void refused(struct alias_parser *parser, struct str text, const char *why)
{
    struct buf shown;

    buf_init(&shown, 400);
    buf_escaped(&shown, text, 80);
    alias_tell(parser, ALIAS_WARNING, "%.*s is refused: %s", (int)shown.len, shown.at, why);
    buf_clear(&shown);
}

/* True when it was one of the things that other mailers do on the machine. */
static bool refuse_special(struct alias_parser *parser, struct str text)
{
    if (text.at[0] == '|')
        refused(parser, text, "no programs are run for mail");
    else if (text.at[0] == '/')
        refused(parser, text, "mail is not written to files");
    else if (text.at[0] == ':' && !str_istarts(text, STR(":include:")))
        refused(parser, text, "only :include: is understood of these words");
    else
        return false;
    return true;
}

static void add(struct alias_parser *parser, struct alias_list *list, enum alias_target_kind kind,
                struct str text)
{
    if (parser->targets++ >= ALIAS_TARGETS_MAX) {
        if (parser->targets == ALIAS_TARGETS_MAX + 1)
            alias_tell(parser, ALIAS_ERROR, "more than %d targets in all", ALIAS_TARGETS_MAX);
        return;
    }
    if (list->count == list->cap) {
        list->cap = list->cap ? list->cap * 2 : 4;
        list->items = mem_realloc(list->items, list->cap * sizeof(*list->items));
    }
    list->items[list->count++] = (struct alias_target){
        .kind = kind, .text = text, .file = parser->file, .line = parser->line
    };
}

/* "Ops <ops@example.com>": what is in the brackets. */
static struct str inside_brackets(struct str text)
{
    size_t open = str_chr(text, '<');

    if (open == text.len || text.at[text.len - 1] != '>')
        return text;
    return str_trim(str_make(text.at + open + 1, text.len - open - 2));
}

static void take_address(struct alias_parser *parser, struct str text, struct alias_list *list)
{
    bool is_final = text.at[0] == '\\';
    struct fault fault = { ERR_OK, "" };
    struct addr addr;
    struct buf canonical, shown;
    struct str address = inside_brackets(is_final ? str_from(text, 1) : text);

    buf_init(&canonical, ADDR_MAX);
    enum err rc = addr_parse(address, ADDR_ALLOW_UTF8 | ADDR_ALLOW_BARE, &addr, &fault);
    if (!rc)
        rc = addr_canonical(&addr, &canonical, &fault);
    if (rc) {
        buf_init(&shown, 400);
        buf_escaped(&shown, text, 80);
        alias_tell(parser, ALIAS_ERROR, "\"%.*s\" is no address: %s", (int)shown.len,
                   shown.at ? shown.at : "", fault.text);
        buf_clear(&shown);
    } else {
        struct str copy = arena_str(parser->arena, buf_view(&canonical));
        if (addr.domain.len == 0)
            str_lower((char *)(uintptr_t)copy.at, copy.len);
        add(parser, list,
            addr.domain.len ? ALIAS_ADDRESS
            : is_final      ? ALIAS_FINAL
                            : ALIAS_NAME,
            copy);
    }
    buf_clear(&canonical);
}

/* ---- :include: ---- */

/* From here to the end of the file functions call each other in a circle: files include
 * files, take_include() stops at INCLUDE_DEPTH_MAX. NOLINTBEGIN(misc-no-recursion) */
static void read_include(struct alias_parser *parser, struct str file, struct alias_list *list)
{
    struct alias_table *table = parser->table;
    struct str outer_file = parser->file;
    unsigned outer_line = parser->line;
    struct fault fault = { ERR_OK, "" };
    struct buf text;

    buf_init(&text, ALIAS_TEXT_MAX);
    table->files[table->file_count++] = file = arena_str(&table->arena, file);
    if (parser->reader->read(parser->reader->arg, file, &text, &fault)) {
        alias_tell(parser, ALIAS_ERROR, "%s", fault.text);
    } else {
        parser->file = file;
        parser->include_depth++;
        alias_included(parser, buf_view(&text), list);
        parser->include_depth--;
    }
    parser->file = outer_file;
    parser->line = outer_line;
    buf_clear(&text);
}

static void take_include(struct alias_parser *parser, struct str text, struct alias_list *list)
{
    struct str file = str_trim(str_from(text, STR(":include:").len));

    if (!parser->table || !parser->reader->read)
        refused(parser, text, "files are not included here");
    else if (file.len == 0 || file.at[0] != '/')
        alias_tell(parser, ALIAS_ERROR, ":include: wants the full path of a file");
    else if (parser->include_depth >= INCLUDE_DEPTH_MAX)
        alias_tell(parser, ALIAS_ERROR, "files include files more than %d deep", INCLUDE_DEPTH_MAX);
    else if (parser->table->file_count > ALIAS_INCLUDES_MAX)
        alias_tell(parser, ALIAS_ERROR, "more than %d included files", ALIAS_INCLUDES_MAX);
    else
        read_include(parser, file, list);
}

/* ---- lists ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* Up to the next comma that is not in quotes or a comment (a # behind a blank,
 * up to the end of its line). */
static struct str next_piece(struct str *rest, struct buf *piece)
{
    bool quoted = false;
    size_t i = 0;

    buf_reset(piece);
    for (; i < rest->len && (quoted || rest->at[i] != ','); i++) {
        char c = rest->at[i];
        if (c == '#' && !quoted && (i == 0 || is_blank(rest->at[i - 1]))) {
            while (i + 1 < rest->len && rest->at[i + 1] != '\n')
                i++;
            continue;
        }
        if (c == '"')
            quoted = !quoted;
        buf_char(piece, c == '\n' ? ' ' : c);
        if (c == '\\' && i + 1 < rest->len)
            buf_char(piece, rest->at[++i]);
    }
    *rest = str_from(*rest, i + 1);
    return str_trim(buf_view(piece));
}

/* "|command" and ":include:/file" may stand in quotes as a whole; an address
 * with a quoted local part keeps them. */
static struct str without_quotes(struct str text)
{
    if (text.len < 3 || text.at[0] != '"' || text.at[text.len - 1] != '"')
        return text;
    struct str inner = str_make(text.at + 1, text.len - 2);
    return str_chr(STR("|/:\\"), inner.at[0]) < 4 ? inner : text;
}

void alias_targets(struct alias_parser *parser, struct str text, struct alias_list *list)
{
    struct buf piece;

    buf_init(&piece, text.len + 1);
    while (text.len > 0) {
        struct str one = next_piece(&text, &piece);
        if (one.len == 0)
            continue;
        one = without_quotes(one);
        if (refuse_special(parser, one))
            continue;
        if (one.at[0] == ':')
            take_include(parser, one, list);
        else
            take_address(parser, one, list);
    }
    buf_clear(&piece);
}

/* Each line is a list of its own; without names there are no continuation lines. */
void alias_included(struct alias_parser *parser, struct str text, struct alias_list *list)
{
    struct str line;

    for (parser->line = 1; str_next(&text, '\n', &line); parser->line++) {
        struct str trimmed = str_trim(line);
        if (trimmed.len > 0 && trimmed.at[0] != '#')
            alias_targets(parser, trimmed, list);
    }
}
/* NOLINTEND(misc-no-recursion) */
