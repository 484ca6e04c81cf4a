/*
 * transfer_test.c - quoted-printable and base64, made and mended.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/mail/transfer.h"
#include "tests/unit/mail_decode.h"

#define X75 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void run(enum transfer_kind kind, struct str in, size_t step, bool at_body_end,
                struct buf *out)
{
    struct transfer transfer;

    transfer_init(&transfer, kind);
    for (size_t at = 0; at < in.len; at += step)
        transfer_feed(&transfer, str_head(str_from(in, at), step), out);
    transfer_end(&transfer, at_body_end, out);
    transfer_clear(&transfer);
}

static void exact(void **state)
{
    static const struct {
        const char *name;
        enum transfer_kind kind;
        const char *in, *out;
        bool at_body_end;
    } rows[] = {
        { "plain lines", TRANSFER_QP, "a b\r\nc\r\n", "a b\r\nc\r\n", true },
        { "8-bit and equals", TRANSFER_QP, "\xc3\xbc=\r\n", "=C3=BC=3D\r\n", true },
        { "blanks at line ends", TRANSFER_QP, "a \t\r\nb  ", "a =09\r\nb =20", false },
        { "bare CR and LF", TRANSFER_QP, "a\rb\nc \r\r\n", "a=0Db=0Ac =0D\r\n", true },
        { "a line of 75", TRANSFER_QP, X75 "\r\n", X75 "\r\n", true },
        { "a line of 76", TRANSFER_QP, X75 "b\r\n", X75 "=\r\nb\r\n", true },
        { "an escape is not cut", TRANSFER_QP, X75 "\xfc", X75 "=\r\n=FC", false },
        { "no line end at the end of the body", TRANSFER_QP, "a", "a=\r\n", true },
        { "two hyphens at the start", TRANSFER_QP, "--a\r\n-b--\r\n", "-=2Da\r\n-b--\r\n", true },
        { "two hyphens behind a soft break", TRANSFER_QP, X75 "--", X75 "=\r\n-=2D", false },
        { "base64", TRANSFER_BASE64, "abcd", "YWJjZA==", false },
        { "base64 at the end of the body", TRANSFER_BASE64, "abc", "YWJj\r\n", true },
        { "nothing", TRANSFER_BASE64, "", "", true },
        { "mended: short lines stay", TRANSFER_QP_AGAIN, "a=3Db=\r\nc =20\r\n",
          "a=3Db=\r\nc =20\r\n", true },
        { "mended: a long line", TRANSFER_QP_AGAIN, X75 "=3d=\r\n", X75 "=\r\n=3d=\r\n", true },
        { "mended: 8-bit", TRANSFER_QP_AGAIN, "\xfc", "=FC", false },
        { "mended: a lone equals sign stays", TRANSFER_QP_AGAIN, "a=x=4=", "a=x=4=", false },
        { "mended: blanks a decoder drops", TRANSFER_QP_AGAIN, "a  \r\n", "a\r\n", true },
        { "base64 mended", TRANSFER_BASE64_AGAIN, "YW Jj\r\nZA\xfc==", "YWJjZA==", false },
        { "cleaned", TRANSFER_CLEAN,
          "a\xfc"
          "b\r\n",
          "a?b\r\n", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str in = str_of(rows[i].in);
        for (size_t step = 1; step <= in.len + 1; step++) {
            struct buf out;
            buf_init(&out, 10000);
            run(rows[i].kind, in, step, rows[i].at_body_end, &out);
            if (!str_eq(buf_view(&out), str_of(rows[i].out)))
                fail_msg("%s, step %zu: " STR_FMT, rows[i].name, step, STR_ARG(buf_view(&out)));
            buf_clear(&out);
        }
    }
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void check_lines(struct str text)
{
    struct str line;

    while (str_next(&text, '\n', &line)) {
        assert_true(str_is_ascii(line));
        assert_true(line.len <= 77);
        assert_false(str_starts(line, STR("--")));
        assert_false(str_iends(line, STR(" \r")));
    }
}

static void decoding_gives_it_back(void **state)
{
    static const char alphabet[] = "a -=\r\n\t\xfc.F\r\n\0b";
    uint32_t seed = 7;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        char in[400];
        size_t len = next_random(&seed) % sizeof(in);
        size_t kinds = 1 + next_random(&seed) % (sizeof(alphabet) - 1);
        for (size_t i = 0; i < len; i++)
            in[i] = alphabet[next_random(&seed) % kinds];
        struct decoded decoded = { NULL, 0, 0 };
        struct buf out;
        buf_init(&out, 10000);
        decoded_add(&decoded, "", 0);
        run(TRANSFER_QP, str_make(in, len), 1 + next_random(&seed) % 50, false, &out);
        check_lines(buf_view(&out));
        decode_qp(&decoded, out.at ? out.at : "", out.len);
        if (decoded.len != len || memcmp(decoded.at, in, len) != 0)
            fail_msg("quoted-printable, round %d", round);
        decoded.len = 0;
        buf_reset(&out);
        run(TRANSFER_BASE64, str_make(in, len), 1 + next_random(&seed) % 50, true, &out);
        check_lines(buf_view(&out));
        decode_base64(&decoded, out.at ? out.at : "", out.len);
        if (decoded.len != len || memcmp(decoded.at, in, len) != 0)
            fail_msg("base64, round %d", round);
        free(decoded.at);
        buf_clear(&out);
    }
}

/* Any garbage that calls itself quoted-printable decodes to the same, mended or not. */
static void mending_changes_nothing(void **state)
{
    static const char *const pieces[] = { "a",      " ",    "=3D", "=\r\n",
                                          "\r\n",   "\xfc", "-",   "=2",
                                          "=",      "=20",  "\t",  "bbbbbbbbbbbbbbbbbbbbbbb",
                                          "= \r\n", "\n" };
    uint32_t seed = 11;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct decoded in = { NULL, 0, 0 }, one = { NULL, 0, 0 }, two = { NULL, 0, 0 };
        struct buf out;
        buf_init(&out, 10000);
        for (size_t n = next_random(&seed) % 60; n > 0; n--) {
            const char *piece = pieces[next_random(&seed) % (sizeof(pieces) / sizeof(pieces[0]))];
            decoded_add(&in, piece, strlen(piece));
        }
        decoded_add(&in, "x\r\n", 3);
        decoded_add(&one, "", 0);
        decoded_add(&two, "", 0);
        run(TRANSFER_QP_AGAIN, str_make(in.at, in.len), 1 + next_random(&seed) % 9, true, &out);
        assert_true(str_is_ascii(buf_view(&out)));
        decode_qp(&one, in.at, in.len);
        decode_qp(&two, out.at, out.len);
        if (one.len != two.len || memcmp(one.at, two.at, one.len) != 0)
            fail_msg("round %d: %s becomes " STR_FMT, round, in.at, STR_ARG(buf_view(&out)));
        free(in.at);
        free(one.at);
        free(two.at);
        buf_clear(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact),
        cmocka_unit_test(decoding_gives_it_back),
        cmocka_unit_test(mending_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
