/*
 * sendmail(1): every option, what is piped in, and what a header says.
 */
#include "relay/cli/sendmail.h"

#include "relay/cli/sendmail_large.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WORDS_MAX 32

/* ---- the command line ---- */

struct words {
    char text[512];
    char *argv[WORDS_MAX];
    int argc;
};

/* Words between blanks; "''" is an empty one. */
static void split(const char *line, struct words *words)
{
    struct str rest = str_of(line), word;
    char *to = words->text;

    words->argc = 0;
    while (str_next(&rest, ' ', &word)) {
        words->argv[words->argc++] = to;
        if (!str_eq(word, STR("''"))) {
            memcpy(to, word.at, word.len);
            to += word.len;
        }
        *to++ = '\0';
    }
    words->argv[words->argc] = NULL;
}

/* What was understood, as one line. */
static void print_wish(const struct sendmail_wish *wish, struct buf *out)
{
    static const char *const modes[] = { "mail",   "smtp",  "list",   "aliases",
                                         "verify", "flush", "daemon", "nothing" };
    static const char *const errors[] = { "", " print-mail", " report-only", " quiet", " write" };

    buf_cstr(out, modes[wish->mode]);
    buf_cstr(out, errors[wish->errors]);
    buf_cstr(out, wish->extract ? " t" : "");
    buf_cstr(out, wish->keep_dots ? " i" : "");
    buf_cstr(out, wish->wait ? " wait" : "");
    buf_cstr(out, wish->verbose ? " v" : "");
    buf_cstr(out, wish->json ? " json" : "");
    buf_cstr(out, wish->smtputf8 ? " utf8" : "");
    buf_cstr(out, wish->body_8bit ? " 8bit" : "");
    if (wish->has_sender)
        buf_printf(out, " from=<" STR_FMT ">", STR_ARG(wish->sender));
    if (wish->full_name)
        buf_printf(out, " name=%s", wish->full_name);
    if (wish->notify)
        buf_printf(out, " notify=%u", wish->notify);
    if (wish->ret)
        buf_printf(out, " ret=%u", wish->ret);
    if (wish->envid.len)
        buf_printf(out, " envid=" STR_FMT, STR_ARG(wish->envid));
    if (wish->mode == SENDMAIL_FLUSH)
        buf_printf(out, " flush=%u,%s", wish->flush, wish->flush_what ? wish->flush_what : "");
    for (size_t i = 0; i < wish->recipient_count; i++)
        buf_printf(out, " [%s]", wish->recipients[i]);
}

