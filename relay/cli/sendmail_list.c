/*
 * sendmail_list.c - mailq, in the form that scripts take apart.
 *
 * Postfix's: a headline; for each message its id with "*" while it is tried and "!"
 * while it is held, size, arrival, sender; the reason in parentheses before the
 * recipients that it is about; an empty line; a sum. Our ids are longer, so the
 * first column is wider.
 */
#include "relay/cli/cmd.h"
#include "relay/cli/queue_source.h"
#include "relay/cli/sendmail_large.h"
#include "relay/cli/show.h"

#include <time.h>

#define REASON_COLUMN 76
#define REASON_MAX 400
#define ADDRESS_SHOWN 320
#define INDENT "%27s %7s %-20s "

struct listing {
    struct buf out;
    int64_t now_s;
    uint64_t messages, bytes;
    bool json;
};

void sendmail_list_head(struct buf *out)
{
    buf_cstr(out, "-Queue ID-                  --Size-- ----Arrival Time---- "
                  "-Sender/Recipient-------\n");
}

void sendmail_list_end(uint64_t messages, uint64_t bytes, struct buf *out)
{
    if (messages == 0)
        buf_cstr(out, "Mail queue is empty\n");
    else
        buf_printf(out, "-- %llu Kbytes in %llu Request%s.\n",
                   (unsigned long long)((bytes + 1023) / 1024), (unsigned long long)messages,
                   messages == 1 ? "" : "s");
}

static bool is_active(const json_t *message, int64_t now_s)
{
    const json_t *recipients = json_object_get(message, "recipients");

    for (size_t i = 0; i < json_array_size(recipients); i++) {
        const json_t *one = json_array_get(recipients, i);
        if (str_eq(show_field(one, "state"), STR("queued")) && show_wall(one, "due") <= now_s)
            return true;
    }
    return false;
}

static char mark_of(const json_t *message, int64_t now_s)
{
    if (show_number(message, "queued") == 0 && show_number(message, "held") > 0)
        return '!';
    return is_active(message, now_s) ? '*' : ' ';
}

static void put_reason(struct buf *out, struct str reason)
{
    size_t len = reason.len < REASON_MAX ? reason.len : REASON_MAX;

    buf_printf(out, "%*s(", len < REASON_COLUMN ? (int)(REASON_COLUMN - len) : 0, "");
    show_text(out, reason, REASON_MAX);
    buf_cstr(out, ")\n");
}

static bool is_waiting(const json_t *recipient)
{
    struct str state = show_field(recipient, "state");

    return str_eq(state, STR("queued")) || str_eq(state, STR("held"));
}

static void put_recipients(const json_t *message, struct buf *out)
{
    const json_t *recipients = json_object_get(message, "recipients");
    struct str before = STR_EMPTY;

    for (size_t i = 0; i < json_array_size(recipients); i++) {
        const json_t *one = json_array_get(recipients, i);
        struct str said = show_field(one, "reply");
        struct str reason = said.len ? said : show_field(one, "cause");
        if (!is_waiting(one))
            continue;
        if (reason.len && !str_eq(reason, before))
            put_reason(out, reason);
        before = reason;
        buf_printf(out, INDENT, "", "", "");
        show_text(out, show_field(one, "address"), ADDRESS_SHOWN);
        buf_char(out, '\n');
    }
}

void sendmail_list_message(const json_t *message, int64_t now_s, struct buf *out)
{
    time_t arrived = (time_t)show_wall(message, "arrived");
    char when[40] = "";
    struct tm tm;

    buf_str(out, show_field(message, "id"));
    if (json_is_true(json_object_get(message, "corrupt"))) {
        buf_cstr(out, "  cannot be read\n\n");
        return;
    }
    if (localtime_r(&arrived, &tm))
        (void)strftime(when, sizeof(when), "%a %b %e %H:%M:%S", &tm);
    buf_printf(out, "%c %7llu %-20s ", mark_of(message, now_s),
               (unsigned long long)show_number(message, "size"), when);
    if (str_eq(show_field(message, "sender"), STR("<>")))
        buf_cstr(out, "MAILER-DAEMON");
    else
        show_text(out, show_field(message, "sender"), ADDRESS_SHOWN);
    buf_char(out, '\n');
    put_recipients(message, out);
    buf_char(out, '\n');
}

static bool add_row(void *arg, const json_t *row)
{
    struct listing *listing = arg;

    if (listing->json) {
        char *text = json_dumps(row, JSON_COMPACT | JSON_ENSURE_ASCII);
        buf_cstr(&listing->out, text);
        buf_char(&listing->out, '\n');
        free(text);
    } else {
        if (listing->messages == 0)
            sendmail_list_head(&listing->out);
        sendmail_list_message(row, listing->now_s, &listing->out);
    }
    listing->messages++;
    listing->bytes += show_number(row, "size");
    return cmd_put(stdout, &listing->out) == EX_OK;
}

int sendmail_list(const struct sendmail_wish *wish)
{
    struct listing listing = { .now_s = (int64_t)time(NULL), .json = wish->json };
    char verb[] = "list", *words[] = { verb, NULL };
    struct queue_source source;
    struct queue_wish all;
    struct fault fault = { .err = ERR_OK };
    enum err rc;
    int code = queue_wish_read(1, words, "", &all);

    buf_init(&listing.out, 1 << 20);
    if (!code)
        code = queue_source_open(wish->conf_file, &source);
    if (!code) {
        rc = queue_source_list(&source, &all, add_row, &listing, &fault);
        if (rc)
            code = cmd_fail(cmd_code(rc), "%s", fault.text);
        queue_source_close(&source);
    }
    if (!code && !listing.json)
        sendmail_list_end(listing.messages, listing.bytes, &listing.out);
    if (!code)
        code = cmd_put(stdout, &listing.out);
    queue_wish_clear(&all);
    buf_clear(&listing.out);
    return code;
}
