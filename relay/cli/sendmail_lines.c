/*
 * sendmail_lines.c - MAIL and RCPT as they stand in a dropped file.
 */
#include "relay/cli/sendmail.h"

/* RFC 3461 4: printable ASCII but "+" and "=", the rest as +XX. */
void sendmail_xtext(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c > ' ' && c < 127 && c != '+' && c != '=')
            buf_char(out, (char)c);
        else
            buf_printf(out, "+%02X", c);
    }
}

static void put_path(struct buf *out, const char *verb, struct str address)
{
    buf_printf(out, "%s:<" STR_FMT ">", verb, STR_ARG(address));
}

void sendmail_mail_line(const struct sendmail_wish *wish, const struct sendmail_message *message,
                        struct buf *out)
{
    put_path(out, "MAIL FROM", message->sender);
    if (message->has_8bit || wish->body_8bit)
        buf_cstr(out, " BODY=8BITMIME");
    if (message->needs_utf8 || wish->smtputf8)
        buf_cstr(out, " SMTPUTF8");
    if (wish->ret != RET_UNSET)
        buf_cstr(out, wish->ret == RET_FULL ? " RET=FULL" : " RET=HDRS");
    if (wish->envid.len) {
        buf_cstr(out, " ENVID=");
        sendmail_xtext(out, wish->envid);
    }
    buf_cstr(out, "\r\n");
}

void sendmail_rcpt_line(const struct sendmail_wish *wish, struct str recipient, struct buf *out)
{
    static const struct {
        uint8_t bit;
        const char *word;
    } words[] = { { NOTIFY_NEVER, "NEVER" },
                  { NOTIFY_SUCCESS, "SUCCESS" },
                  { NOTIFY_FAILURE, "FAILURE" },
                  { NOTIFY_DELAY, "DELAY" } };
    const char *lead = " NOTIFY=";

    put_path(out, "RCPT TO", recipient);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (wish->notify & words[i].bit) {
            buf_printf(out, "%s%s", lead, words[i].word);
            lead = ",";
        }
    buf_cstr(out, "\r\n");
}
