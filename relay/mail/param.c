/*
 * param.c - parameters of structured MIME fields, and header_param on top:
 * quoted strings undone, RFC 2231 continuations joined.
 */
#include "relay/mail/param.h"

#include "relay/mail/header.h"

#include <stdio.h>

#define PARAM_PIECES_MAX 100 /* RFC 2231 continuations of one value */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* Length of the comment at the front; a comment that is not closed ends with the text. */
static size_t comment_len(struct str s)
{
    size_t depth = 0, at = 0;

    for (; at < s.len; at++) {
        if (s.at[at] == '\\' && at + 1 < s.len)
            at++;
        else if (s.at[at] == '(')
            depth++;
        else if (s.at[at] == ')' && --depth == 0)
            return at + 1;
    }
    return at;
}

size_t param_skip_blanks(struct str s)
{
    size_t at = 0;

    while (at < s.len && (is_blank(s.at[at]) || s.at[at] == '('))
        at += s.at[at] == '(' ? comment_len(str_from(s, at)) : 1;
    return at;
}

struct str param_main(struct str *rest)
{
    struct str s = str_from(*rest, param_skip_blanks(*rest));
    size_t len = 0;

    while (len < s.len && !is_blank(s.at[len]) && s.at[len] != ';' && s.at[len] != '(')
        len++;
    *rest = str_from(s, len);
    return str_head(s, len);
}

static size_t quoted_len(struct str s)
{
    size_t at = 1;

    for (; at < s.len && s.at[at] != '"'; at++)
        if (s.at[at] == '\\' && at + 1 < s.len)
            at++;
    return at < s.len ? at + 1 : s.len;
}

/* Move behind the next semicolon that is not inside a quoted string or comment. */
static bool skip_semicolon(struct str *rest)
{
    size_t at = 0;

    while (at < rest->len && rest->at[at] != ';') {
        if (rest->at[at] == '"')
            at += quoted_len(str_from(*rest, at));
        else if (rest->at[at] == '(')
            at += comment_len(str_from(*rest, at));
        else
            at++;
    }
    bool found = at < rest->len;
    *rest = str_from(*rest, at + found);
    return found;
}

/* "name = value" at the front of `s`. */
static bool read_param(struct str s, struct param *param, size_t *out_len)
{
    size_t at = 0;

    while (at < s.len && !is_blank(s.at[at]) && !memchr(";=(\"", s.at[at], 4))
        at++;
    param->name = str_head(s, at);
    at += param_skip_blanks(str_from(s, at));
    if (param->name.len == 0 || at >= s.len || s.at[at] != '=')
        return false;
    at++;
    at += param_skip_blanks(str_from(s, at));
    struct str value = str_from(s, at);
    param->is_quoted = value.len > 0 && value.at[0] == '"';
    size_t len = param->is_quoted ? quoted_len(value) : 0;
    while (!param->is_quoted && len < value.len && !is_blank(value.at[len]) && value.at[len] != ';')
        len++;
    param->value = str_head(value, len);
    param->raw = str_head(s, at + len);
    *out_len = at + len;
    return true;
}

bool param_next(struct str *rest, struct param *out_param)
{
    while (skip_semicolon(rest)) {
        size_t len;
        *rest = str_from(*rest, param_skip_blanks(*rest));
        if (!read_param(*rest, out_param, &len))
            continue;
        *rest = str_from(*rest, len);
        return true;
    }
    return false;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One piece of a value to plain bytes: quotes and folding undone, or percent-decoded. */
static size_t plain_value(const struct param *param, bool is_extended, bool is_first, char *to)
{
    struct str s = param->value;
    size_t len = 0;

    if (param->is_quoted)
        s = str_make(s.at + 1, s.len - 1 - (s.len > 1 && s.at[s.len - 1] == '"'));
    if (is_extended && is_first) { /* charset'language'text */
        struct str text = str_from(s, str_chr(s, '\'') + 1);
        text = str_from(text, str_chr(text, '\'') + 1);
        s = text;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '\r' || s.at[i] == '\n')
            continue;
        if (is_extended && s.at[i] == '%' && i + 2 < s.len && hex_digit(s.at[i + 1]) >= 0 &&
            hex_digit(s.at[i + 2]) >= 0) {
            to[len++] = (char)(hex_digit(s.at[i + 1]) * 16 + hex_digit(s.at[i + 2]));
            i += 2;
            continue;
        }
        if (param->is_quoted && s.at[i] == '\\' && i + 1 < s.len)
            i++;
        to[len++] = s.at[i];
    }
    return len;
}

size_t param_plain(const struct param *param, char *to)
{
    return plain_value(param, false, true, to);
}

/* The parameter of exactly that name, or with a star behind it. */
static bool find_param(struct str params, struct str name, struct param *out_param,
                       bool *out_extended)
{
    struct param param;

    while (param_next(&params, &param)) {
        *out_extended = param.name.len == name.len + 1 && param.name.at[name.len] == '*';
        if (!str_istarts(param.name, name) || (param.name.len != name.len && !*out_extended))
            continue;
        *out_param = param;
        return true;
    }
    return false;
}

struct str header_param(struct str value, struct str name, struct arena *arena)
{
    struct str params = value;
    char *to = arena_alloc(arena, value.len + 1);
    struct param param;
    bool is_extended;
    size_t len = 0;

    param_main(&params);
    if (find_param(params, name, &param, &is_extended))
        return str_make(to, plain_value(&param, is_extended, true, to));
    for (unsigned i = 0; i < PARAM_PIECES_MAX; i++) {
        char piece_name[128];
        int n = snprintf(piece_name, sizeof(piece_name), STR_FMT "*%u", STR_ARG(name), i);
        if (n < 0 || (size_t)n >= sizeof(piece_name) ||
            !find_param(params, str_of(piece_name), &param, &is_extended))
            break;
        len += plain_value(&param, is_extended, i == 0, to + len);
    }
    return str_make(to, len);
}