static const struct {
    const char *name, *line, *want; /* NULL: refused as misuse */
} lines[] = {
    { "PHP", "sendmail -t -i", "mail t i" },
    { "PHP with a sender", "sendmail -t -i -f a@b.c", "mail t i from=<a@b.c>" },
    { "PHPMailer", "sendmail -oi -fa@b.c -t", "mail t i from=<a@b.c>" },
    { "Symfony", "sendmail -bs", "smtp" },
    { "Symfony with -t", "sendmail -t -oi -fa@b.c", "mail t i from=<a@b.c>" },
    { "git", "sendmail -i -f a@b.c x@y.z u@v.w", "mail i from=<a@b.c> [x@y.z] [u@v.w]" },
    { "mutt", "sendmail -oem -oi -f a@b.c -N failure,delay -R full -B 8BITMIME -- x@y.z",
      "mail print-mail i 8bit from=<a@b.c> notify=12 ret=1 [x@y.z]" },
    { "Debian's cron", "sendmail -FCronDaemon -i -B8BITMIME -oem root",
      "mail print-mail i 8bit name=CronDaemon [root]" },
    { "cronie", "sendmail -FCronDaemon -i -odi -oem -oi -t -f root",
      "mail print-mail t i wait from=<root> name=CronDaemon" },
    { "Vixie's cron", "sendmail -FCronDaemon -odi -oem -or0s root",
      "mail print-mail wait name=CronDaemon [root]" },
    { "mdadm", "/usr/lib/sendmail -t", "mail t" },
    { "fail2ban", "sendmail -f me@b.c you@b.c", "mail from=<me@b.c> [you@b.c]" },
    { "scripts", "sendmail -oi -oem -odb -t", "mail print-mail t i" },
    { "letters in a bunch", "sendmail -ti", "mail t i" },
    { "a bunch that ends in a value", "sendmail -itfa@b.c x", "mail t i from=<a@b.c> [x]" },
    { "the null sender in brackets", "sendmail -f <> x", "mail from=<> [x]" },
    { "the null sender as nothing", "sendmail -f '' x", "mail from=<> [x]" },
    { "the null sender glued", "sendmail -f<> x", "mail from=<> [x]" },
    { "-r is -f", "sendmail -rroot x", "mail from=<root> [x]" },
    { "-o apart from its letter", "sendmail -o i -o em x", "mail print-mail i [x]" },
    { "-e stands alone", "sendmail -em x", "mail print-mail [x]" },
    { "-oee", "sendmail -oee x", "mail report-only [x]" },
    { "-oeq", "sendmail -oeq x", "mail quiet [x]" },
    { "-oew", "sendmail -oew x", "mail write [x]" },
    { "-odf waits", "sendmail -odf x", "mail wait [x]" },
    { "-odq does not", "sendmail -odi -odq x", "mail [x]" },
    { "-oA takes a word", "sendmail -oA /etc/aliases x", "mail [x]" },
    { "-o7 -o8 -om", "sendmail -o7 -o8 -om x", "mail [x]" },
    { "an unknown -o is ignored", "sendmail -ozz x", "mail [x]" },
    { "an unknown letter is ignored", "sendmail -z x", "mail [x]" },
    { "what is ignored",
      "sendmail -G -U -m -n -h 3 -L tag -Ac -Am -d0.4 -p esmtp -X log -x -Mx -E -J y x",
      "mail [x]" },
    { "the number for -h is not a recipient", "sendmail -h5 x", "mail [x]" },
    { "long names", "sendmail -O DeliveryMode=i -OErrorMode=m -OIgnoreDots=True -O Any=thing x",
      "mail print-mail i wait [x]" },
    { "smtputf8", "sendmail -O smtputf8=yes x", "mail utf8 [x]" },
    { "-N never", "sendmail -N never x", "mail notify=1 [x]" },
    { "-N apart and together", "sendmail -Nsuccess,failure,delay x", "mail notify=14 [x]" },
    { "-R hdrs -V", "sendmail -Rhdrs -V id+1 x", "mail ret=2 envid=id+1 [x]" },
    { "-N never with others", "sendmail -N never,delay x", NULL },
    { "-N with nonsense", "sendmail -N sometimes x", NULL },
    { "-R with nonsense", "sendmail -R some x", NULL },
    { "-B with nonsense", "sendmail -B 9BIT x", NULL },
    { "-f at the end", "sendmail -f", NULL },
    { "-bz", "sendmail -bz", NULL },
    { "mailq", "mailq", "list" },
    { "mailq as JSON", "mailq --json", "list json" },
    { "mailq by flag", "sendmail -bp", "list" },
    { "newaliases", "newaliases", "aliases" },
    { "newaliases by flag", "sendmail -bi", "aliases" },
    { "newaliases by the other flag", "sendmail -I", "aliases" },
    { "hoststat", "hoststat", "nothing" },
    { "send-mail", "/usr/lib/send-mail -t", "mail t" },
    { "runq", "runq", "flush flush=0," },
    { "-q", "sendmail -q", "flush flush=0," },
    { "-qI", "sendmail -qI0123", "flush flush=1,0123" },
    { "-qR apart", "sendmail -qR example.com", "flush flush=2,example.com" },
    { "-qS", "sendmail -qSa@b.c", "flush flush=3,a@b.c" },
    { "-q with a time", "sendmail -q30m", "nothing" },
    { "a daemon with a time", "sendmail -bd -q30m", "daemon" },
    { "-bl", "sendmail -bl", "daemon" },
    { "-bv", "sendmail -bv root a@b.c", "verify [root] [a@b.c]" },
    { "-bm", "sendmail -bm x", "mail [x]" },
    { "-v", "sendmail -v x", "mail v [x]" },
    { "a recipient like an option", "sendmail -i x -Xfile", NULL },
    { "an option behind a recipient", "sendmail x -i", NULL },
    { "behind -- anything is a recipient", "sendmail -i -- -oops@x", "mail i [-oops@x]" },
    { "a lone dash", "sendmail -i -", "mail i [-]" },
};

