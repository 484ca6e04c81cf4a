/*
 * hop_fuzz.c - stored hops of any bytes: refused or read, never a crash; what
 * is read survives being written again, and its renderings are one safe line.
 */
#include "relay/base/hop.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void assert_same(const struct hop *a, const struct hop *b)
{
    assert(msgid_cmp(&a->id, &b->id) == 0);
    assert(a->session == b->session && a->began_us == b->began_us);
    assert(a->ended_us == b->ended_us && a->next_us == b->next_us);
    assert(a->bytes == b->bytes && a->count == b->count && a->attempt == b->attempt);
    assert(a->weight == b->weight && a->side == b->side && a->stage == b->stage);
    assert(a->result == b->result && a->scope == b->scope && a->kind == b->kind);
    assert(a->code == b->code && a->status_class == b->status_class);
    assert(a->status_subject == b->status_subject && a->status_detail == b->status_detail);
#define X(field, key) assert(str_eq(a->field, b->field));
    HOP_TEXT_MAP(X)
#undef X
}

static void check_safe(const struct buf *out)
{
    assert(!out->overflowed);
    assert(str_is_utf8(buf_view(out)));
    for (size_t i = 0; i < out->len; i++)
        assert((unsigned char)out->at[i] >= 0x20 && out->at[i] != 0x7F);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char encoded[HOP_ENCODED_MAX], small[256];
    struct hop hop, again;
    struct buf out;

    if (hop_decode(str_make((const char *)data, size), &hop) != ERR_OK)
        return 0;
    size_t len = hop_encode(&hop, encoded, sizeof(encoded));
    assert(len <= sizeof(encoded));
    assert(hop_decode(str_make(encoded, len), &again) == ERR_OK);
    assert_same(&hop, &again);
    len = hop_encode(&hop, small, sizeof(small));
    assert(len <= sizeof(small));
    assert(hop_decode(str_make(small, len), &again) == ERR_OK);

    buf_init(&out, (size_t)1 << 20);
    hop_line(&hop, &out);
    check_safe(&out);
    buf_reset(&out);
    hop_json(&hop, &out);
    check_safe(&out);
    buf_clear(&out);
    return 0;
}
