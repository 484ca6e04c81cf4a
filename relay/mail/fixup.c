/*
 * fixup.c - the header block of a submission, mended.
 *
 * One pass looks at every field, then it is decided what must change and
 * whether that may be, then the block is written: what stays is copied in runs.
 */
#include "relay/mail/fixup.h"

#include "relay/base/clock.h"
#include "relay/mail/addr.h"
#include "relay/mail/encode.h"
#include "relay/mail/param.h"
#include "relay/mail/qualify.h"
#include "relay/mail/received.h"
#include "relay/mail/signed.h"

enum role {
    ROLE_NONE,
    ROLE_FROM,
    ROLE_DATE,
    ROLE_MESSAGE_ID,
    ROLE_DROPPED, /* never leaves us */
    ROLE_RECEIVED,
    ROLE_SIGNATURE,
    ROLE_CONTENT_TYPE,
    ROLE_COUNT
};

static const struct {
    struct str name;
    enum role role;
} roles[] = {
    { { "From", 4 }, ROLE_FROM },
    { { "Date", 4 }, ROLE_DATE },
    { { "Message-ID", 10 }, ROLE_MESSAGE_ID },
    { { "Bcc", 3 }, ROLE_DROPPED },
    { { "Resent-Bcc", 10 }, ROLE_DROPPED },
    { { "Return-Path", 11 }, ROLE_DROPPED }, /* RFC 5321 4.4: final delivery adds it */
    { { "Received", 8 }, ROLE_RECEIVED },
    { { "DKIM-Signature", 14 }, ROLE_SIGNATURE },
    { { "ARC-Seal", 8 }, ROLE_SIGNATURE },
    { { "ARC-Message-Signature", 21 }, ROLE_SIGNATURE },
    { { "Content-Type", 12 }, ROLE_CONTENT_TYPE },
};

struct fixup {
    struct str in;
    const struct fixup_options *options;
    const struct envelope *envelope;
    struct buf *out;
    struct arena *arena;
    struct fixup_refusal *refusal;
    struct fault *fault;
    struct fixup_facts facts;
    struct header_field first[ROLE_COUNT]; /* of each role, empty ones not counted */
    size_t count[ROLE_COUNT];
    struct str charset; /* the body's, empty when not declared */
    bool has_8bit;      /* somewhere in the block */
};

static enum role role_of(struct str name)
{
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        if (str_ieq(name, roles[i].name))
            return roles[i].role;
    return ROLE_NONE;
}

static enum err refuse(struct fixup *fixup, unsigned code, const char *status)
{
    *fixup->refusal = (struct fixup_refusal){ code, status };
    return ERR_INVALID;
}

#define REFUSE(fixup, code, status, ...)                                                           \
    (fault_set((fixup)->fault, ERR_INVALID, __VA_ARGS__), refuse(fixup, code, status))

/* "Date:" with nothing in it says no more than no Date. */
static bool is_empty_required(const struct fixup *fixup, enum role role,
                              const struct header_field *field)
{
    return fixup->options->add_missing &&
           (role == ROLE_FROM || role == ROLE_DATE || role == ROLE_MESSAGE_ID) &&
           str_trim(field->value).len == 0;
}

static enum err look_at_fields(struct fixup *fixup)
{
    struct str rest = fixup->in;
    struct header_field field;
    enum err rc;

    while (header_next(&rest, &field, &rc)) {
        enum role role = role_of(field.name);
        if (is_empty_required(fixup, role, &field))
            continue;
        if (fixup->count[role]++ == 0)
            fixup->first[role] = field;
    }
    if (rc)
        return REFUSE(fixup, 550, "5.6.0", "a line of the header is not a header field");
    fixup->has_8bit = !str_is_ascii(fixup->in);
    return ERR_OK;
}

static enum err check_counts(struct fixup *fixup)
{
    if (fixup->count[ROLE_RECEIVED] > fixup->options->hops_max)
        return REFUSE(fixup, 554, "5.4.6", "mail loop: the message passed %zu servers",
                      fixup->count[ROLE_RECEIVED]);
    if (fixup->count[ROLE_FROM] > 1)
        return REFUSE(fixup, 550, "5.6.0", "the message has %zu From fields, one is allowed",
                      fixup->count[ROLE_FROM]);
    return ERR_OK;
}

static bool is_utf8_message(const struct fixup *fixup)
{
    return fixup->envelope->flags & ENVELOPE_SMTPUTF8;
}

/* ---- From ---- */

static bool take_first(void *arg, const struct addr_mailbox *mailbox)
{
    struct str *spec = arg;

    if (spec->len == 0)
        *spec = mailbox->spec;
    return true; /* go on: the rest of the list must parse, too */
}

static enum err note_from(struct fixup *fixup, struct str spec)
{
    struct addr addr;
    struct buf canonical;

