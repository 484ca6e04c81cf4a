/*
 * smtp_line_test.c - where lines and messages end, however the bytes arrive.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/buf.h"
#include "relay/smtp/line.h"

#include <stdlib.h>

/* What line_next makes of `in` fed in steps of `step` octets: one letter and the line. */
static void read_lines(struct str in, size_t step, size_t max, struct buf *out)
{
    struct buf held;
    bool skipping = false;
    size_t scanned = 0, used, fed = 0;
    struct str line;

    buf_init(&held, 4096);
    while (fed < in.len) {
        struct str piece = str_head(str_from(in, fed), step);
        buf_str(&held, piece);
        fed += piece.len;
        enum line_got got;
        while ((got = line_next(buf_view(&held), max, &skipping, &scanned, &line, &used)) !=
               LINE_MORE) {
            if (got == LINE_TOO_LONG && !skipping)
                buf_cstr(out, "long|");
            else if (got != LINE_TOO_LONG)
                buf_printf(out, "%s" STR_FMT "|", got == LINE_BARE ? "bare:" : "", STR_ARG(line));
            buf_consume(&held, used);
        }
    }
    buf_clear(&held);
}

static const struct {
    const char *name, *in, *want;
} line_rows[] = {
    { "a line ends in CRLF", "one\r\ntwo\r\n", "one|two|" },
    { "an empty line", "\r\n\r\n", "||" },
    { "no end, no line", "one\r\ntwo", "one|" },
    { "a bare LF does not end a line", "a\nb\r\n", "bare:a\nb|" },
    { "a bare CR does not end a line", "a\rb\r\n", "bare:a\rb|" },
    { "CR CR LF", "a\r\r\nb\r\n", "bare:a\r|b|" },
    { "LF CR LF", "a\n\r\n", "bare:a\n|" },
    { "LF first", "\nb\r\n", "bare:\nb|" },
    { "exactly the limit", "12345678\r\n", "12345678|" },
    { "one over the limit", "123456789\r\nb\r\n", "long|b|" },
    { "far over the limit", "1234567890123456789012345678901234567890\r\nb\r\n", "long|b|" },
    { "a CR at the limit", "123456789\rxxxxxx\r\nb\r\n", "long|b|" },
    { "long with bare LFs", "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\r\nb\r\n", "long|b|" },
    { "two long ones", "12345678901234\r\n12345678901234\r\n", "long|long|" },
};

static void lines_end_where_they_end(void **state)
{
    struct buf got;

    (void)state;
    buf_init(&got, 4096);
    for (size_t i = 0; i < sizeof(line_rows) / sizeof(line_rows[0]); i++) {
        for (size_t step = 1; step < 60; step++) {
            buf_reset(&got);
            read_lines(str_of(line_rows[i].in), step, 10, &got);
            buf_char(&got, '\0');
            if (strcmp(got.at, line_rows[i].want) != 0)
                fail_msg("%s, step %zu: %s", line_rows[i].name, step, got.at);
        }
    }
    buf_clear(&got);
}

static void a_nul_is_bare(void **state)
{
    bool skipping = false;
    size_t scanned = 0, used;
    struct str line;

    (void)state;
    assert_int_equal(line_next(STR("a\0b\r\nc"), 100, &skipping, &scanned, &line, &used),
                     LINE_BARE);
    assert_int_equal(used, 5);
    assert_int_equal(line.len, 3);
}

/* ---- content ---- */

enum {
    CR = LINE_CONTENT_BARE_CR,
    LF = LINE_CONTENT_BARE_LF,
    NUL = LINE_CONTENT_NUL,
    LONG = LINE_CONTENT_LONG
};

#define ROW(name, in, want, faults, left)                                                          \
    {                                                                                              \
        name, STR(in), STR(want), faults, left                                                     \
    }

static const struct {
    const char *name;
    struct str in, want;
    unsigned faults;
    size_t left; /* octets behind the end; SIZE_MAX: it does not end */
} content_rows[] = {
    ROW("plain text", "a\r\nb\r\n.\r\n", "a\r\nb\r\n", 0, 0),
    ROW("empty content", ".\r\n", "", 0, 0),
    ROW("only an empty line", "\r\n.\r\n", "\r\n", 0, 0),
    ROW("what follows is left", "a\r\n.\r\nQUIT\r\n", "a\r\n", 0, 6),
    ROW("stuffed dots", "..\r\n..a\r\n...\r\n.\r\n", ".\r\n.a\r\n..\r\n", 0, 0),
    ROW("a dot that was not stuffed", ".a\r\n.\r\n", "a\r\n", 0, 0),
    ROW("dots inside lines", "a.\r\n b.c\r\n.\r\n", "a.\r\n b.c\r\n", 0, 0),
    ROW("LF . CRLF is no end", "a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n", LF, 0),
    ROW("CR . CRLF is no end", "a\r.\r\nb\r\n.\r\n", "a\r.\r\nb\r\n", CR, 0),
    ROW("CRLF . LF is no end", "a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n", LF, 0),
    ROW("CRLF . CR is no end", "a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n", CR, 0),
    ROW("CRLF . CR CRLF is no end", "a\r\n.\r\r\nb\r\n.\r\n", "a\r\n\r\r\nb\r\n", CR, 0),
    ROW("LF . LF is no end", "a\n.\nb\r\n.\r\n", "a\n.\nb\r\n", LF, 0),
    ROW("CR LF in the wrong order", "a\n\r.\r\nb\r\n.\r\n", "a\n\r.\r\nb\r\n", CR | LF, 0),
    ROW("CR CR LF . CR LF is an end", "a\r\r\n.\r\n", "a\r\r\n", CR, 0),
    ROW("NUL between CRLF and dot", "a\r\n\0.\r\nb\r\n.\r\n", "a\r\n\0.\r\nb\r\n", NUL, 0),
    ROW("NUL in the text", "a\0b\r\n.\r\n", "a\0b\r\n", NUL, 0),
    ROW("bare CR in the text", "a\rb\r\n.\r\n", "a\rb\r\n", CR, 0),
    ROW("NUL behind the end is not ours", "a\r\n.\r\n\0", "a\r\n", 0, 1),
    ROW("no end", "a\r\n..\r\n.", "a\r\n.\r\n", 0, SIZE_MAX),
    ROW("no end, CR held back", "a\r\n.\r", "a\r\n", 0, SIZE_MAX),
};

