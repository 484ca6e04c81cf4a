/*
 * record.c - packing envelopes.
 *
 * Layout, version 1: version byte, kind byte (0: slice 0, 1: another slice),
 * checksum of what follows (FNV-1a, 32 bits, big endian), payload. Numbers are
 * 7 bits a byte, low first; times zigzag; text is length + 1 and bytes. A text
 * of a recipient that is the same as the one before it in the slice is a 0:
 * recipients of one lane share lane, host and reply.
 *
 * Enum values are stored as numbers: rows may be added at the end of their
 * lists; any other change needs a new version here.
 */
#include "queue/record.h"

#include <assert.h>

#define RECORD_VERSION 1
enum { KIND_FIRST, KIND_MORE };

static uint32_t checksum(const char *bytes, size_t len)
{
    uint32_t sum = UINT32_C(2166136261);

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ (uint8_t)bytes[i]) * UINT32_C(16777619);
    return sum;
}

void record_seal(char *bytes, size_t len)
{
    uint32_t sum = checksum(bytes + RECORD_FRAME, len - RECORD_FRAME);

    bytes[0] = RECORD_VERSION;
    for (int i = 0; i < 4; i++)
        bytes[2 + i] = (char)(uint8_t)(sum >> (24 - 8 * i));
}

size_t record_slices(const struct envelope *envelope)
{
    size_t count = envelope->recipient_count;

    return count <= RECORD_SLICE ? 1 : (count + RECORD_SLICE - 1) / RECORD_SLICE;
}

/* ---- encode ------------------------------------------------------------ */

static void put_number(struct buf *out, uint64_t value)
{
    char bytes[10];
    size_t len = 0;

    for (; value >= 0x80; value >>= 7)
        bytes[len++] = (char)(uint8_t)(value | 0x80);
    bytes[len++] = (char)(uint8_t)value;
    buf_append(out, bytes, len);
}

static void put_signed(struct buf *out, int64_t value)
{
    uint64_t bits = (uint64_t)value;

    put_number(out, value < 0 ? ~(bits << 1) : bits << 1);
}

static void put_text(struct buf *out, struct str text)
{
    put_number(out, text.len + 1);
    buf_str(out, text);
}

static void put_text_or_same(struct buf *out, struct str text, struct str before)
{
    if (str_eq(text, before))
        put_number(out, 0);
    else
        put_text(out, text);
}

static void put_facts(struct buf *out, const struct envelope *envelope,
                      const struct record_content *content)
{
    buf_append(out, envelope->id.bytes, MSGID_BYTES);
    put_signed(out, envelope->arrived_us);
    put_text(out, envelope->sender);
    put_text(out, envelope->envid);
    put_text(out, envelope->user);
    put_text(out, envelope->client);
    put_text(out, envelope->helo);
    put_text(out, envelope->listener);
    put_text(out, envelope->message_id);
    put_text(out, envelope->from_domain);
    put_number(out, envelope->ret);
    put_number(out, envelope->flags);
    put_number(out, envelope->size_bytes);
    put_number(out, content->head_len);
    put_number(out, content->body_len);
    put_number(out, content->own_signatures);
    put_text(out, content->file);
    put_number(out, envelope->recipient_count);
}

static void put_recipient(struct buf *out, const struct recipient *r,
                          const struct recipient *before)
{
    put_text(out, r->address);
    put_text(out, r->orcpt);
    put_text_or_same(out, r->lane, before->lane);
    put_number(out, r->notify);
    put_number(out, (uint64_t)r->state << 1 | r->warned);
    put_number(out, r->attempts);
    put_signed(out, r->due_at);
    put_signed(out, r->tried_at);
    put_signed(out, r->held_lifetime_s);
    put_number(out, r->stage);
    put_number(out, r->kind);
    put_text_or_same(out, r->status, before->status);
    put_text_or_same(out, r->host, before->host);
    put_text_or_same(out, r->said, before->said);
    put_text_or_same(out, r->cause, before->cause);
    put_text_or_same(out, r->fix, before->fix);
}

static size_t slice_end(const struct envelope *envelope, size_t slice)
{
    size_t end = (slice + 1) * RECORD_SLICE;

    return end < envelope->recipient_count ? end : envelope->recipient_count;
}

