/*
 * sendmail_header.c - who sends, who receives, and what the header lacks.
 *
 * With -t the recipients stand in To, Cc and Bcc; when the message was sent on
 * (Resent-*), in the newest block of those and nowhere else. Bcc itself is
 * removed by the relay, in every mode. A header that ends without an empty line
 * gets one, a message without a header an empty one, and a From with the
 * caller's full name is added where one is known: nobody else can know it.
 */
#include "relay/cli/sendmail.h"

#include "relay/mail/addr.h"
#include "relay/mail/header.h"

#include <stdlib.h>

/* ---- the end of the header ---- */

/* "Name:" at the front; with `folded`, a continuation line counts too. */
static bool is_field_line(struct str line, bool folded)
{
    size_t i = 0;

    if (folded && line.len > 0 && (line.at[0] == ' ' || line.at[0] == '\t'))
        return str_trim(line).len > 0;
    while (i < line.len && line.at[i] > ' ' && line.at[i] < 127 && line.at[i] != ':')
        i++;
    size_t name = i;
    while (i < line.len && (line.at[i] == ' ' || line.at[i] == '\t'))
        i++;
    return name > 0 && i < line.len && line.at[i] == ':';
}

/* How much of the text is header; *out_ended: it has its empty line. */
static size_t header_len(struct str text, bool *out_ended)
{
    size_t at = 0;

    *out_ended = false;
    while (at < text.len && !*out_ended) {
        struct str line = str_from(text, at);
        line = str_head(line, str_chr(line, '\n') + 1);
        *out_ended = str_eq(line, STR("\r\n"));
        if (!*out_ended && !is_field_line(line, at > 0))
            break;
        at += line.len;
    }
    return at;
}

static void put_in_front(struct sendmail_message *message, size_t at, struct str bytes)
{
    struct buf text;

    buf_init(&text, message->text.max + bytes.len);
    buf_str(&text, str_head(buf_view(&message->text), at));
    buf_str(&text, bytes);
    buf_str(&text, str_from(buf_view(&message->text), at));
    buf_clear(&message->text);
    message->text = text;
}

static void end_header(struct sendmail_message *message)
{
    bool ended;

    message->head_len = header_len(buf_view(&message->text), &ended);
    if (ended)
        return;
    put_in_front(message, message->head_len, STR("\r\n"));
    message->head_len += 2;
}

/* ---- addresses ---- */

/* A local part that needs quotes (a b) keeps those it has. */
static bool is_name_char(struct str address)
{
    return address.len > 0 && (address.at[0] == '|' || address.at[0] == '/');
}

struct taking {
    const struct sendmail_wish *wish;
    struct sendmail_message *message;
    struct sendmail_fault *fault;
    struct sendmail_names names; /* what was taken */
};

/* Has it the form that the relay keeps it in? */
static enum err check_canonical(const struct addr *addr, struct fault *why)
{
    struct buf text;
    enum err rc;

    buf_init(&text, (size_t)2 * ADDR_MAX);
    rc = addr_canonical(addr, &text, why);
    buf_clear(&text);
    return rc;
}

/* As it is said in MAIL and RCPT; the relay completes and canonicalizes it. */
static bool check_address(struct taking *taking, struct str address)
{
    struct fault why;
    struct addr addr;

    if (is_name_char(address)) {
        sendmail_fail(taking->fault, TROUBLE_ADDRESS,
                      "\"" STR_FMT "\": mail is not delivered to programs or files",
                      STR_ARG(address));
        return false;
    }
    if (addr_parse(address, ADDR_ALLOW_BARE | ADDR_ALLOW_UTF8, &addr, &why) ||
        check_canonical(&addr, &why)) {
        sendmail_fail(taking->fault, TROUBLE_ADDRESS, "\"" STR_FMT "\" is no address: %s",
                      STR_ARG(address), why.text);
        return false;
    }
    taking->message->needs_utf8 |= addr.is_utf8;
    return true;
}

static bool take_mailbox(void *arg, const struct addr_mailbox *mailbox)
{
    struct taking *taking = arg;
    struct str spec = mailbox->spec;

    /* "\root": root without aliases, which for us is root. */
    if (spec.len > 1 && spec.at[0] == '\\')
        spec = str_from(spec, 1);
    if (!check_address(taking, spec))
        return false;
    sendmail_names_add(&taking->names, arena_str(&taking->message->arena, spec),
                       &taking->message->arena);
    return true;
}

static void take_list(struct taking *taking, struct str value, const char *what)
{
    struct fault why;

    /* The list parser knows no "\root". */
    if (value.len > 1 && value.at[0] == '\\')
        value = str_from(value, 1);
    if (addr_list(value, &taking->message->arena, take_mailbox, taking, &why))
        sendmail_fail(taking->fault, TROUBLE_ADDRESS, "%s \"" STR_FMT "\" is no address list: %s",
                      what, STR_ARG(str_head(str_trim(value), 80)), why.text);
}

/* ---- -t ---- */

static const struct source {
    struct str name, resent;
} sources[] = { { STR("To"), STR("Resent-To") },
                { STR("Cc"), STR("Resent-Cc") },
                { STR("Bcc"), STR("Resent-Bcc") } };

/* The newest block of Resent-* is on top; it ends where one of its fields comes again. */
static struct str resent_block(struct str head)
{
    struct str seen[64], rest = head, end = head;
    struct header_field field;
    size_t count = 0;
    enum err err;

