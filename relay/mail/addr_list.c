/*
 * addr_list.c - the mailboxes of an address field (RFC 5322 3.4 and 4.4).
 *
 * Accepts what the standard has, obsolete forms included, plus a bare local
 * part ("From: root", as cron writes it) and brackets in a display name.
 * Anything else is an error: who guesses here sends mail to the wrong person.
 */
#include "relay/mail/addr.h"
#include "relay/mail/token.h"

struct list {
    struct str rest;
    struct token token; /* the one being looked at; comments are skipped */
    struct arena *arena;
    char *spec; /* addr-spec being put together; as large as the value */
    size_t spec_len;
    addr_mailbox_fn *fn;
    void *arg;
    struct fault *fault;
    bool in_group, stopped;
};

static void advance(struct list *list)
{
    do
        list->token = token_next(&list->rest);
    while (list->token.kind == TOKEN_COMMENT);
}

static enum err bad(struct list *list, const char *what)
{
    return fault_set(list->fault, ERR_INVALID, "address list: %s", what);
}

static void spec_add(struct list *list, struct str s)
{
    memcpy(list->spec + list->spec_len, s.at, s.len);
    list->spec_len += s.len;
}

/* A run of words, quoted strings and literals. */
struct run {
    size_t count;
    struct str span; /* from the first to the last, as written */
    bool is_dotted;  /* only dots join its words: it can be a local part or domain */
};

static struct run take_run(struct list *list)
{
    struct run run = { .span = STR_EMPTY, .is_dotted = true };
    char last = '\0';

    while (list->token.kind == TOKEN_WORD || list->token.kind == TOKEN_QUOTED ||
           list->token.kind == TOKEN_LITERAL) {
        struct str raw = list->token.raw;
        if (run.count++ == 0)
            run.span = raw;
        else if (last != '.' && raw.at[0] != '.')
            run.is_dotted = false;
        run.span.len = (size_t)(raw.at + raw.len - run.span.at);
        last = list->token.kind == TOKEN_WORD ? raw.at[raw.len - 1] : '\0';
        spec_add(list, raw);
        advance(list);
    }
    return run;
}

/* An obsolete "a"."b"@c has no SMTP form, but also no second meaning: a local
 * part that mixes atoms and quoted strings is refused by addr_parse. */
static enum err report(struct list *list, struct str name)
{
    struct addr addr;
    struct str spec = str_make(list->spec, list->spec_len);

    enum err rc =
        addr_parse(spec, ADDR_ALLOW_UTF8 | ADDR_ALLOW_BARE | ADDR_ALLOW_LONG, &addr, list->fault);
    if (rc)
        return rc;
    struct addr_mailbox mailbox = { name, arena_str(list->arena, spec) };
    list->stopped = !list->fn(list->arg, &mailbox);
    return ERR_OK;
}

/* "@domain" behind a local part. */
static enum err take_domain(struct list *list)
{
    spec_add(list, STR("@"));
    advance(list);
    struct run run = take_run(list);
    if (run.count == 0)
        return bad(list, "no domain behind an @");
    return run.is_dotted ? ERR_OK : bad(list, "no comma behind an address");
}

/* "@a,@b:" in front of an addr-spec (RFC 5322 4.4 obs-route): read and dropped. */
static enum err skip_route(struct list *list)
{
    while (token_is(&list->token, '@') || token_is(&list->token, ',')) {
        if (token_is(&list->token, ',')) {
            advance(list);
            continue;
        }
        enum err rc = take_domain(list);
        if (rc)
            return rc;
        if (token_is(&list->token, ':')) {
            advance(list);
            list->spec_len = 0;
            return ERR_OK;
        }
    }
    return bad(list, "source route is not closed");
}

static enum err take_angle(struct list *list, struct str name)
{
    advance(list);
    list->spec_len = 0;
    if (token_is(&list->token, '@')) {
        enum err rc = skip_route(list);
        if (rc)
            return rc;
    }
    struct run run = take_run(list);
    if (run.count == 0 || !run.is_dotted)
        return bad(list, "no address inside angle brackets");
    if (token_is(&list->token, '@')) {
        enum err rc = take_domain(list);
        if (rc)
            return rc;
    }
    if (!token_is(&list->token, '>'))
        return bad(list, "angle bracket is not closed");
    advance(list);
    return report(list, name);
}

static enum err take_address(struct list *list)
{
    list->spec_len = 0;
    struct run run = take_run(list);

    if (token_is(&list->token, ':') && run.count > 0 && !list->in_group) {
        list->in_group = true;
        advance(list);
        list->spec_len = 0;
        run = take_run(list);
    }
    if (token_is(&list->token, ':')) /* a group holds no group */
        return bad(list, "misplaced colon");
    if (token_is(&list->token, '<'))
        return take_angle(list, run.span);
    if (token_is(&list->token, '@')) {
        if (run.count == 0 || !run.is_dotted)
            return bad(list, "no local part in front of an @");
        enum err rc = take_domain(list);
        return rc ? rc : report(list, STR_EMPTY);
    }
    if (run.count == 0)
        return ERR_OK; /* an empty element: obsolete, but "a@b, " is common */
    if (!run.is_dotted)
        return bad(list, "words without an address");
    return report(list, STR_EMPTY);
}

/* What may stand behind an address. */
static enum err take_separator(struct list *list)
{
    if (token_is(&list->token, ';') && list->in_group) {
        list->in_group = false;
        advance(list);
        if (list->token.kind == TOKEN_END)
            return ERR_OK;
    }
    if (list->token.kind == TOKEN_BAD)
        return bad(list, "quoted string, comment or bracket is not closed");
    if (list->token.kind == TOKEN_END && list->in_group)
        return bad(list, "group is not closed");
    if (list->token.kind != TOKEN_END && !token_is(&list->token, ','))
        return bad(list, "no comma behind an address");
    return ERR_OK;
}

enum err addr_list(struct str value, struct arena *arena, addr_mailbox_fn *fn, void *arg,
                   struct fault *fault)
{
    struct list list = {
        .rest = value,
        .arena = arena,
        .spec = arena_alloc(arena, value.len + 2),
        .fn = fn,
        .arg = arg,
        .fault = fault,
    };

    advance(&list);
    while (list.token.kind != TOKEN_END) {
        enum err rc = take_address(&list);
        if (list.stopped)
            return ERR_OK;
        if (!rc)
            rc = take_separator(&list);
        if (rc)
            return rc;
        if (token_is(&list.token, ','))
            advance(&list);
    }
    return list.in_group ? bad(&list, "group is not closed") : ERR_OK;
}
