/*
 * server_param.c - the path and the parameters of MAIL and RCPT.
 *
 * One row per parameter: RFC 1870 (SIZE), 6152 (BODY), 6531 (SMTPUTF8), 3461
 * (RET, ENVID, NOTIFY, ORCPT), 4954 (AUTH). A parameter of an extension that
 * is not offered is as unknown as any other: 555 5.5.4.
 */
#include "relay/smtp/server_impl.h"

#define ENVID_MAX 100 /* RFC 3461 4.4 */
#define ORCPT_MAX 500 /* RFC 3461 4.2 */

typedef bool param_fn(struct str value, struct smtp_server_event *event);

static bool is_hex_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); }

/* RFC 3461 4: printable ASCII but "=", "+" only as a hex pair. `is_wide` also
 * lets UTF-8 through, for RFC 6533's "utf-8" address type. */
static bool is_xtext(struct str text, bool is_wide)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c <= ' ' || c == 127 || c == '=' || (c > 127 && !is_wide))
            return false;
        if (c != '+')
            continue;
        if (text.len - i < 3 || !is_hex_digit(text.at[i + 1]) || !is_hex_digit(text.at[i + 2]))
            return false;
        i += 2;
    }
    return !is_wide || str_is_utf8(text);
}

static bool take_size(struct str value, struct smtp_server_event *event)
{
    return value.len <= 20 && str_u64(value, &event->size);
}

static bool take_body(struct str value, struct smtp_server_event *event)
{
    event->body_8bit = str_ieq(value, STR("8BITMIME"));
    return event->body_8bit || str_ieq(value, STR("7BIT"));
}

static bool take_smtputf8(struct str value, struct smtp_server_event *event)
{
    event->smtputf8 = true;
    return value.len == 0;
}

static bool take_ret(struct str value, struct smtp_server_event *event)
{
    event->ret = str_ieq(value, STR("FULL")) ? RET_FULL : RET_HDRS;
    return event->ret == RET_FULL || str_ieq(value, STR("HDRS"));
}

static bool take_envid(struct str value, struct smtp_server_event *event)
{
    event->envid = value;
    return value.len > 0 && value.len <= ENVID_MAX && is_xtext(value, false);
}

static bool take_auth(struct str value, struct smtp_server_event *event)
{
    event->auth_sender = value;
    return value.len > 0 && is_xtext(value, false);
}

static const struct notify_word {
    struct str word;
    uint8_t bit;
} notify_words[] = {
    { STR("NEVER"), NOTIFY_NEVER },
    { STR("SUCCESS"), NOTIFY_SUCCESS },
    { STR("FAILURE"), NOTIFY_FAILURE },
    { STR("DELAY"), NOTIFY_DELAY },
};

static uint8_t notify_bit(struct str word)
{
    for (size_t i = 0; i < sizeof(notify_words) / sizeof(notify_words[0]); i++) {
        if (str_ieq(word, notify_words[i].word))
            return notify_words[i].bit;
    }
    return 0;
}

static bool take_notify(struct str value, struct smtp_server_event *event)
{
    struct str word;

    if (value.len == 0 || value.at[value.len - 1] == ',')
        return false;
    while (str_next(&value, ',', &word)) {
        uint8_t bit = notify_bit(word);
        if (bit == 0)
            return false;
        event->notify = (uint8_t)(event->notify | bit);
    }
    /* NEVER stands alone (RFC 3461 4.1) */
    return event->notify == NOTIFY_NEVER || !(event->notify & NOTIFY_NEVER);
}

static bool is_atom(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c <= ' ' || c >= 127 || memchr("()<>@,;:\\\".[]=+", c, 15))
            return false;
    }
    return text.len > 0;
}

static bool take_orcpt(struct str value, struct smtp_server_event *event)
{
    size_t semicolon = str_chr(value, ';');
    struct str type = str_head(value, semicolon), text = str_from(value, semicolon + 1);

    event->orcpt = value;
    return value.len <= ORCPT_MAX && text.len > 0 && is_atom(type) &&
           is_xtext(text, str_ieq(type, STR("utf-8")));
}

struct param_row {
    struct str word;
    unsigned ext; /* must be offered */
    bool needs_value;
    param_fn *take;
};

static const struct param_row mail_params[] = {
    { STR("SIZE"), EXT_SIZE, true, take_size },
    { STR("BODY"), EXT_8BITMIME, true, take_body },
    { STR("SMTPUTF8"), EXT_SMTPUTF8, false, take_smtputf8 },
    { STR("RET"), EXT_DSN, true, take_ret },
    { STR("ENVID"), EXT_DSN, true, take_envid },
    { STR("AUTH"), EXT_AUTH, true, take_auth },
};

static const struct param_row rcpt_params[] = {
    { STR("NOTIFY"), EXT_DSN, true, take_notify },
    { STR("ORCPT"), EXT_DSN, true, take_orcpt },
};

#define ROWS(table) table, sizeof(table) / sizeof((table)[0])

