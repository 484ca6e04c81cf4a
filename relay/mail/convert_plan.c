/*
 * convert_plan.c - the first pass: what is wrong with the body, and what may
 * be done about it.
 *
 * Runs over every message that comes in, so the plain case is a few memchr.
 */
#include "relay/mail/convert_plan.h"

#include "relay/mail/encode.h"
#include "relay/mail/header.h"

#include <stdlib.h>

#define LINE_MAX_OCTETS 998 /* RFC 5322 2.1.1, RFC 5321 4.5.3.1.6 without CRLF */

/* ---- scanning ---- */

static void scan_lines(struct convert_plan *plan, struct convert_region *region, struct str bytes)
{
    while (bytes.len > 0) {
        size_t at = str_chr(bytes, '\n');
        char before = at > 0 ? bytes.at[at - 1] : plan->last;
        bool has_lf = at < bytes.len;
        size_t taken = has_lf ? at + 1 : at;

        plan->line_len += taken;
        plan->last = bytes.at[taken - 1];
        bytes = str_from(bytes, taken);
        if (has_lf && before == '\r') {
            region->has_long_line |= plan->line_len > LINE_MAX_OCTETS + 2;
            plan->line_len = 0;
        }
        /* A line may go on for gigabytes: judge it while it does. */
        region->has_long_line |= plan->line_len > LINE_MAX_OCTETS + 1;
    }
}

/* Well-formed enough to call it UTF-8 in a Content-Type that was missing:
 * lead and continuation bytes agree in number. */
static void scan_utf8(struct convert_plan *plan, struct convert_region *region, struct str bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.at[i];
        bool is_more = (c & 0xc0) == 0x80;
        if (is_more != (plan->utf8_more > 0) || c > 0xf4 || c == 0xc0 || c == 0xc1)
            region->is_bad_utf8 = true;
        if (is_more)
            plan->utf8_more -= plan->utf8_more > 0;
        else
            plan->utf8_more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
    }
}

static size_t count_escapes(struct str bytes)
{
    size_t count = 0;

    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.at[i];
        count += (c > 126) | (c == '=') | ((c < 32) & (c != '\t') & (c != '\r') & (c != '\n'));
    }
    return count;
}

static void scan_bytes(struct convert_plan *plan, struct str bytes)
{
    struct convert_region *region = &plan->regions[plan->count - 1];

    scan_lines(plan, region, bytes);
    region->bytes += bytes.len;
    region->escapes += count_escapes(bytes);
    bool has_8bit = !str_is_ascii(bytes);
    region->has_8bit |= has_8bit;
    if (has_8bit || plan->utf8_more > 0)
        scan_utf8(plan, region, bytes);
}

static bool head_needs(const struct convert_plan *plan, struct str head)
{
    if ((plan->want & CONVERT_7BIT) && !str_is_ascii(head))
        return true;
    return (plan->want & CONVERT_LONG_LINES) && encode_longest_line(head) > LINE_MAX_OCTETS;
}

static void begin_region(struct convert_plan *plan, const struct mime_event *event)
{
    const struct mime_part *part = &event->part;

    if (plan->count == plan->cap) {
        plan->cap = plan->cap ? plan->cap * 2 : 8;
        plan->regions = mem_realloc(plan->regions, plan->cap * sizeof(*plan->regions));
    }
    struct convert_region *region = &plan->regions[plan->count++];
    *region = (struct convert_region){
        .kind = part->kind,
        .cte = part->cte,
        .is_signed = part->is_signed,
        .is_fixed = part->is_fixed,
        .is_message_head = part->is_message_head,
        .has_type = part->has_type,
    };
    plan->line_len = 0;
    plan->last = '\0';
    plan->utf8_more = 0;
    if (!head_needs(plan, event->bytes))
        return;
    struct buf trial;
    buf_init(&trial, event->bytes.len * 8 + 4096);
    region->head_needs = true;
    region->head_fails = !convert_head(plan, region, part, event->bytes, &trial);
    buf_clear(&trial);
}

