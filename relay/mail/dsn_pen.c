/*
 * dsn_pen.c - safe lines: escaping, folding and wrapping for reports.
 */
#include "relay/mail/dsn_part.h"

/* ---- escaping ----------------------------------------------------------- */

static void escape_ascii(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c < 0x20 || c >= 0x7f)
            buf_printf(out, "\\x%02X", c);
        else if (c == '\\')
            buf_cstr(out, "\\\\");
        else
            buf_char(out, (char)c);
    }
}

void dsn_escape(struct buf *out, struct str s, bool utf8)
{
    if (utf8) {
        buf_escaped(out, s, DSN_SHOWN_MAX);
        return;
    }
    escape_ascii(out, str_head(s, DSN_SHOWN_MAX));
    if (s.len > DSN_SHOWN_MAX)
        buf_cstr(out, "...");
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void dsn_xtext_decode(struct buf *out, struct str xtext)
{
    for (size_t i = 0; i < xtext.len; i++) {
        bool is_pair = xtext.at[i] == '+' && i + 2 < xtext.len;
        int high = is_pair ? hex_value(xtext.at[i + 1]) : -1;
        int low = is_pair ? hex_value(xtext.at[i + 2]) : -1;
        if (high < 0 || low < 0) {
            buf_char(out, xtext.at[i]);
            continue;
        }
        buf_char(out, (char)(high * 16 + low));
        i += 2;
    }
}

/* ---- lines -------------------------------------------------------------- */

struct pen {
    struct buf *out;
    size_t column;
    size_t indent; /* of the following lines; at least 1 in a field, where it means folding */
};

static void new_line(struct pen *pen)
{
    buf_cstr(pen->out, "\r\n");
    for (size_t i = 0; i < pen->indent; i++)
        buf_char(pen->out, ' ');
    pen->column = pen->indent;
}

/* The last whole UTF-8 character ends at or before `len`. */
static size_t whole(struct str s, size_t len)
{
    while (len > 1 && ((unsigned char)s.at[len] & 0xc0) == 0x80)
        len--;
    return len;
}

static void put_word(struct pen *pen, struct str word)
{
    while (word.len > DSN_LINE_MAX) {
        size_t n = whole(word, DSN_LINE_MAX);
        buf_str(pen->out, str_head(word, n));
        word = str_from(word, n);
        new_line(pen);
    }
    buf_str(pen->out, word);
    pen->column += word.len;
}

static void put_words(struct pen *pen, struct str words)
{
    struct str word;
    bool is_first = true;

    while (str_next(&words, ' ', &word)) {
        if (word.len == 0 && pen->column > DSN_COLUMN)
            continue; /* blanks without end must not make a line without end */
        if (!is_first && pen->column + 1 + word.len > DSN_COLUMN && pen->column > pen->indent &&
            word.len > 0)
            new_line(pen);
        else if (!is_first) {
            buf_char(pen->out, ' ');
            pen->column++;
        }
        put_word(pen, word);
        is_first = false;
    }
}

void dsn_field(struct buf *out, const char *name, struct str value)
{
    struct pen pen = { .out = out, .column = strlen(name) + 2, .indent = 1 };

    buf_printf(out, "%s: ", name);
    put_words(&pen, str_trim(value));
    buf_cstr(out, "\r\n");
}

void dsn_say(struct buf *out, const char *label, struct str words)
{
    struct pen pen = { .out = out, .column = 20, .indent = 20 };

    buf_printf(out, "    %-15s ", label);
    put_words(&pen, words);
    buf_cstr(out, "\r\n");
}

void dsn_paragraph(struct buf *out, struct str words)
{
    struct pen pen = { .out = out, .column = 0, .indent = 0 };

    put_words(&pen, words);
    buf_cstr(out, "\r\n");
}
