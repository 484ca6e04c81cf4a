/*
 * hop.c - the compact form of a hop, for rings and for the trace log.
 *
 * Layout, version 1: the version byte; the id; one byte each for weight, side,
 * stage, result, scope and class; began_us as 8 bytes, big endian; then as
 * variable-length numbers (7 bits a byte, low first): ended - began and
 * next - began (zigzag, next only when its flag byte is 1), session, bytes,
 * count, attempt, code, status class, subject, detail; then, for each text
 * that is not empty, its place in HOP_TEXT_MAP + 1, its length, its bytes.
 *
 * Enum values and text places are stored as numbers, so rows of those lists
 * may be added at their end; any other change needs a new version here.
 */
#include "relay/base/hop.h"

#include <assert.h>

#define HOP_VERSION 1

static const size_t text_offsets[] = {
#define X(field, key) offsetof(struct hop, field),
    HOP_TEXT_MAP(X)
#undef X
};

#define TEXT_COUNT (sizeof(text_offsets) / sizeof(text_offsets[0]))

static struct str *text_at(struct hop *hop, size_t i)
{
    return (struct str *)(void *)((char *)hop + text_offsets[i]);
}

static struct str text_of(const struct hop *hop, size_t i)
{
    return *(const struct str *)(const void *)((const char *)hop + text_offsets[i]);
}

/* ---- encode: the caller's size has been checked, so nothing can overflow ---- */

static uint8_t *put_number(uint8_t *to, uint64_t value)
{
    while (value >= 0x80) {
        *to++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

static uint8_t *put_be64(uint8_t *to, uint64_t value)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        *to++ = (uint8_t)(value >> shift);
    return to;
}

/* Differences wrap around in 64 bits, so that any two times survive. */
static uint64_t zigzag(uint64_t difference)
{
    return difference >> 63 ? ~(difference << 1) : difference << 1;
}

static uint64_t unzigzag(uint64_t value) { return value & 1 ? ~(value >> 1) : value >> 1; }

static uint8_t *put_numbers(uint8_t *to, const struct hop *hop)
{
    uint64_t began = (uint64_t)hop->began_us;

    to = put_be64(to, began);
    to = put_number(to, zigzag((uint64_t)hop->ended_us - began));
    *to++ = hop->next_us != 0;
    if (hop->next_us)
        to = put_number(to, zigzag((uint64_t)hop->next_us - began));
    to = put_number(to, hop->session);
    to = put_number(to, hop->bytes);
    to = put_number(to, hop->count);
    to = put_number(to, hop->attempt);
    to = put_number(to, hop->code);
    to = put_number(to, hop->status_class);
    to = put_number(to, hop->status_subject);
    return put_number(to, hop->status_detail);
}

/* Cut to `limit`, but not inside a UTF-8 sequence. */
static struct str cut_text(struct str text, size_t limit)
{
    if (text.len <= limit)
        return text;
    for (size_t back = 0; back < 4 && back < limit; back++) {
        if (((unsigned char)text.at[limit - back] & 0xC0) != 0x80)
            return str_head(text, limit - back);
    }
    return str_head(text, limit); /* not UTF-8 at all */
}

static size_t texts_size(const struct hop *hop, size_t limit)
{
    size_t size = 0;

    for (size_t i = 0; i < TEXT_COUNT; i++) {
        size_t len = cut_text(text_of(hop, i), limit).len;
        if (len)
            size += (len < 0x80 ? 2u : 3u) + len;
    }
    return size;
}

static uint8_t *put_texts(uint8_t *to, const struct hop *hop, size_t limit)
{
    for (size_t i = 0; i < TEXT_COUNT; i++) {
        struct str text = cut_text(text_of(hop, i), limit);
        if (text.len == 0)
            continue;
        *to++ = (uint8_t)(i + 1);
        to = put_number(to, text.len);
        memcpy(to, text.at, text.len);
        to += text.len;
    }
    return to;
}

size_t hop_encode(const struct hop *hop, void *out, size_t size)
{
    uint8_t *to = out;
    size_t limit = HOP_TEXT_LIMIT;

    assert(size >= 256);
    *to++ = HOP_VERSION;
    memcpy(to, hop->id.bytes, MSGID_BYTES);
    to += MSGID_BYTES;
    *to++ = (uint8_t)hop->weight;
    *to++ = (uint8_t)hop->side;
    *to++ = (uint8_t)hop->stage;
    *to++ = (uint8_t)hop->result;
    *to++ = (uint8_t)hop->scope;
    *to++ = (uint8_t)hop->kind;
    to = put_numbers(to, hop);
    /* When they do not fit, all long texts get shorter, so that none is lost
     * because another one came first. */
    size_t room = size - (size_t)(to - (uint8_t *)out);
    while (texts_size(hop, limit) > room)
        limit /= 2;
    to = put_texts(to, hop, limit);
    return (size_t)(to - (uint8_t *)out);
}

/* ---- decode: any bytes may come ---------------------------------------- */

struct reader {
    struct str rest;
    bool failed;
};

static uint8_t get_byte(struct reader *reader)
{
    if (reader->rest.len == 0) {
        reader->failed = true;
        return 0;
    }
    uint8_t byte = (uint8_t)reader->rest.at[0];
    reader->rest = str_from(reader->rest, 1);
    return byte;
}

static uint64_t get_number(struct reader *reader, uint64_t most)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = get_byte(reader);
        if (shift == 63 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte & 0x80)
            continue;
        if (value <= most)
            return value;
        break;
    }
    reader->failed = true;
    return 0;
}

