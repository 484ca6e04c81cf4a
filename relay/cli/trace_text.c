/*
 * trace_text.c - hops grouped by message, each step a line with its details below.
 */
#include "relay/cli/trace_text.h"

#include "relay/base/clock.h"

#include <inttypes.h>
#include <stdlib.h>

#define TEXT_SHOWN 1024
#define COLUMN_KEY 46 /* where details begin */
#define KEY_WIDTH 11

/* What belongs together: a message, or a session that never became one. */
struct group {
    struct hop *hops;
    size_t count;
    int64_t began_us;
};

/* ---- order ---- */

static int by_owner(const struct hop *a, const struct hop *b)
{
    int order = msgid_cmp(&a->id, &b->id);

    if (order || !msgid_is_nil(&a->id))
        return order;
    return a->session < b->session ? -1 : a->session > b->session;
}

static int by_time(const struct hop *a, const struct hop *b)
{
    if (a->ended_us != b->ended_us)
        return a->ended_us < b->ended_us ? -1 : 1;
    return a->stage < b->stage ? -1 : a->stage > b->stage;
}

static int hop_order(const void *a, const void *b)
{
    int order = by_owner(a, b);

    return order ? order : by_time(a, b);
}

static int group_order(const void *a, const void *b)
{
    const struct group *left = a, *right = b;

    return left->began_us < right->began_us ? -1 : left->began_us > right->began_us;
}

static size_t group_hops(struct hop *hops, size_t count, struct group *groups)
{
    size_t found = 0;

    if (count)
        qsort(hops, count, sizeof(*hops), hop_order);
    for (size_t i = 0; i < count; i++) {
        struct group *group = found ? &groups[found - 1] : NULL;
        if (!group || by_owner(group->hops, &hops[i]) != 0) {
            group = &groups[found++];
            *group = (struct group){ .hops = &hops[i], .began_us = hops[i].began_us };
        }
        group->count++;
        if (hops[i].began_us < group->began_us)
            group->began_us = hops[i].began_us;
    }
    if (found)
        qsort(groups, found, sizeof(*groups), group_order);
    return found;
}

/* ---- pieces ---- */

static const char *paint_of(const struct hop *hop, const struct show_paint *paint)
{
    switch (hop->result) {
    case RESULT_OK:
        return hop->weight == HOP_ALARM ? paint->red : "";
    case RESULT_DELIVERED:
        return paint->green;
    case RESULT_LATER:
        return paint->yellow;
    case RESULT_FAILED:
        return paint->red;
    case RESULT_COUNT:
        break;
    }
    return "";
}

/* "0.012s", "3m 20s" */
static void put_duration(struct buf *out, int64_t us)
{
    if (us < 0)
        us = 0;
    if (us < (int64_t)60 * 1000000)
        buf_printf(out, "%u.%03us", (unsigned)(us / 1000000), (unsigned)(us / 1000 % 1000));
    else
        show_span(out, us / 1000000);
}

static void put_time(struct buf *out, int64_t us)
{
    char text[32];

    clock_iso(us, text, sizeof(text));
    buf_cstr(out, text);
}

static void put_detail(struct buf *out, const char *key, struct str value,
                       const struct show_paint *paint)
{
    size_t start;

    if (value.len == 0)
        return;
    start = out->len;
    show_pad(out, start, COLUMN_KEY);
    buf_printf(out, "%s%-*s%s", paint->dim, KEY_WIDTH, key, paint->end);
    show_text(out, value, TEXT_SHOWN);
    buf_char(out, '\n');
}

/* "mx1.example.net [192.0.2.1]:25", and what the step is about */
static void put_who(struct buf *out, const struct hop *hop)
{
    const struct {
        const char *lead;
        struct str text;
    } parts[] = {
        { hop->side == HOP_IN ? "from " : "", hop->host },
        { "", hop->peer },
        { "to ", hop->recipient },
        { "", str_eq(hop->text, hop->host) ? STR_EMPTY : hop->text },
    };
    const char *gap = "  ";

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (parts[i].text.len == 0)
            continue;
        buf_printf(out, "%s%s", gap, parts[i].lead);
        show_text(out, parts[i].text, TEXT_SHOWN);
        gap = i == 0 ? " " : ", ";
    }
}

