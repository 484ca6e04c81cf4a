/*
 * queue_text.c - a line for a message, a line for each recipient.
 */
#include "relay/cli/queue_text.h"

#define COLUMN_AGE 28
#define COLUMN_SIZE 37
#define COLUMN_SENDER 46
#define ADDRESS_MAX 256
#define WORDS_MAX 100 /* of the last reply or what else is the cause, in a list */
#define LINE_MAX_SHOWN 1024

static const char *state_paint(struct str state, const struct show_paint *paint)
{
    if (str_eq(state, STR("failed")))
        return paint->red;
    if (str_eq(state, STR("held")))
        return paint->yellow;
    return str_eq(state, STR("delivered")) ? paint->green : "";
}

/* ---- lists ---- */

void queue_text_head(const struct show_paint *paint, struct buf *out)
{
    size_t start;

    buf_cstr(out, paint->bold);
    start = out->len;
    buf_cstr(out, "ID");
    show_pad(out, start, COLUMN_AGE);
    buf_cstr(out, "AGE");
    show_pad(out, start, COLUMN_SIZE);
    buf_cstr(out, "SIZE");
    show_pad(out, start, COLUMN_SENDER);
    buf_printf(out, "SENDER, RECIPIENTS%s\n", paint->end);
}

/* "queued, 3 attempts, next in 12m: 452 4.2.2 mailbox full" */
static void put_state(const json_t *recipient, int64_t now_s, size_t words_max,
                      const struct show_paint *paint, struct buf *out)
{
    struct str state = show_field(recipient, "state"), said = show_field(recipient, "reply");
    struct str why = said.len ? said : show_field(recipient, "cause");
    uint64_t attempts = show_number(recipient, "attempts");

    buf_cstr(out, state_paint(state, paint));
    show_text(out, state, 16);
    buf_cstr(out, paint->end);
    if (str_eq(state, STR("held"))) {
        buf_cstr(out, " for ");
        show_span(out, now_s - show_wall(recipient, "held-since"));
    }
    if (attempts)
        buf_printf(out, ", %llu attempt%s", (unsigned long long)attempts, attempts == 1 ? "" : "s");
    if (str_eq(state, STR("queued"))) {
        buf_cstr(out, ", ");
        show_until(out, show_wall(recipient, "due"), now_s);
    }
    if (why.len && words_max) {
        buf_cstr(out, ": ");
        show_text(out, why, words_max);
    }
}

static void put_recipient(const json_t *recipient, int64_t now_s, const struct show_paint *paint,
                          struct buf *out)
{
    buf_cstr(out, "    ");
    show_text(out, show_field(recipient, "address"), ADDRESS_MAX);
    buf_cstr(out, "  ");
    put_state(recipient, now_s, WORDS_MAX, paint, out);
    buf_char(out, '\n');
}

static void put_corrupt(const json_t *message, const struct show_paint *paint, struct buf *out)
{
    show_text(out, show_field(message, "id"), 32);
    buf_printf(out, "  %scannot be read%s; waypost queue drop ", paint->red, paint->end);
    show_text(out, show_field(message, "id"), 32);
    buf_cstr(out, " removes it\n");
}

void queue_text_row(const json_t *message, int64_t now_s, const struct show_paint *paint,
                    struct buf *out)
{
    const json_t *recipients = json_object_get(message, "recipients");
    uint64_t count = show_number(message, "recipient-count");
    size_t start = out->len, shown = json_array_size(recipients);

    if (json_is_true(json_object_get(message, "corrupt"))) {
        put_corrupt(message, paint, out);
        return;
    }
    show_text(out, show_field(message, "id"), 32);
    show_pad(out, start, COLUMN_AGE);
    show_span(out, now_s - show_wall(message, "arrived"));
    show_pad(out, start, COLUMN_SIZE);
    show_size(out, show_number(message, "size"));
    show_pad(out, start, COLUMN_SENDER);
    show_text(out, show_field(message, "sender"), ADDRESS_MAX);
    buf_char(out, '\n');
    for (size_t i = 0; i < shown; i++)
        put_recipient(json_array_get(recipients, i), now_s, paint, out);
    if (count > shown)
        buf_printf(out, "    %s(%llu recipients in all)%s\n", paint->dim, (unsigned long long)count,
                   paint->end);
}

/* ---- one message ---- */

static void put_line(const char *key, struct str value, const struct show_paint *paint,
                     struct buf *out)
{
    size_t start;

    if (value.len == 0)
        return;
    buf_cstr(out, paint->bold);
    start = out->len;
    buf_cstr(out, key);
    show_pad(out, start, 12);
    buf_cstr(out, paint->end);
    show_text(out, value, LINE_MAX_SHOWN);
    buf_char(out, '\n');
}

static void put_words(const char *key, const json_t *list, const struct show_paint *paint,
                      struct buf *out)
{
    struct buf words;

    buf_init(&words, LINE_MAX_SHOWN);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (i)
            buf_cstr(&words, ", ");
        buf_cstr(&words, json_string_value(json_array_get(list, i)));
    }
    put_line(key, buf_view(&words), paint, out);
    buf_clear(&words);
}

static void put_arrival(const json_t *message, int64_t now_s, const struct show_paint *paint,
                        struct buf *out)
{
    struct buf line;

    buf_init(&line, LINE_MAX_SHOWN);
    buf_str(&line, show_field(message, "arrived"));
    buf_cstr(&line, ", ");
    show_span(&line, now_s - show_wall(message, "arrived"));
    buf_cstr(&line, " ago");
    put_line("arrived", buf_view(&line), paint, out);
    buf_reset(&line);
    show_size(&line, show_number(message, "size"));
    put_line("size", buf_view(&line), paint, out);
    buf_clear(&line);
}

