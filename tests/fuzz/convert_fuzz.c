/*
 * convert_fuzz.c - any bytes as a message to re-encode.
 *
 * The first byte chooses what is wanted and how the body is cut. Whatever
 * comes out has the property that was asked for, does not depend on the cuts,
 * and needs no second conversion.
 */
#include "relay/mail/convert.h"
#include "relay/mail/header.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

struct pass {
    enum err err;
    bool needed;
    struct buf head, body;
};

static void run(struct str head, struct str body, unsigned want, size_t step, struct pass *pass)
{
    struct convert_plan *plan = convert_plan_new(head, want, 0);

    buf_init(&pass->head, 1 << 26);
    buf_init(&pass->body, 1 << 26);
    pass->needed = false;
    for (size_t at = 0; at < body.len; at += step)
        convert_plan_feed(plan, str_head(str_from(body, at), step));
    pass->err = convert_plan_end(plan, &pass->needed, NULL);
    CHECK(pass->err == ERR_OK || pass->err == ERR_DENIED);
    if (!pass->err) {
        struct convert *convert = convert_new(plan, &pass->head);
        for (size_t at = 0; at < body.len; at += step)
            convert_feed(convert, str_head(str_from(body, at), step), &pass->body);
        convert_end(convert, &pass->body);
        convert_free(&convert);
        CHECK(!pass->head.overflowed && !pass->body.overflowed);
    }
    convert_plan_free(&plan);
}

static void pass_clear(struct pass *pass)
{
    buf_clear(&pass->head);
    buf_clear(&pass->body);
}

static void check(struct str head, struct str body, unsigned want, size_t step)
{
    struct pass whole, cut, again;

    run(head, body, want, body.len ? body.len : 1, &whole);
    run(head, body, want, step, &cut);
    CHECK(whole.err == cut.err && whole.needed == cut.needed);
    CHECK(str_eq(buf_view(&whole.head), buf_view(&cut.head)));
    CHECK(str_eq(buf_view(&whole.body), buf_view(&cut.body)));
    if (!whole.err && !whole.needed)
        CHECK(str_eq(buf_view(&whole.body), body) && str_eq(buf_view(&whole.head), head));
    if (!whole.err && (want & CONVERT_7BIT))
        CHECK(str_is_ascii(buf_view(&whole.head)) && str_is_ascii(buf_view(&whole.body)));
    if (!whole.err && whole.needed) {
        run(buf_view(&whole.head), buf_view(&whole.body), want, step, &again);
        CHECK(again.err == ERR_OK && !again.needed);
        pass_clear(&again);
    }
    pass_clear(&whole);
    pass_clear(&cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned wants[] = { CONVERT_7BIT, CONVERT_LONG_LINES,
                                      CONVERT_7BIT | CONVERT_LONG_LINES };
    struct header_scan scan;
    size_t used;

    if (size < 1)
        return 0;
    struct str in = str_make((const char *)data + 1, size - 1);
    header_scan_init(&scan);
    if (!header_scan_feed(&scan, in, &used))
        return 0;
    check(str_head(in, used), str_from(in, used), wants[data[0] % 3], 1 + data[0] / 3 % 20);
    return 0;
}