static void decode_in_steps(struct str in, size_t step, struct line_content *content,
                            struct buf *out, size_t *left)
{
    size_t at = 0;

    line_content_init(content);
    while (at < in.len && !content->ended) {
        struct str piece = str_head(str_from(in, at), step);
        char *to = malloc(piece.len + 1);
        size_t used, wrote = line_content_decode(content, piece, to, &used);
        assert_true(wrote <= piece.len + 1);
        buf_append(out, to, wrote);
        free(to);
        at += used;
    }
    *left = content->ended ? in.len - at : SIZE_MAX;
}

static void content_ends_where_it_ends(void **state)
{
    struct line_content content;
    struct buf got;
    size_t left;

    (void)state;
    buf_init(&got, 4096);
    for (size_t i = 0; i < sizeof(content_rows) / sizeof(content_rows[0]); i++) {
        for (size_t step = 1; step < 30; step++) {
            buf_reset(&got);
            decode_in_steps(content_rows[i].in, step, &content, &got, &left);
            if (!str_eq(buf_view(&got), content_rows[i].want) ||
                content.faults != content_rows[i].faults || left != content_rows[i].left)
                fail_msg("%s, step %zu: faults %u left %zu text " STR_FMT, content_rows[i].name,
                         step, content.faults, left, STR_ARG(buf_view(&got)));
        }
    }
    buf_clear(&got);
}

static void long_lines_and_8bit_are_noted(void **state)
{
    static const struct {
        size_t len;
        bool is_long;
    } rows[] = { { 0, false }, { 997, false }, { 998, false }, { 999, true }, { 5000, true } };
    struct line_content content;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        char text[5200] = "";
        size_t used, n = rows[i].len;
        memset(text, 'x', n);
        memcpy(text + n, "\r\n\xE9\r\n", 5);
        for (size_t step = 1; step < 1200; step += 399) {
            line_content_init(&content);
            for (size_t at = 0; at < n + 5; at += step)
                line_content_inspect(&content, str_head(str_make(text + at, n + 5 - at), step));
            assert_int_equal(!!(content.faults & LINE_CONTENT_LONG), rows[i].is_long);
            assert_true(content.has_8bit);
            assert_false(line_content_lacks_crlf(&content));
        }
        char out[5300];
        line_content_init(&content);
        line_content_decode(&content, str_make(text, n + 2), out, &used);
        assert_int_equal(!!(content.faults & LINE_CONTENT_LONG), rows[i].is_long);
        assert_false(content.has_8bit);
    }
}

static void a_chunk_may_end_anywhere(void **state)
{
    struct line_content content;

    (void)state;
    line_content_init(&content);
    line_content_inspect(&content, STR("a\r"));
    line_content_inspect(&content, STR("\nb"));
    line_content_finish(&content);
    assert_int_equal(content.faults, 0);
    assert_true(line_content_lacks_crlf(&content));
    line_content_inspect(&content, STR("\r"));
    line_content_finish(&content);
    assert_int_equal(content.faults, LINE_CONTENT_BARE_CR);
    line_content_init(&content);
    line_content_finish(&content);
    assert_false(line_content_lacks_crlf(&content));
}

/* ---- there and back ---- */

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void stuffed_text_comes_back(void **state)
{
    static const char alphabet[] = "..\r\n\r\n\r\n.ab\xC3";
    uint64_t seed = 7;
    char text[400], stuffed[1000], back[1000];

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t len = (size_t)(next_random(&seed) % 200), wrote = 0, used;
        struct line_stuff stuff;
        struct line_content content;

        for (size_t i = 0; i < len; i++)
            text[i] = alphabet[next_random(&seed) % (sizeof(alphabet) - 1)];
        memcpy(text + len, "\r\n", 2);
        len += 2;
        line_stuff_init(&stuff);
        for (size_t at = 0; at < len;) {
            size_t n = (size_t)(next_random(&seed) % 20);
            struct str piece = str_head(str_make(text + at, len - at), n);
            wrote += line_stuff(&stuff, piece, stuffed + wrote);
            at += piece.len;
        }
        assert_true(line_stuff_at_start(&stuff));
        memcpy(stuffed + wrote, ".\r\nX", 4);
        line_content_init(&content);
        size_t got = line_content_decode(&content, str_make(stuffed, wrote + 4), back, &used);
        assert_int_equal(used, wrote + 3);
        assert_int_equal(got, len);
        assert_memory_equal(back, text, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_where_they_end),      cmocka_unit_test(a_nul_is_bare),
        cmocka_unit_test(content_ends_where_it_ends),    cmocka_unit_test(a_chunk_may_end_anywhere),
        cmocka_unit_test(long_lines_and_8bit_are_noted), cmocka_unit_test(stuffed_text_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