    enum err rc =
        addr_parse(spec, ADDR_ALLOW_UTF8 | ADDR_ALLOW_BARE | ADDR_ALLOW_LONG, &addr, fixup->fault);
    if (rc)
        return refuse(fixup, 550, "5.6.0");
    if (addr.is_utf8 && !is_utf8_message(fixup))
        return REFUSE(fixup, 550, "5.6.7", "the From address needs SMTPUTF8");
    buf_init(&canonical, spec.len + ADDR_DOMAIN_MAX + 2);
    rc = addr_canonical(&addr, &canonical, fixup->fault);
    if (!rc) {
        fixup->facts.from_address = arena_str(fixup->arena, buf_view(&canonical));
        fixup->facts.from_domain = addr_domain_of(fixup->facts.from_address);
    }
    buf_clear(&canonical);
    return rc ? refuse(fixup, 550, "5.6.0") : ERR_OK;
}

static enum err read_from(struct fixup *fixup)
{
    struct fault why = { ERR_OK, "" };
    struct str spec = STR_EMPTY;

    if (fixup->count[ROLE_FROM] == 0)
        return ERR_OK;
    enum err rc = addr_list(fixup->first[ROLE_FROM].value, fixup->arena, take_first, &spec, &why);
    if (rc)
        return REFUSE(fixup, 550, "5.6.0", "the From field cannot be read: %s", why.text);
    if (spec.len == 0)
        return REFUSE(fixup, 550, "5.6.0", "the From field has no address");
    return note_from(fixup, spec);
}

static void read_others(struct fixup *fixup)
{
    struct header_field *type = &fixup->first[ROLE_CONTENT_TYPE];

    fixup->facts.has_foreign_signature = fixup->count[ROLE_SIGNATURE] > 0;
    if (fixup->count[ROLE_MESSAGE_ID] > 0)
        fixup->facts.message_id = header_unfold(fixup->first[ROLE_MESSAGE_ID].value, fixup->arena);
    if (fixup->count[ROLE_CONTENT_TYPE] == 0)
        return;
    fixup->charset = header_param(type->value, STR("charset"), fixup->arena);
    fixup->facts.is_signed_mime = signed_mime(type->value, fixup->arena);
}

/* ---- changes ---- */

/* Say that a field of that name changes; refused when a signature names it. */
static enum err change(struct fixup *fixup, struct str name)
{
    fixup->facts.changed++;
    if (!fixup->facts.has_foreign_signature ||
        !signed_field(fixup->in, name, SIGNED_ANY, fixup->arena))
        return ERR_OK;
    return REFUSE(fixup, 550, "5.6.0",
                  "the " STR_FMT " field must be changed, but a signature covers it",
                  STR_ARG(str_head(name, 100)));
}

/* Folding and blanks before the colon count for simple canonicalization only. */
static bool may_reformat(struct fixup *fixup, struct str name)
{
    return !fixup->facts.has_foreign_signature ||
           !signed_field(fixup->in, name, SIGNED_SIMPLE, fixup->arena);
}

static enum err encode(struct fixup *fixup, const struct header_field *field)
{
    enum err rc = change(fixup, field->name);
    if (rc)
        return rc;
    rc = encode_field(field, fixup->charset, fixup->out, fixup->arena, fixup->fault);
    if (!rc)
        return ERR_OK;
    if (rc == ERR_LIMIT)
        return refuse(fixup, 550, "5.6.0");
    return REFUSE(fixup, 550, "5.6.7", "the " STR_FMT " field needs SMTPUTF8",
                  STR_ARG(str_head(field->name, 100)));
}

static enum err fold(struct fixup *fixup, const struct header_field *field)
{
    fixup->facts.changed++;
    if (!may_reformat(fixup, field->name))
        return REFUSE(fixup, 550, "5.6.0",
                      "a header line over 998 octets is covered by a signature");
    enum err rc = encode_fold(field, fixup->out, fixup->arena, fixup->fault);
    return rc ? refuse(fixup, 550, "5.6.0") : ERR_OK;
}

enum action { ACTION_KEEP, ACTION_DROP, ACTION_ENCODE, ACTION_FOLD, ACTION_CLOSE_UP };

static enum action action_of(struct fixup *fixup, const struct header_field *field)
{
    enum role role = role_of(field->name);

    if (role == ROLE_DROPPED || is_empty_required(fixup, role, field))
        return ACTION_DROP;
    if (fixup->has_8bit && !str_is_ascii(field->raw)) {
        if (!is_utf8_message(fixup) || !str_is_utf8(field->raw))
            return ACTION_ENCODE;
        fixup->facts.needs_utf8 = true;
    }
    if (field->raw.len > 998 && encode_longest_line(field->raw) > 998)
        return ACTION_FOLD;
    /* "Reply-To : x" is legal in old mail only, and some verifiers choke on it. */
    if (field->raw.at[field->name.len] != ':' && may_reformat(fixup, field->name))
        return ACTION_CLOSE_UP;
    return ACTION_KEEP;
}