    while (header_next(&rest, &field, &err)) {
        if (str_istarts(field.name, STR("Resent-"))) {
            for (size_t i = 0; i < count; i++)
                if (str_ieq(seen[i], field.name))
                    return str_head(head, (size_t)(end.at - head.at));
            if (count < sizeof(seen) / sizeof(seen[0]))
                seen[count++] = field.name;
        }
        end = rest;
    }
    return head;
}

static bool has_resent(struct str head)
{
    struct header_field field;

    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
        if (header_find(head, sources[i].resent, &field, NULL))
            return true;
    return false;
}

static bool is_source(struct str name, bool resent)
{
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
        if (str_ieq(name, resent ? sources[i].resent : sources[i].name))
            return true;
    return false;
}

static void extract(struct taking *taking, struct str head)
{
    bool resent = has_resent(head);
    struct str rest = resent ? resent_block(head) : head;
    struct header_field field;
    enum err err;

    while (!taking->fault->trouble && header_next(&rest, &field, &err)) {
        struct str value = header_unfold(field.value, &taking->message->arena);
        if (is_source(field.name, resent) && value.len > 0)
            take_list(taking, value, arena_cstr(&taking->message->arena, field.name));
    }
}

static void take_arguments(struct taking *taking, const struct sendmail_wish *wish)
{
    for (size_t i = 0; i < wish->recipient_count && !taking->fault->trouble; i++)
        take_list(taking, str_trim(str_of(wish->recipients[i])), "recipient");
}

static void take_recipients(const struct sendmail_wish *wish, const struct sendmail_author *author,
                            struct sendmail_message *message, struct sendmail_fault *fault)
{
    struct taking taking = { .wish = wish, .message = message, .fault = fault };
    struct taking arguments = taking;

    if (wish->extract) {
        extract(&taking, str_head(buf_view(&message->text), message->head_len));
        take_arguments(&arguments, wish);
        if (!author->extract_adds)
            sendmail_names_take_away(&taking.names, &arguments.names, &message->arena);
        for (size_t i = 0; author->extract_adds && i < arguments.names.count; i++)
            sendmail_names_add(&taking.names, arguments.names.list[i], &message->arena);
    } else {
        take_arguments(&taking, wish);
    }
    message->recipients = taking.names.list;
    message->recipient_count = taking.names.count;
    sendmail_names_clear(&arguments.names);
    sendmail_names_clear(&taking.names);
    if (taking.names.count == 0 && wish->extract)
        sendmail_fail(fault, TROUBLE_NONE_FOUND, "no recipient in To, Cc or Bcc");
    else if (taking.names.count == 0)
        sendmail_fail(fault, TROUBLE_NO_RECIPIENTS, "no recipients");
}

/* ---- the sender ---- */

static void take_sender(const struct sendmail_wish *wish, const struct sendmail_author *author,
                        struct sendmail_message *message, struct sendmail_fault *fault)
{
    struct taking taking = { .wish = wish, .message = message, .fault = fault };
    struct addr addr;

    if (!wish->has_sender) {
        message->sender = str_of(author->login);
        return;
    }
    if (wish->sender.len == 0)
        return;
    /* Some callers write -f 'Name <a@b>'. */
    if (addr_parse(wish->sender, ADDR_ALLOW_BARE | ADDR_ALLOW_UTF8, &addr, NULL) == ERR_OK) {
        if (check_address(&taking, wish->sender))
            message->sender = wish->sender;
        return;
    }
    take_list(&taking, wish->sender, "sender");
    sendmail_names_clear(&taking.names);
    if (!fault->trouble && taking.names.count != 1)
        sendmail_fail(fault, TROUBLE_ADDRESS, "-f \"" STR_FMT "\" is not one address",
                      STR_ARG(wish->sender));
    else if (!fault->trouble)
        message->sender = taking.names.list[0];
}

/* Printable, and quoted where a phrase has to be. */
static void put_phrase(struct buf *out, struct str name)
{
    buf_char(out, '"');
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.at[i];
        if (c == '"' || c == '\\')
            buf_char(out, '\\');
        if (c >= ' ' && c != 127)
            buf_char(out, (char)c);
    }
    buf_char(out, '"');
}

/* A null sender has no name, and neither has a caller without one: the relay
 * adds a plain From then. */
static void add_from(const struct sendmail_wish *wish, const struct sendmail_author *author,
                     struct sendmail_message *message)
{
    struct str head = str_head(buf_view(&message->text), message->head_len);
    const char *name = wish->full_name ? wish->full_name : author->full_name;
    struct header_field field;
    struct buf line;

    message->has_from = header_find(head, STR("From"), &field, NULL);
    if (message->has_from || !name || !*name || message->sender.len == 0)
        return;
    buf_init(&line, 4096);
    buf_cstr(&line, "From: ");
    put_phrase(&line, str_head(str_of(name), 200));
    buf_printf(&line, " <" STR_FMT ">\r\n", STR_ARG(message->sender));
    put_in_front(message, 0, buf_view(&line));
    message->head_len += line.len;
    message->has_8bit |= !str_is_ascii(buf_view(&line));
    buf_clear(&line);
}

int sendmail_address(const struct sendmail_wish *wish, const struct sendmail_author *author,
                     struct sendmail_message *message, struct sendmail_fault *fault)
{
    end_header(message);
    take_sender(wish, author, message, fault);
    if (!fault->trouble)
        take_recipients(wish, author, message, fault);
    if (!fault->trouble)
        add_from(wish, author, message);
    return sendmail_code(fault->trouble);
}
