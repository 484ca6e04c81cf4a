/*
 * received.c - printing the Received field.
 */
#include "relay/mail/received.h"

#include "relay/base/clock.h"
#include "relay/mail/addr.h"

#define SAID_MAX 100 /* of a client's words */

/* Foreign text inside a comment: printable ASCII that neither ends nor escapes it. */
static void put_safe(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.len && i < SAID_MAX; i++) {
        bool is_safe = s.at[i] > 31 && s.at[i] < 127 && !strchr("()\\", s.at[i]);
        buf_char(out, is_safe ? s.at[i] : '?');
    }
}

static void put_from(const struct fixup_options *options, struct buf *out)
{
    struct str host = options->client_host, address = options->client_address;

    if (address.len == 0)
        return; /* handed over by a local program */
    bool is_name = addr_is_domain(host, 0);
    buf_cstr(out, " from ");
    if (is_name) {
        buf_str(out, host);
        buf_cstr(out, " (");
    }
    buf_printf(out, "[" STR_FMT "]", STR_ARG(address));
    if (is_name)
        buf_char(out, ')');
    if (!is_name && host.len > 0) {
        buf_cstr(out, " (greeting ");
        put_safe(out, host);
        buf_char(out, ')');
    }
    buf_cstr(out, "\r\n\t");
}

/* Naming one of several recipients would tell it to the others (RFC 5321 7.2). */
static bool names_recipient(const struct envelope *envelope)
{
    return envelope->recipient_count == 1 && str_is_ascii(envelope->recipients[0].address);
}

void received_print(const struct fixup_options *options, const struct envelope *envelope,
                    struct buf *out)
{
    char id[MSGID_TEXT + 1], date[64];

    buf_cstr(out, "Received:");
    put_from(options, out);
    buf_printf(out, "%sby " STR_FMT " (waypost) with " STR_FMT,
               options->client_address.len > 0 ? "" : " ", STR_ARG(options->hostname),
               STR_ARG(options->with));
    if (options->tls.len > 0) {
        buf_cstr(out, "\r\n\t(");
        put_safe(out, options->tls);
        buf_char(out, ')');
    }
    if (options->user.len > 0) {
        buf_cstr(out, "\r\n\t(user ");
        put_safe(out, options->user);
        buf_char(out, ')');
    }
    if (options->submitter.len > 0) {
        buf_cstr(out, "\r\n\t(by local user ");
        put_safe(out, options->submitter);
        buf_char(out, ')');
    }
    msgid_print(&envelope->id, id);
    buf_printf(out, "\r\n\tid %s", id);
    if (names_recipient(envelope))
        buf_printf(out, "\r\n\tfor <" STR_FMT ">", STR_ARG(envelope->recipients[0].address));
    clock_rfc5322(options->wall_us, date, sizeof(date));
    buf_printf(out, ";\r\n\t%s\r\n", date);
}