static void put_verdict(struct buf *out, const struct hop *hop, const struct show_paint *paint)
{
    struct buf line;

    if (hop->kind == CLASS_NONE && hop->status_class == 0)
        return;
    buf_init(&line, 256);
    if (hop->kind != CLASS_NONE)
        buf_cstr(&line, class_word(hop->kind));
    if (hop->scope != SCOPE_NONE)
        buf_printf(&line, "%sconcerns %s", line.len ? ", " : "", scope_word(hop->scope));
    if (hop->status_class)
        buf_printf(&line, "%sstatus %u.%u.%u", line.len ? ", " : "", hop->status_class,
                   hop->status_subject, hop->status_detail);
    put_detail(out, "class", buf_view(&line), paint);
    buf_clear(&line);
}

static void put_numbers(struct buf *out, const struct hop *hop, const struct show_paint *paint)
{
    struct buf line;

    buf_init(&line, 256);
    if (hop->attempt)
        buf_printf(&line, "attempt %u", hop->attempt);
    if (hop->bytes) {
        buf_cstr(&line, line.len ? ", " : "");
        show_size(&line, hop->bytes);
        buf_cstr(&line, " octets");
    }
    if (hop->count)
        buf_printf(&line, "%s%u recipient%s", line.len ? ", " : "", hop->count,
                   hop->count == 1 ? "" : "s");
    put_detail(out, "with", buf_view(&line), paint);
    buf_reset(&line);
    if (hop->next_us) {
        put_time(&line, hop->next_us);
        buf_cstr(&line, ", after ");
        put_duration(&line, hop->next_us - hop->ended_us);
        put_detail(out, "next try", buf_view(&line), paint);
    }
    buf_clear(&line);
}

/* ---- a step ---- */

/* The place is worth a line where it is decided; later host and recipient tell. */
static bool tells_lane(const struct hop *hop)
{
    return hop->stage == STAGE_RECEIVE || hop->stage == STAGE_QUEUE || hop->stage == STAGE_ROUTE ||
           hop->stage == STAGE_WAIT || hop->stage == STAGE_ALARM;
}

/* The step that settles a recipient repeats what the step before it found out. */
static bool repeats(const struct hop *hop, const struct hop *before)
{
    return before && str_eq(hop->cause, before->cause) && str_eq(hop->fix, before->fix);
}

static void put_step(struct buf *out, const struct hop *hop, const struct hop *before,
                     int64_t began_us, const struct show_paint *paint)
{
    size_t start = out->len;

    put_time(out, hop->ended_us);
    show_pad(out, start, 26);
    buf_char(out, '+');
    put_duration(out, hop->ended_us - began_us);
    show_pad(out, start, 37);
    put_duration(out, hop->ended_us - hop->began_us);
    show_pad(out, start, 46);
    buf_printf(out, "%s%-9s%s%s%-9s%s", paint->bold, stage_word(hop->stage), paint->end,
               paint_of(hop, paint), result_word(hop->result), paint->end);
    put_who(out, hop);
    while (out->len > start && out->at[out->len - 1] == ' ')
        out->len--;
    buf_char(out, '\n');
    put_detail(out, "sender", hop->sender, paint);
    put_detail(out, "user", hop->user, paint);
    if (tells_lane(hop))
        put_detail(out, "lane", hop->lane, paint);
    put_numbers(out, hop, paint);
    put_detail(out, "TLS", hop->tls, paint);
    put_detail(out, "policy", hop->policy, paint);
    put_detail(out, "reply", hop->said, paint);
    put_detail(out, "trouble", hop->fault, paint);
    put_verdict(out, hop, paint);
    if (!repeats(hop, before)) {
        put_detail(out, "cause", hop->cause, paint);
        put_detail(out, "next step", hop->fix, paint);
    }
    put_detail(out, "their id", hop->remote_id, paint);
}

/* ---- a message ---- */

static struct str first_text(const struct group *group, size_t offset)
{
    for (size_t i = 0; i < group->count; i++) {
        const struct str *text = (const void *)((const char *)&group->hops[i] + offset);
        if (text->len)
            return *text;
    }
    return STR_EMPTY;
}

