/*
 * encode.c - what in a header field is encoded, by the kind of field.
 */
#include "relay/mail/encode.h"

#include "relay/mail/fold.h"
#include "relay/mail/param.h"
#include "relay/mail/token.h"

enum kind { KIND_TEXT, KIND_PHRASES, KIND_TOKENS, KIND_PARAMS };

/* Fields not named are unstructured text. */
static const struct {
    const char *name;
    enum kind kind;
} kinds[] = {
    { "From", KIND_PHRASES },
    { "Sender", KIND_PHRASES },
    { "Reply-To", KIND_PHRASES },
    { "To", KIND_PHRASES },
    { "Cc", KIND_PHRASES },
    { "Bcc", KIND_PHRASES },
    { "Resent-From", KIND_PHRASES },
    { "Resent-Sender", KIND_PHRASES },
    { "Resent-Reply-To", KIND_PHRASES },
    { "Resent-To", KIND_PHRASES },
    { "Resent-Cc", KIND_PHRASES },
    { "Resent-Bcc", KIND_PHRASES },
    { "Errors-To", KIND_PHRASES },
    { "Mail-Followup-To", KIND_PHRASES },
    { "Mail-Reply-To", KIND_PHRASES },
    { "Disposition-Notification-To", KIND_PHRASES },
    { "Return-Receipt-To", KIND_PHRASES },
    { "List-Id", KIND_PHRASES },
    { "Keywords", KIND_PHRASES },
    { "Content-Type", KIND_PARAMS },
    { "Content-Disposition", KIND_PARAMS },
    { "Content-Transfer-Encoding", KIND_TOKENS },
    { "Content-ID", KIND_TOKENS },
    { "MIME-Version", KIND_TOKENS },
    { "Message-ID", KIND_TOKENS },
    { "In-Reply-To", KIND_TOKENS },
    { "References", KIND_TOKENS },
    { "Date", KIND_TOKENS },
    { "Resent-Date", KIND_TOKENS },
    { "Resent-Message-ID", KIND_TOKENS },
    { "Return-Path", KIND_TOKENS },
    { "Received", KIND_TOKENS },
    { "DKIM-Signature", KIND_TOKENS },
    { "ARC-Seal", KIND_TOKENS },
    { "ARC-Message-Signature", KIND_TOKENS },
    { "ARC-Authentication-Results", KIND_TOKENS },
    { "Authentication-Results", KIND_TOKENS },
    { "List-Help", KIND_TOKENS },
    { "List-Unsubscribe", KIND_TOKENS },
    { "List-Subscribe", KIND_TOKENS },
    { "List-Post", KIND_TOKENS },
    { "List-Owner", KIND_TOKENS },
    { "List-Archive", KIND_TOKENS },
    { "List-Unsubscribe-Post", KIND_TOKENS },
    { "Auto-Submitted", KIND_TOKENS },
};

static enum kind kind_of(struct str name)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (str_ieq(name, str_of(kinds[i].name)))
            return kinds[i].kind;
    return KIND_TEXT;
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static bool is_8bit(struct str s) { return !str_is_ascii(s); }

/* Blanks and the word behind them off the front of *rest. */
static bool next_word(struct str *rest, struct str *out_gap, struct str *out_word)
{
    size_t gap = 0, end;

    while (gap < rest->len && is_blank(rest->at[gap]))
        gap++;
    for (end = gap; end < rest->len && !is_blank(rest->at[end]);)
        end++;
    *out_gap = str_head(*rest, gap);
    *out_word = str_make(rest->at + gap, end - gap);
    *rest = str_from(*rest, end);
    return out_word->len > 0;
}

static bool is_encoded_word(struct str word)
{
    return word.len > 6 && str_starts(word, STR("=?")) && str_iends(word, STR("?="));
}

/* Extend an 8-bit word over the 8-bit words that follow it: the blanks between
 * two encoded words are not shown, so they must be inside one. For the same
 * reason the blanks towards an encoded word that was there already. */
static struct str extend_run(struct str word, struct str *rest)
{
    struct str gap, next, ahead = *rest;
    struct str run = word;

    while (next_word(&ahead, &gap, &next)) {
        if (is_encoded_word(next))
            run.len = (size_t)(next.at - run.at);
        if (!is_8bit(next))
            break;
        run.len = (size_t)(next.at + next.len - run.at);
        *rest = ahead;
    }
    return run;
}

/* Backslashes of a comment are syntax, not text. */
static struct str without_escapes(struct str s, struct arena *arena)
{
    char *to = arena_alloc(arena, s.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '\\' && i + 1 < s.len)
            i++;
        to[len++] = s.at[i];
    }
    return str_make(to, len);
}