/* What is refused tells so on standard error: not in the report of the tests. */
static int quietly(struct words *words, struct sendmail_wish *wish)
{
    int kept = dup(STDERR_FILENO), code;

    assert_true(kept >= 0 && freopen("/dev/null", "w", stderr));
    code = sendmail_flags(words->argc, words->argv, wish);
    (void)dup2(kept, STDERR_FILENO);
    close(kept);
    return code;
}

static void every_option(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct sendmail_wish wish;
        struct words words;
        struct buf got;
        split(lines[i].line, &words);
        int code = quietly(&words, &wish);
        buf_init(&got, 4096);
        if (code == EX_OK)
            print_wish(&wish, &got);
        buf_char(&got, '\0');
        if (code != (lines[i].want ? EX_OK : EX_USAGE) ||
            (lines[i].want && strcmp(got.at, lines[i].want) != 0))
            fail_msg("%s: code %d, \"%s\", wanted \"%s\"", lines[i].name, code, got.at,
                     lines[i].want ? lines[i].want : "(misuse)");
        buf_clear(&got);
    }
}

/* ---- input ---- */

static const struct {
    const char *name, *in, *want;
    bool keep_dots, after_dot, has_nul;
} inputs[] = {
    { "LF", "a\nb\n", "a\r\nb\r\n", false, false, false },
    { "CRLF", "a\r\nb\r\n", "a\r\nb\r\n", false, false, false },
    { "CRCRLF", "a\r\r\nb\n", "a\r\nb\r\n", false, false, false },
    { "a bare CR", "1%\r2%\r\ndone\n", "1%\r\n2%\r\ndone\r\n", false, false, false },
    { "no end", "a\nb", "a\r\nb\r\n", false, false, false },
    { "nothing", "", "", false, false, false },
    { "an mbox line", "From a@b Sat Nov 21\nSubject: x\n\nFrom here\n",
      "Subject: x\r\n\r\nFrom here\r\n", false, false, false },
    { "a dot ends it", "a\n.\n", "a\r\n", false, false, false },
    { "a dot without an end of line", "a\n.", "a\r\n", false, false, false },
    { "text behind the dot", "a\n.\nb\n", "a\r\n", false, true, false },
    { "a dot with -i", "a\n.\nb\n", "a\r\n.\r\nb\r\n", true, false, false },
    { "a dot in front", "..a\n.b\n", "..a\r\n.b\r\n", false, false, false },
    { "NUL", "a\0b\nc\0", "ab\r\nc\r\n", false, false, true },
    { "8-bit", "\xC3\xA4\n", "\xC3\xA4\r\n", false, false, false },
};

static size_t length_of(const char *in)
{
    return strcmp(in, "a") == 0 ? sizeof("a\0b\nc\0") - 1 : strlen(in);
}

/* Cut anywhere, it comes to the same. */
static void any_input(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        struct str in = str_make(inputs[i].in, length_of(inputs[i].in));
        for (size_t cut = 0; cut <= in.len; cut++) {
            struct sendmail_message message;
            struct sendmail_input input;
            sendmail_message_init(&message, 1 << 16);
            sendmail_input_init(&input, &message, inputs[i].keep_dots);
            sendmail_input_feed(&input, str_head(in, cut));
            sendmail_input_feed(&input, str_from(in, cut));
            sendmail_input_end(&input);
            if (!str_eq(buf_view(&message.text), str_of(inputs[i].want)) ||
                input.after_dot != inputs[i].after_dot || input.has_nul != inputs[i].has_nul)
                fail_msg("%s, cut at %zu: \"" STR_FMT "\"", inputs[i].name, cut,
                         STR_ARG(buf_view(&message.text)));
            sendmail_message_clear(&message);
        }
    }
}

/* ---- header ---- */

