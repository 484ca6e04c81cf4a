/*
 * qualify.c - address lists read token by token, a domain put in where it lacks.
 */
#include "relay/mail/qualify.h"

#include "relay/mail/header.h"
#include "relay/mail/signed.h"
#include "relay/mail/token.h"

bool qualify_is_field(struct str name)
{
    static const struct str fields[] = {
        { "From", 4 },
        { "To", 2 },
        { "Cc", 2 },
        { "Reply-To", 8 },
        { "Sender", 6 },
        { "Resent-From", 11 },
        { "Resent-To", 9 },
        { "Resent-Cc", 9 },
        { "Resent-Sender", 13 },
        { "Resent-Reply-To", 15 },
        { "Errors-To", 9 },
        { "Disposition-Notification-To", 27 },
    };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (str_ieq(name, fields[i]))
            return true;
    return false;
}

/* ---- one value ---- */

struct scan {
    struct str value;
    const struct local_names *names;
    struct buf *out;
    const char *copied; /* of value, up to here */
    bool changed;

    /* the address being read */
    size_t words;         /* in front of an @ */
    bool is_phrase;       /* words that no dot joins: a display name */
    const char *word_end; /* of the last one */
    char last;            /* its last character */
    bool has_at;
    size_t domain_words;
    struct str domain;
    bool in_angle, had_angle;
};

static void begin_spec(struct scan *scan)
{
    scan->words = scan->domain_words = 0;
    scan->is_phrase = scan->has_at = false;
    scan->last = '\0';
}

static void begin_address(struct scan *scan)
{
    begin_spec(scan);
    scan->in_angle = scan->had_angle = false;
}

static void copy_to(struct scan *scan, const char *end)
{
    buf_append(scan->out, scan->copied, (size_t)(end - scan->copied));
    scan->copied = end;
    scan->changed = true;
}

static void end_spec(struct scan *scan)
{
    if (scan->words == 0 || scan->is_phrase)
        return;
    if (!scan->has_at) {
        copy_to(scan, scan->word_end);
        buf_char(scan->out, '@');
        buf_str(scan->out, scan->names->mailname);
    } else if (scan->domain_words == 1 && local_is_inner(scan->names, scan->domain)) {
        copy_to(scan, scan->domain.at);
        buf_str(scan->out, scan->names->mailname);
        scan->copied = scan->domain.at + scan->domain.len;
    }
}

static void take_word(struct scan *scan, const struct token *token)
{
    if (scan->has_at) {
        scan->domain_words++;
        scan->domain = token->raw;
        return;
    }
    /* A name outside of ASCII is no user of this machine but a display name. */
    if ((scan->words++ > 0 && scan->last != '.' && token->raw.at[0] != '.') ||
        !str_is_ascii(token->raw))
        scan->is_phrase = true;
    scan->word_end = token->raw.at + token->raw.len;
    scan->last = token->kind == TOKEN_WORD ? token->raw.at[token->raw.len - 1] : '\0';
}

/* False: this is no address list. */
static bool take_special(struct scan *scan, char special)
{
    switch (special) {
    case '<':
        begin_spec(scan);
        scan->in_angle = true;
        return true;
    case '>':
        end_spec(scan);
        scan->in_angle = false;
        scan->had_angle = true;
        return true;
    case '@':
        scan->has_at = true;
        return true;
    case ':': /* behind a group's name, or a source route */
        begin_spec(scan);
        return true;
    case ',':
    case ';':
        if (scan->in_angle)
            return special == ','; /* a source route */
        if (!scan->had_angle)
            end_spec(scan);
        begin_address(scan);
        return true;
    default:
        return false;
    }
}

static bool take_token(struct scan *scan, const struct token *token)
{
    switch (token->kind) {
    case TOKEN_WORD:
    case TOKEN_QUOTED:
        take_word(scan, token);
        return true;
    case TOKEN_LITERAL:
        scan->domain_words = 2;
        return true;
    case TOKEN_COMMENT:
    case TOKEN_END:
        return true;
    case TOKEN_SPECIAL:
        return take_special(scan, token->raw.at[0]);
    case TOKEN_BAD:
        return false;
    }
    return false;
}

