/*
 * dsn.c - who is owed a report, and the multipart/report itself (RFC 6522).
 */
#include "relay/mail/dsn.h"

#include "relay/base/clock.h"
#include "relay/mail/dsn_part.h"

#define HEAD_MAX ((size_t)256 * 1024) /* of the original's head is returned at most */

bool dsn_is_failure(enum dsn_action action)
{
    switch (action) {
    case DSN_FAILED:
    case DSN_EXPIRED:
        return true;
    case DSN_DELAYED:
    case DSN_DELIVERED:
    case DSN_RELAYED:
        return false;
    }
    return true;
}

/* RFC 3461 4.1. Without NOTIFY failures are reported, and delays once. */
bool dsn_is_owed(const struct envelope *envelope, const struct recipient *recipient,
                 enum dsn_action action)
{
    uint8_t notify = recipient->notify;

    if (envelope->sender.len == 0 || (envelope->flags & ENVELOPE_DSN) || (notify & NOTIFY_NEVER))
        return false;
    switch (action) {
    case DSN_FAILED:
    case DSN_EXPIRED:
        return notify == 0 || (notify & NOTIFY_FAILURE);
    case DSN_DELAYED:
        return !recipient->warned && (notify == 0 || (notify & NOTIFY_DELAY));
    case DSN_DELIVERED:
    case DSN_RELAYED:
        return (notify & NOTIFY_SUCCESS) != 0;
    }
    return false;
}

enum dsn_action dsn_main_action(const struct dsn_report *report)
{
    static const enum dsn_action order[] = { DSN_FAILED, DSN_EXPIRED, DSN_DELAYED, DSN_RELAYED };

    for (size_t o = 0; o < sizeof(order) / sizeof(order[0]); o++)
        for (size_t i = 0; i < report->count; i++)
            if (report->recipients[i].action == order[o])
                return order[o];
    return DSN_DELIVERED;
}

/* ---- head --------------------------------------------------------------- */

static const char *subject_start(enum dsn_action action)
{
    switch (action) {
    case DSN_FAILED:
        return "Not delivered to";
    case DSN_EXPIRED:
        return "Not delivered in time to";
    case DSN_DELAYED:
        return "Delayed, still trying:";
    case DSN_DELIVERED:
        return "Delivered to";
    case DSN_RELAYED:
        return "Passed on for";
    }
    return "About";
}

static bool is_plain(struct str s, size_t max)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= 0x20 || s.at[i] >= 0x7f)
            return false;
    return s.len > 0 && s.len <= max;
}

/* A report about a failure counts failures, in time or not; never who got the message. */
static bool is_counted(enum dsn_action about, enum dsn_action action)
{
    return dsn_is_failure(about) ? dsn_is_failure(action) : action == about;
}

static void put_subject(const struct dsn_report *report, struct buf *out)
{
    const struct dsn_options *options = report->options;
    enum dsn_action about = dsn_main_action(report);
    struct str address = STR_EMPTY; /* of the first that is counted */
    struct buf subject;
    size_t count = 0;

    for (size_t i = 0; i < report->count; i++)
        if (is_counted(about, report->recipients[i].action) && count++ == 0)
            address = report->recipients[i].recipient->address;
    buf_init(&subject, 1024);
    buf_cstr(&subject, subject_start(about));
    if (count == 1 && is_plain(address, ADDR_MAX))
        buf_printf(&subject, " " STR_FMT, STR_ARG(address));
    else if (count == 1)
        buf_cstr(&subject, " one recipient");
    else
        buf_printf(&subject, " %zu recipients", count);
    if (options->total > report->count) /* which of them tells them apart in a mailbox */
        buf_printf(&subject, " (%zu to %zu of %zu)", options->before + 1,
                   options->before + report->count, options->total);
    dsn_field(out, "Subject", buf_view(&subject));
    buf_clear(&subject);
}

static void put_head(const struct dsn_report *report, bool has_8bit, struct buf *out)
{
    const struct dsn_options *options = report->options;
    struct str original_id = report->original->message_id;
    char date[48];

    clock_rfc5322(options->wall_us, date, sizeof(date));
    buf_printf(out, "From: Mail Delivery System <mailer-daemon@" STR_FMT ">\r\n",
               STR_ARG(options->hostname));
    buf_printf(out, "To: <" STR_FMT ">\r\n", STR_ARG(report->original->sender));
    put_subject(report, out);
    buf_printf(out, "Date: %s\r\n", date);
    buf_printf(out, "Message-ID: <" STR_FMT ".dsn@" STR_FMT ">\r\n", STR_ARG(options->boundary),
               STR_ARG(options->hostname));
    if (is_plain(original_id, DSN_LINE_MAX)) {
        buf_printf(out, "In-Reply-To: " STR_FMT "\r\n", STR_ARG(original_id));
        buf_printf(out, "References: " STR_FMT "\r\n", STR_ARG(original_id));
    }
    buf_cstr(out, "Auto-Submitted: auto-replied\r\n");
    buf_cstr(out, "MIME-Version: 1.0\r\n");
    buf_printf(out,
               "Content-Type: multipart/report; report-type=delivery-status;\r\n"
               " boundary=\"=_" STR_FMT "\"\r\n",
               STR_ARG(options->boundary));
    buf_printf(out, "Content-Transfer-Encoding: %s\r\n\r\n", has_8bit ? "8bit" : "7bit");
}

