/*
 * mime.c - the boundary machine.
 *
 * A line end is held back until the next line shows that it does not belong to
 * a boundary (RFC 2046 5.1.1: the CRLF before it is part of the delimiter).
 * Only lines that begin with a hyphen are put together before they are judged;
 * everything else passes in runs of lines.
 */
#include "relay/mail/mime.h"

#include "relay/mail/header.h"
#include "relay/mail/param.h"

#include <stdlib.h>

#define LINE_MAX_KEPT (MIME_BOUNDARY_MAX + 4 + 64) /* hyphens, padding, line end */
#define QUEUE_MAX 8

struct frame {
    char boundary[MIME_BOUNDARY_MAX];
    size_t boundary_len;
    unsigned depth;
    bool is_digest, is_signed;
};

/* Where the entity whose head is being read stands. */
struct place {
    unsigned depth;
    bool in_digest, is_signed, is_message;
};

struct mime {
    struct arena scratch; /* what the events of one step point to */
    struct frame frames[MIME_DEPTH_MAX + 1];
    size_t frame_count;
    struct place place;
    bool in_head; /* collecting an inner head */
    struct buf head;
    size_t head_line; /* where its last line begins */
    struct buf line;  /* a line that may be a boundary */
    bool at_line_start;
    unsigned held; /* of "\r\n": how much of it was seen and not passed on */
    bool in_region;
    unsigned region_count;
    struct mime_event queue[QUEUE_MAX];
    size_t queue_at, queue_len;
};

static struct mime_event *push(struct mime *mime, enum mime_event_kind kind, struct str bytes)
{
    struct mime_event *event = &mime->queue[mime->queue_len++];

    *event = (struct mime_event){ .kind = kind, .bytes = bytes };
    return event;
}

static void push_bytes(struct mime *mime, enum mime_event_kind kind, struct str bytes)
{
    if (bytes.len > 0)
        push(mime, kind, bytes);
}

static void push_held(struct mime *mime, enum mime_event_kind kind)
{
    push_bytes(mime, kind, str_make("\r\n", mime->held));
    mime->held = 0;
}

static void end_region(struct mime *mime)
{
    if (mime->in_region)
        push(mime, MIME_EVENT_END, STR_EMPTY);
    mime->in_region = false;
}

static struct mime_part *begin_region(struct mime *mime, enum mime_kind kind, struct str head,
                                      bool is_signed)
{
    struct mime_part *part = &push(mime, MIME_EVENT_BEGIN, head)->part;

    part->region = mime->region_count++;
    part->kind = kind;
    part->is_signed = is_signed;
    part->charset = STR_EMPTY;
    mime->in_region = kind == MIME_LEAF || kind == MIME_FILLER;
    if (mime->region_count >= MIME_REGIONS_MAX) {
        part->is_fixed = true;
        mime->frame_count = 0; /* no boundary is looked for any more */
    }
    return part;
}

/* ---- entities ---- */

static enum mime_cte cte_of(struct str head)
{
    static const struct {
        const char *word;
        enum mime_cte cte;
    } words[] = {
        { "7bit", CTE_7BIT },           { "8bit", CTE_8BIT },     { "binary", CTE_BINARY },
        { "quoted-printable", CTE_QP }, { "base64", CTE_BASE64 },
    };
    struct header_field field;

    if (!header_find(head, STR("Content-Transfer-Encoding"), &field, NULL))
        return CTE_7BIT;
    struct str word = param_main(&field.value);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (str_ieq(word, str_of(words[i].word)))
            return words[i].cte;
    return word.len == 0 ? CTE_7BIT : CTE_OTHER;
}

static bool is_well_formed(struct str head)
{
    struct header_field field;
    enum err rc;

    while (header_next(&head, &field, &rc))
        ;
    return rc == ERR_OK && head.len > 0; /* with its empty line */
}

static bool push_frame(struct mime *mime, struct str type, struct str content_type, unsigned depth)
{
    struct str boundary = header_param(content_type, STR("boundary"), &mime->scratch);

    if (boundary.len == 0 || boundary.len > MIME_BOUNDARY_MAX || !str_is_ascii(boundary) ||
        depth >= MIME_DEPTH_MAX || mime->frame_count >= MIME_DEPTH_MAX)
        return false;
    struct frame *frame = &mime->frames[mime->frame_count++];
    memcpy(frame->boundary, boundary.at, boundary.len);
    frame->boundary_len = boundary.len;
    frame->depth = depth;
    frame->is_digest = str_ieq(type, STR("multipart/digest"));
    frame->is_signed = mime->place.is_signed || str_ieq(type, STR("multipart/signed")) ||
                       str_ieq(type, STR("multipart/encrypted"));
    return true;
}

/* A region with a head; `like` says what the head says. */
static void begin_part(struct mime *mime, enum mime_kind kind, struct str head,
                       struct mime_part like)
{
    struct mime_part *part = begin_region(mime, kind, head, mime->place.is_signed);

    like.region = part->region;
    like.kind = kind;
    like.is_signed = part->is_signed;
    like.is_fixed |= part->is_fixed;
    *part = like;
}

