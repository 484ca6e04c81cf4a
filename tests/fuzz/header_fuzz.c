/*
 * header_fuzz.c - any bytes as a header block: read, searched, mended.
 *
 * What fixup lets through is a header block: every line a field, none too
 * long, no Bcc, ASCII outside SMTPUTF8, and it needs nothing the second time.
 */
#include "relay/mail/fixup.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void check_scan(struct str in)
{
    struct header_scan whole, bytewise;
    size_t used, total = 0;
    bool found = false;

    header_scan_init(&whole);
    header_scan_init(&bytewise);
    bool is_whole = header_scan_feed(&whole, in, &used);
    for (size_t i = 0; i < in.len && !found; i++) {
        size_t one;
        found = header_scan_feed(&bytewise, str_make(in.at + i, 1), &one);
        total += one;
    }
    CHECK(found == is_whole && total == used);
}

static void check_reading(struct str in)
{
    struct header_field field;
    struct str rest = in;
    struct arena arena;

    arena_init(&arena);
    while (header_next(&rest, &field, NULL)) {
        CHECK(field.name.len > 0 && field.raw.len > field.name.len);
        CHECK(str_chr(header_unfold(field.value, &arena), '\n') ==
              header_unfold(field.value, &arena).len);
        header_param(field.value, STR("boundary"), &arena);
    }
    arena_clear(&arena);
}

static void check_mended(struct str out, bool is_utf8)
{
    struct header_field field;
    enum err rc;

    CHECK(is_utf8 || str_is_ascii(out));
    while (header_next(&out, &field, &rc)) {
        CHECK(!str_ieq(field.name, STR("Bcc")) && !str_ieq(field.name, STR("Return-Path")));
        CHECK(!is_utf8 || str_is_utf8(field.raw));
    }
    CHECK(rc == ERR_OK);
}

static bool mend(struct str in, unsigned flags, struct buf *out, unsigned *out_changed)
{
    struct fixup_options options = {
        .hostname = STR("relay.example"),
        .with = STR("ESMTP"),
        .client_host = STR("client.example"),
        .client_address = STR("192.0.2.1"),
        .hops_max = 50,
        .add_missing = true,
    };
    struct fixup_refusal refusal = { 0, NULL };
    struct fixup_facts facts;
    struct fault fault = { ERR_OK, "" };
    struct envelope envelope;
    struct arena arena;

    envelope_init(&envelope);
    envelope.flags = flags;
    arena_init(&arena);
    enum err rc = fixup_header(in, &options, &envelope, out, &arena, &facts, &refusal, &fault);
    CHECK(rc == ERR_OK || (rc == ERR_INVALID && refusal.code >= 500 && fault.text[0] != '\0'));
    if (!rc)
        *out_changed = facts.changed;
    arena_clear(&arena);
    envelope_clear(&envelope);
    return rc == ERR_OK;
}

static void check_fixup(struct str in, unsigned flags)
{
    struct buf once, twice;
    unsigned changed;

    buf_init(&once, 1 << 24);
    buf_init(&twice, 1 << 24);
    if (mend(in, flags, &once, &changed)) {
        check_mended(buf_view(&once), flags != 0);
        if (mend(buf_view(&once), flags, &twice, &changed)) {
            CHECK(changed == 0);
            CHECK(str_iends(buf_view(&twice), buf_view(&once)));
        }
    }
    buf_clear(&once);
    buf_clear(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = str_make(size ? (const char *)data : "", size);

    check_scan(in);
    check_reading(in);
    check_fixup(in, 0);
    check_fixup(in, ENVELOPE_SMTPUTF8);
    return 0;
}