static void put_detail(const char *key, struct str value, const struct show_paint *paint,
                       struct buf *out)
{
    if (value.len == 0)
        return;
    buf_cstr(out, "  ");
    put_line(key, value, paint, out);
}

static void put_recipient_whole(const json_t *recipient, int64_t now_s,
                                const struct show_paint *paint, struct buf *out)
{
    struct buf line;

    buf_init(&line, 512);
    buf_printf(out, "\n%s", paint->bold);
    show_text(out, show_field(recipient, "address"), ADDRESS_MAX);
    buf_printf(out, "%s  ", paint->end);
    put_state(recipient, now_s, 0, paint, out);
    buf_char(out, '\n');
    put_detail("lane", show_field(recipient, "lane"), paint, out);
    put_detail("due", show_field(recipient, "due"), paint, out);
    put_detail("last try", show_field(recipient, "tried"), paint, out);
    if (show_field(recipient, "stage").len) {
        buf_str(&line, show_field(recipient, "stage"));
        if (!str_eq(show_field(recipient, "class"), STR("none")))
            buf_printf(&line, ", class " STR_FMT, STR_ARG(show_field(recipient, "class")));
        if (show_field(recipient, "status").len)
            buf_printf(&line, ", status " STR_FMT, STR_ARG(show_field(recipient, "status")));
        put_detail("stopped at", buf_view(&line), paint, out);
    }
    put_detail("host", show_field(recipient, "host"), paint, out);
    put_detail("reply", show_field(recipient, "reply"), paint, out);
    put_detail("cause", show_field(recipient, "cause"), paint, out);
    put_detail("next step", show_field(recipient, "fix"), paint, out);
    put_detail("orcpt", show_field(recipient, "orcpt"), paint, out);
    if (json_is_array(json_object_get(recipient, "notify"))) {
        buf_cstr(out, "  ");
        put_words("notify", json_object_get(recipient, "notify"), paint, out);
    }
    if (json_is_true(json_object_get(recipient, "warned")))
        put_detail("warned", STR("the sender was told of the delay"), paint, out);
    buf_clear(&line);
}

void queue_text_message(const json_t *message, int64_t now_s, const struct show_paint *paint,
                        struct buf *out)
{
    static const struct {
        const char *key, *field;
    } lines[] = {
        { "sender", "sender" },
        { "user", "user" },
        { "client", "client" },
        { "helo", "helo" },
        { "listener", "listener" },
        { "Message-ID", "message-id" },
        { "From domain", "from-domain" },
        { "envid", "envid" },
        { "ret", "ret" },
    };
    const json_t *recipients = json_object_get(message, "recipients");

    put_line("id", show_field(message, "id"), paint, out);
    put_arrival(message, now_s, paint, out);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        put_line(lines[i].key, show_field(message, lines[i].field), paint, out);
    put_words("flags", json_object_get(message, "flags"), paint, out);
    for (size_t i = 0; i < json_array_size(recipients); i++)
        put_recipient_whole(json_array_get(recipients, i), now_s, paint, out);
}

/* ---- places ---- */

#define COLUMN_STATE 34
#define COLUMN_QUEUED 45
#define COLUMN_HELD 54
#define COLUMN_OUT 61
#define COLUMN_NEXT 66

void queue_text_lanes_head(const struct show_paint *paint, struct buf *out)
{
    size_t start;

    buf_cstr(out, paint->bold);
    start = out->len;
    buf_cstr(out, "LANE");
    show_pad(out, start, COLUMN_STATE);
    buf_cstr(out, "STATE");
    show_pad(out, start, COLUMN_QUEUED);
    buf_cstr(out, "QUEUED");
    show_pad(out, start, COLUMN_HELD);
    buf_cstr(out, "HELD");
    show_pad(out, start, COLUMN_OUT);
    buf_cstr(out, "OUT");
    show_pad(out, start, COLUMN_NEXT);
    buf_printf(out, "NEXT%s\n", paint->end);
}

static void put_lane_next(const json_t *lane, int64_t now_s, struct buf *out)
{
    int64_t wakes = show_wall(lane, "wakes"), due = show_wall(lane, "due");

    if (str_eq(show_field(lane, "state"), STR("sleeping")) && wakes)
        show_until(out, wakes, now_s);
    else if (due)
        show_until(out, due, now_s);
    else
        buf_char(out, '-');
}

void queue_text_lane(const json_t *lane, int64_t now_s, const struct show_paint *paint,
                     struct buf *out)
{
    struct str state = show_field(lane, "state"), trouble = show_field(lane, "trouble");
    bool sleeps = str_eq(state, STR("sleeping"));
    size_t start = out->len, painted;

    show_text(out, show_field(lane, "lane"), ADDRESS_MAX);
    show_pad(out, start, COLUMN_STATE);
    painted = out->len;
    buf_cstr(out, sleeps ? paint->red : "");
    start += out->len - painted;
    show_text(out, state.len ? state : STR("-"), 16);
    painted = out->len;
    buf_cstr(out, sleeps ? paint->end : "");
    start += out->len - painted;
    show_pad(out, start, COLUMN_QUEUED);
    buf_printf(out, "%llu", (unsigned long long)show_number(lane, "queued"));
    show_pad(out, start, COLUMN_HELD);
    buf_printf(out, "%llu", (unsigned long long)show_number(lane, "held"));
    show_pad(out, start, COLUMN_OUT);
    buf_printf(out, "%llu", (unsigned long long)show_number(lane, "connections"));
    show_pad(out, start, COLUMN_NEXT);
    put_lane_next(lane, now_s, out);
    buf_char(out, '\n');
    if (trouble.len) {
        buf_cstr(out, "    ");
        show_text(out, trouble, LINE_MAX_SHOWN);
        buf_char(out, '\n');
    }
}
