/*
 * reply.c - SMTP replies: reading what a peer said, printing our own.
 *
 * Reading is strict about the code and tolerant about the text. Printing
 * keeps to 512 octets a line (RFC 5321 4.5.3.1.5) and lets no control
 * character through, since our texts quote what clients sent.
 */
#include "relay/mail/reply.h"

#include <stdarg.h>
#include <stdio.h>

#define REPLY_LINE_TEXT 480 /* text on one printed line; code, status and CRLF come on top */

void reply_clear(struct reply *reply)
{
    reply->code = 0;
    reply->status = STATUS(0, 0, 0);
    reply->line_count = 0;
    reply->cut = false;
    reply->len = 0;
    reply->text[0] = '\0';
}

/* The last whole UTF-8 character ends at or before `len`. */
static size_t cut_whole(const char *at, size_t len)
{
    while (len > 0 && ((unsigned char)at[len] & 0xc0) == 0x80)
        len--;
    return len;
}

/* One byte stays free, so that `text` is always terminated. */
static void add_line(struct reply *reply, struct str line)
{
    size_t joint = reply->line_count > 0 ? 1 : 0;
    size_t room = REPLY_TEXT_MAX - 1 - reply->len;

    reply->line_count++;
    if (reply->cut)
        return;
    if (line.len + joint > room) {
        reply->cut = true;
        if (reply->len > 0 || room == 0)
            return;
        line.len = cut_whole(line.at, room - joint);
    }
    if (joint)
        reply->text[reply->len++] = '\n';
    if (line.len > 0)
        memcpy(reply->text + reply->len, line.at, line.len);
    reply->len += line.len;
    reply->text[reply->len] = '\0';
}

void reply_set(struct reply *reply, unsigned code, struct status status, const char *format, ...)
{
    char text[REPLY_TEXT_MAX];
    va_list args;

    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);

    reply_clear(reply);
    reply->code = (uint16_t)code;
    reply->status = status;
    struct str rest = str_make(text, len < 0 ? 0 : (size_t)len);
    if (rest.len >= sizeof(text)) {
        rest.len = cut_whole(text, sizeof(text) - 1);
        reply->cut = true;
    }
    memcpy(reply->text, rest.at, rest.len);
    reply->text[rest.len] = '\0';
    reply->len = rest.len;
    reply->line_count = 1;
    for (size_t i = 0; i < rest.len; i++)
        reply->line_count = (uint16_t)(reply->line_count + (rest.at[i] == '\n'));
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* 1xx is not SMTP; the second digit is not checked, peers invent them. */
static unsigned line_code(struct str line)
{
    if (line.len < 3 || line.at[0] < '2' || line.at[0] > '5' || !is_digit(line.at[1]) ||
        !is_digit(line.at[2]))
        return 0;
    if (line.len > 3 && line.at[3] != ' ' && line.at[3] != '-')
        return 0;
    return (unsigned)(line.at[0] - '0') * 100 + (unsigned)(line.at[1] - '0') * 10 +
           (unsigned)(line.at[2] - '0');
}

/* Take an enhanced code off the front of a line's text, if it agrees with the
 * reply's class (RFC 2034 4). "#5.1.0" as some gateways write it is read too,
 * but their text is left as it is. */
static struct str take_status(struct reply *reply, struct str text)
{
    struct status status;
    size_t used;
    bool has_hash = text.len > 0 && text.at[0] == '#';

    if (!status_parse(str_from(text, has_hash), &status, &used))
        return text;
    used += has_hash;
    if (status.class != reply->code / 100)
        return text;
    if (used < text.len && text.at[used] != ' ' && text.at[used] != '\t')
        return text;
    if (reply->status.class == 0)
        reply->status = status;
    if (has_hash)
        return text;
    while (used < text.len && (text.at[used] == ' ' || text.at[used] == '\t'))
        used++;
    return str_from(text, used);
}

enum err reply_feed(struct reply *reply, struct str line)
{
    unsigned code = line_code(line);

    /* RFC 5321 4.2.1: all lines of a reply have the same code. */
    if (code == 0 || (reply->code != 0 && code != reply->code) ||
        reply->line_count >= REPLY_LINES_MAX) {
        add_line(reply, line);
        return ERR_INVALID;
    }
    reply->code = (uint16_t)code;
    add_line(reply, take_status(reply, str_from(line, 4)));
    return line.len > 3 && line.at[3] == '-' ? ERR_AGAIN : ERR_OK;
}

bool reply_is_positive(const struct reply *reply) { return reply->code / 100 == 2; }
bool reply_is_intermediate(const struct reply *reply) { return reply->code / 100 == 3; }
bool reply_is_transient(const struct reply *reply) { return reply->code / 100 == 4; }
bool reply_is_permanent(const struct reply *reply) { return reply->code / 100 == 5; }

