/*
 * reply_fuzz.c - lines a peer may send, read and printed again.
 */
#include "relay/mail/reply.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

/* What we print is a reply that we would read, and no line is too long. */
static void check_wire(const struct reply *reply)
{
    struct buf wire;
    struct reply again;
    enum err rc = ERR_AGAIN;

    buf_init(&wire, 65536);
    reply_wire(reply, &wire);
    struct str rest = buf_view(&wire), line;
    reply_clear(&again);
    while (str_next(&rest, '\n', &line)) {
        CHECK(rc == ERR_AGAIN);
        CHECK(line.len > 0 && line.len <= 511 && line.at[line.len - 1] == '\r');
        if (again.line_count == REPLY_LINES_MAX)
            break; /* breaking long lines made it longer than we read */
        rc = reply_feed(&again, str_head(line, line.len - 1));
    }
    CHECK(rc == ERR_OK || again.line_count == REPLY_LINES_MAX);
    CHECK(again.code == reply->code);
    buf_clear(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = str_make(size ? (const char *)data : "", size), line;
    struct reply reply;

    reply_clear(&reply);
    while (str_next(&rest, '\n', &line)) {
        enum err rc = reply_feed(&reply, line);
        CHECK(reply.len < REPLY_TEXT_MAX && reply.text[reply.len] == '\0');
        if (rc == ERR_AGAIN)
            continue;
        struct buf text;
        buf_init(&text, 65536);
        reply_line(&reply, &text);
        buf_clear(&text);
        if (rc == ERR_OK)
            check_wire(&reply);
        reply_clear(&reply);
    }
    return 0;
}
