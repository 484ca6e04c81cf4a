/*
 * line_fuzz.c - the line codec against a slow model that looks at one octet at
 * a time, however the input is cut.
 */
#include "relay/base/buf.h"
#include "relay/smtp/line.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
    if (!is_true)
        abort();
}

/* ---- the model: one octet at a time, the last ones kept ---- */

struct model {
    struct buf text;
    unsigned faults;
    bool ended, has_8bit;
    size_t used;
};

static void model_line(struct model *model, struct str line)
{
    if (line.len > 0 && line.at[0] == '.')
        line = str_from(line, 1);
    for (size_t i = 0; i < line.len; i++) {
        model->faults |= line.at[i] == '\r'   ? LINE_CONTENT_BARE_CR
                         : line.at[i] == '\n' ? LINE_CONTENT_BARE_LF
                                              : 0u;
    }
    if (line.len > 998)
        model->faults |= LINE_CONTENT_LONG;
    buf_str(&model->text, line);
    buf_cstr(&model->text, "\r\n");
}

/* Whole lines only: what is behind the last CRLF is left out. */
static void model_run(struct model *model, struct str in)
{
    size_t begin = 0;

    for (size_t i = 1; i < in.len && !model->ended; i++) {
        if (in.at[i] != '\n' || in.at[i - 1] != '\r' || i < begin + 1)
            continue;
        struct str line = str_make(in.at + begin, i - 1 - begin);
        begin = i + 1;
        if (str_eq(line, STR(".")))
            model->ended = true;
        else
            model_line(model, line);
    }
    model->used = begin;
    for (size_t i = 0; i < begin; i++) {
        model->has_8bit |= (unsigned char)in.at[i] > 127;
        model->faults |= in.at[i] ? 0u : LINE_CONTENT_NUL;
    }
}

static void decode(struct str in, size_t step, struct line_content *content, struct buf *out)
{
    line_content_init(content);
    for (size_t at = 0; at < in.len && !content->ended;) {
        struct str piece = str_head(str_from(in, at), step);
        char *to = malloc(piece.len + 1); /* exact: a sanitizer sees one octet more */
        size_t used, wrote = line_content_decode(content, piece, to, &used);
        must(used == piece.len || content->ended);
        buf_append(out, to, wrote);
        free(to);
        at += used;
    }
}

static void check_content(struct str in, size_t step)
{
    struct model model = { .faults = 0 };
    struct line_content content;
    struct buf got;

    buf_init(&model.text, SIZE_MAX / 4);
    buf_init(&got, SIZE_MAX / 4);
    model_run(&model, in);
    decode(str_head(in, model.used), step, &content, &got);
    must(content.ended == model.ended);
    must(str_eq(buf_view(&got), buf_view(&model.text)));
    must(content.faults == model.faults);
    must(content.has_8bit == model.has_8bit);
    buf_clear(&model.text);
    buf_clear(&got);
}

/* What was stuffed comes back, and BDAT's judgement agrees with DATA's. */
static void check_stuffing(struct str in, size_t step)
{
    struct line_stuff stuff;
    struct line_content by_data, by_bdat;
    struct buf wire, back;

    buf_init(&wire, SIZE_MAX / 4);
    buf_init(&back, SIZE_MAX / 4);
    line_stuff_init(&stuff);
    line_content_init(&by_bdat);
    for (size_t at = 0; at < in.len; at += step) {
        struct str piece = str_head(str_from(in, at), step);
        char *out = buf_reserve(&wire, 2 * piece.len);
        buf_commit(&wire, line_stuff(&stuff, piece, out));
        line_content_inspect(&by_bdat, piece);
    }
    must(line_stuff_at_start(&stuff) == !line_content_lacks_crlf(&by_bdat));
    if (line_stuff_at_start(&stuff)) {
        buf_cstr(&wire, ".\r\n");
        decode(buf_view(&wire), step, &by_data, &back);
        line_content_finish(&by_bdat);
        must(by_data.ended && str_eq(buf_view(&back), in));
        must(by_data.faults == by_bdat.faults && by_data.has_8bit == by_bdat.has_8bit);
    }
    buf_clear(&wire);
    buf_clear(&back);
}

static void read_lines(struct str in, size_t step, struct buf *out)
{
    struct buf held;
    bool skipping = false;
    size_t scanned = 0, used;
    struct str line;
    enum line_got got;

    buf_init(&held, SIZE_MAX / 4);
    for (size_t at = 0; at < in.len; at += step) {
        buf_str(&held, str_head(str_from(in, at), step));
        while ((got = line_next(buf_view(&held), 20, &skipping, &scanned, &line, &used)) !=
               LINE_MORE) {
            must(used > 0 && used <= held.len);
            if (got != LINE_TOO_LONG || !skipping)
                buf_char(out, got == LINE_TOO_LONG ? 'L' : got == LINE_BARE ? 'B' : 'W');
            if (got != LINE_TOO_LONG)
                buf_str(out, line);
            buf_consume(&held, used);
        }
        must(held.len <= 20 + step);
    }
    buf_clear(&held);
}

static void check_lines(struct str in, size_t step)
{
    struct buf whole, parts;

    buf_init(&whole, SIZE_MAX / 4);
    buf_init(&parts, SIZE_MAX / 4);
    read_lines(in, in.len, &whole);
    read_lines(in, step, &parts);
    must(str_eq(buf_view(&whole), buf_view(&parts)));
    buf_clear(&whole);
    buf_clear(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = str_make((const char *)data, size);

    if (size < 2)
        return 0;
    size_t step = 1 + data[0] % 16;
    in = str_from(in, 1);
    check_content(in, in.len);
    check_content(in, step);
    check_stuffing(in, step);
    check_lines(in, step);
    return 0;
}