static const struct param_row *find_row(const struct smtp_server *server,
                                        const struct param_row *rows, size_t count, struct str word)
{
    unsigned exts = server->options.exts & ~(unsigned)EXT_AUTH;

    if (server->options.mechanisms)
        exts |= EXT_AUTH;
    for (size_t i = 0; i < count; i++) {
        if ((exts & rows[i].ext) && str_ieq(word, rows[i].word))
            return &rows[i];
    }
    return NULL;
}

static bool take_params(struct smtp_server *server, struct str rest, const struct param_row *rows,
                        size_t count, struct smtp_server_event *event)
{
    struct str piece;
    unsigned seen = 0;

    while (str_next(&rest, ' ', &piece)) {
        if (piece.len == 0)
            continue;
        size_t equals = str_chr(piece, '=');
        struct str word = str_head(piece, equals);
        const struct param_row *row = find_row(server, rows, count, word);
        if (!row) {
            smtp_server_refuse(server, 555, STATUS(5, 5, 4), "parameter not known: " STR_FMT,
                               STR_ARG(str_head(word, 40)));
            return false;
        }
        unsigned bit = 1u << (row - rows);
        if ((seen & bit) || row->needs_value != (equals < piece.len) ||
            !row->take(str_from(piece, equals + 1), event)) {
            smtp_server_refuse(server, 501, STATUS(5, 5, 4), "bad parameter " STR_FMT,
                               STR_ARG(row->word));
            return false;
        }
        seen |= bit;
    }
    return true;
}

/* "FROM:<path>" or "TO:<path>", blanks around the colon tolerated as all peers
 * do; *out_rest is left with the parameters. */
static bool take_path(struct smtp_server *server, struct str args, struct str word, unsigned flags,
                      struct smtp_server_event *event, struct str *out_rest)
{
    struct fault fault = { .err = ERR_OK };
    struct str rest = str_trim(str_from(args, word.len));
    size_t used;

    if (!str_istarts(args, word) || rest.len == 0 || rest.at[0] != ':') {
        smtp_server_refuse(server, 501, STATUS(5, 5, 4), "syntax: " STR_FMT ":<address>",
                           STR_ARG(word));
        return false;
    }
    rest = str_trim(str_from(rest, 1));
    if (server->options.exts & EXT_SMTPUTF8)
        flags |= ADDR_ALLOW_UTF8;
    enum err rc = addr_path(rest, flags | ADDR_ALLOW_BARE, &event->addr, &used, &fault);
    if (!rc && used < rest.len && rest.at[used] != ' ')
        rc = fault_set(&fault, ERR_INVALID, "text behind the address");
    if (rc) {
        smtp_server_refuse(server, 501, flags & ADDR_ALLOW_NULL ? STATUS(5, 1, 7) : STATUS(5, 1, 3),
                           "%s", fault.text);
        return false;
    }
    *out_rest = str_from(rest, used);
    return true;
}

/* RFC 5321 4.1.1.3 wants <postmaster> taken without a domain; others only
 * where the driver said that it completes them. */
static bool may_be_bare(const struct smtp_server *server, const struct addr *addr, bool is_rcpt)
{
    return addr->domain.len > 0 || addr_is_null(addr) || server->options.bare_addresses ||
           (is_rcpt && str_ieq(addr->local, STR("postmaster")));
}

bool smtp_server_mail_args(struct smtp_server *server, struct str args,
                           struct smtp_server_event *event)
{
    struct str rest;

    if (!take_path(server, args, STR("FROM"), ADDR_ALLOW_NULL, event, &rest) ||
        !take_params(server, rest, ROWS(mail_params), event))
        return false;
    if (!may_be_bare(server, &event->addr, false)) {
        smtp_server_refuse(server, 553, STATUS(5, 1, 7), "the sender has no domain");
        return false;
    }
    if (event->addr.is_utf8 && !event->smtputf8) {
        smtp_server_refuse(server, 553, STATUS(5, 6, 7), "this address needs SMTPUTF8");
        return false;
    }
    if (event->size > server->options.size_max) {
        smtp_server_refuse(server, 552, STATUS(5, 3, 4), "larger than the limit of %llu octets",
                           (unsigned long long)server->options.size_max);
        return false;
    }
    return true;
}

bool smtp_server_rcpt_args(struct smtp_server *server, struct str args,
                           struct smtp_server_event *event)
{
    struct str rest;

    if (!take_path(server, args, STR("TO"), 0, event, &rest) ||
        !take_params(server, rest, ROWS(rcpt_params), event))
        return false;
    if (!may_be_bare(server, &event->addr, true)) {
        smtp_server_refuse(server, 553, STATUS(5, 1, 3), "the recipient has no domain");
        return false;
    }
    if (event->addr.is_utf8 && !server->smtputf8) {
        smtp_server_refuse(server, 553, STATUS(5, 6, 7), "this address needs SMTPUTF8");
        return false;
    }
    return true;
}