void record_encode(const struct envelope *envelope, const struct record_content *content,
                   size_t slice, struct buf *out)
{
    static const struct recipient none;
    const struct recipient *before = &none;
    const char frame[RECORD_FRAME] = { 0, slice ? KIND_MORE : KIND_FIRST };
    size_t start = out->len;

    assert(envelope->recipient_count <= RECORD_RECIPIENTS_MAX);
    buf_append(out, frame, sizeof(frame));
    if (slice == 0)
        put_facts(out, envelope, content);
    else
        put_number(out, slice);
    for (size_t i = slice * RECORD_SLICE; i < slice_end(envelope, slice); i++) {
        put_recipient(out, &envelope->recipients[i], before);
        before = &envelope->recipients[i];
    }
    assert(!out->overflowed);
    record_seal(out->at + start, out->len - start);
}

/* ---- decode: any bytes may come ---------------------------------------- */

struct reader {
    struct str rest;
    bool failed;
};

static uint64_t get_number(struct reader *reader, uint64_t most)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && reader->rest.len > 0; shift += 7) {
        uint8_t byte = (uint8_t)reader->rest.at[0];
        reader->rest = str_from(reader->rest, 1);
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

static int64_t get_signed(struct reader *reader)
{
    uint64_t bits = get_number(reader, UINT64_MAX);

    return (int64_t)(bits & 1 ? ~(bits >> 1) : bits >> 1);
}

static struct str get_bytes(struct reader *reader, uint64_t len)
{
    if (len > reader->rest.len) {
        reader->failed = true;
        return STR_EMPTY;
    }
    struct str bytes = str_head(reader->rest, (size_t)len);
    reader->rest = str_from(reader->rest, (size_t)len);
    return bytes;
}

static struct str get_text_or_same(struct reader *reader, struct str before)
{
    uint64_t len = get_number(reader, UINT32_MAX);

    return len == 0 ? before : get_bytes(reader, len - 1);
}

static struct str get_text(struct reader *reader)
{
    uint64_t len = get_number(reader, UINT32_MAX);

    if (len == 0)
        reader->failed = true;
    return len == 0 ? STR_EMPTY : get_bytes(reader, len - 1);
}

static void get_facts(struct reader *reader, struct envelope *envelope,
                      struct record_content *content)
{
    struct str id = get_bytes(reader, MSGID_BYTES);

    if (id.len == MSGID_BYTES)
        memcpy(envelope->id.bytes, id.at, MSGID_BYTES);
    envelope->arrived_us = get_signed(reader);
    envelope->sender = get_text(reader);
    envelope->envid = get_text(reader);
    envelope->user = get_text(reader);
    envelope->client = get_text(reader);
    envelope->helo = get_text(reader);
    envelope->listener = get_text(reader);
    envelope->message_id = get_text(reader);
    envelope->from_domain = get_text(reader);
    envelope->ret = (enum envelope_ret)get_number(reader, RET_HDRS);
    envelope->flags = (unsigned)get_number(reader, UINT32_MAX);
    envelope->size_bytes = get_number(reader, UINT64_MAX);
    content->head_len = get_number(reader, UINT32_MAX);
    content->body_len = get_number(reader, INT64_MAX);
    content->own_signatures = (unsigned)get_number(reader, UINT16_MAX);
    content->file = get_text(reader);
    envelope->recipient_count = (size_t)get_number(reader, RECORD_RECIPIENTS_MAX);
}

static void get_recipient(struct reader *reader, struct recipient *r,
                          const struct recipient *before)
{
    r->address = get_text(reader);
    r->orcpt = get_text(reader);
    r->lane = get_text_or_same(reader, before->lane);
    r->notify = (uint8_t)get_number(reader, UINT8_MAX);
    uint64_t state = get_number(reader, (uint64_t)RECIPIENT_FAILED << 1 | 1);
    r->state = (enum recipient_state)(state >> 1);
    r->warned = state & 1;
    r->attempts = (uint32_t)get_number(reader, UINT32_MAX);
    r->due_at = get_signed(reader);
    r->tried_at = get_signed(reader);
    r->held_lifetime_s = get_signed(reader);
    r->stage = (enum stage)get_number(reader, STAGE_COUNT - 1);
    r->kind = (enum class)get_number(reader, CLASS_COUNT - 1);
    r->status = get_text_or_same(reader, before->status);
    r->host = get_text_or_same(reader, before->host);
    r->said = get_text_or_same(reader, before->said);
    r->cause = get_text_or_same(reader, before->cause);
    r->fix = get_text_or_same(reader, before->fix);
}

static enum err get_recipients(struct reader *reader, size_t slice, struct envelope *envelope,
                               struct fault *fault)
{
    static const struct recipient none = { .lane = { "", 0 },
                                           .status = { "", 0 },
                                           .host = { "", 0 },
                                           .said = { "", 0 },
                                           .cause = { "", 0 },
                                           .fix = { "", 0 } };
    const struct recipient *before = &none;

    for (size_t i = slice * RECORD_SLICE; i < slice_end(envelope, slice) && !reader->failed; i++) {
        get_recipient(reader, &envelope->recipients[i], before);
        before = &envelope->recipients[i];
    }
    if (reader->failed || reader->rest.len > 0)
        return fault_set(fault, ERR_CORRUPT, "the stored recipients do not make sense");
    return ERR_OK;
}

static enum err open_frame(struct str bytes, char kind, struct reader *reader, struct fault *fault)
{
    char frame[RECORD_FRAME];

    if (bytes.len < RECORD_FRAME)
        return fault_set(fault, ERR_CORRUPT, "the stored record is cut short");
    if ((uint8_t)bytes.at[0] > RECORD_VERSION)
        return fault_set(fault, ERR_VERSION,
                         "the record was written by a newer waypost (format %u, this one reads "
                         "up to %u)",
                         (unsigned)(uint8_t)bytes.at[0], RECORD_VERSION);
    uint32_t sum = checksum(bytes.at + RECORD_FRAME, bytes.len - RECORD_FRAME);
    for (int i = 0; i < 4; i++)
        frame[2 + i] = (char)(uint8_t)(sum >> (24 - 8 * i));
    if (bytes.at[0] != RECORD_VERSION || bytes.at[1] != kind ||
        memcmp(frame + 2, bytes.at + 2, 4) != 0)
        return fault_set(fault, ERR_CORRUPT, "the stored record does not match its checksum");
    *reader = (struct reader){ .rest = str_from(bytes, RECORD_FRAME) };
    return ERR_OK;
}

enum err record_decode(struct str bytes, struct envelope *envelope,
                       struct record_content *out_content, struct fault *fault)
{
    struct record_content content = { 0 };
    struct reader reader = { .rest = STR_EMPTY };
    enum err rc = open_frame(bytes, KIND_FIRST, &reader, fault);

    if (rc)
        return rc;
    get_facts(&reader, envelope, &content);
    /* Before memory is taken for them: what follows must be able to hold the first slice. */
    if (reader.failed || (envelope->recipient_count > 0 && reader.rest.len == 0)) {
        envelope->recipient_count = 0;
        return fault_set(fault, ERR_CORRUPT, "the stored envelope does not make sense");
    }
    envelope->recipients =
        arena_alloc(&envelope->arena, envelope->recipient_count * sizeof(struct recipient));
    envelope->recipient_cap = envelope->recipient_count;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct recipient *r = &envelope->recipients[i];
        r->address = r->orcpt = r->lane = r->status = STR_EMPTY;
        r->host = r->said = r->cause = r->fix = STR_EMPTY;
    }
    rc = get_recipients(&reader, 0, envelope, fault);
    if (!rc)
        *out_content = content;
    return rc;
}

enum err record_decode_slice(struct str bytes, size_t slice, struct envelope *envelope,
                             struct fault *fault)
{
    struct reader reader = { .rest = STR_EMPTY };
    enum err rc = open_frame(bytes, KIND_MORE, &reader, fault);

    if (rc)
        return rc;
    if (slice == 0 || slice >= record_slices(envelope) ||
        get_number(&reader, UINT32_MAX) != slice || reader.failed)
        return fault_set(fault, ERR_CORRUPT, "a stored slice is not where it belongs");
    return get_recipients(&reader, slice, envelope, fault);
}
