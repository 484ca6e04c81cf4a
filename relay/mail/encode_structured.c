/*
 * encode_structured.c - encoded words in phrases, extended parameters.
 */
#include "relay/mail/encode_parts.h"

#include "relay/mail/param.h"
#include "relay/mail/token.h"

static bool is_8bit(struct str s) { return !str_is_ascii(s); }

struct piece {
    struct token token;
    bool encode; /* part of a phrase that becomes encoded words */
};

static bool is_wordlike(const struct piece *piece)
{
    enum token_kind kind = piece->token.kind;

    return kind == TOKEN_WORD || kind == TOKEN_QUOTED || kind == TOKEN_LITERAL || kind == TOKEN_BAD;
}

static struct piece *split(struct str value, struct arena *arena, size_t *out_count)
{
    struct str rest = value;
    size_t count = 0;

    while (token_next(&rest).kind != TOKEN_END)
        count++;
    struct piece *pieces = arena_alloc(arena, (count + 1) * sizeof(*pieces));
    rest = value;
    for (size_t i = 0; i < count; i++)
        pieces[i].token = token_next(&rest);
    *out_count = count;
    return pieces;
}

/* The neighbour in direction `step`, comments skipped, is an @. */
static bool at_sign_beside(const struct piece *pieces, size_t count, size_t i, size_t step)
{
    do
        i += step; /* (size_t)-1 steps back; below zero it wraps past count */
    while (i < count && pieces[i].token.kind == TOKEN_COMMENT);
    return i < count && token_is(&pieces[i].token, '@');
}

/* Decide what is encoded. False: 8-bit text inside an address or another token. */
static bool mark(struct piece *pieces, size_t count, bool has_phrases)
{
    bool in_angle = false;

    for (size_t i = 0; i < count; i++) {
        struct piece *piece = &pieces[i];
        if (token_is(&piece->token, '<') || token_is(&piece->token, '>'))
            in_angle = piece->token.raw.at[0] == '<';
        if (!is_wordlike(piece) || !is_8bit(piece->token.raw))
            continue;
        if (!has_phrases || in_angle || at_sign_beside(pieces, count, i, 1) ||
            at_sign_beside(pieces, count, i, (size_t)-1))
            return false;
        piece->encode = true;
    }
    return true;
}

/* An encoded word stands alone: what touches it goes into it. */
static void mark_glued(struct piece *pieces, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (pieces[i - 1].encode && pieces[i].token.gap.len == 0 && is_wordlike(&pieces[i]) &&
            !at_sign_beside(pieces, count, i, 1))
            pieces[i].encode = true;
    for (size_t i = count; i-- > 1;)
        if (pieces[i].encode && pieces[i].token.gap.len == 0 && is_wordlike(&pieces[i - 1]) &&
            !at_sign_beside(pieces, count, i - 1, (size_t)-1))
            pieces[i - 1].encode = true;
}

static void add_content(struct buf *text, const struct token *token)
{
    struct str raw = token->raw;

    if (token->kind != TOKEN_QUOTED) {
        buf_str(text, raw);
        return;
    }
    for (size_t i = 1; i + 1 < raw.len; i++) {
        if (raw.at[i] == '\\')
            i++;
        buf_char(text, raw.at[i]);
    }
}

/* The run of pieces to encode at `i`; returns the first one behind it. */
static size_t put_phrase(struct fold *fold, const struct piece *pieces, size_t count, size_t i,
                         size_t value_len)
{
    struct str gap = pieces[i].token.gap;
    struct buf text;
    size_t begin = i;

    buf_init(&text, value_len);
    if (i > 0 && encode_is_word(pieces[i - 1].token.raw))
        buf_str(&text, gap);
    for (; i < count && pieces[i].encode; i++) {
        if (i > begin)
            buf_str(&text, pieces[i].token.gap);
        add_content(&text, &pieces[i].token);
    }
    if (i < count && encode_is_word(pieces[i].token.raw))
        buf_str(&text, pieces[i].token.gap);
    fold_words(fold, gap.len > 0 ? gap : STR(" "), buf_view(&text));
    buf_clear(&text);
    return i;
}

static bool is_plain(const struct piece *piece)
{
    return !piece->encode && !(piece->token.kind == TOKEN_COMMENT && is_8bit(piece->token.raw));
}

/* Pieces that nothing separates, as one; returns the first one behind them. */
static size_t put_plain_run(struct fold *fold, const struct piece *pieces, size_t count, size_t i,
                            bool after_words)
{
    struct str gap = pieces[i].token.gap, text = pieces[i].token.raw;

    for (i++; i < count && is_plain(&pieces[i]) && pieces[i].token.gap.len == 0; i++)
        text.len += pieces[i].token.raw.len;
    fold_plain(fold, gap.len == 0 && after_words ? STR(" ") : gap, text);
    return i;
}

enum err encode_structured(struct fold *fold, struct str value, bool has_phrases,
                           struct arena *arena, struct fault *fault)
{
    size_t count, i = 0;
    struct piece *pieces = split(value, arena, &count);
    bool after_words = true; /* a blank behind the field name, too */

    if (!mark(pieces, count, has_phrases))
        return fault_set(fault, ERR_INVALID, "non-ASCII characters in an address or token");
    mark_glued(pieces, count);
    while (i < count) {
        bool encode = pieces[i].encode;
        if (encode)
            i = put_phrase(fold, pieces, count, i, value.len);
        else if (is_plain(&pieces[i]))
            i = put_plain_run(fold, pieces, count, i, after_words);
        else {
            struct str gap = pieces[i].token.gap;
            encode_comment(fold, gap.len > 0 ? gap : STR(" "), pieces[i].token.raw, arena);
            i++;
        }
        after_words = encode;
    }
    return ERR_OK;
}

/* ---- parameters ---- */

static bool has_extended(struct str params, struct str name)
{
    struct param param;

    while (param_next(&params, &param)) {
        size_t star = str_chr(param.name, '*');
        if (star < param.name.len && str_ieq(str_head(param.name, star), name))
            return true;
    }
    return false;
}

static enum err put_param(struct fold *fold, const struct param *param, struct arena *arena,
                          struct fault *fault)
{
    char *plain = arena_alloc(arena, param->raw.len + 1);

    if (!is_8bit(param->raw)) {
        fold_plain(fold, STR(" "), param->raw);
        return ERR_OK;
    }
    /* A boundary is compared byte by byte, and readers differ on RFC 2231 there. */
    if (is_8bit(param->name) || memchr(param->name.at, '*', param->name.len) ||
        str_ieq(param->name, STR("boundary")) || str_ieq(param->name, STR("charset")))
        return fault_set(fault, ERR_INVALID, "non-ASCII characters in a MIME parameter");
    fold_param(fold, param->name, str_make(plain, param_plain(param, plain)));
    return ERR_OK;
}

enum err encode_params(struct fold *fold, struct str value, struct arena *arena,
                       struct fault *fault)
{
    struct str rest = value;
    struct str word = param_main(&rest), all = rest;
    struct param param;

    if (is_8bit(word))
        return fault_set(fault, ERR_INVALID, "non-ASCII characters in a MIME field");
    fold_plain(fold, STR(" "), word);
    while (param_next(&rest, &param)) {
        if (is_8bit(param.value) && has_extended(all, param.name))
            continue; /* the same text is there in a form that is allowed */
        fold_plain(fold, STR_EMPTY, STR(";"));
        enum err rc = put_param(fold, &param, arena, fault);
        if (rc)
            return rc;
    }
    return ERR_OK;
}
