/*
 * encode_test.c - encoded words and extended parameters, by kind of field.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/mail/encode.h"

#include <stdio.h>

static enum err encode(const char *in, const char *hint, struct buf *out)
{
    struct str rest = str_of(in);
    struct header_field field;
    struct arena arena;
    enum err rc;

    arena_init(&arena);
    assert_true(header_next(&rest, &field, &rc));
    rc = encode_field(&field, str_of(hint), out, &arena, NULL);
    arena_clear(&arena);
    return rc;
}

static void fields(void **state)
{
    /* out NULL: refused */
    static const struct {
        const char *name, *in, *hint, *out;
    } rows[] = {
        { "text", "Subject: gr\xc3\xbc\xc3\x9f dich", "",
          "Subject: =?utf-8?Q?gr=C3=BC=C3=9F?= dich\r\n" },
        { "no blank behind the colon", "Subject:\xc3\xbc", "", "Subject: =?utf-8?Q?=C3=BC?=\r\n" },
        { "words in a row are one", "Subject: \xc3\xbc  \xc3\xa4 x", "",
          "Subject: =?utf-8?Q?=C3=BC__=C3=A4?= x\r\n" },
        { "the blank towards an old encoded word is kept", "Subject: =?utf-8?q?a?= \xc3\xbc", "",
          "Subject: =?utf-8?q?a?= =?utf-8?Q?_=C3=BC?=\r\n" },
        { "and from one", "Subject: \xc3\xbc =?utf-8?q?a?=", "",
          "Subject: =?utf-8?Q?=C3=BC_?= =?utf-8?q?a?=\r\n" },
        { "mostly 8-bit becomes base64",
          "Subject: \xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82", "",
          "Subject: =?utf-8?B?0J/RgNC40LLQtdGC?=\r\n" },
        { "Latin-1 by its bytes", "Subject: gr\xfc\xdf", "",
          "Subject: =?iso-8859-1?Q?gr=FC=DF?=\r\n" },
        { "the body's charset is the better guess", "Subject: \xa4uro", "iso-8859-15",
          "Subject: =?iso-8859-15?Q?=A4uro?=\r\n" },
        { "not when it is multi-byte", "Subject: a\x81\x40 abc", "shift_jis",
          "Subject: =?unknown-8bit?Q?a=81=40?= abc\r\n" },
        { "not when it is nonsense", "Subject: abc\xfc", "iso-8859-?=\"",
          "Subject: =?iso-8859-1?Q?abc=FC?=\r\n" },
        { "a name", "From: J\xc3\xb6rg Meier <a@b.c>", "",
          "From: =?utf-8?Q?J=C3=B6rg?= Meier <a@b.c>\r\n" },
        { "a quoted name loses its quotes", "From: \"M\xc3\xbcller, \\\"J\\\"\" <a@b.c>", "",
          "From: =?utf-8?Q?M=C3=BCller=2C_=22J=22?= <a@b.c>\r\n" },
        { "a blank before the bracket is made", "To: x <a@b.c>,\xc3\xb6<d@e.f>", "",
          "To: x <a@b.c>, =?utf-8?Q?=C3=B6?= <d@e.f>\r\n" },
        { "what touches goes along", "To: \"\xc3\xb6\"x.y <a@b.c>", "",
          "To: =?utf-8?Q?=C3=B6x=2Ey?= <a@b.c>\r\n" },
        { "a comment", "From: a@b.c (J\xc3\xb6rg (der \xc3\x84ltere) \\) x)", "",
          "From: a@b.c (=?utf-8?Q?J=C3=B6rg?= (der =?utf-8?Q?=C3=84ltere?=) \\) x)\r\n" },
        { "a group", "To: Fr\xc3\xb6sche: a@b.c;", "",
          "To: =?utf-8?Q?Fr=C3=B6sche?= : a@b.c;\r\n" },
        { "a local part", "To: j\xc3\xb6@b.c", "", NULL },
        { "a quoted local part", "To: \"j\xc3\xb6\" @b.c", "", NULL },
        { "a domain", "To: Joe <a@b\xc3\xbc.c>", "", NULL },
        { "a domain behind a comment", "To: a@ (x) b\xc3\xbc.c", "", NULL },
        { "a message id", "Message-ID: <\xc3\xbc@b.c>", "", NULL },
        { "a trace comment", "Received: from x (\xc3\xbc) by y; z", "",
          "Received: from x (=?utf-8?Q?=C3=BC?=) by y; z\r\n" },
        { "a list name",
          "List-Id: B\xc3\xbc"
          "cher <b.c>",
          "", "List-Id: =?utf-8?Q?B=C3=BCcher?= <b.c>\r\n" },
        { "a parameter", "Content-Disposition: attachment; filename=\"\xc3\xbc b.txt\"; size=3", "",
          "Content-Disposition: attachment; filename*=utf-8''%C3%BC%20b.txt; size=3\r\n" },
        { "its allowed form is there already",
          "Content-Disposition: attachment; filename=\"\xc3\xbc\"; filename*=utf-8''%C3%BC", "",
          "Content-Disposition: attachment; filename*=utf-8''%C3%BC\r\n" },
        { "a boundary", "Content-Type: multipart/mixed; boundary=\"\xc3\xbc\"", "", NULL },
        { "a media type", "Content-Type: t\xc3\xbcxt/plain", "", NULL },
        { "ASCII only passes", "Content-Type: text/plain; charset=utf-8", "",
          "Content-Type: text/plain; charset=utf-8\r\n" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out;
        buf_init(&out, 10000);
        enum err rc = encode(rows[i].in, rows[i].hint, &out);
        if ((rc == ERR_OK) != (rows[i].out != NULL) ||
            (!rc && !str_eq(buf_view(&out), str_of(rows[i].out))))
            fail_msg("%s: %d " STR_FMT, rows[i].name, rc, STR_ARG(buf_view(&out)));
        buf_clear(&out);
    }
}

