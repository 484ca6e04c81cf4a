/*
 * header.c - reading a header block field by field.
 *
 * On every message's way in: one memchr per line, nothing is copied but what
 * header_unfold and header_param hand out.
 */
#include "relay/mail/header.h"

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* Length of the field at the front of `s`: up to a line end that no blank follows. */
static size_t field_len(struct str s)
{
    size_t at = 0;

    while (at < s.len) {
        const char *lf = memchr(s.at + at, '\n', s.len - at);
        if (!lf)
            return s.len;
        at = (size_t)(lf - s.at) + 1;
        if (at == s.len || !is_blank(s.at[at]))
            return at;
    }
    return at;
}

static size_t without_line_end(struct str s)
{
    size_t len = s.len;

    if (len > 0 && s.at[len - 1] == '\n')
        len--;
    if (len > 0 && s.at[len - 1] == '\r')
        len--;
    return len;
}

/* RFC 5322 2.2: printable ASCII but the colon. */
static bool is_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.at[i] <= 32 || name.at[i] >= 127)
            return false;
    return name.len > 0;
}

static bool is_end(struct str s)
{
    return s.len == 0 || s.at[0] == '\n' || (s.at[0] == '\r' && s.len > 1 && s.at[1] == '\n');
}

bool header_next(struct str *rest, struct header_field *out_field, enum err *out_err)
{
    if (out_err)
        *out_err = ERR_OK;
    if (is_end(*rest))
        return false;

    struct str raw = str_make(rest->at, field_len(*rest));
    const char *colon = memchr(raw.at, ':', raw.len);
    struct str name = str_make(raw.at, colon ? (size_t)(colon - raw.at) : 0);
    /* "Subject : x" is obsolete syntax (RFC 5322 4.5), still a field. */
    while (name.len > 0 && is_blank(name.at[name.len - 1]))
        name.len--;
    if (!is_name(name)) {
        if (out_err)
            *out_err = ERR_INVALID;
        return false;
    }
    size_t begin = (size_t)(colon - raw.at) + 1;
    out_field->raw = raw;
    out_field->name = name;
    out_field->value = str_make(raw.at + begin, without_line_end(str_from(raw, begin)));
    *rest = str_from(*rest, raw.len);
    return true;
}

bool header_find(struct str block, struct str name, struct header_field *out_field,
                 size_t *out_count)
{
    struct header_field field;
    size_t count = 0;

    while (header_next(&block, &field, NULL)) {
        if (!str_ieq(field.name, name))
            continue;
        if (count++ == 0 && out_field)
            *out_field = field;
        if (!out_count)
            return true;
    }
    if (out_count)
        *out_count = count;
    return count > 0;
}

struct str header_unfold(struct str value, struct arena *arena)
{
    value = str_trim(value);
    if (str_chr(value, '\n') == value.len && str_chr(value, '\r') == value.len)
        return arena_str(arena, value);

    char *to = arena_alloc(arena, value.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < value.len; i++)
        if (value.at[i] != '\r' && value.at[i] != '\n')
            to[len++] = value.at[i];
    return str_make(to, len);
}

void header_scan_init(struct header_scan *scan)
{
    scan->seen = 0;
    scan->state = 0;
}

/* LINE_START -> LINE_CR -> found;  LINE_START -> LINE_IN -> LINE_START */
enum { LINE_START, LINE_CR, LINE_IN };

bool header_scan_feed(struct header_scan *scan, struct str in, size_t *out_used)
{
    size_t at = 0;
    bool found = false;

    while (at < in.len && !found) {
        if (scan->state == LINE_IN) {
            const char *lf = memchr(in.at + at, '\n', in.len - at);
            at = lf ? (size_t)(lf - in.at) + 1 : in.len;
            scan->state = lf ? LINE_START : LINE_IN;
            continue;
        }
        char c = in.at[at++];
        found = c == '\n';
        scan->state = scan->state == LINE_START && c == '\r' ? LINE_CR : LINE_IN;
    }
    scan->seen += at;
    *out_used = at;
    return found;
}
