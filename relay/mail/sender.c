/*
 * sender.c - From rewritten for a next hop that knows its senders.
 */
#include "relay/mail/sender.h"

#include "relay/mail/addr.h"
#include "relay/mail/fold.h"
#include "relay/mail/header.h"
#include "relay/mail/token.h"

#define NAME_MAX 200 /* a longer display name is left out */

void sender_rules_copy(const struct sender_rules *rules, struct arena *arena,
                       struct sender_rules *out_copy)
{
    struct str *accepted;

    *out_copy = (struct sender_rules){ .sender = STR_EMPTY, .null_ok = true };
    arena_init(arena);
    if (rules->sender.len == 0)
        return;
    accepted = arena_alloc(arena, (rules->accepted_count + 1) * sizeof(*accepted));
    for (size_t i = 0; i < rules->accepted_count; i++)
        accepted[i] = arena_str(arena, rules->accepted[i]);
    *out_copy = (struct sender_rules){ .sender = arena_str(arena, rules->sender),
                                       .accepted = accepted,
                                       .accepted_count = rules->accepted_count,
                                       .null_ok = rules->null_ok };
}

bool sender_is_accepted(const struct sender_rules *rules, struct str address)
{
    if (rules->sender.len == 0 || str_ieq(address, rules->sender))
        return true;
    for (size_t i = 0; i < rules->accepted_count; i++)
        if (addr_matches(address, rules->accepted[i]))
            return true;
    return false;
}

struct str sender_path(const struct sender_rules *rules, struct str reverse_path)
{
    if (rules->sender.len == 0)
        return reverse_path;
    if (reverse_path.len == 0)
        return rules->null_ok ? STR_EMPTY : rules->sender;
    return sender_is_accepted(rules, reverse_path) ? reverse_path : rules->sender;
}

/* ---- what a field says ---- */

struct looking {
    const struct sender_rules *rules;
    struct addr_mailbox first;
    bool has_first, all_accepted;
};

static bool look_at(void *arg, const struct addr_mailbox *mailbox)
{
    struct looking *looking = arg;

    if (!looking->has_first)
        looking->first = *mailbox;
    looking->has_first = true;
    looking->all_accepted =
        looking->all_accepted && sender_is_accepted(looking->rules, mailbox->spec);
    return true;
}

/* A field that cannot be read names nobody who is accepted. */
static struct looking look(const struct sender_rules *rules, struct str value, struct arena *arena)
{
    struct looking looking = { .rules = rules, .all_accepted = true };

    if (addr_list(value, arena, look_at, &looking, NULL) || !looking.has_first)
        looking.all_accepted = false;
    return looking;
}

static bool is_sender_field(const struct header_field *field)
{
    return str_ieq(field->name, STR("From")) || str_ieq(field->name, STR("Sender"));
}

bool sender_must_change(const struct sender_rules *rules, struct str head, struct arena *arena)
{
    struct header_field field;
    enum err rc;

    if (rules->sender.len == 0)
        return false;
    while (header_next(&head, &field, &rc))
        if (is_sender_field(&field) && !look(rules, field.value, arena).all_accepted)
            return true;
    return false;
}

/* ---- the new From ---- */

/* The first comment, as in "root@example.com (Cron Daemon)". */
static struct str comment_of(struct str value)
{
    struct token token = token_next(&value);

    while (token.kind != TOKEN_END && token.kind != TOKEN_COMMENT && token.kind != TOKEN_BAD)
        token = token_next(&value);
    if (token.kind != TOKEN_COMMENT || token.raw.len < 3)
        return STR_EMPTY;
    return str_make(token.raw.at + 1, token.raw.len - 2);
}

static void put_quoted(struct buf *out, struct str text)
{
    buf_char(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '"' || c == '\\')
            buf_char(out, '\\');
        buf_char(out, (unsigned char)c < ' ' ? ' ' : c);
    }
    buf_char(out, '"');
}