static void put_head(struct buf *out, const struct group *group, const struct show_paint *paint)
{
    struct str message_id = first_text(group, offsetof(struct hop, message_id));
    struct str sender = first_text(group, offsetof(struct hop, sender));
    char id[MSGID_TEXT + 1];

    if (msgid_is_nil(&group->hops->id)) {
        buf_printf(out, "%ssession %" PRIx64 "%s, no message of it was accepted\n", paint->bold,
                   group->hops->session, paint->end);
        return;
    }
    msgid_print(&group->hops->id, id);
    buf_printf(out, "%smessage %s%s", paint->bold, id, paint->end);
    if (sender.len) {
        buf_cstr(out, "  from ");
        show_text(out, sender, TEXT_SHOWN);
    }
    if (message_id.len) {
        buf_cstr(out, "  Message-ID ");
        show_text(out, message_id, TEXT_SHOWN);
    }
    buf_char(out, '\n');
}

/* Only these say what becomes of a recipient; a DSN's own goes elsewhere. */
static bool concerns_recipient(const struct hop *hop)
{
    return hop->recipient.len && (hop->stage == STAGE_RECEIVE || hop->stage == STAGE_SETTLE);
}

/* The last hop that settles the recipient of `first`, else the last that followed its
 * alias; itself when there is none. NULL: an earlier hop named the same recipient. */
static const struct hop *last_of(const struct group *group, const struct hop *first)
{
    const struct hop *last = first;

    for (const struct hop *hop = group->hops; hop < group->hops + group->count; hop++) {
        if (!str_ieq(hop->recipient, first->recipient))
            continue;
        if (concerns_recipient(hop) && hop < first)
            return NULL;
        if (hop->stage == STAGE_SETTLE ||
            (hop->stage == STAGE_EXPAND && last->stage != STAGE_SETTLE))
            last = hop;
    }
    return last;
}

/* A recipient that nobody has tried. */
static const char *untried(const struct hop *hop)
{
    if (hop->stage == STAGE_EXPAND)
        return hop->result == RESULT_OK ? "leads to other addresses: see expand"
                                        : "held: it leads nowhere, see expand";
    return hop->result == RESULT_OK ? "no attempt has ended yet" : result_word(hop->result);
}

static void put_fate(struct buf *out, const struct hop *hop, const struct show_paint *paint)
{
    buf_cstr(out, "  ");
    show_text(out, hop->recipient, TEXT_SHOWN);
    buf_cstr(out, "  ");
    if (hop->stage != STAGE_SETTLE) {
        buf_printf(out, "%s\n", untried(hop));
        return;
    }
    buf_printf(out, "%s%s%s", paint_of(hop, paint), result_word(hop->result), paint->end);
    if (hop->attempt)
        buf_printf(out, ", attempt %u", hop->attempt);
    buf_cstr(out, ", ");
    put_time(out, hop->ended_us);
    if (hop->next_us) {
        buf_cstr(out, ", next try ");
        put_time(out, hop->next_us);
    }
    if (hop->said.len) {
        buf_cstr(out, ": ");
        show_text(out, hop->said, 200);
    }
    buf_char(out, '\n');
}

static void put_fates(struct buf *out, const struct group *group, const struct show_paint *paint)
{
    bool any = false;

    for (size_t i = 0; i < group->count; i++) {
        const struct hop *last;
        if (!concerns_recipient(&group->hops[i]))
            continue;
        last = last_of(group, &group->hops[i]);
        if (!last)
            continue;
        if (!any)
            buf_printf(out, "%srecipients%s\n", paint->bold, paint->end);
        any = true;
        put_fate(out, last, paint);
    }
}

void trace_text(struct hop *hops, size_t count, const struct show_paint *paint, struct buf *out)
{
    struct group *groups = mem_alloc((count + 1) * sizeof(*groups));
    size_t found = group_hops(hops, count, groups);

    for (size_t g = 0; g < found; g++) {
        if (g)
            buf_char(out, '\n');
        put_head(out, &groups[g], paint);
        for (size_t i = 0; i < groups[g].count; i++)
            put_step(out, &groups[g].hops[i], i ? &groups[g].hops[i - 1] : NULL, groups[g].began_us,
                     paint);
        put_fates(out, &groups[g], paint);
    }
    free(groups);
}
