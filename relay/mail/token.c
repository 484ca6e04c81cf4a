/*
 * token.c - cutting structured header fields into tokens.
 */
#include "relay/mail/token.h"

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static bool is_special(char c) { return c != '\0' && strchr("()<>[]:;@\\,\"", c) != NULL; }

/* Length up to and with the closing character; 0 when there is none. */
static size_t closed_len(struct str s, char open, char close)
{
    size_t depth = 1;

    for (size_t at = 1; at < s.len; at++) {
        char c = s.at[at];
        if (c == '\\')
            at++;
        else if (c == close && --depth == 0)
            return at + 1;
        else if (c == open && open == '(')
            depth++;
    }
    return 0;
}

static size_t word_len(struct str s)
{
    size_t at = 0;

    while (at < s.len && !is_blank(s.at[at]) && !is_special(s.at[at]))
        at++;
    return at;
}

static size_t token_len(struct str s, enum token_kind *out_kind)
{
    static const struct {
        enum token_kind kind;
        char open, close;
    } pairs[] = {
        { TOKEN_QUOTED, '"', '"' },
        { TOKEN_COMMENT, '(', ')' },
        { TOKEN_LITERAL, '[', ']' },
    };

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        if (s.at[0] != pairs[i].open)
            continue;
        size_t len = closed_len(s, pairs[i].open, pairs[i].close);
        *out_kind = len > 0 ? pairs[i].kind : TOKEN_BAD;
        return len > 0 ? len : s.len;
    }
    *out_kind = is_special(s.at[0]) ? TOKEN_SPECIAL : TOKEN_WORD;
    return *out_kind == TOKEN_SPECIAL ? 1 : word_len(s);
}

struct token token_next(struct str *rest)
{
    struct token token = { .kind = TOKEN_END };
    size_t gap = 0;

    while (gap < rest->len && is_blank(rest->at[gap]))
        gap++;
    token.gap = str_head(*rest, gap);
    struct str s = str_from(*rest, gap);
    size_t len = s.len > 0 ? token_len(s, &token.kind) : 0;
    token.raw = str_head(s, len);
    *rest = str_from(s, len);
    return token;
}

bool token_is(const struct token *token, char special)
{
    return token->kind == TOKEN_SPECIAL && token->raw.at[0] == special;
}