static const struct {
    const char *name, *line, *text;  /* how it was called, with LF */
    const char *sender, *recipients; /* NULL: refused */
    const char *head;                /* how the text begins; NULL: as it was */
    bool removes;                    /* arguments are taken away */
    int code;
} headers[] = {
    { "To, Cc and Bcc", "sendmail -t", "To: a@x, B <b@x>\nCc: c@x\nBcc: d@x\n\nhi\n", "joe",
      "a@x b@x c@x d@x", NULL, false, EX_OK },
    { "only Bcc", "sendmail -t", "Bcc: d@x\n\nhi\n", "joe", "d@x", NULL, false, EX_OK },
    { "a folded Bcc", "sendmail -t", "Bcc: d@x,\n e@x\n\t, f@x\n\nhi\n", "joe", "d@x e@x f@x", NULL,
      false, EX_OK },
    { "a group in Bcc", "sendmail -t", "To: undisclosed:;\nBcc: us: a@x, \"B, C\" <b@x>;\n\nhi\n",
      "joe", "a@x b@x", NULL, false, EX_OK },
    { "two fields of a name", "sendmail -t", "To: a@x\nTo: b@x\nto: a@x\n\nhi\n", "joe", "a@x b@x",
      NULL, false, EX_OK },
    { "Resent wins", "sendmail -t", "Resent-To: r@x\nResent-Bcc: s@x\nTo: a@x\nBcc: d@x\n\nhi\n",
      "joe", "r@x s@x", NULL, false, EX_OK },
    { "only the newest Resent block", "sendmail -t",
      "Resent-From: n@x\nResent-To: new@x\nResent-From: o@x\nResent-To: old@x\nTo: a@x\n\nhi\n",
      "joe", "new@x", NULL, false, EX_OK },
    { "arguments are added", "sendmail -t b@x c@x", "To: a@x, b@x\n\nhi\n", "joe", "a@x b@x c@x",
      NULL, false, EX_OK },
    { "arguments are taken away", "sendmail -t b@x", "To: a@x, B@X\n\nhi\n", "joe", "a@x", NULL,
      true, EX_OK },
    { "all of them", "sendmail -t a@x", "To: a@x\n\nhi\n", "joe", NULL, NULL, true, EX_NOINPUT },
    { "nobody found", "sendmail -t", "Subject: x\n\nhi\n", "joe", NULL, NULL, false, EX_NOINPUT },
    { "without -t the header is not asked", "sendmail r@x", "To: a@x\nBcc: d@x\n\nhi\n", "joe",
      "r@x", NULL, false, EX_OK },
    { "a list in one argument", "sendmail r@x,s@x root", "Subject: x\n\nhi\n", "joe",
      "r@x s@x root", NULL, false, EX_OK },
    { "root without aliases is root", "sendmail \\root", "Subject: x\n\nhi\n", "joe", "root", NULL,
      false, EX_OK },
    { "an address behind --", "sendmail -- -oops@x", "Subject: x\n\nhi\n", "joe", "-oops@x", NULL,
      false, EX_OK },
    { "nobody named", "sendmail -i", "Subject: x\n\nhi\n", "joe", NULL, NULL, false, EX_USAGE },
    { "no address", "sendmail a@@x", "Subject: x\n\nhi\n", "joe", NULL, NULL, false, EX_DATAERR },
    { "a domain that is no name", "sendmail a@x b@xn--a-\xc3\xa4.test", "Subject: x\n\nhi\n", "joe",
      NULL, NULL, false, EX_DATAERR },
    { "no address in To", "sendmail -t", "To: a b@x\n\nhi\n", "joe", NULL, NULL, false,
      EX_DATAERR },
    { "a program", "sendmail |/bin/sh", "Subject: x\n\nhi\n", "joe", NULL, NULL, false,
      EX_DATAERR },
    { "a file", "sendmail /etc/passwd", "Subject: x\n\nhi\n", "joe", NULL, NULL, false,
      EX_DATAERR },
    { "a sender", "sendmail -froot a@x", "Subject: x\n\nhi\n", "root", "a@x", NULL, false, EX_OK },
    { "the null sender", "sendmail -f <> a@x", "Subject: x\n\nhi\n", "", "a@x", NULL, false,
      EX_OK },
    { "a sender that is none", "sendmail -fa@@b a@x", "Subject: x\n\nhi\n", "joe", NULL, NULL,
      false, EX_DATAERR },
    { "a full name makes a From", "sendmail -FCronDaemon root", "Subject: x\n\nhi\n", "joe", "root",
      "From: \"CronDaemon\" <joe>\r\nSubject: x\r\n\r\nhi\r\n", false, EX_OK },
    { "not when there is one", "sendmail -FCronDaemon root", "from: root (Cron)\n\nhi\n", "joe",
      "root", NULL, false, EX_OK },
    { "nobody has no name", "sendmail -FCron -f '' root", "Subject: x\n\nhi\n", "", "root", NULL,
      false, EX_OK },
    { "bare text", "sendmail root", "hello\n\nyou\n", "joe", "root", "\r\nhello\r\n\r\nyou\r\n",
      false, EX_OK },
    { "bare text with a name", "sendmail -FX root", "hello\n", "joe", "root",
      "From: \"X\" <joe>\r\n\r\nhello\r\n", false, EX_OK },
    { "nothing at all", "sendmail root", "", "joe", "root", "\r\n", false, EX_OK },
    { "a header without its end", "sendmail root", "Subject: x\nhello\nyou\n", "joe", "root",
      "Subject: x\r\n\r\nhello\r\nyou\r\n", false, EX_OK },
    { "a header only", "sendmail root", "Subject: x\n", "joe", "root", "Subject: x\r\n\r\n", false,
      EX_OK },
};