/* Encoded words are none inside quotes. */
static bool is_encoded(struct str text) { return str_find(text, STR("=?")) < text.len; }

static void put_name(const struct looking *from, struct str value, struct arena *arena,
                     struct buf *out)
{
    struct str name = header_unfold(from->first.name, arena);
    struct str comment = header_unfold(comment_of(value), arena);

    if (from->has_first && name.len > 0 && name.len <= NAME_MAX)
        buf_str(out, name);
    else if (comment.len > 0 && comment.len <= NAME_MAX && is_encoded(comment))
        buf_str(out, comment);
    else if (comment.len > 0 && comment.len <= NAME_MAX)
        put_quoted(out, comment);
    else if (from->has_first)
        put_quoted(out, str_head(from->first.spec, NAME_MAX));
    else
        return;
    buf_char(out, ' ');
}

struct rewriting {
    const struct sender_rules *rules;
    struct arena *arena;
    struct buf *out;
    unsigned own_signatures; /* still to be left out */
    bool wants_reply_to;
};

/* A field under another name. Its first line may have been as long as a line can be
 * (RFC 5322 2.1.1): where the longer name leaves it no room it begins on the next. */
static void put_renamed(struct buf *out, const char *name, struct str value)
{
    size_t blanks = 0, first;
    struct str rest;

    while (blanks < value.len && (value.at[blanks] == ' ' || value.at[blanks] == '\t'))
        blanks++;
    rest = str_from(value, blanks);
    first = str_chr(rest, '\r');
    buf_cstr(out, name);
    if (strlen(name) + blanks + first <= FOLD_LINE_MAX)
        buf_str(out, value);
    else
        buf_printf(out, "%s" STR_FMT, first ? "\r\n " : "", STR_ARG(rest));
    buf_cstr(out, "\r\n");
}

static void put_from(struct rewriting *rewriting, const struct header_field *field,
                     const struct looking *from)
{
    struct buf *out = rewriting->out;

    buf_cstr(out, "From: ");
    put_name(from, field->value, rewriting->arena, out);
    buf_printf(out, "<" STR_FMT ">\r\n", STR_ARG(rewriting->rules->sender));
    put_renamed(out, "X-Original-From:", field->value);
    if (!rewriting->wants_reply_to || !from->has_first || addr_domain_of(from->first.spec).len == 0)
        return;
    put_renamed(out, "Reply-To:", field->value);
}

/* True: the field was written in another form, or left out. */
static bool rewrite_field(struct rewriting *rewriting, const struct header_field *field)
{
    struct looking found;

    if (rewriting->own_signatures > 0 && str_ieq(field->name, STR("DKIM-Signature"))) {
        rewriting->own_signatures--;
        return true;
    }
    if (!is_sender_field(field))
        return false;
    found = look(rewriting->rules, field->value, rewriting->arena);
    if (found.all_accepted)
        return false;
    if (str_ieq(field->name, STR("From"))) {
        put_from(rewriting, field, &found);
        return true;
    }
    put_renamed(rewriting->out, "X-Original-Sender:", field->value);
    return true;
}

enum err sender_rewrite(const struct sender_rules *rules, struct str head, unsigned own_signatures,
                        bool is_report, struct arena *arena, struct buf *out, struct fault *fault)
{
    struct rewriting rewriting = {
        .rules = rules, .arena = arena, .out = out, .own_signatures = own_signatures
    };
    struct str rest = head, run = str_head(head, 0);
    struct header_field field;
    enum err rc;

    rewriting.wants_reply_to = !is_report && !header_find(head, STR("Reply-To"), &field, NULL);
    while (header_next(&rest, &field, &rc)) {
        buf_str(out, run);
        run = field.raw;
        if (rewrite_field(&rewriting, &field))
            run = str_head(run, 0);
    }
    buf_str(out, run);
    buf_str(out, rest);
    if (out->overflowed)
        return fault_set(fault, ERR_LIMIT, "the header with another sender grew out of bounds");
    return ERR_OK;
}