static void put_text(struct fold *fold, struct str text, bool in_comment, struct arena *arena)
{
    struct str rest = text, gap, word;
    bool after_encoded = false;

    while (next_word(&rest, &gap, &word)) {
        if (gap.len == 0 && !in_comment)
            gap = STR(" "); /* behind the field name */
        if (!is_8bit(word)) {
            fold_plain(fold, gap, word);
            after_encoded = is_encoded_word(word);
            continue;
        }
        struct str run = extend_run(word, &rest);
        if (after_encoded)
            run = str_make(gap.at, gap.len + run.len);
        fold_words(fold, gap, in_comment ? without_escapes(run, arena) : run);
        after_encoded = true;
    }
    if (gap.len > 0 && in_comment)
        fold_plain(fold, STR_EMPTY, gap); /* "(text )" */
}

static void put_comment(struct fold *fold, struct str gap, struct str raw, struct arena *arena)
{
    for (size_t at = 0, begin = 0; at <= raw.len; at++) {
        if (at < raw.len && raw.at[at] == '\\') {
            at++;
            continue;
        }
        if (at < raw.len && raw.at[at] != '(' && raw.at[at] != ')')
            continue;
        if (at > begin)
            put_text(fold, str_make(raw.at + begin, at - begin), true, arena);
        if (at < raw.len)
            fold_plain(fold, at == 0 ? gap : STR_EMPTY, str_make(raw.at + at, 1));
        begin = at + 1;
    }
}

/* ---- structured fields ---- */

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
    if (i > 0 && is_encoded_word(pieces[i - 1].token.raw))
        buf_str(&text, gap);
    for (; i < count && pieces[i].encode; i++) {
        if (i > begin)
            buf_str(&text, pieces[i].token.gap);
        add_content(&text, &pieces[i].token);
    }
    if (i < count && is_encoded_word(pieces[i].token.raw))
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

static enum err put_structured(struct fold *fold, struct str value, bool has_phrases,
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
            put_comment(fold, gap.len > 0 ? gap : STR(" "), pieces[i].token.raw, arena);
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

static enum err put_params(struct fold *fold, struct str value, struct arena *arena,
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

/* ---- the field ---- */

/* Fit to stand inside an encoded word. */
static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= 32 || s.at[i] >= 127 || strchr("()<>@,;:\"/[]?.=*'", s.at[i]))
            return false;
    return s.len > 0;
}

/* RFC 2047 wants a registered charset: UTF-8 if it is that; else the body's, if
 * its bytes stand alone; else Latin-1 unless it has C1 bytes; else RFC 1428. */
static struct str charset_of(struct str value, struct str hint)
{
    static const char *const families[] = { "iso-8859-", "windows-125", "koi8-" };

    if (str_is_utf8(value))
        return STR("utf-8");
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        if (str_istarts(hint, str_of(families[i])) && hint.len <= 16 && is_token(hint))
            return hint;
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.at[i] >= 0x80 && (unsigned char)value.at[i] < 0xa0)
            return STR("unknown-8bit");
    return STR("iso-8859-1");
}

static enum err finish(struct fold *fold, enum err rc, struct fault *fault)
{
    bool fits = fold_end(fold);

    if (rc || fits)
        return rc;
    return fault_set(fault, ERR_LIMIT, "a header line over 998 octets has no blank to fold at");
}

enum err encode_field(const struct header_field *field, struct str hint, struct buf *out,
                      struct arena *arena, struct fault *fault)
{
    struct str value = header_unfold(field->value, arena);
    enum err rc = ERR_OK;
    struct fold fold;

    fold_begin(&fold, field->name, charset_of(value, hint), out);
    switch (kind_of(field->name)) {
    case KIND_TEXT:
        put_text(&fold, value, false, arena);
        break;
    case KIND_PHRASES:
        rc = put_structured(&fold, value, true, arena, fault);
        break;
    case KIND_TOKENS:
        rc = put_structured(&fold, value, false, arena, fault);
        break;
    case KIND_PARAMS:
        rc = put_params(&fold, value, arena, fault);
        break;
    }
    return finish(&fold, rc, fault);
}

enum err encode_fold(const struct header_field *field, struct buf *out, struct arena *arena,
                     struct fault *fault)
{
    struct str rest = header_unfold(field->value, arena), gap, word;
    struct fold fold;

    fold_begin(&fold, field->name, STR_EMPTY, out);
    for (bool is_first = true; next_word(&rest, &gap, &word); is_first = false)
        fold_plain(&fold, is_first ? STR(" ") : gap, word);
    return finish(&fold, ERR_OK, fault);
}

size_t encode_longest_line(struct str raw)
{
    size_t longest = 0;

    while (raw.len > 0) {
        size_t end = str_chr(raw, '\n');
        size_t len = end > 0 && end < raw.len && raw.at[end - 1] == '\r' ? end - 1 : end;
        longest = len > longest ? len : longest;
        raw = str_from(raw, end + 1);
    }
    return longest;
}
