/*
 * fold.c - folding, encoded words, extended parameters.
 */
#include "relay/mail/fold.h"

#include <stdio.h>

#define WORD_MAX 75        /* RFC 2047 2: one encoded word */
#define WORD_LINE_MAX 76   /* and a line that has one */
#define WORD_ROOM_MIN 12   /* one UTF-8 character in Q */
#define PARAM_PIECE_MAX 74 /* one piece of an extended parameter: blank, piece, semicolon */
#define GAP_MAX 64         /* longer runs of blanks are not worth a line's length */

static const char hex[] = "0123456789ABCDEF";
static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put(struct fold *fold, struct str s)
{
    buf_str(fold->out, s);
    fold->column += s.len;
    fold->is_over |= fold->column > FOLD_LINE_MAX;
}

void fold_begin(struct fold *fold, struct str name, struct str charset, struct buf *out)
{
    *fold = (struct fold){ .out = out, .charset = charset };
    put(fold, name);
    put(fold, STR(":"));
    fold->first_column = fold->column;
}

static void put_gap(struct fold *fold, struct str gap, bool on_new_line)
{
    if (gap.len > GAP_MAX)
        gap = STR(" ");
    if (on_new_line) {
        buf_append(fold->out, "\r\n", 2);
        fold->column = 0;
    }
    put(fold, gap);
}

/* Not straight behind the name, unless the line could not be sent otherwise:
 * some readers take "Subject: CRLF" for an empty field. */
void fold_plain(struct fold *fold, struct str gap, struct str text)
{
    size_t end = fold->column + gap.len + text.len;
    bool is_first = fold->column == fold->first_column;

    put_gap(fold, gap, gap.len > 0 && end > (is_first ? FOLD_LINE_MAX : FOLD_COLUMN));
    put(fold, text);
}

bool fold_end(struct fold *fold)
{
    buf_append(fold->out, "\r\n", 2);
    return !fold->is_over;
}

static bool is_alnum(unsigned char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* The set of RFC 2047 5 (3), the strictest: good in text, comments and phrases. */
static size_t q_len(unsigned char c)
{
    return is_alnum(c) || c == ' ' || (c != 0 && strchr("!*+-/", c)) ? 1 : 3;
}

static size_t char_len(const struct fold *fold, struct str text)
{
    size_t len = 1;

    if (str_eq(fold->charset, STR("utf-8")))
        while (len < text.len && ((unsigned char)text.at[len] & 0xc0) == 0x80)
            len++;
    return len;
}

/* How many bytes of whole characters fit into `room` columns. At least one. */
static size_t fitting(const struct fold *fold, struct str text, size_t room, bool is_q)
{
    size_t used = 0, columns = 0;

    while (used < text.len) {
        size_t len = char_len(fold, str_from(text, used));
        for (size_t i = 0; is_q && i < len; i++)
            columns += q_len((unsigned char)text.at[used + i]);
        if (!is_q)
            columns = (used + len + 2) / 3 * 4;
        if (columns > room && used > 0)
            break;
        used += len;
    }
    if (used == text.len)
        return used;
    /* Some readers (Python's) show a blank between encoded words: cut where one is. */
    for (size_t at = used; at > used / 2; at--)
        if (text.at[at - 1] == ' ')
            return at;
    return used;
}

static void put_q(struct fold *fold, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        char escaped[3] = { '=', hex[c >> 4], hex[c & 15] };
        if (q_len(c) == 3)
            put(fold, str_make(escaped, 3));
        else
            put(fold, c == ' ' ? STR("_") : str_make(text.at + i, 1));
    }
}

static void put_b(struct fold *fold, struct str text)
{
    for (size_t i = 0; i < text.len; i += 3) {
        size_t have = text.len - i < 3 ? text.len - i : 3;
        unsigned char in[3] = { 0, 0, 0 };
        memcpy(in, text.at + i, have);
        char four[4] = { base64[in[0] >> 2], base64[(in[0] & 3) << 4 | in[1] >> 4],
                         have > 1 ? base64[(in[1] & 15) << 2 | in[2] >> 6] : '=',
                         have > 2 ? base64[in[2] & 63] : '=' };
        put(fold, str_make(four, 4));
    }
}