static void begin_message(struct mime *mime)
{
    mime->place.in_digest = false;
    mime->place.is_message = true;
    mime->place.depth++;
    mime->in_head = true;
    buf_reset(&mime->head);
    mime->head_line = 0;
}

static bool is_container(struct str type)
{
    return str_istarts(type, STR("multipart/")) || str_ieq(type, STR("message/rfc822")) ||
           str_ieq(type, STR("message/partial")) || str_ieq(type, STR("message/external-body"));
}

/* A head is whole: what is it the head of? */
static void begin_entity(struct mime *mime, struct str head)
{
    struct place place = mime->place;
    struct header_field field = { .value = STR_EMPTY };
    bool has_field = header_find(head, STR("Content-Type"), &field, NULL);
    const struct str implied = place.in_digest ? STR("message/rfc822") : STR("text/plain");
    struct str rest = has_field ? field.value : implied;
    struct str type = param_main(&rest);
    struct mime_part part = {
        .cte = cte_of(head),
        .is_message_head = place.is_message,
        .has_type = has_field || place.in_digest,
        .charset = header_param(field.value, STR("charset"), &mime->scratch),
    };
    bool is_plain = part.cte == CTE_7BIT || part.cte == CTE_8BIT || part.cte == CTE_BINARY;
    bool is_open = is_well_formed(head) && is_plain && mime->region_count + 2 < MIME_REGIONS_MAX;

    mime->in_head = false;
    mime->at_line_start = true;
    if (is_open && str_istarts(type, STR("multipart/")) &&
        push_frame(mime, type, field.value, place.depth + 1)) {
        begin_part(mime, MIME_MULTIPART, head, part);
        begin_region(mime, MIME_FILLER, STR_EMPTY, mime->frames[mime->frame_count - 1].is_signed);
        return;
    }
    if (is_open && str_ieq(type, STR("message/rfc822")) && place.depth < MIME_DEPTH_MAX) {
        begin_part(mime, MIME_MESSAGE, head, part);
        begin_message(mime);
        return;
    }
    /* RFC 2045 6.4, RFC 2046 5.2: containers may not be encoded. */
    part.is_fixed = (is_container(type) && is_plain) || !is_well_formed(head);
    begin_part(mime, MIME_LEAF, head, part);
}

/* ---- boundaries ---- */

/* Which open boundary is this line, innermost first? SIZE_MAX: none. The whole
 * line must be it: a prefix would take "--abcd" for "--abc". */
static size_t match_boundary(const struct mime *mime, struct str line, bool *out_closes)
{
    line = str_from(line, 2);
    while (line.len > 0 && strchr(" \t\r\n", line.at[line.len - 1]))
        line.len--;
    for (size_t i = mime->frame_count; i-- > 0;) {
        struct str boundary = str_make(mime->frames[i].boundary, mime->frames[i].boundary_len);
        if (!str_starts(line, boundary))
            continue;
        struct str tail = str_from(line, boundary.len);
        *out_closes = str_eq(tail, STR("--"));
        if (tail.len == 0 || *out_closes)
            return i;
    }
    return SIZE_MAX;
}

static bool is_boundary_like(struct str line) { return str_starts(line, STR("--")); }

/* A boundary line: what is open inside its multipart ends here. */
static bool take_boundary(struct mime *mime, struct str line)
{
    bool closes = false;
    size_t at = is_boundary_like(line) ? match_boundary(mime, line, &closes) : SIZE_MAX;

    if (at == SIZE_MAX)
        return false;
    struct frame *frame = &mime->frames[at];
    end_region(mime);
    push_held(mime, MIME_EVENT_RAW);
    push(mime, MIME_EVENT_RAW, line);
    mime->at_line_start = true;
    mime->frame_count = closes ? at : at + 1;
    if (closes) {
        begin_region(mime, MIME_FILLER, STR_EMPTY, frame->is_signed);
        mime->in_head = false;
        return true;
    }
    mime->place = (struct place){ .depth = frame->depth,
                                  .in_digest = frame->is_digest,
                                  .is_signed = frame->is_signed };
    mime->in_head = true;
    buf_reset(&mime->head);
    mime->head_line = 0;
    return true;
}

/* ---- bytes ---- */

/* Body bytes of the current region; their last line end is held back. */
static void take_content(struct mime *mime, struct str bytes)
{
    if (mime->held == 1 && bytes.at[0] == '\n') {
        mime->held = 2;
        bytes = str_from(bytes, 1);
        mime->at_line_start = true;
        if (bytes.len == 0)
            return;
    }
    push_held(mime, MIME_EVENT_BODY);
    if (bytes.at[bytes.len - 1] == '\r')
        mime->held = 1;
    else if (bytes.len > 1 && bytes.at[bytes.len - 1] == '\n' && bytes.at[bytes.len - 2] == '\r')
        mime->held = 2;
    mime->at_line_start = mime->held == 2;
    push_bytes(mime, MIME_EVENT_BODY, str_head(bytes, bytes.len - mime->held));
}

