/*
 * convert.c - the second pass: the body again, with the planned parts encoded
 * and their heads saying so.
 */
#include "relay/mail/convert.h"

#include "relay/mail/convert_plan.h"
#include "relay/mail/encode.h"
#include "relay/mail/header.h"

#include <stdlib.h>

struct convert {
    const struct convert_plan *plan;
    struct mime *mime;
    struct buf *out_head; /* where the root's head goes; NULL once it is written */
    struct transfer transfer;
};

/* ---- heads ---- */

static bool is_encoded(const struct convert_region *region)
{
    return region->transfer == TRANSFER_QP || region->transfer == TRANSFER_BASE64;
}

/* The Content-Transfer-Encoding to write; NULL: the one that is there stays.
 * Nothing inside is 8-bit after a conversion to 7-bit, so no label may say so. */
static const char *new_label(const struct convert_plan *plan, const struct convert_region *region)
{
    if (region->transfer == TRANSFER_QP)
        return "quoted-printable";
    if (region->transfer == TRANSFER_BASE64)
        return "base64";
    if (!plan->is_needed || region->is_signed || region->is_fixed)
        return NULL;
    bool is_8bit = region->cte == CTE_8BIT || region->cte == CTE_BINARY;
    if ((plan->want & CONVERT_7BIT) && is_8bit)
        return "7bit";
    bool is_container = region->kind == MIME_MULTIPART || region->kind == MIME_MESSAGE;
    return is_container && region->cte == CTE_BINARY ? "8bit" : NULL;
}

struct head_writer {
    const struct convert_plan *plan;
    const struct convert_region *region;
    const struct mime_part *part;
    const char *label;
    unsigned own_signatures; /* still to be left out */
    bool has_label, has_version;
    struct buf *out;
    struct arena arena;
};

static bool put_field(struct head_writer *writer, const struct header_field *field)
{
    unsigned want = writer->plan->want;

    if ((want & CONVERT_7BIT) && !str_is_ascii(field->raw))
        return encode_field(field, writer->part->charset, writer->out, &writer->arena, NULL) ==
               ERR_OK;
    if ((want & CONVERT_LONG_LINES) && encode_longest_line(field->raw) > 998)
        return encode_fold(field, writer->out, &writer->arena, NULL) == ERR_OK;
    return buf_str(writer->out, field->raw);
}

static void put_label(struct head_writer *writer)
{
    if (!writer->has_label)
        buf_printf(writer->out, "Content-Transfer-Encoding: %s\r\n", writer->label);
    writer->has_label = true;
}

static bool rewrite_field(struct head_writer *writer, const struct header_field *field)
{
    if (writer->own_signatures > 0 && str_ieq(field->name, STR("DKIM-Signature"))) {
        writer->own_signatures--;
        return true;
    }
    if (writer->label && str_ieq(field->name, STR("Content-Transfer-Encoding"))) {
        put_label(writer);
        return true;
    }
    writer->has_version |= str_ieq(field->name, STR("MIME-Version"));
    return put_field(writer, field);
}

/* What a newly encoded part must say and may not have said before. */
static void put_additions(struct head_writer *writer)
{
    const struct convert_region *region = writer->region;

    if (!writer->label || !is_encoded(region))
        return;
    if (region->is_message_head && !writer->has_version)
        buf_cstr(writer->out, "MIME-Version: 1.0\r\n");
    if (!region->has_type && region->has_8bit)
        buf_printf(writer->out, "Content-Type: text/plain; charset=%s\r\n",
                   region->is_bad_utf8 ? "unknown-8bit" : "utf-8");
    put_label(writer);
}

bool convert_head(const struct convert_plan *plan, const struct convert_region *region,
                  const struct mime_part *part, struct str head, struct buf *out)
{
    struct head_writer writer = {
        .plan = plan,
        .region = region,
        .part = part,
        .label = new_label(plan, region),
        .own_signatures = part->region == 0 ? plan->own_signatures : 0,
        .out = out,
    };
    struct header_field field;
    bool fits = true;

    arena_init(&writer.arena);
    while (fits && header_next(&head, &field, NULL))
        fits = rewrite_field(&writer, &field);
    put_additions(&writer);
    buf_str(out, head); /* the empty line, or what is no header and stays as it is */
    arena_clear(&writer.arena);
    bool is_all = head.len == 0 || str_eq(head, STR("\r\n"));
    return fits && is_all && !out->overflowed;
}

/* ---- bodies ---- */

static void begin_region(struct convert *convert, const struct mime_event *event, struct buf *out)
{
    const struct convert_plan *plan = convert->plan;
    unsigned number = event->part.region;
    bool is_planned = number < plan->count;

    transfer_clear(&convert->transfer);
    transfer_init(&convert->transfer, is_planned ? plan->regions[number].transfer : TRANSFER_COPY);
    if (is_planned && event->bytes.len > 0)
        convert_head(plan, &plan->regions[number], &event->part, event->bytes,
                     number == 0 ? convert->out_head : out);
    else
        buf_str(out, event->bytes);
}

static void take_events(struct convert *convert, struct str in, struct buf *out)
{
    struct mime_event event;

    while (mime_next(convert->mime, &in, &event)) {
        switch (event.kind) {
        case MIME_EVENT_BEGIN:
            begin_region(convert, &event, out);
            break;
        case MIME_EVENT_BODY:
            transfer_feed(&convert->transfer, event.bytes, out);
            break;
        case MIME_EVENT_END:
            transfer_end(&convert->transfer, event.is_last, out);
            break;
        case MIME_EVENT_RAW:
            buf_str(out, event.bytes);
            break;
        }
    }
}

struct convert *convert_new(const struct convert_plan *plan, struct buf *out_head)
{
    struct convert *convert = mem_alloc(sizeof(*convert));

    convert->plan = plan;
    convert->out_head = out_head;
    convert->mime = mime_new(plan->head);
    transfer_init(&convert->transfer, TRANSFER_COPY);
    take_events(convert, STR_EMPTY, out_head);
    return convert;
}

void convert_feed(struct convert *convert, struct str body_piece, struct buf *out)
{
    take_events(convert, body_piece, out);
}

void convert_end(struct convert *convert, struct buf *out)
{
    mime_finish(convert->mime);
    take_events(convert, STR_EMPTY, out);
}

void convert_free(struct convert **convert)
{
    if (!*convert)
        return;
    mime_free(&(*convert)->mime);
    transfer_clear(&(*convert)->transfer);
    free(*convert);
    *convert = NULL;
}
