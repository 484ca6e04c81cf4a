/*
 * hop_text.c - hops as log lines and as JSON objects.
 *
 * The order of keys is fixed, in both forms: programs such as fail2ban read
 * the lines. Texts come from peers and callers; here they lose the power to
 * end a value, a line or a terminal's patience.
 */
#include "relay/base/hop.h"

#include "relay/base/clock.h"

#include <inttypes.h>

static const char *const side_words[] = { "us", "in", "out" };

const char *hop_weight_word(enum hop_weight weight)
{
    static const char *const words[] = {
#define X(name, word) word,
        HOP_WEIGHT_MAP(X)
#undef X
    };

    return (unsigned)weight < HOP_WEIGHT_COUNT ? words[weight] : "unknown";
}

static const char *side_word(enum hop_side side)
{
    return (unsigned)side < 3 ? side_words[side] : "unknown";
}

/* Milliseconds the stage took; 0 when it did not or the wall clock was set back. */
static uint64_t took_ms(const struct hop *hop)
{
    return hop->ended_us > hop->began_us
               ? ((uint64_t)hop->ended_us - (uint64_t)hop->began_us) / 1000
               : 0;
}

/* ---- one line ----------------------------------------------------------- */

static void key(struct buf *out, const char *name)
{
    if (out->len && out->at[out->len - 1] != ' ')
        buf_char(out, ' ');
    buf_cstr(out, name);
    buf_char(out, '=');
}

static void word(struct buf *out, const char *name, const char *value)
{
    key(out, name);
    buf_cstr(out, value);
}

static void number(struct buf *out, const char *name, uint64_t value)
{
    if (value == 0)
        return;
    key(out, name);
    buf_printf(out, "%" PRIu64, value);
}

static bool is_plain(struct str text)
{
    static const char also[] = "-_.@:/+<>[],*%";

    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && (c == '\0' || !strchr(also, c)))
            return false;
    }
    return true;
}

/* buf_escaped() knows nothing of quotes: cut at them and escape them here. */
static void quoted(struct buf *out, struct str text)
{
    text = str_head(text, HOP_TEXT_LIMIT);
    buf_char(out, '"');
    for (;;) {
        size_t quote = str_chr(text, '"');
        buf_escaped(out, str_head(text, quote), HOP_TEXT_LIMIT);
        if (quote == text.len)
            break;
        buf_cstr(out, "\\\"");
        text = str_from(text, quote + 1);
    }
    buf_char(out, '"');
}

static void text_value(struct buf *out, const char *name, struct str text)
{
    if (text.len == 0)
        return;
    key(out, name);
    if (is_plain(text))
        buf_str(out, str_head(text, HOP_TEXT_LIMIT));
    else
        quoted(out, text);
}

static void line_verdict(const struct hop *hop, struct buf *out)
{
    word(out, "stage", stage_word(hop->stage));
    word(out, "side", side_word(hop->side));
    word(out, "result", result_word(hop->result));
    if (hop->scope != SCOPE_NONE)
        word(out, "scope", scope_word(hop->scope));
    if (hop->kind != CLASS_NONE)
        word(out, "class", class_word(hop->kind));
    number(out, "code", hop->code);
    if (hop->status_class) {
        key(out, "status");
        buf_printf(out, "%u.%u.%u", hop->status_class, hop->status_subject, hop->status_detail);
    }
}

static void line_numbers(const struct hop *hop, struct buf *out)
{
    uint64_t ms = took_ms(hop);
    char when[32];

    number(out, "attempt", hop->attempt);
    if (ms) {
        key(out, "took");
        buf_printf(out, "%" PRIu64 ".%03us", ms / 1000, (unsigned)(ms % 1000));
    }
    if (hop->next_us) {
        clock_iso(hop->next_us, when, sizeof(when));
        word(out, "next", when);
    }
    number(out, "bytes", hop->bytes);
    number(out, "count", hop->count);
}

void hop_line(const struct hop *hop, struct buf *out)
{
    char id[MSGID_TEXT + 1];

    if (!msgid_is_nil(&hop->id)) {
        msgid_print(&hop->id, id);
        word(out, "id", id);
    }
    if (hop->session) {
        key(out, "session");
        buf_printf(out, "%" PRIx64, hop->session);
    }
    line_verdict(hop, out);
    line_numbers(hop, out);
#define X(field, name) text_value(out, name, hop->field);
    HOP_TEXT_MAP(X)
#undef X
}

/* ---- JSON ---------------------------------------------------------------- */

static void json_key(struct buf *out, const char *name)
{
    if (out->at[out->len - 1] != '{')
        buf_char(out, ',');
    buf_printf(out, "\"%s\":", name);
}

static void json_word(struct buf *out, const char *name, const char *value)
{
    json_key(out, name);
    buf_printf(out, "\"%s\"", value);
}

static void json_number(struct buf *out, const char *name, uint64_t value)
{
    if (value == 0)
        return;
    json_key(out, name);
    buf_printf(out, "%" PRIu64, value);
}

static void json_time(struct buf *out, const char *name, int64_t wall_us)
{
    char when[32];

    clock_iso(wall_us, when, sizeof(when));
    json_word(out, name, when);
}

static void json_text(struct buf *out, const char *name, struct str text)
{
    if (text.len == 0)
        return;
    json_key(out, name);
    buf_json(out, str_head(text, HOP_TEXT_LIMIT));
}

static void json_head(const struct hop *hop, struct buf *out)
{
    char id[MSGID_TEXT + 1];

    json_time(out, "time", hop->ended_us);
    json_word(out, "level", hop_weight_word(hop->weight));
    if (!msgid_is_nil(&hop->id)) {
        msgid_print(&hop->id, id);
        json_word(out, "id", id);
    }
    if (hop->session) {
        json_key(out, "session");
        buf_printf(out, "\"%" PRIx64 "\"", hop->session);
    }
}

static void json_verdict(const struct hop *hop, struct buf *out)
{
    json_word(out, "stage", stage_word(hop->stage));
    json_word(out, "side", side_word(hop->side));
    json_word(out, "result", result_word(hop->result));
    if (hop->scope != SCOPE_NONE)
        json_word(out, "scope", scope_word(hop->scope));
    if (hop->kind != CLASS_NONE)
        json_word(out, "class", class_word(hop->kind));
    json_number(out, "code", hop->code);
    if (hop->status_class) {
        json_key(out, "status");
        buf_printf(out, "\"%u.%u.%u\"", hop->status_class, hop->status_subject, hop->status_detail);
    }
}

void hop_json(const struct hop *hop, struct buf *out)
{
    uint64_t ms = took_ms(hop);

    if (!buf_char(out, '{'))
        return;
    json_head(hop, out);
    json_verdict(hop, out);
    json_number(out, "attempt", hop->attempt);
    if (ms) {
        json_time(out, "began", hop->began_us);
        json_key(out, "took");
        buf_printf(out, "%" PRIu64 ".%03u", ms / 1000, (unsigned)(ms % 1000));
    }
    if (hop->next_us)
        json_time(out, "next", hop->next_us);
    json_number(out, "bytes", hop->bytes);
    json_number(out, "count", hop->count);
#define X(field, name) json_text(out, name, hop->field);
    HOP_TEXT_MAP(X)
#undef X
    buf_char(out, '}');
}