static unsigned get_enum(struct reader *reader, unsigned count)
{
    uint8_t value = get_byte(reader);

    if (value < count)
        return value;
    reader->failed = true;
    return 0;
}

static struct str get_bytes(struct reader *reader, size_t len)
{
    struct str bytes = str_head(reader->rest, len);

    if (bytes.len < len)
        reader->failed = true;
    reader->rest = str_from(reader->rest, len);
    return bytes;
}

static void get_numbers(struct reader *reader, struct hop *hop)
{
    uint64_t began = 0;

    for (int i = 0; i < 8; i++)
        began = began << 8 | get_byte(reader);
    hop->began_us = (int64_t)began;
    hop->ended_us = (int64_t)(began + unzigzag(get_number(reader, UINT64_MAX)));
    if (get_enum(reader, 2) == 1)
        hop->next_us = (int64_t)(began + unzigzag(get_number(reader, UINT64_MAX)));
    hop->session = get_number(reader, UINT64_MAX);
    hop->bytes = get_number(reader, UINT64_MAX);
    hop->count = (uint32_t)get_number(reader, UINT32_MAX);
    hop->attempt = (uint32_t)get_number(reader, UINT32_MAX);
    hop->code = (uint16_t)get_number(reader, UINT16_MAX);
    hop->status_class = (uint8_t)get_number(reader, UINT8_MAX);
    hop->status_subject = (uint16_t)get_number(reader, UINT16_MAX);
    hop->status_detail = (uint16_t)get_number(reader, UINT16_MAX);
}

static void get_texts(struct reader *reader, struct hop *hop)
{
    while (reader->rest.len && !reader->failed) {
        unsigned place = get_byte(reader);
        size_t len = (size_t)get_number(reader, HOP_TEXT_LIMIT);
        struct str text = get_bytes(reader, len);
        if (place == 0 || place > TEXT_COUNT)
            reader->failed = true;
        else
            *text_at(hop, place - 1) = text;
    }
}

enum err hop_decode(struct str bytes, struct hop *out_hop)
{
    struct reader reader = { .rest = bytes };
    struct hop hop = { 0 };

    if (bytes.len == 0)
        return ERR_CORRUPT;
    if (get_byte(&reader) != HOP_VERSION)
        return ERR_VERSION;
    struct str id = get_bytes(&reader, MSGID_BYTES);
    if (id.len == MSGID_BYTES)
        memcpy(hop.id.bytes, id.at, MSGID_BYTES);
    hop.weight = (enum hop_weight)get_enum(&reader, HOP_WEIGHT_COUNT);
    hop.side = (enum hop_side)get_enum(&reader, HOP_OUT + 1);
    hop.stage = (enum stage)get_enum(&reader, STAGE_COUNT);
    hop.result = (enum result)get_enum(&reader, RESULT_COUNT);
    hop.scope = (enum scope)get_enum(&reader, SCOPE_COUNT);
    hop.kind = (enum class)get_enum(&reader, CLASS_COUNT);
    get_numbers(&reader, &hop);
    get_texts(&reader, &hop);
    if (reader.failed)
        return ERR_CORRUPT;
    *out_hop = hop;
    return ERR_OK;
}
