/*
 * dsn_status.c - the part of a report that programs read: message/delivery-status
 * (RFC 3464), or message/global-delivery-status when an address needs UTF-8 (RFC 6533).
 */
#include "relay/base/clock.h"
#include "relay/mail/dsn_part.h"

#define VALUE_MAX 8192

const char *dsn_action_word(enum dsn_action action)
{
    switch (action) {
    case DSN_FAILED:
    case DSN_EXPIRED:
        return "failed";
    case DSN_DELAYED:
        return "delayed";
    case DSN_DELIVERED:
        return "delivered";
    case DSN_RELAYED:
        return "relayed";
    }
    return "failed";
}

static void put_date(struct buf *out, const char *name, int64_t wall_s)
{
    char date[48];

    clock_rfc5322(wall_s * 1000000, date, sizeof(date));
    dsn_field(out, name, str_of(date));
}

/* "Name: type; value" with the value escaped. */
static void put_typed(const struct dsn_report *report, struct buf *out, const char *name,
                      const char *type, struct str text)
{
    struct buf value;

    buf_init(&value, VALUE_MAX);
    buf_printf(&value, "%s; ", type);
    dsn_escape(&value, text, report->is_global);
    dsn_field(out, name, buf_view(&value));
    buf_clear(&value);
}

/* An address is no free text: a backslash of a quoted local part stays single.
 * It was parsed once, so control characters cannot be in it; none gets out. */
static void put_address(const struct dsn_report *report, struct buf *out, const char *name,
                        struct str type, struct str address)
{
    struct buf value;

    buf_init(&value, VALUE_MAX);
    buf_printf(&value, STR_FMT "; ", STR_ARG(type));
    for (size_t i = 0; i < address.len; i++) {
        unsigned char c = (unsigned char)address.at[i];
        bool is_shown = c >= 0x20 && c != 0x7f && (c < 0x80 || report->is_global);
        buf_char(&value, is_shown ? (char)c : '?');
    }
    dsn_field(out, name, buf_view(&value));
    buf_clear(&value);
}

static bool is_type_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
}

/* ORCPT is "type;xtext" (RFC 3461 4.2). */
static void put_original_recipient(const struct dsn_report *report, struct buf *out,
                                   struct str orcpt)
{
    size_t semicolon = str_chr(orcpt, ';');
    struct buf address;

    if (semicolon == 0 || semicolon == orcpt.len)
        return;
    for (size_t i = 0; i < semicolon; i++)
        if (!is_type_char(orcpt.at[i]))
            return;
    buf_init(&address, VALUE_MAX);
    dsn_xtext_decode(&address, str_from(orcpt, semicolon + 1));
    put_address(report, out, "Original-Recipient", str_head(orcpt, semicolon), buf_view(&address));
    buf_clear(&address);
}

static bool is_reply(struct str said)
{
    return said.len >= 3 && said.at[0] >= '2' && said.at[0] <= '5' && said.at[1] >= '0' &&
           said.at[1] <= '9' && said.at[2] >= '0' && said.at[2] <= '9' &&
           (said.len == 3 || said.at[3] == ' ' || said.at[3] == '-');
}

/* RFC 3463 4.4.7 is what "tried for too long" is called; the last reply stays in
 * Diagnostic-Code. Elsewhere the status of the last attempt, when its class
 * fits the action. */
static struct str status_of(const struct dsn_recipient *recipient)
{
    struct str status = recipient->recipient->status;

    switch (recipient->action) {
    case DSN_EXPIRED:
        return STR("4.4.7");
    case DSN_FAILED:
        return str_starts(status, STR("5.")) ? status : STR("5.0.0");
    case DSN_DELAYED:
        return str_starts(status, STR("4.")) ? status : STR("4.0.0");
    case DSN_DELIVERED:
    case DSN_RELAYED:
        return str_starts(status, STR("2.")) ? status : STR("2.0.0");
    }
    return status;
}

static void put_recipient(const struct dsn_report *report, const struct dsn_recipient *one,
                          struct buf *out)
{
    const struct recipient *recipient = one->recipient;
    bool is_ascii = str_is_ascii(recipient->address);
    char id[MSGID_TEXT + 1];

    buf_cstr(out, "\r\n");
    if (!report->options->is_brief)
        put_original_recipient(report, out, recipient->orcpt);
    put_address(report, out, "Final-Recipient", is_ascii ? STR("rfc822") : STR("utf-8"),
                recipient->address);
    dsn_field(out, "Action", str_of(dsn_action_word(one->action)));
    dsn_field(out, "Status", status_of(one));
    if (report->options->is_brief)
        return;
    if (recipient->host.len)
        put_typed(report, out, "Remote-MTA", "dns", recipient->host);
    if (recipient->said.len)
        put_typed(report, out, "Diagnostic-Code", is_reply(recipient->said) ? "smtp" : "x-waypost",
                  recipient->said);
    if (recipient->tried_at)
        put_date(out, "Last-Attempt-Date", recipient->tried_at);
    if (one->action == DSN_DELAYED && one->will_retry_until)
        put_date(out, "Will-Retry-Until", one->will_retry_until);
    if (!msgid_is_nil(&report->original->id)) {
        msgid_print(&report->original->id, id);
        dsn_field(out, "Final-Log-ID", str_of(id));
    }
}

static void put_envelope_id(const struct dsn_report *report, struct buf *out)
{
    struct buf decoded, safe;

    if (report->original->envid.len == 0)
        return;
    buf_init(&decoded, VALUE_MAX);
    buf_init(&safe, VALUE_MAX);
    dsn_xtext_decode(&decoded, report->original->envid);
    dsn_escape(&safe, buf_view(&decoded), report->is_global);
    dsn_field(out, "Original-Envelope-Id", buf_view(&safe));
    buf_clear(&safe);
    buf_clear(&decoded);
}

void dsn_status(const struct dsn_report *report, struct buf *out)
{
    put_envelope_id(report, out);
    put_typed(report, out, "Reporting-MTA", "dns", report->options->hostname);
    put_date(out, "Arrival-Date", report->original->arrived_us / 1000000);
    for (size_t i = 0; i < report->count; i++)
        put_recipient(report, &report->recipients[i], out);
}
