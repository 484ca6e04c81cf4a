/*
 * dsn_fuzz.c - whatever peers and senders wrote, a report keeps safe lines and
 * exactly three parts.
 *
 * Input: byte 0 action, byte 1 choices, then fields cut at byte 0xFE.
 */
#include "relay/mail/dsn.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct str boundary = { "01jd9k3m5n7p9q2r4s6t8v0w1x", 26 };

static void check(bool is_true)
{
    if (!is_true)
        abort();
}

static struct str field(struct str *rest)
{
    struct str piece = STR_EMPTY;

    str_next(rest, (char)0xFE, &piece);
    return piece;
}

/* The machine-readable part alone is ours to the last byte. */
static void check_lines(struct str text)
{
    size_t column = 0;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c == '\n')
            check(i > 0 && text.at[i - 1] == '\r');
        else if (c != '\r')
            check(c >= 0x20 && c != 0x7f);
        column = c == '\n' ? 0 : column + 1;
        check(column <= 999);
    }
}

static unsigned delimiters(struct str text)
{
    unsigned count = 0;
    struct str line;

    while (str_next(&text, '\n', &line))
        count += str_starts(line, STR("--=_01jd9k3m5n7p9q2r4s6t8v0w1x"));
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct envelope envelope;
    struct buf head, body;

    if (size < 2 || size > 65536)
        return 0;
    struct str rest = str_make((const char *)data + 2, size - 2);
    struct recipient recipient = { .address = field(&rest), .orcpt = field(&rest) };
    recipient.host = field(&rest);
    recipient.said = field(&rest);
    recipient.cause = field(&rest);
    recipient.fix = field(&rest);
    recipient.status = (data[1] & 1) ? STR("5.1.1") : STR_EMPTY;
    recipient.tried_at = data[1] & 2 ? 1795267650 : 0;
    struct dsn_recipient report = { .recipient = &recipient,
                                    .action = (enum dsn_action)(data[0] % (DSN_EXPIRED + 1)) };
    struct dsn_options options = { .hostname = STR("relay.example.com"),
                                   .boundary = boundary,
                                   .wall_us = 1795267656000000,
                                   .full_max_bytes = 65536 };

    envelope_init(&envelope);
    envelope.sender = STR("alice@example.com");
    envelope.envid = field(&rest);
    envelope.message_id = field(&rest);
    buf_init(&head, 1 << 22);
    buf_init(&body, 1 << 22);
    check(dsn_build(&options, &envelope, STR("Subject: x\r\n\r\n"), STR("body\r\n"), data[1] & 4,
                    &report, 1, &head, &body) == ERR_OK);
    check_lines(buf_view(&head));
    check_lines(buf_view(&body));
    check(delimiters(buf_view(&body)) == 4);
    buf_clear(&head);
    buf_clear(&body);
    envelope_clear(&envelope);
    return 0;
}
