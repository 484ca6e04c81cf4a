/*
 * sendmail_fuzz.c - anything piped into sendmail -t: what comes of it is canonical
 * text with one header, recipients that can be said in RCPT, and nothing else.
 *
 * The first octet chooses options; how the input is cut must not matter.
 */
#include "relay/cli/sendmail.h"
#include "relay/mail/addr.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { KEEP_DOTS = 1, ADDS = 2, WITH_NAME = 4, IN_TWO = 8 };

static void check_text(struct str text)
{
    struct str rest = text, line;

    CHECK(text.len == 0 || (text.len >= 2 && memcmp(text.at + text.len - 2, "\r\n", 2) == 0));
    CHECK(!memchr(text.at, '\0', text.len));
    while (str_next(&rest, '\n', &line)) {
        CHECK(line.len > 0 && line.at[line.len - 1] == '\r');
        CHECK(!memchr(line.at, '\r', line.len - 1));
    }
}

static void check_message(const struct sendmail_message *message)
{
    struct str head = str_head(buf_view(&message->text), message->head_len);
    struct addr addr;

    check_text(buf_view(&message->text));
    CHECK(head.len >= 2 && memcmp(head.at + head.len - 2, "\r\n", 2) == 0);
    CHECK(str_find(head, STR("\r\n\r\n")) + 4 >= head.len);
    for (size_t i = 0; i < message->recipient_count; i++)
        CHECK(addr_parse(message->recipients[i], ADDR_ALLOW_BARE | ADDR_ALLOW_UTF8, &addr, NULL) ==
              ERR_OK);
}

static void feed(struct sendmail_message *message, struct str in, unsigned how)
{
    struct sendmail_input input;
    size_t cut = how & IN_TWO ? in.len / 2 : 0;

    sendmail_message_init(message, 1 << 20);
    sendmail_input_init(&input, message, how & KEEP_DOTS);
    sendmail_input_feed(&input, str_head(in, cut));
    sendmail_input_feed(&input, str_from(in, cut));
    sendmail_input_end(&input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char argument[] = "arg@x.test", *arguments[] = { argument, NULL };
    unsigned how = size ? data[0] : 0;
    struct sendmail_author author = { "joe", how & WITH_NAME ? "Joe \"X\" \xC3\xA4" : NULL,
                                      how & ADDS };
    struct sendmail_wish wish = { .called = "sendmail",
                                  .extract = true,
                                  .sender = STR_EMPTY,
                                  .recipients = arguments,
                                  .recipient_count = 1 };
    struct sendmail_fault fault = { .trouble = TROUBLE_NONE };
    struct sendmail_message message, other;
    struct str in = size ? str_make((const char *)data + 1, size - 1) : STR_EMPTY;

    feed(&message, in, how);
    feed(&other, in, how ^ IN_TWO);
    CHECK(str_eq(buf_view(&message.text), buf_view(&other.text)));
    if (sendmail_address(&wish, &author, &message, &fault) == EX_OK)
        check_message(&message);
    sendmail_message_clear(&message);
    sendmail_message_clear(&other);
    return 0;
}