static enum err write_changed(struct fixup *fixup, const struct header_field *field,
                              enum action action)
{
    switch (action) {
    case ACTION_DROP:
        return change(fixup, field->name);
    case ACTION_ENCODE:
        return encode(fixup, field);
    case ACTION_FOLD:
        return fold(fixup, field);
    case ACTION_CLOSE_UP:
        fixup->facts.changed++;
        buf_str(fixup->out, field->name);
        buf_str(fixup->out, str_from(field->raw, str_chr(field->raw, ':')));
        break;
    case ACTION_KEEP:
        break;
    }
    return ERR_OK;
}

static enum err write_fields(struct fixup *fixup)
{
    struct str rest = fixup->in, run = str_head(fixup->in, 0);
    struct header_field field;
    enum err rc;

    while (header_next(&rest, &field, &rc)) {
        enum action action = action_of(fixup, &field);
        if (action == ACTION_KEEP) {
            run.len += field.raw.len;
            continue;
        }
        buf_str(fixup->out, run);
        run = str_make(field.raw.at + field.raw.len, 0);
        rc = write_changed(fixup, &field, action);
        if (rc)
            return rc;
    }
    buf_str(fixup->out, run);
    struct str written = buf_view(fixup->out);
    if (written.len > 0 && written.at[written.len - 1] != '\n')
        buf_cstr(fixup->out, "\r\n"); /* the block ended inside its last line */
    return ERR_OK;
}

/* ---- additions ---- */

static enum err add_from(struct fixup *fixup)
{
    struct str from = fixup->options->from_fallback;

    if (from.len == 0)
        from = str_of(
            arena_printf(fixup->arena, "postmaster@" STR_FMT, STR_ARG(fixup->options->hostname)));
    buf_printf(fixup->out, "From: " STR_FMT "\r\n", STR_ARG(from));
    fixup->facts.needs_utf8 |= !str_is_ascii(from);
    enum err rc = note_from(fixup, from);
    return rc ? rc : change(fixup, STR("From"));
}

static enum err add_date(struct fixup *fixup)
{
    char date[64];

    clock_rfc5322(fixup->options->written_us, date, sizeof(date));
    buf_printf(fixup->out, "Date: %s\r\n", date);
    return change(fixup, STR("Date"));
}

static enum err add_message_id(struct fixup *fixup)
{
    char id[MSGID_TEXT + 1];

    msgid_print(&fixup->envelope->id, id);
    fixup->facts.message_id = str_of(
        arena_printf(fixup->arena, "<%s@" STR_FMT ">", id, STR_ARG(fixup->options->hostname)));
    buf_printf(fixup->out, "Message-ID: " STR_FMT "\r\n", STR_ARG(fixup->facts.message_id));
    return change(fixup, STR("Message-ID"));
}

static enum err add_missing(struct fixup *fixup)
{
    enum err rc = ERR_OK;

    if (!fixup->options->add_missing)
        return ERR_OK;
    if (fixup->count[ROLE_FROM] == 0)
        rc = add_from(fixup);
    if (!rc && fixup->count[ROLE_DATE] == 0)
        rc = add_date(fixup);
    if (!rc && fixup->count[ROLE_MESSAGE_ID] == 0)
        rc = add_message_id(fixup);
    return rc;
}

static enum err write_block(struct fixup *fixup)
{
    received_print(fixup->options, fixup->envelope, fixup->out);
    enum err rc = write_fields(fixup);
    if (!rc)
        rc = add_missing(fixup);
    if (rc)
        return rc;
    buf_cstr(fixup->out, "\r\n");
    if (fixup->out->overflowed)
        return REFUSE(fixup, 552, "5.3.4", "the message header is too large");
    return ERR_OK;
}

enum err fixup_header(struct str in, const struct fixup_options *options,
                      const struct envelope *envelope, struct buf *out, struct arena *arena,
                      struct fixup_facts *out_facts, struct fixup_refusal *out_refusal,
                      struct fault *fault)
{
    struct fixup fixup = {
        .in = in.len > 0 ? in : STR_EMPTY,
        .options = options,
        .envelope = envelope,
        .out = out,
        .arena = arena,
        .refusal = out_refusal,
        .fault = fault,
        .facts = { .from_domain = STR_EMPTY, .from_address = STR_EMPTY, .message_id = STR_EMPTY },
        .charset = STR_EMPTY,
    };

    if (options->names.mailname.len > 0)
        fixup.in = qualify_block(fixup.in, &options->names, options->from_fallback, arena,
                                 &fixup.facts.changed);
    enum err rc = look_at_fields(&fixup);
    if (!rc)
        rc = check_counts(&fixup);
    if (!rc)
        rc = read_from(&fixup);
    if (rc)
        return rc;
    read_others(&fixup);
    rc = write_block(&fixup);
    if (rc)
        return rc;
    *out_facts = fixup.facts;
    return ERR_OK;
}
