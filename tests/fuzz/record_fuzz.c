/*
 * record_fuzz.c - stored records: any bytes are refused or make an envelope
 * that is written and read back alike.
 *
 * The frame (version, kind, checksum) is put in front, or nothing would ever
 * get past it. First byte: which slice the rest is taken for.
 */
#include "queue/record.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *framed(const uint8_t *data, size_t size, bool is_first, size_t *out_len)
{
    char *bytes = mem_alloc(size + RECORD_FRAME);

    if (size)
        memcpy(bytes + RECORD_FRAME, data, size);
    bytes[1] = is_first ? 0 : 1;
    record_seal(bytes, size + RECORD_FRAME);
    *out_len = size + RECORD_FRAME;
    return bytes;
}

/* What was read is written, read again and written again: the same bytes. */
static void round_trip(const struct envelope *envelope, const struct record_content *content)
{
    struct record_content again;
    struct envelope other;
    struct buf one, two;

    envelope_init(&other);
    buf_init(&one, SIZE_MAX);
    buf_init(&two, SIZE_MAX);
    record_encode(envelope, content, 0, &one);
    assert(record_decode(buf_view(&one), &other, &again, NULL) == ERR_OK);
    record_encode(&other, &again, 0, &two);
    assert(str_eq(buf_view(&one), buf_view(&two)));
    buf_clear(&one);
    buf_clear(&two);
    envelope_clear(&other);
}

static void try_slice(const uint8_t *data, size_t size, size_t slice)
{
    struct envelope envelope;
    size_t len;
    char *bytes = framed(data, size, false, &len);

    envelope_init(&envelope);
    for (size_t i = 0; i < 40; i++)
        envelope_add(&envelope, STR("a@b"));
    record_decode_slice(str_make(bytes, len), slice, &envelope, NULL);
    envelope_clear(&envelope);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record_content content;
    struct envelope envelope;
    size_t len;

    if (size < 1)
        return 0;
    if (data[0] % 4) {
        try_slice(data + 1, size - 1, data[0] % 4);
        return 0;
    }
    char *bytes = framed(data + 1, size - 1, true, &len);
    envelope_init(&envelope);
    if (record_decode(str_make(bytes, len), &envelope, &content, NULL) == ERR_OK)
        round_trip(&envelope, &content);
    envelope_clear(&envelope);
    record_decode(str_make((const char *)data, size), &envelope, &content, NULL);
    envelope_clear(&envelope);
    free(bytes);
    return 0;
}