/* Q can be read without a decoder, so it may cost up to twice as much. */
static bool prefers_q(struct str text)
{
    size_t columns = 0;

    for (size_t i = 0; i < text.len; i++)
        columns += q_len((unsigned char)text.at[i]);
    return columns <= (text.len + 2) / 3 * 8;
}

/* Columns for the text of a word that begins behind `gap`; 0 when it must not begin here. */
static size_t word_room(const struct fold *fold, size_t gap_len)
{
    size_t around = fold->charset.len + 7; /* =? ?Q? ?= */
    size_t begin = fold->column + gap_len;
    size_t end = begin + WORD_MAX < WORD_LINE_MAX ? begin + WORD_MAX : WORD_LINE_MAX;

    return end >= begin + around + WORD_ROOM_MIN ? end - begin - around : 0;
}

void fold_words(struct fold *fold, struct str gap, struct str text)
{
    bool is_q = prefers_q(text);

    while (text.len > 0) {
        size_t room = word_room(fold, gap.len);
        bool on_new_line = room == 0;
        if (on_new_line) {
            gap = gap.len > 0 && gap.len <= 8 ? gap : STR(" ");
            fold->column = 0;
            room = word_room(fold, gap.len);
        }
        size_t used = fitting(fold, text, room > 0 ? room : WORD_ROOM_MIN, is_q);
        put_gap(fold, gap, on_new_line);
        put(fold, STR("=?"));
        put(fold, fold->charset);
        put(fold, is_q ? STR("?Q?") : STR("?B?"));
        if (is_q)
            put_q(fold, str_head(text, used));
        else
            put_b(fold, str_head(text, used));
        put(fold, STR("?="));
        text = str_from(text, used);
        gap = STR(" "); /* between encoded words it is not shown */
    }
}

/* RFC 2231 7 attribute-char. */
static size_t param_len(unsigned char c)
{
    return is_alnum(c) || (c != 0 && strchr("!#$&+-.^_`{|}~", c)) ? 1 : 3;
}

static size_t put_param_text(char *to, struct str text, size_t room, size_t *out_used)
{
    size_t len = 0, used = 0;

    for (; used < text.len; used++) {
        unsigned char c = (unsigned char)text.at[used];
        if (len + param_len(c) > room)
            break;
        if (param_len(c) == 1) {
            to[len++] = (char)c;
            continue;
        }
        to[len++] = '%';
        to[len++] = hex[c >> 4];
        to[len++] = hex[c & 15];
    }
    *out_used = used;
    return len;
}

void fold_param(struct fold *fold, struct str name, struct str text)
{
    char piece[512];
    size_t need = name.len + 2 + fold->charset.len + 2, used;

    for (size_t i = 0; i < text.len; i++)
        need += param_len((unsigned char)text.at[i]);
    name = str_head(name, 128);
    for (unsigned n = 0; text.len > 0; n++) {
        int len = need <= PARAM_PIECE_MAX
                      ? snprintf(piece, sizeof(piece), STR_FMT "*=" STR_FMT "''", STR_ARG(name),
                                 STR_ARG(fold->charset))
                      : snprintf(piece, sizeof(piece), STR_FMT "*%u*=" STR_FMT STR_FMT,
                                 STR_ARG(name), n, STR_ARG(n == 0 ? fold->charset : STR_EMPTY),
                                 STR_ARG(n == 0 ? STR("''") : STR_EMPTY));
        size_t at = (size_t)len;
        size_t room = at + WORD_ROOM_MIN < PARAM_PIECE_MAX ? PARAM_PIECE_MAX - at : WORD_ROOM_MIN;
        at += put_param_text(piece + at, text, room, &used);
        text = str_from(text, used);
        if (n > 0)
            fold_plain(fold, STR_EMPTY, STR(";"));
        fold_plain(fold, STR(" "), str_make(piece, at));
    }
}