bool qualify_value(struct str value, const struct local_names *names, struct buf *out)
{
    struct scan scan = { .value = value, .names = names, .out = out, .copied = value.at };
    struct str rest = value;
    struct token token;
    size_t before = out->len;
    bool is_list;

    do {
        token = token_next(&rest);
        is_list = take_token(&scan, &token);
    } while (is_list && token.kind != TOKEN_END);
    if (is_list && !scan.in_angle && !scan.had_angle)
        end_spec(&scan);
    if (is_list && scan.changed) {
        buf_append(out, scan.copied, (size_t)(value.at + value.len - scan.copied));
        return !out->overflowed;
    }
    out->len = before;
    return false;
}

/* ---- a block ---- */

struct block {
    struct str in, from_fallback;
    const struct local_names *names;
    struct arena *arena;
    bool is_signed;
};

/* Words and nothing else. What looks like an address that is broken is refused later. */
static bool is_only_a_phrase(struct str value)
{
    struct token token = token_next(&value);
    size_t words = 0;

    for (; token.kind != TOKEN_END; token = token_next(&value)) {
        if (token.kind != TOKEN_WORD && token.kind != TOKEN_QUOTED && token.kind != TOKEN_COMMENT)
            return false;
        words += token.kind != TOKEN_COMMENT;
    }
    return words > 1;
}

/* The sender says who it was; what stood there goes along. */
static bool replace_from(const struct block *block, const struct header_field *field,
                         struct buf *out)
{
    if (!str_ieq(field->name, STR("From")) || block->from_fallback.len == 0 ||
        !is_only_a_phrase(field->value))
        return false;
    buf_printf(out, "From: " STR_FMT "\r\nX-Original-From:", STR_ARG(block->from_fallback));
    buf_str(out, field->value);
    buf_cstr(out, "\r\n");
    return true;
}

/* The field, changed, in `out`; false: it stays. */
static bool mend(const struct block *block, const struct header_field *field, struct buf *out)
{
    struct buf value;
    bool changed;

    if (!qualify_is_field(field->name) ||
        (block->is_signed && signed_field(block->in, field->name, SIGNED_ANY, block->arena)))
        return false;
    buf_init(&value, 2 * field->raw.len * (block->names->mailname.len + 2) + 1024);
    changed = qualify_value(field->value, block->names, &value);
    if (changed) {
        buf_str(out, str_make(field->raw.at, (size_t)(field->value.at - field->raw.at)));
        buf_str(out, buf_view(&value));
        buf_cstr(out, "\r\n");
    } else {
        changed = replace_from(block, field, out);
    }
    buf_clear(&value);
    return changed;
}

static bool has_signature(struct str block)
{
    struct header_field field;

    return header_find(block, STR("DKIM-Signature"), &field, NULL) ||
           header_find(block, STR("ARC-Message-Signature"), &field, NULL);
}

struct str qualify_block(struct str in, const struct local_names *names, struct str from_fallback,
                         struct arena *arena, unsigned *out_changed)
{
    struct block block = { .in = in,
                           .names = names,
                           .from_fallback = from_fallback,
                           .arena = arena,
                           .is_signed = has_signature(in) };
    struct str rest = in, result = in;
    const char *copied = in.at;
    struct header_field field;
    struct buf out;
    enum err rc;

    *out_changed = 0;
    buf_init(&out, SIZE_MAX / 4);
    while (header_next(&rest, &field, &rc)) {
        size_t before = out.len;
        buf_append(&out, copied, (size_t)(field.raw.at - copied));
        if (mend(&block, &field, &out)) {
            copied = field.raw.at + field.raw.len;
            (*out_changed)++;
        } else {
            out.len = before;
        }
    }
    if (*out_changed > 0) {
        buf_append(&out, copied, (size_t)(in.at + in.len - copied));
        result = arena_str(arena, buf_view(&out));
    }
    buf_clear(&out);
    return result;
}
