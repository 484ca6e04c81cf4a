/*
 * encode_text.c - encoded words in unstructured text and in comments.
 */
#include "relay/mail/encode_parts.h"

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static bool is_8bit(struct str s) { return !str_is_ascii(s); }

/* Blanks and the word behind them off the front of *rest. */
bool encode_next_word(struct str *rest, struct str *out_gap, struct str *out_word)
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

bool encode_is_word(struct str word)
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

    while (encode_next_word(&ahead, &gap, &next)) {
        if (encode_is_word(next))
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

void encode_text(struct fold *fold, struct str text, bool in_comment, struct arena *arena)
{
    struct str rest = text, gap, word;
    bool after_encoded = false;

    while (encode_next_word(&rest, &gap, &word)) {
        if (gap.len == 0 && !in_comment)
            gap = STR(" "); /* behind the field name */
        if (!is_8bit(word)) {
            fold_plain(fold, gap, word);
            after_encoded = encode_is_word(word);
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

void encode_comment(struct fold *fold, struct str gap, struct str raw, struct arena *arena)
{
    for (size_t at = 0, begin = 0; at <= raw.len; at++) {
        if (at < raw.len && raw.at[at] == '\\') {
            at++;
            continue;
        }
        if (at < raw.len && raw.at[at] != '(' && raw.at[at] != ')')
            continue;
        if (at > begin)
            encode_text(fold, str_make(raw.at + begin, at - begin), true, arena);
        if (at < raw.len)
            fold_plain(fold, at == 0 ? gap : STR_EMPTY, str_make(raw.at + at, 1));
        begin = at + 1;
    }
}