/* ---- parts -------------------------------------------------------------- */

static void put_part(const struct dsn_report *report, const char *type, const char *description,
                     const struct buf *content, struct buf *out)
{
    struct str text = buf_view(content);

    buf_printf(out, "--=_" STR_FMT "\r\n", STR_ARG(report->options->boundary));
    buf_printf(out, "Content-Type: %s\r\n", type);
    buf_printf(out, "Content-Description: %s\r\n", description);
    buf_printf(out, "Content-Transfer-Encoding: %s\r\n\r\n", str_is_ascii(text) ? "7bit" : "8bit");
    buf_str(out, text);
    out->overflowed |= content->overflowed; /* a part that is not whole is none */
    buf_cstr(out, "\r\n");                  /* belongs to the boundary that follows */
}

static size_t longest_line(struct str text)
{
    size_t longest = 0;
    struct str line;

    while (str_next(&text, '\n', &line))
        if (line.len > longest)
            longest = line.len;
    return longest;
}

/* The whole lines at its beginning that may go back. */
static struct str head_returned(struct str head)
{
    size_t len = head.len < HEAD_MAX ? head.len : HEAD_MAX;

    while (len > 0 && head.at[len - 1] != '\n')
        len--;
    return len ? str_head(head, len) : str_head(head, HEAD_MAX);
}

/* The head, each line at most 998: a longer one (which intake does not let in)
 * is folded where it must be, since a report has to travel in any case. */
static void put_original_head(struct buf *out, struct str head)
{
    struct str line;

    while (str_next(&head, '\n', &line)) {
        if (line.len && line.at[line.len - 1] == '\r')
            line.len--;
        while (line.len > DSN_LINE_MAX) {
            buf_str(out, str_head(line, DSN_LINE_MAX));
            buf_cstr(out, "\r\n ");
            line = str_from(line, DSN_LINE_MAX);
        }
        buf_str(out, line);
        buf_cstr(out, "\r\n");
    }
}

/* RFC 3461 4.3: RET speaks of failures only; other reports carry the head. */
static bool returns_all(const struct dsn_report *report, struct str head, struct str body)
{
    return dsn_is_failure(dsn_main_action(report)) && report->original->ret != RET_HDRS &&
           head.len <= HEAD_MAX && head.len + body.len <= report->options->full_max_bytes &&
           longest_line(body) <= 999;
}

static void put_original(const struct dsn_report *report, struct str head, struct str body,
                         bool has_whole_body, struct buf *out)
{
    bool is_all = has_whole_body && returns_all(report, head, body);
    bool is_global = !str_is_ascii(head);
    struct buf content;

    buf_init(&content, out->max);
    put_original_head(&content, head_returned(head));
    if (is_all)
        buf_str(&content, body);
    if (is_all)
        put_part(report, is_global ? "message/global" : "message/rfc822", "Your message", &content,
                 out);
    else
        put_part(report, is_global ? "message/global-headers" : "text/rfc822-headers",
                 head.len > HEAD_MAX ? "The beginning of the header of your message"
                                     : "The header of your message",
                 &content, out);
    buf_clear(&content);
}

/* ---- the report --------------------------------------------------------- */

static bool needs_global(const struct dsn_recipient *recipients, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!str_is_ascii(recipients[i].recipient->address))
            return true;
    return false;
}

enum err dsn_build(const struct dsn_options *options, const struct envelope *original,
                   struct str original_head, struct str original_body, bool has_whole_body,
                   const struct dsn_recipient *recipients, size_t count, struct buf *out_head,
                   struct buf *out_body)
{
    struct dsn_report report = { .options = options,
                                 .original = original,
                                 .recipients = recipients,
                                 .count = count,
                                 .is_global = needs_global(recipients, count) };
    struct buf part;
    size_t body_start = out_body->len;

    buf_init(&part, out_body->max);
    dsn_words(&report, &part);
    put_part(&report, "text/plain; charset=utf-8", "What happened", &part, out_body);
    buf_reset(&part);
    dsn_status(&report, &part);
    put_part(&report,
             report.is_global ? "message/global-delivery-status" : "message/delivery-status",
             "Delivery report", &part, out_body);
    buf_clear(&part);
    if (!options->is_brief)
        put_original(&report, original_head, original_body, has_whole_body, out_body);
    buf_printf(out_body, "--=_" STR_FMT "--\r\n", STR_ARG(options->boundary));
    put_head(&report, !str_is_ascii(str_from(buf_view(out_body), body_start)), out_head);
    return out_head->overflowed || out_body->overflowed ? ERR_LIMIT : ERR_OK;
}
