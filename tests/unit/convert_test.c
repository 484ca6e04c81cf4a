/*
 * convert_test.c - re-encoding: exact results, refusals, and the property that
 * decoding gives the same content, whatever the message and however it is cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/mail/convert.h"
#include "relay/mail/encode.h"
#include "tests/unit/mail_decode.h"

#define UE "\xc3\xbc"

struct result {
    enum err err;
    bool needed;
    struct fault fault;
    struct buf head, body;
};

static void result_clear(struct result *result)
{
    buf_clear(&result->head);
    buf_clear(&result->body);
}

static void rewrite(const struct convert_plan *plan, struct str body, size_t step,
                    struct result *result)
{
    struct convert *convert = convert_new(plan, &result->head);

    for (size_t at = 0; at < body.len; at += step)
        convert_feed(convert, str_head(str_from(body, at), step), &result->body);
    convert_end(convert, &result->body);
    convert_free(&convert);
}

static void run(struct str head, struct str body, unsigned want, unsigned own, size_t step,
                struct result *result)
{
    struct convert_plan *plan = convert_plan_new(head, want, own);

    *result = (struct result){ .needed = false };
    buf_init(&result->head, 1 << 24);
    buf_init(&result->body, 1 << 24);
    for (size_t at = 0; at < body.len; at += step)
        convert_plan_feed(plan, str_head(str_from(body, at), step));
    result->err = convert_plan_end(plan, &result->needed, &result->fault);
    if (!result->err)
        rewrite(plan, body, step, result);
    convert_plan_free(&plan);
}

static void exact(void **state)
{
    /* out_body NULL: refused; out_head NULL: nothing had to be done */
    static const struct {
        const char *name, *head, *body, *out_head, *out_body;
        unsigned own;
    } rows[] = {
        { "ASCII needs nothing", "Subject: x\r\n\r\n", "hello\r\n", NULL, "hello\r\n", 0 },
        { "a plain old message", "Subject: x\r\n\r\n", "abcdefghijkl" UE "\r\n",
          "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
          "Content-Transfer-Encoding: quoted-printable\r\n\r\n",
          "abcdefghijkl=C3=BC\r\n", 0 },
        { "of unknown charset", "Subject: x\r\n\r\n", "abcdefgh\xfc\r\n",
          "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
          "Content-Transfer-Encoding: quoted-printable\r\n\r\n",
          "abcdefgh=FC\r\n", 0 },
        { "the label is replaced where it stands",
          "MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\nContent-Type: text/plain; "
          "charset=utf-8\r\n\r\n",
          "abcdefghijklmnopqrs " UE "\r\n",
          "MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Type: "
          "text/plain; charset=utf-8\r\n\r\n",
          "abcdefghijklmnopqrs =C3=BC\r\n", 0 },
        { "mostly binary becomes base64",
          "MIME-Version: 1.0\r\nContent-Type: application/x; a=b\r\n\r\n", "\xff\xfe\xfd\r\n",
          "MIME-Version: 1.0\r\nContent-Type: application/x; a=b\r\n"
          "Content-Transfer-Encoding: base64\r\n\r\n",
          "//79DQo=\r\n", 0 },
        { "only the part that needs it",
          "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b b\"\r\n"
          "Content-Transfer-Encoding: 8bit\r\n\r\n",
          "pre\r\n--b b\r\n\r\nascii\r\n--b b \t\r\nContent-Type: text/plain\r\n\r\n"
          "grrrrrrrrrrrrrrr" UE "n\r\n\r\n--b b--\r\npost\r\n",
          "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b b\"\r\n"
          "Content-Transfer-Encoding: 7bit\r\n\r\n",
          "pre\r\n--b b\r\n\r\nascii\r\n--b b \t\r\nContent-Type: text/plain\r\n"
          "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
          "grrrrrrrrrrrrrrr=C3=BCn\r\n\r\n--b b--\r\npost\r\n",
          0 },
        { "a message inside a message", "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n",
          "Subject: gr" UE "n\r\nX: y\r\n\r\nabcdefghijkl" UE "\r\n",
          "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n",
          "Subject: =?utf-8?Q?gr=C3=BCn?=\r\nX: y\r\nMIME-Version: 1.0\r\n"
          "Content-Type: text/plain; charset=utf-8\r\n"
          "Content-Transfer-Encoding: quoted-printable\r\n\r\nabcdefghijkl=C3=BC\r\n",
          0 },
        { "preamble and epilogue lose what they may not have",
          "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n",
          UE "\r\n--b\r\n\r\nx\r\n--b--\r\n" UE "\r\n",
          "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n",
          "??\r\n--b\r\n\r\nx\r\n--b--\r\n??\r\n", 0 },
        { "an inner boundary that begins like the outer one",
          "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n",
          "--a\r\nContent-Type: multipart/mixed; boundary=ab\r\n\r\n--ab\r\n\r\n1\r\n--ab--\r\n"
          "--a\r\nContent-Type: x/y\r\n\r\nabcdefghijkl" UE "\r\n--a--\r\n",
          "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n",
          "--a\r\nContent-Type: multipart/mixed; boundary=ab\r\n\r\n--ab\r\n\r\n1\r\n--ab--\r\n"
          "--a\r\nContent-Type: x/y\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
          "abcdefghijkl=C3=BC\r\n--a--\r\n",
          0 },
        { "a part that is never closed ends its lines",
          "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n",
          "--a\r\nContent-Type: x/y\r\n\r\n\xfc\xfc",
          "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n",
          "--a\r\nContent-Type: x/y\r\nContent-Transfer-Encoding: base64\r\n\r\n/Pw=\r\n", 0 },
        { "our own signature is left out and does not forbid",
          "DKIM-Signature: ours\r\nSubject: x\r\nContent-Type: x/y\r\nMIME-Version: 1.0\r\n\r\n",
          "abcdefghijkl" UE "\r\n",
          "Subject: x\r\nContent-Type: x/y\r\nMIME-Version: 1.0\r\n"
          "Content-Transfer-Encoding: quoted-printable\r\n\r\n",
          "abcdefghijkl=C3=BC\r\n", 1 },
        { "a foreign one forbids", "DKIM-Signature: x\r\nDKIM-Signature: y\r\n\r\n", UE "\r\n",
          NULL, NULL, 1 },
        { "an ARC one forbids", "ARC-Message-Signature: x\r\n\r\n", UE "\r\n", NULL, NULL, 0 },
        { "but not when nothing is to be done", "DKIM-Signature: x\r\n\r\n", "x\r\n", NULL, "x\r\n",
          0 },
        { "multipart/signed forbids", "Content-Type: multipart/signed; boundary=a\r\n\r\n",
          "--a\r\nContent-Type: x/y\r\n\r\n" UE "\r\n--a--\r\n", NULL, NULL, 0 },
        { "also deep inside", "Content-Type: multipart/signed; boundary=a\r\n\r\n",
          "--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" UE
          "\r\n--b--\r\n--a--\r\n",
          NULL, NULL, 0 },
        { "but not beside it",
          "Content-Type: multipart/mixed; boundary=a\r\nMIME-Version: 1.0\r\n\r\n",
          "--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"
          "--a\r\nContent-Type: x/y\r\n\r\nabcdefghijkl" UE "\r\n--a--\r\n",
          "Content-Type: multipart/mixed; boundary=a\r\nMIME-Version: 1.0\r\n\r\n",
          "--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"
          "--a\r\nContent-Type: x/y\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
          "abcdefghijkl=C3=BC\r\n--a--\r\n",
          0 },
        { "message/partial may not be encoded", "Content-Type: message/partial; id=x\r\n\r\n",
          UE "\r\n", NULL, NULL, 0 },
        { "nor a multipart without a boundary", "Content-Type: multipart/mixed\r\n\r\n", UE "\r\n",
          NULL, NULL, 0 },
        { "nor an unknown encoding", "Content-Transfer-Encoding: x-uuencode\r\n\r\n", UE "\r\n",
          NULL, NULL, 0 },
        { "nor an inner address", "Content-Type: message/rfc822\r\n\r\n",
          "To: " UE "@b.c\r\n\r\nx\r\n", NULL, NULL, 0 },
        { "nor an inner head that is none", "Content-Type: message/rfc822\r\n\r\n",
          ">From x\r\nX: y\r\n\r\n" UE "\r\n", NULL, NULL, 0 },
        { "broken quoted-printable is mended",
          "MIME-Version: 1.0\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n",
          "a=3D" UE "=\r\nb\r\n",
          "MIME-Version: 1.0\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n",
          "a=3D=C3=BC=\r\nb\r\n", 0 },
        { "a digest's parts are messages",
          "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=a\r\n\r\n",
          "--a\r\n\r\nSubject: " UE "\r\n\r\nx\r\n--a--\r\n",
          "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=a\r\n\r\n",
          "--a\r\n\r\nSubject: =?utf-8?Q?=C3=BC?=\r\n\r\nx\r\n--a--\r\n", 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str body = str_of(rows[i].body);
        for (size_t step = 1; step <= body.len + 1; step++) {
            struct result result;
            run(str_of(rows[i].head), body, CONVERT_7BIT | CONVERT_LONG_LINES, rows[i].own, step,
                &result);
            bool is_right = rows[i].out_body == NULL
                                ? result.err == ERR_DENIED
                                : result.err == ERR_OK &&
                                      result.needed == (rows[i].out_head != NULL) &&
                                      str_eq(buf_view(&result.body), str_of(rows[i].out_body)) &&
                                      (!rows[i].out_head ||
                                       str_eq(buf_view(&result.head), str_of(rows[i].out_head)));
            if (!is_right)
                fail_msg("%s, step %zu: %d %s\n" STR_FMT STR_FMT, rows[i].name, step, result.err,
                         result.fault.text, STR_ARG(buf_view(&result.head)),
                         STR_ARG(buf_view(&result.body)));
            result_clear(&result);
        }
    }
}