/* Every line short, every encoded word within 75 and of whole characters. */
static void check_lines(struct str text)
{
    struct str line;

    while (str_next(&text, '\n', &line)) {
        assert_true(line.len - 1 <= 78);
        assert_true(str_is_ascii(line));
        assert_true(str_trim(line).len > 0);
        for (size_t at = str_find(line, STR("=?")); at < line.len;) {
            struct str word = str_from(line, at);
            size_t end = str_find(str_from(word, 10), STR("?=")) + 12;
            assert_true(end <= 75);
            line = str_from(word, end);
            at = str_find(line, STR("=?"));
        }
    }
}

static void long_text_is_folded(void **state)
{
    char in[5000] = "Subject: ";
    struct buf out;

    (void)state;
    for (int i = 0; i < 300; i++)
        strcat(in, i % 7 == 0 ? "word " : i % 3 == 0 ? "\xf0\x9f\x98\x80" : "\xc3\xbc ");
    buf_init(&out, 20000);
    assert_int_equal(encode(in, "", &out), ERR_OK);
    check_lines(buf_view(&out));
    buf_reset(&out);
    memcpy(in, "To:  \"\x41\"", 8);
    strcat(in, " <a@b.c>");
    assert_int_equal(encode(in, "", &out), ERR_OK);
    check_lines(buf_view(&out));
    buf_reset(&out);
    strcpy(in, "Content-Disposition: attachment; filename=\"");
    for (int i = 0; i < 200; i++)
        strcat(in, "\xc3\xbc ");
    strcat(in, "\"; x=y");
    assert_int_equal(encode(in, "", &out), ERR_OK);
    check_lines(buf_view(&out));
    struct str rest = buf_view(&out);
    struct header_field field;
    struct arena arena;
    enum err rc;
    arena_init(&arena);
    assert_true(header_next(&rest, &field, &rc));
    struct str value = header_param(field.value, STR("filename"), &arena);
    assert_int_equal(value.len, 600);
    assert_true(str_starts(value, STR("\xc3\xbc \xc3\xbc ")));
    assert_true(str_eq(header_param(field.value, STR("x"), &arena), STR("y")));
    arena_clear(&arena);
    buf_clear(&out);
}

static void folding(void **state)
{
    char in[4000] = "References:";
    struct header_field field;
    struct arena arena;
    struct buf out;
    enum err rc;

    (void)state;
    for (int i = 0; i < 60; i++)
        strcat(in, " <aaaaaaaaaaaaaaaa@bbbbbbbbbbb.example>");
    strcat(in, "\r\n");
    assert_true(encode_longest_line(str_of(in)) > 998);
    arena_init(&arena);
    buf_init(&out, 10000);
    struct str rest = str_of(in);
    assert_true(header_next(&rest, &field, &rc));
    assert_int_equal(encode_fold(&field, &out, &arena, NULL), ERR_OK);
    assert_true(encode_longest_line(buf_view(&out)) <= 78);

    buf_reset(&out);
    memset(in, 'x', 1500);
    memcpy(in, "X: ", 3);
    memcpy(in + 1500, "\r\n", 3);
    rest = str_of(in);
    assert_true(header_next(&rest, &field, &rc));
    assert_int_equal(encode_fold(&field, &out, &arena, NULL), ERR_LIMIT);
    buf_clear(&out);
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields),
        cmocka_unit_test(long_text_is_folded),
        cmocka_unit_test(folding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