static void join(const struct sendmail_message *message, struct buf *out)
{
    for (size_t i = 0; i < message->recipient_count; i++)
        buf_printf(out, "%s" STR_FMT, i ? " " : "", STR_ARG(message->recipients[i]));
}

static void a_header(size_t i)
{
    struct sendmail_fault fault = { .trouble = TROUBLE_NONE };
    struct sendmail_author author = { "joe", NULL, !headers[i].removes };
    struct sendmail_message message;
    struct sendmail_input input;
    struct sendmail_wish wish;
    struct words words;
    struct buf got;

    split(headers[i].line, &words);
    assert_int_equal(sendmail_flags(words.argc, words.argv, &wish), EX_OK);
    sendmail_message_init(&message, 1 << 16);
    sendmail_input_init(&input, &message, true);
    sendmail_input_feed(&input, str_of(headers[i].text));
    sendmail_input_end(&input);
    buf_init(&got, 4096);
    int code = sendmail_address(&wish, &author, &message, &fault);
    join(&message, &got);
    if (code != headers[i].code)
        fail_msg("%s: code %d (%s)", headers[i].name, code, fault.words.text);
    if (headers[i].recipients && (!str_eq(buf_view(&got), str_of(headers[i].recipients)) ||
                                  !str_eq(message.sender, str_of(headers[i].sender))))
        fail_msg("%s: to \"" STR_FMT "\" from \"" STR_FMT "\"", headers[i].name,
                 STR_ARG(buf_view(&got)), STR_ARG(message.sender));
    if (headers[i].head && !str_eq(buf_view(&message.text), str_of(headers[i].head)))
        fail_msg("%s: \"" STR_FMT "\"", headers[i].name, STR_ARG(buf_view(&message.text)));
    buf_clear(&got);
    sendmail_message_clear(&message);
}

static void every_header(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        a_header(i);
}

/* Seconds of processor time for a header that names `count` people. */
static double seconds_for(size_t count, bool adds)
{
    struct sendmail_wish wish = { .extract = true };
    struct sendmail_author author = { "joe", NULL, adds };
    struct sendmail_fault fault = { .trouble = TROUBLE_NONE };
    char argument[] = "N1@example.net", *arguments[] = { argument };
    struct sendmail_message message;
    clock_t began;

    wish.recipients = arguments;
    wish.recipient_count = 1;
    sendmail_message_init(&message, 1 << 24);
    for (size_t i = 0; i < count; i++)
        buf_printf(&message.text, "%s n%zu@example.net", i ? ",\r\n" : "To:", i);
    buf_cstr(&message.text, "\r\n\r\nhi\r\n");
    began = clock();
    assert_int_equal(sendmail_address(&wish, &author, &message, &fault), EX_OK);
    assert_int_equal(message.recipient_count, adds ? count + 1 : count - 1);
    sendmail_message_clear(&message);
    return (double)(clock() - began) / CLOCKS_PER_SEC;
}

/* Every address compared with every other takes minutes; this takes a quarter of a second. */
static void two_hundred_thousand_people(void **state)
{
    (void)state;
    assert_true(seconds_for(200000, true) < 60);
    assert_true(seconds_for(200000, false) < 60);
}

/* ---- mailq ---- */