static void end_region(struct convert_plan *plan)
{
    struct convert_region *region = &plan->regions[plan->count - 1];

    region->has_long_line |= plan->line_len > LINE_MAX_OCTETS;
    region->is_bad_utf8 |= plan->utf8_more > 0;
}

static void take_events(struct convert_plan *plan, struct str in)
{
    struct mime_event event;

    while (mime_next(plan->mime, &in, &event)) {
        switch (event.kind) {
        case MIME_EVENT_BEGIN:
            begin_region(plan, &event);
            break;
        case MIME_EVENT_BODY:
            scan_bytes(plan, event.bytes);
            break;
        case MIME_EVENT_END:
            end_region(plan);
            break;
        case MIME_EVENT_RAW:
            break;
        }
    }
}

struct convert_plan *convert_plan_new(struct str head, unsigned want, unsigned own_signatures)
{
    struct convert_plan *plan = mem_alloc(sizeof(*plan));

    plan->head = str_make(str_dup(head), head.len);
    plan->want = want;
    plan->own_signatures = own_signatures;
    plan->mime = mime_new(plan->head);
    take_events(plan, STR_EMPTY);
    return plan;
}

void convert_plan_feed(struct convert_plan *plan, struct str body_piece)
{
    take_events(plan, body_piece);
}

void convert_plan_free(struct convert_plan **plan)
{
    if (!*plan)
        return;
    mime_free(&(*plan)->mime);
    free((*plan)->regions);
    free((char *)(uintptr_t)(*plan)->head.at);
    free(*plan);
    *plan = NULL;
}

/* ---- deciding ---- */

/* Signatures over the body that are not ours (RFC 6376 bh=, RFC 8617). */
static bool has_foreign_signature(const struct convert_plan *plan)
{
    struct str rest = plan->head;
    struct header_field field;
    unsigned dkim = 0;

    while (header_next(&rest, &field, NULL)) {
        dkim += str_ieq(field.name, STR("DKIM-Signature"));
        if (dkim > plan->own_signatures || str_ieq(field.name, STR("ARC-Message-Signature")))
            return true;
    }
    return false;
}

static bool body_needs(const struct convert_plan *plan, const struct convert_region *region)
{
    return ((plan->want & CONVERT_7BIT) && region->has_8bit) ||
           ((plan->want & CONVERT_LONG_LINES) && region->has_long_line);
}

static enum transfer_kind transfer_of(const struct convert_region *region)
{
    if (region->kind == MIME_FILLER)
        return TRANSFER_CLEAN;
    if (region->cte == CTE_QP)
        return TRANSFER_QP_AGAIN;
    if (region->cte == CTE_BASE64)
        return TRANSFER_BASE64_AGAIN;
    /* An escape costs two octets more, base64 a third of everything. */
    return region->escapes > region->bytes / 6 ? TRANSFER_BASE64 : TRANSFER_QP;
}

static enum err decide(struct convert_plan *plan, struct convert_region *region,
                       struct fault *fault)
{
    bool needs_body = body_needs(plan, region);

    if (!needs_body && !region->head_needs)
        return ERR_OK;
    plan->is_needed = true;
    if (region->is_signed)
        return fault_set(fault, ERR_DENIED, "a signed or encrypted part would have to be changed");
    if (region->head_fails)
        return fault_set(fault, ERR_DENIED, "the header of a part cannot be made plain ASCII");
    if (needs_body && (region->is_fixed || region->cte == CTE_OTHER))
        return fault_set(fault, ERR_DENIED, "a part may not be given another encoding");
    if (needs_body)
        region->transfer = transfer_of(region);
    return ERR_OK;
}

enum err convert_plan_end(struct convert_plan *plan, bool *out_needed, struct fault *fault)
{
    enum err rc = ERR_OK;

    mime_finish(plan->mime);
    take_events(plan, STR_EMPTY);
    for (size_t i = 0; i < plan->count && !rc; i++)
        rc = decide(plan, &plan->regions[i], fault);
    if (rc)
        return rc;
    if (plan->is_needed && has_foreign_signature(plan))
        return fault_set(fault, ERR_DENIED, "a foreign signature covers the content");
    *out_needed = plan->is_needed;
    return ERR_OK;
}