struct str reply_text(const struct reply *reply) { return str_make(reply->text, reply->len); }

/* Where a text line too long for the wire is broken: behind its last blank,
 * else between two characters. */
static size_t wire_cut(struct str line)
{
    if (line.len <= REPLY_LINE_TEXT)
        return line.len;
    for (size_t n = REPLY_LINE_TEXT; n > REPLY_LINE_TEXT / 2; n--)
        if (line.at[n - 1] == ' ')
            return n;
    size_t n = cut_whole(line.at, REPLY_LINE_TEXT);
    return n > 0 ? n : REPLY_LINE_TEXT;
}

static void wire_text(struct str text, struct buf *out)
{
    char *to = buf_reserve(out, text.len);

    if (!to)
        return;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        to[i] = (c < 32 && c != '\t') || c == 127 ? '?' : text.at[i];
    }
    buf_commit(out, text.len);
}

void reply_wire(const struct reply *reply, struct buf *out)
{
    struct str rest = reply_text(reply);
    char prefix[4] = { (char)('0' + reply->code / 100 % 10), (char)('0' + reply->code / 10 % 10),
                       (char)('0' + reply->code % 10), ' ' };
    char status[16];
    size_t status_len = 0;
    bool more;

    /* RFC 2034 3: only 2xx, 4xx and 5xx carry one. */
    if (reply->code / 100 != 3)
        status_len = status_print(reply->status, status, sizeof(status));
    do {
        size_t line_end = str_chr(rest, '\n');
        struct str line = str_head(rest, line_end);
        size_t n = wire_cut(line);
        bool ends_line = n == line.len;

        more = !ends_line || line_end < rest.len;
        prefix[3] = more ? '-' : ' ';
        buf_append(out, prefix, sizeof(prefix));
        buf_append(out, status, status_len);
        if (status_len > 0 && n > 0)
            buf_char(out, ' ');
        wire_text(str_head(line, n), out);
        buf_append(out, "\r\n", 2);
        rest = str_from(rest, n + (ends_line && line_end < rest.len));
    } while (more);
}

void reply_line(const struct reply *reply, struct buf *out)
{
    struct str rest = reply_text(reply), line;
    char status[16];

    if (reply->code != 0)
        buf_printf(out, "%03u", reply->code);
    if (status_print(reply->status, status, sizeof(status)) > 0)
        buf_printf(out, " %s", status);
    for (bool is_first = true; str_next(&rest, '\n', &line); is_first = false) {
        buf_cstr(out, !is_first ? " / " : reply->code != 0 ? " " : "");
        buf_str(out, line);
    }
}

/* One to three digits. */
static bool status_number(struct str text, size_t *at, uint16_t *out_number)
{
    unsigned number = 0;
    size_t begin = *at;

    while (*at < text.len && is_digit(text.at[*at]) && *at - begin < 3)
        number = number * 10 + (unsigned)(text.at[(*at)++] - '0');
    *out_number = (uint16_t)number;
    return *at > begin && !(*at < text.len && is_digit(text.at[*at]));
}

bool status_parse(struct str text, struct status *out_status, size_t *out_used)
{
    struct status status;
    size_t at = 2;

    if (text.len < 5 || text.at[1] != '.')
        return false;
    if (text.at[0] != '2' && text.at[0] != '4' && text.at[0] != '5')
        return false;
    status.class = (uint8_t)(text.at[0] - '0');
    if (!status_number(text, &at, &status.subject) || at >= text.len || text.at[at++] != '.')
        return false;
    if (!status_number(text, &at, &status.detail))
        return false;
    if (at + 1 < text.len && text.at[at] == '.' && is_digit(text.at[at + 1]))
        return false; /* an address or a version number: "5.7.1.2" */
    *out_status = status;
    if (out_used)
        *out_used = at;
    return true;
}

static size_t print_number(unsigned number, char *out)
{
    size_t len = number > 9999 ? 5 : number > 999 ? 4 : number > 99 ? 3 : number > 9 ? 2 : 1;

    for (size_t i = len; i-- > 0; number /= 10)
        out[i] = (char)('0' + number % 10);
    return len;
}

/* By hand: a reply is printed for every command of every session. */
size_t status_print(struct status status, char *out, size_t size)
{
    char text[16];
    size_t len = 0;

    if (status.class != 0) {
        len = print_number(status.class, text);
        text[len++] = '.';
        len += print_number(status.subject, text + len);
        text[len++] = '.';
        len += print_number(status.detail, text + len);
    }
    return str_copy(out, size, str_make(text, len));
}