static void mailq(void **state)
{
    json_t *one = json_loads("{\"id\":\"01m7zjdtj3000dvwnf1bzxxa2j\",\"size\":1234,\"queued\":2,"
                             "\"arrived\":\"2026-11-21T16:54:16.000Z\",\"sender\":\"<>\","
                             "\"recipients\":["
                             "{\"address\":\"a@x\",\"state\":\"queued\","
                             "\"due\":\"2030-01-01T00:00:00.000Z\",\"reply\":\"450 later\"},"
                             "{\"address\":\"b@x\",\"state\":\"queued\","
                             "\"due\":\"2030-01-01T00:00:00.000Z\",\"reply\":\"450 later\"},"
                             "{\"address\":\"c@x\",\"state\":\"delivered\"},"
                             "{\"address\":\"d@x\",\"state\":\"held\",\"cause\":\"no address\"}]}",
                             0, NULL);
    struct buf out;

    (void)state;
    assert_non_null(one);
    setenv("TZ", "UTC", 1);
    buf_init(&out, 1 << 16);
    sendmail_list_message(one, 1800000000, &out);
    sendmail_list_end(1, 1234, &out);
    buf_char(&out, '\0');
    assert_string_equal(
        out.at, "01m7zjdtj3000dvwnf1bzxxa2j     1234 Sat Nov 21 16:54:16  MAILER-DAEMON\n"
                "                                                                   (450 later)\n"
                "                                                         a@x\n"
                "                                                         b@x\n"
                "                                                                  (no address)\n"
                "                                                         d@x\n"
                "\n"
                "-- 2 Kbytes in 1 Request.\n");
    json_decref(one);
    buf_reset(&out);
    one = json_loads("{\"id\":\"x\",\"size\":1,\"held\":1,\"arrived\":\"2026-11-21T16:54:16.000Z\","
                     "\"sender\":\"a@b\",\"recipients\":[]}",
                     0, NULL);
    sendmail_list_message(one, 1800000000, &out);
    assert_memory_equal(out.at, "x! ", 3);
    json_decref(one);
    buf_reset(&out);
    sendmail_list_end(0, 0, &out);
    buf_char(&out, '\0');
    assert_string_equal(out.at, "Mail queue is empty\n");
    buf_clear(&out);
}

/* ---- verdicts ---- */

static const struct {
    const char *name, *hops[4];
    enum sendmail_trouble worst;
    uint64_t settled;
    bool is_held;
} verdicts[] = {
    { "delivered",
      { "{\"stage\":\"receive\",\"count\":1}", "{\"stage\":\"settle\",\"result\":\"delivered\"}" },
      TROUBLE_NONE,
      1,
      false },
    { "put off is no failure",
      { "{\"stage\":\"settle\",\"result\":\"later\"}" },
      TROUBLE_NONE,
      1,
      false },
    { "no such user",
      { "{\"stage\":\"settle\",\"result\":\"failed\",\"status\":\"5.1.1\",\"code\":550}" },
      TROUBLE_NO_USER,
      1,
      false },
    { "no such domain",
      { "{\"stage\":\"settle\",\"result\":\"failed\",\"class\":\"dns\"}" },
      TROUBLE_NO_HOST,
      1,
      false },
    { "refused, and one delivered",
      { "{\"stage\":\"settle\",\"result\":\"delivered\"}",
        "{\"stage\":\"settle\",\"result\":\"failed\",\"status\":\"5.7.1\"}" },
      TROUBLE_REJECTED,
      2,
      false },
    { "held", { "{\"stage\":\"expand\",\"result\":\"later\"}" }, TROUBLE_NONE, 0, true },
};

static void every_verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++) {
        struct sendmail_verdicts got = { .settled = 0 };
        for (size_t h = 0; h < 4 && verdicts[i].hops[h]; h++) {
            json_t *hop = json_loads(verdicts[i].hops[h], 0, NULL);
            assert_non_null(hop);
            sendmail_judge(&got, hop);
            json_decref(hop);
        }
        if (got.worst != verdicts[i].worst || got.settled != verdicts[i].settled ||
            got.is_held != verdicts[i].is_held)
            fail_msg("%s: worst %d, settled %u", verdicts[i].name, got.worst,
                     (unsigned)got.settled);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option), cmocka_unit_test(any_input),
        cmocka_unit_test(every_header), cmocka_unit_test(two_hundred_thousand_people),
        cmocka_unit_test(mailq),        cmocka_unit_test(every_verdict),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