/* ---- random messages ---- */

static uint32_t seed;

static size_t pick(size_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static void add(struct decoded *d, const char *text) { decoded_add(d, text, strlen(text)); }

static void add_text(struct decoded *d)
{
    static const char *const words[] = { "abc",    " ",     "=",  UE,    "\xfc", "--",
                                         "--a",    "\t",    ".",  "-",   "\r\n", "\r\n",
                                         "--ab--", "From ", "\r", "\x01" };

    for (size_t lines = pick(12); lines > 0; lines--) {
        bool is_ascii = pick(2) == 0;
        for (size_t n = pick(14); n > 0; n--) {
            const char *word = words[pick(sizeof(words) / sizeof(words[0]))];
            if (!is_ascii || ((unsigned char)word[0] < 128 && word[0] != '\r'))
                add(d, word);
        }
        if (pick(12) == 0)
            for (size_t n = 200 + pick(300); n > 0; n--)
                add(d, pick(5) ? "long " : "text");
        add(d, " .\r\n");
    }
}

static void add_base64(struct decoded *d, bool is_long)
{
    size_t per_line = is_long ? 1600 : 76;

    for (size_t n = pick(2000) / 4 * 4, i = 0; i < n; i++) {
        char c = "ABCDabcd0189+/xy"[pick(16)];
        decoded_add(d, &c, 1);
        if (i % per_line == per_line - 1)
            add(d, "\r\n");
    }
    add(d, "\r\n");
}

static void add_entity(struct decoded *d, int depth, bool is_message);

static void add_multipart(struct decoded *d, int depth)
{
    static const char *const types[] = { "mixed", "alternative", "related" };
    char boundary[40];

    size_t letters = 1 + pick(3);
    snprintf(boundary, sizeof(boundary), "%.*s%d", (int)letters, "aaa", depth);
    if (pick(3) == 0)
        boundary[letters] = '\0'; /* one that others begin with, or even the same */
    char line[200];
    snprintf(line, sizeof(line), "Content-Type: multipart/%s;\r\n boundary=\"%s%d\"\r\n",
             types[pick(3)], boundary, depth);
    add(d, line);
    if (pick(3) == 0)
        add(d, "Content-Transfer-Encoding: 8bit\r\n");
    add(d, "\r\n");
    if (pick(3) == 0)
        add(d, "pre" UE "amble\r\n");
    for (size_t n = 1 + pick(3); n > 0; n--) {
        snprintf(line, sizeof(line), "--%s%d%s\r\n", boundary, depth, pick(4) ? "" : "  ");
        add(d, line);
        add_entity(d, depth + 1, false);
        add(d, "\r\n");
    }
    if (pick(8) == 0)
        return;
    snprintf(line, sizeof(line), "--%s%d--\r\n", boundary, depth);
    add(d, line);
    if (pick(3) == 0)
        add(d, "epilogue\r\n");
}

static void add_leaf(struct decoded *d)
{
    static const char *const types[] = { "", "Content-Type: text/plain; charset=utf-8\r\n",
                                         "Content-Type: application/octet-stream\r\n",
                                         "Content-Type: text/html\r\nX: gr" UE "n\r\n" };
    static const char *const labels[] = { "", "Content-Transfer-Encoding: 8bit\r\n",
                                          "content-transfer-encoding:\r\n BINARY\r\n" };

    add(d, types[pick(4)]);
    if (pick(5) == 0) {
        add(d, "Content-Transfer-Encoding: base64\r\n\r\n");
        add_base64(d, pick(2));
        return;
    }
    add(d, labels[pick(3)]);
    add(d, "\r\n");
    add_text(d);
}

static void add_entity(struct decoded *d, int depth, bool is_message)
{
    if (is_message)
        add(d, "Subject: x" UE "\r\nMIME-Version: 1.0\r\n");
    size_t kind = depth < 5 ? pick(5) : 4;
    if (kind < 2) {
        add_multipart(d, depth);
    } else if (kind == 2) {
        add(d, "Content-Type: message/rfc822\r\n\r\n");
        add_entity(d, depth + 1, true);
    } else {
        add_leaf(d);
    }
}

static void check_output(const struct result *result, struct str in, unsigned want, int round)
{
    struct decoded before = { NULL, 0, 0 }, after = { NULL, 0, 0 }, out = { NULL, 0, 0 };

    decoded_add(&out, result->head.at, result->head.len);
    decoded_add(&out, result->body.at ? result->body.at : "", result->body.len);
    decoded_add(&before, "", 0);
    decoded_add(&after, "", 0);
    decode_entity(&before, in.at, in.len);
    decode_entity(&after, out.at, out.len);
    if (before.len != after.len || memcmp(before.at, after.at, before.len) != 0)
        fail_msg("round %d:\n" STR_FMT "\n=====\n%s", round, STR_ARG(in), out.at);
    struct str body = buf_view(&result->body);
    if ((want & CONVERT_7BIT) && !str_is_ascii(str_make(out.at, out.len)))
        fail_msg("8-bit in round %d:\n%s", round, out.at);
    if ((want & CONVERT_LONG_LINES) && encode_longest_line(body) > 998)
        fail_msg("long line in round %d", round);
    free(before.at);
    free(after.at);
    free(out.at);
}

static void decoding_gives_the_same(void **state)
{
    static const unsigned wants[] = { CONVERT_7BIT, CONVERT_LONG_LINES,
                                      CONVERT_7BIT | CONVERT_LONG_LINES };
    int converted = 0;

    (void)state;
    for (int round = 0; round < 1500; round++) {
        struct decoded message = { NULL, 0, 0 };
        struct result one, two;
        seed = (uint32_t)round + 1;
        add_entity(&message, 0, true);
        struct str in = str_make(message.at, message.len);
        size_t head = str_find(in, STR("\r\n\r\n")) + 4;
        unsigned want = wants[pick(3)];
        run(str_head(in, head), str_from(in, head), want, 0, in.len, &one);
        run(str_head(in, head), str_from(in, head), want, 0, 1 + pick(7), &two);
        assert_int_equal(one.err, two.err);
        assert_true(str_eq(buf_view(&one.head), buf_view(&two.head)));
        assert_true(str_eq(buf_view(&one.body), buf_view(&two.body)));
        if (one.err)
            assert_int_equal(one.err, ERR_DENIED);
        else if (!one.needed)
            assert_true(str_eq(buf_view(&one.body), str_from(in, head)));
        else
            check_output(&one, in, want, round);
        converted += !one.err && one.needed;
        result_clear(&one);
        result_clear(&two);
        free(message.at);
    }
    assert_true(converted > 500);
}

static void deep_nesting_is_bounded(void **state)
{
    struct decoded body = { NULL, 0, 0 };
    struct result result;
    char line[200];

    (void)state;
    for (int i = 1; i < 200; i++) {
        snprintf(line, sizeof(line), "--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n",
                 i, i + 1);
        add(&body, line);
    }
    add(&body, "--b200\r\n\r\n" UE "\r\n");
    run(STR("Content-Type: multipart/mixed; boundary=b1\r\n\r\n"), str_make(body.at, body.len),
        CONVERT_7BIT, 0, 1000, &result);
    assert_int_equal(result.err, ERR_DENIED);
    result_clear(&result);
    body.len = 0;
    for (int i = 0; i < 30000; i++)
        add(&body, "--b1\r\n\r\nx\r\n");
    run(STR("Content-Type: multipart/mixed; boundary=b1\r\n\r\n"), str_make(body.at, body.len),
        CONVERT_7BIT, 0, 5000, &result);
    assert_int_equal(result.err, ERR_OK);
    assert_false(result.needed);
    assert_true(str_eq(buf_view(&result.body), str_make(body.at, body.len)));
    result_clear(&result);
    add(&body, UE "\r\n");
    run(STR("Content-Type: multipart/mixed; boundary=b1\r\n\r\n"), str_make(body.at, body.len),
        CONVERT_7BIT, 0, 5000, &result);
    assert_int_equal(result.err, ERR_DENIED);
    result_clear(&result);
    free(body.at);
}

static void a_huge_inner_head_is_left_alone(void **state)
{
    struct decoded body = { NULL, 0, 0 };
    struct result result;

    (void)state;
    add(&body, "--b\r\n");
    for (int i = 0; i < 10000; i++)
        add(&body, "X: yyyyyyyyyyyy\r\n");
    add(&body, "\r\nx\r\n--b\r\nContent-Type: x/y\r\n\r\n" UE "\r\n--b--\r\n");
    for (size_t step = 7; step < 1000000; step *= 11) {
        run(STR("Content-Type: multipart/mixed; boundary=b\r\n\r\n"), str_make(body.at, body.len),
            CONVERT_7BIT, 0, step, &result);
        assert_int_equal(result.err, ERR_OK);
        assert_true(result.needed);
        assert_true(str_starts(buf_view(&result.body), str_make(body.at, body.len - 20)) ||
                    str_is_ascii(buf_view(&result.body)));
        result_clear(&result);
    }
    free(body.at);
}

static void long_lines(void **state)
{
    static char body[2100];
    struct result result;

    (void)state;
    memset(body, 'x', sizeof(body));
    for (size_t len = 997; len <= 1000; len++) {
        memcpy(body + len, "\r\nyy\r\n", 6);
        run(STR("Subject: x\r\n\r\n"), str_make(body, len + 6), CONVERT_LONG_LINES, 0, 1, &result);
        assert_int_equal(result.err, ERR_OK);
        assert_int_equal(result.needed, len > 998);
        result_clear(&result);
        memset(body, 'x', sizeof(body));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact),
        cmocka_unit_test(decoding_gives_the_same),
        cmocka_unit_test(deep_nesting_is_bounded),
        cmocka_unit_test(a_huge_inner_head_is_left_alone),
        cmocka_unit_test(long_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
