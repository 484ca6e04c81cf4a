/*
 * lex.c - from bytes to tokens; see lex.h.
 */
#include "conf/lex.h"

#include "relay/base/buf.h"

#include <stdlib.h>

#define TOKEN_MAX 65536
#define MARKS "{}()=,"

void lex_init(struct lex *lex, const char *file, struct str text, struct arena *arena,
              struct report *report)
{
    *lex = (struct lex){ .text = text, .line = 1, .file = file, .arena = arena, .report = report };
    if (str_starts(text, STR("\xef\xbb\xbf"))) /* a byte order mark of some editors */
        lex->at = 3;
}

static struct place here(const struct lex *lex) { return (struct place){ lex->file, lex->line }; }

static char peek(const struct lex *lex, size_t ahead)
{
    return lex->at + ahead < lex->text.len ? lex->text.at[lex->at + ahead] : '\0';
}

static bool at_end(const struct lex *lex) { return lex->at >= lex->text.len; }

static void step(struct lex *lex)
{
    if (lex->text.at[lex->at] == '\n')
        lex->line++;
    lex->at++;
}

static void skip_line(struct lex *lex)
{
    while (!at_end(lex) && peek(lex, 0) != '\n')
        step(lex);
}

/* False: it never ends, which is told at its beginning. */
static bool skip_block_comment(struct lex *lex)
{
    struct place began = here(lex);

    lex->at += 2;
    while (!at_end(lex)) {
        if (peek(lex, 0) == '*' && peek(lex, 1) == '/') {
            lex->at += 2;
            return true;
        }
        step(lex);
    }
    report_error(lex->report, began, "end it with */", "the comment is not closed");
    return false;
}

/* White space and comments. */
static void skip_blank(struct lex *lex)
{
    while (!at_end(lex)) {
        char c = peek(lex, 0);
        if (c == '#' || (c == '/' && peek(lex, 1) == '/')) {
            skip_line(lex);
        } else if (c == '/' && peek(lex, 1) == '*') {
            if (!skip_block_comment(lex))
                return;
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            step(lex);
        } else {
            return;
        }
    }
}

static bool is_variable_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.at[i];
        if (!(c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
              (i > 0 && c >= '0' && c <= '9')))
            return false;
    }
    return name.len > 0;
}

/* At "${": put the variable's value, or what stands behind ":-", into `out`. */
static bool variable(struct lex *lex, struct buf *out)
{
    struct str rest = str_from(lex->text, lex->at + 2);
    struct str line = str_head(rest, str_chr(rest, '\n'));
    size_t end = str_chr(line, '}');

    if (end == line.len) {
        lex->at += 2;
        report_error(lex->report, here(lex), "end it with }", "${ is not closed");
        return false;
    }
    struct str inner = str_head(line, end);
    size_t otherwise = str_find(inner, STR(":-"));
    struct str name = str_head(inner, otherwise);
    const char *shown = report_shown(lex->arena, name);
    lex->at += 2 + end + 1;
    if (!is_variable_name(name)) {
        report_error(lex->report, here(lex), "write ${NAME} or ${NAME:-otherwise}",
                     "\"%s\" is not the name of a variable", shown);
        return false;
    }
    const char *value = secure_getenv(arena_cstr(lex->arena, name));
    if (value)
        return buf_cstr(out, value);
    if (otherwise < inner.len)
        return buf_str(out, str_from(inner, otherwise + 2));
    report_error(lex->report, here(lex), "set it, or write ${NAME:-otherwise}",
                 "the environment has no variable %s", shown);
    return false;
}

static bool escape(struct lex *lex, char quote, struct buf *out)
{
    char c = peek(lex, 1);

    lex->at += 2;
    if (c == quote || c == '\\' || c == '$')
        return buf_char(out, c);
    if (c == 'n' && quote == '"')
        return buf_char(out, '\n');
    if (c == 't' && quote == '"')
        return buf_char(out, '\t');
    report_error(lex->report, here(lex), "write \\\\ for a backslash",
                 "a backslash in quotes stands before \\, $, n, t or the quote");
    return false;
}

/* At a quote: what stands up to the next one, which is on the same line. */
static bool quoted(struct lex *lex, struct buf *out)
{
    char quote = peek(lex, 0);
    bool is_good = true;

    lex->at++;
    while (!at_end(lex) && peek(lex, 0) != '\n') {
        char c = peek(lex, 0);
        if (c == quote) {
            lex->at++;
            return is_good;
        }
        if (c == '\\' && lex->at + 1 < lex->text.len && peek(lex, 1) != '\n')
            is_good &= escape(lex, quote, out);
        else if (c == '$' && peek(lex, 1) == '{' && quote == '"')
            is_good &= variable(lex, out);
        else
            is_good &= buf_char(out, c), lex->at++;
    }
    report_error(lex->report, here(lex), "end it on the same line", "the quote is not closed");
    return false;
}

static bool ends_word(const struct lex *lex)
{
    char c = peek(lex, 0);

    return at_end(lex) || c == '\0' || strchr(" \t\r\n#\"';" MARKS, c);
}

static bool word(struct lex *lex, struct buf *out)
{
    bool is_good = true;

    while (!ends_word(lex)) {
        if (peek(lex, 0) == '$' && peek(lex, 1) == '{')
            is_good &= variable(lex, out);
        else
            is_good &= buf_char(out, peek(lex, 0)), lex->at++;
    }
    return is_good;
}

static struct token value(struct lex *lex)
{
    struct token token = { .line = lex->line };
    bool is_quoted = peek(lex, 0) == '"' || peek(lex, 0) == '\'';
    struct buf out;

    buf_init(&out, TOKEN_MAX);
    bool is_good = is_quoted ? quoted(lex, &out) : word(lex, &out);
    if (out.overflowed)
        report_error(lex->report, here(lex), "shorten it", "the value is too long");
    token.kind = !is_good ? TOKEN_WRONG : is_quoted ? TOKEN_TEXT : TOKEN_WORD;
    token.text = arena_str(lex->arena, buf_view(&out));
    buf_clear(&out);
    return token;
}

static struct token wrong_byte(struct lex *lex)
{
    struct token token = { TOKEN_WRONG, STR_EMPTY, lex->line };
    const char *shown = report_shown(lex->arena, str_head(str_from(lex->text, lex->at), 1));

    report_error(lex->report, here(lex), "a line ends without a mark; quote what is meant as text",
                 "unexpected \"%s\"", shown);
    lex->at++;
    return token;
}

struct token lex_next(struct lex *lex)
{
    skip_blank(lex);
    if (at_end(lex))
        return (struct token){ TOKEN_END, STR("the end of the file"), lex->line };
    char c = peek(lex, 0);
    if (c == '\0' || c == ';')
        return wrong_byte(lex);
    if (strchr(MARKS, c)) {
        struct token token = { TOKEN_MARK, str_make(lex->text.at + lex->at, 1), lex->line };
        lex->at++;
        return token;
    }
    return value(lex);
}

bool lex_is(struct token token, char mark)
{
    return token.kind == TOKEN_MARK && token.text.at[0] == mark;
}

bool token_is_value(struct token token)
{
    return token.kind == TOKEN_WORD || token.kind == TOKEN_TEXT;
}