/* The head could not be finished: its bytes are a part that nobody touches. */
static void give_up_head(struct mime *mime)
{
    struct mime_part part = { .is_fixed = true, .has_type = true, .charset = STR_EMPTY };
    struct str head = arena_str(&mime->scratch, buf_view(&mime->head));

    mime->in_head = false;
    begin_part(mime, MIME_LEAF, head, part);
}

static void take_head_line(struct mime *mime)
{
    struct str head = buf_view(&mime->head);
    struct str line = str_from(head, mime->head_line);

    if (str_eq(line, STR("\r\n"))) {
        begin_entity(mime, arena_str(&mime->scratch, head));
        return;
    }
    if (is_boundary_like(line) && line.len <= LINE_MAX_KEPT) {
        struct str kept = arena_str(&mime->scratch, line);
        size_t line_at = mime->head_line;
        bool closes;
        if (match_boundary(mime, kept, &closes) != SIZE_MAX) {
            mime->head.len = line_at;
            give_up_head(mime);
            take_boundary(mime, kept);
            return;
        }
    }
    mime->head_line = head.len;
}

static void step_head(struct mime *mime, struct str *in)
{
    size_t room = MIME_HEAD_MAX - mime->head.len;
    size_t end = str_chr(*in, '\n');
    size_t len = end < in->len ? end + 1 : in->len;

    len = len < room ? len : room;
    buf_append(&mime->head, in->at, len);
    *in = str_from(*in, len);
    struct str head = buf_view(&mime->head);
    if (head.len - mime->head_line >= 2 && str_iends(head, STR("\r\n")))
        take_head_line(mime);
    if (mime->in_head && mime->head.len >= MIME_HEAD_MAX) {
        bool ends_line = mime->head_line == mime->head.len;
        give_up_head(mime);
        mime->at_line_start = ends_line;
    }
}

/* Put the line together that may be a boundary. */
static void step_line(struct mime *mime, struct str *in)
{
    while (in->len > 0) {
        char c = in->at[0];
        buf_char(&mime->line, c);
        *in = str_from(*in, 1);
        struct str line = buf_view(&mime->line);
        bool ends_line = str_iends(line, STR("\r\n"));
        bool is_hopeless = line.len >= LINE_MAX_KEPT || (line.len == 2 && c != '-');
        if (!ends_line && !is_hopeless)
            continue;
        line = arena_str(&mime->scratch, line);
        buf_reset(&mime->line);
        if (!ends_line || !take_boundary(mime, line))
            take_content(mime, line);
        return;
    }
}

/* A run of bytes up to the next line that begins with a hyphen. */
static void step_run(struct mime *mime, struct str *in)
{
    size_t at = 0;

    while (at < in->len) {
        const char *lf = memchr(in->at + at, '\n', in->len - at);
        at = lf ? (size_t)(lf - in->at) + 1 : in->len;
        if (lf && at < in->len && in->at[at] == '-' && mime->frame_count > 0)
            break;
    }
    struct str run = str_head(*in, at);
    *in = str_from(*in, at);
    take_content(mime, run);
}

bool mime_next(struct mime *mime, struct str *in, struct mime_event *out_event)
{
    while (mime->queue_at == mime->queue_len) {
        mime->queue_at = mime->queue_len = 0;
        if (in->len == 0)
            return false;
        if (mime->scratch.used_bytes > 0)
            arena_clear(&mime->scratch);
        bool may_be_boundary = mime->frame_count > 0 && mime->at_line_start && mime->held != 1;
        if (mime->in_head)
            step_head(mime, in);
        else if (mime->line.len > 0 || (may_be_boundary && in->at[0] == '-'))
            step_line(mime, in);
        else
            step_run(mime, in);
    }
    *out_event = mime->queue[mime->queue_at++];
    return true;
}

void mime_finish(struct mime *mime)
{
    struct str line = arena_str(&mime->scratch, buf_view(&mime->line));

    mime->queue_at = mime->queue_len = 0;
    if (mime->in_head)
        give_up_head(mime);
    if (line.len > 0 && !take_boundary(mime, line))
        take_content(mime, line);
    if (mime->in_head) /* the last boundary opened a part that never came */
        mime->in_head = false;
    if (mime->in_region)
        push_held(mime, MIME_EVENT_BODY);
    end_region(mime);
    if (mime->queue_len > 0)
        mime->queue[mime->queue_len - 1].is_last = true;
}

struct mime *mime_new(struct str head)
{
    struct mime *mime = mem_alloc(sizeof(*mime));

    arena_init(&mime->scratch);
    buf_init(&mime->head, MIME_HEAD_MAX);
    buf_init(&mime->line, LINE_MAX_KEPT);
    mime->place.is_message = true;
    begin_entity(mime, head);
    return mime;
}

void mime_free(struct mime **mime)
{
    if (!*mime)
        return;
    arena_clear(&(*mime)->scratch);
    buf_clear(&(*mime)->head);
    buf_clear(&(*mime)->line);
    free(*mime);
    *mime = NULL;
}
