/*
 * alias_test.c - alias files read, and where local names lead.
 */
#include "relay/mail/alias.h"
#include "relay/mail/local.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct told {
    char text[4000]; /* "E2: words" or "W2: words", a line each */
};

static void tell(void *arg, enum alias_severity severity, struct str file, unsigned line,
                 const char *what)
{
    struct told *told = arg;
    size_t len = strlen(told->text);

    (void)snprintf(told->text + len, sizeof(told->text) - len, "%c%s%u: %s\n",
                   severity == ALIAS_ERROR ? 'E' : 'W', str_eq(file, STR("/a")) ? "" : "i", line,
                   what);
}

static enum err read_file(void *arg, struct str file, struct buf *out, struct fault *fault)
{
    (void)arg;
    if (str_eq(file, STR("/list"))) {
        buf_cstr(out, "# members\n  one@example.org, two@example.org\n\njoe\n:include:/deeper\n");
        return ERR_OK;
    }
    if (str_eq(file, STR("/deeper"))) {
        buf_cstr(out, "three@example.org\n|cmd\n");
        return ERR_OK;
    }
    if (str_eq(file, STR("/self"))) {
        buf_cstr(out, ":include:/self\n");
        return ERR_OK;
    }
    return fault_set(fault, ERR_NOT_FOUND, STR_FMT ": no such file", STR_ARG(file));
}

static struct alias_table *table_of(const char *text, struct told *told)
{
    struct alias_reader reader = { .read = read_file, .tell = tell, .arg = told };
    struct alias_table *table = NULL;

    told->text[0] = '\0';
    enum err rc = alias_parse(STR("/a"), str_of(text), &reader, &table);
    assert_int_equal(rc == ERR_OK, !strstr(told->text, "E"));
    return table;
}

static void print_entry(const struct alias_table *table, const char *name, char *out, size_t size)
{
    const struct alias_entry *entry = alias_find(table, str_of(name));
    size_t len = 0;

    out[0] = '\0';
    if (!entry) {
        (void)snprintf(out, size, "-");
        return;
    }
    for (size_t i = 0; i < entry->count; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%s" STR_FMT ":%u", i ? " " : "",
                                entry->targets[i].kind == ALIAS_FINAL ? "\\" : "",
                                STR_ARG(entry->targets[i].text), entry->targets[i].line);
}

static void files_are_read(void **state)
{
    static const struct {
        const char *name, *text, *ask, *entry, *told;
    } rows[] = {
        { "plain", "root: ops@example.com\n", "root", "ops@example.com:1", "" },
        { "no final newline", "root: ops@example.com", "ROOT", "ops@example.com:1", "" },
        { "comments and empty lines", "# hello\n\n  # more\nroot: a@b.example # me\n", "root",
          "a@b.example:4", "" },
        { "CRLF", "root: a@b.example\r\njoe: root\r\n", "joe", "root:2", "" },
        { "list", "root: a@b.example, c@d.example ,joe\n", "root",
          "a@b.example:1 c@d.example:1 joe:1", "" },
        { "continued", "root: a@b.example,\n\tc@d.example\n# between\n  ,e@f.example\njoe: root\n",
          "root", "a@b.example:1 c@d.example:1 e@f.example:1", "" },
        { "blank before the colon", "root : a@b.example\n", "root", "a@b.example:1", "" },
        { "case", "Root: A@B.Example, JOE\n", "rOOt", "A@b.example:1 joe:1", "" },
        { "quoted name", "\"two words\": a@b.example\n", "two words", "a@b.example:1", "" },
        { "colon in a quoted name", "\"a:b\": a@b.example\n", "a:b", "a@b.example:1", "" },
        { "quoted local part", "x: \"a b\"@b.example\n", "x", "\"a b\"@b.example:1", "" },
        { "comma in quotes", "x: \"a,b\"@b.example, c@d.example\n", "x",
          "\"a,b\"@b.example:1 c@d.example:1", "" },
        { "angle brackets", "x: Ops Team <ops@example.com>\n", "x", "ops@example.com:1", "" },
        { "final", "joe: \\joe, joe@example.org\n", "joe", "\\joe:1 joe@example.org:1", "" },
        { "star", "*: ops@example.com\n", "*", "ops@example.com:1", "" },
        { "default", "default: ops@example.com\n", "*", "ops@example.com:1", "" },
        { "unknown", "root: a@b.example\n", "nobody", "-", "" },
        { "international",
          "x: a@b\xc3\xbc"
          "cher.example\n",
          "x", "a@xn--bcher-kva.example:1", "" },
        { "include", "team: :include:/list\n", "team",
          "one@example.org:2 two@example.org:2 joe:4 three@example.org:1",
          "Wi2: |cmd is refused: no programs are run for mail\n" },
        { "quoted include", "team: \":include:/deeper\"\n", "team", "three@example.org:1",
          "Wi2: |cmd is refused: no programs are run for mail\n" },
        { "include of nothing", "team: a@b.example, :include:/none\n", "team", "a@b.example:1",
          "E1: /none: no such file\n" },
        { "relative include", "team: :include:list, a@b.example\n", "team", "a@b.example:1",
          "E1: :include: wants the full path of a file\n" },
        { "include in a circle", "team: :include:/self, a@b.example\n", "team", "a@b.example:1",
          "Ei1: files include files more than 5 deep\n" },
        { "pipe", "x: a@b.example\ny: \"|/bin/prog -x, y\", a@b.example\n", "y", "a@b.example:2",
          "W2: |/bin/prog -x, y is refused: no programs are run for mail\n" },
        { "file", "null: /dev/null\n", "null", "",
          "W1: /dev/null is refused: mail is not written to files\n"
          "W1: \"null\" leads nowhere: its mail goes where root's goes\n" },
        { "fail", "x: :fail: go away\n", "x", "",
          "W1: :fail: go away is refused: only :include: is understood of these words\n"
          "W1: \"x\" leads nowhere: its mail goes where root's goes\n" },
        { "no colon", "root ops@example.com\njoe: a@b.example\n", "joe", "a@b.example:2",
          "E1: no colon in this line (name: address, address ...)\n" },
        { "no name", ": a@b.example\n", "", "-", "E1: no name in front of the colon\n" },
        { "domain in the name", "root@here: a@b.example\n", "root@here", "-",
          "E1: \"root@here\": only local names have aliases, without a domain\n" },
        { "bad address", "root: a@b.example, bad@@c\n", "root", "a@b.example:1",
          "E1: \"bad@@c\" is no address: domain is not well formed\n" },
        { "terminal sequence is shown safely", "root: \x1b[1m, a@b.example\n", "root",
          "a@b.example:1", "E1: \"\\x1B[1m\" is no address: address has no local part\n" },
        { "a lone backslash", "x: \\\n", "x", "",
          "E1: \"\\\\\" is no address: address has no local part\n"
          "W1: \"x\" leads nowhere: its mail goes where root's goes\n" },
        { "empty", "root:\n", "root", "",
          "W1: \"root\" leads nowhere: its mail goes where root's goes\n" },
        { "twice", "x: a@b.example\nx: c@d.example\n", "x", "a@b.example:1",
          "W2: \"x\" is there twice: line 1 counts, this one does not\n" },
        { "loop", "a: b\nb: c\nc: a, x@y.example\n", "c", "a:3 x@y.example:3",
          "E3: \"c\" is in a loop of names through \"a\"\n" },
        { "itself is no loop", "a: a, x@y.example\n", "a", "a:1 x@y.example:1", "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char entry[1000];
        struct told told;
        struct alias_table *table = table_of(rows[i].text, &told);
        print_entry(table, rows[i].ask, entry, sizeof(entry));
        if (strcmp(entry, rows[i].entry) != 0 || strcmp(told.text, rows[i].told) != 0)
            fail_msg("%s: %s\n%s", rows[i].name, entry, told.text);
        alias_unref(&table);
        assert_null(table);
    }
}

static void included_files_are_named(void **state)
{
    struct told told;
    struct alias_table *table = table_of("team: :include:/list\n", &told);

    (void)state;
    assert_true(str_eq(alias_file(table, 0), STR("/a")));
    assert_true(str_eq(alias_file(table, 1), STR("/list")));
    assert_true(str_eq(alias_file(table, 2), STR("/deeper")));
    assert_int_equal(alias_file(table, 3).len, 0);
    alias_unref(&table);
}

/* ---- where names lead ---- */

static bool forward(void *arg, struct str name, struct arena *arena,
                    const struct alias_target **out_targets, size_t *out_count, struct str *out_why)
{
    struct alias_reader reader = { 0 };
    const char *text;

    (void)arg;
    if (str_eq(name, STR("fred")))
        text = "\\fred, fred@home.example\n";
    else if (str_eq(name, STR("gone")))
        text = "ann\n";
    else if (str_eq(name, STR("piper")))
        text = "|vacation\n";
    else
        return false;
    if (alias_parse_forward(STR("/home/.forward"), str_of(text), &reader, arena, out_targets,
                            out_count) ||
        *out_count == 0) {
        *out_why = STR("its .forward was refused");
        return *out_count > 0;
    }
    return true;
}

static const char *const file = "ann: ann@elsewhere.example\n"
                                "team: ann, bob, :include:/list\n"
                                "joe: \\joe\n"
                                "self: self, self@else.example\n"
                                "out: out@mail.example\n"
                                "away: out@mail.example\n"
                                "here: ann@localhost, bob@host.mail.example\n"
                                "void: /dev/null\n"
                                "postmaster: root\n";

static const struct str own[] = { { "host.mail.example", 17 }, { "host", 4 } };

static void names_lead(void **state)
{
    static const struct {
        const char *name, *more, *root, *ask, *want;
    } rows[] = {
        { "root's address", "", "ops@x.example", "root", "ops@x.example" },
        { "the option wins over the file", "root: a@b.example\n", "ops@x.example", "root",
          "ops@x.example" },
        { "root by the file", "root: a@b.example\n", "", "root", "a@b.example" },
        { "root by a chain", "root: ann\n", "", "root", "ann@elsewhere.example" },
        { "without an alias", "", "ops@x.example", "nobody", "ops@x.example" },
        { "without an alias, root by the file", "root: ann\n", "", "nobody",
          "ann@elsewhere.example" },
        { "alias", "", "ops@x.example", "ann", "ann@elsewhere.example" },
        { "case", "", "ops@x.example", "Ann", "ann@elsewhere.example" },
        { "at localhost", "", "ops@x.example", "ann@localhost", "ann@elsewhere.example" },
        { "at the host", "", "ops@x.example", "ann@host.mail.example", "ann@elsewhere.example" },
        { "list, each address once", "", "ops@x.example", "team",
          "ann@elsewhere.example ops@x.example one@example.org two@example.org "
          "three@example.org" },
        { "final goes to root", "", "ops@x.example", "joe", "ops@x.example" },
        { "itself adds nothing", "", "ops@x.example", "self", "self@else.example" },
        { "the mailbox of the same name elsewhere", "", "ops@x.example", "out",
          "out@mail.example" },
        { "through an alias at mailname", "", "ops@x.example", "away", "out@mail.example" },
        { "targets on this machine", "", "ops@x.example", "here",
          "ann@elsewhere.example ops@x.example" },
        { "refused target", "", "ops@x.example", "void", "ops@x.example" },
        { "postmaster", "", "ops@x.example", "postmaster", "ops@x.example" },
        { "mailer-daemon", "", "ops@x.example", "MAILER-DAEMON", "ops@x.example" },
        { "root elsewhere", "root: root@mail.example\n", "", "root", "root@mail.example" },
        { "root's address is final", "", "root@mail.example", "root", "root@mail.example" },
        { "catch-all", "*: all@x.example\n", "ops@x.example", "nobody", "all@x.example" },
        { "catch-all for root too", "*: all@x.example\n", "", "root", "all@x.example" },
        { "catch-all is not for root that has an address", "*: all@x.example\n", "ops@x.example",
          "root", "ops@x.example" },
        { "forward", "", "ops@x.example", "fred", "fred@home.example" },
        { "forward to a name", "", "ops@x.example", "gone", "ann@elsewhere.example" },
        { "an alias wins over .forward", "fred: ann\n", "", "fred", "ann@elsewhere.example" },
        { "refused forward", "", "ops@x.example", "piper",
          "ops@x.example ! its .forward was refused" },
        { "nowhere", "", "", "nobody", "? no address for local mail: set aliases { root = ... }" },
        { "root nowhere", "", "", "root",
          "? no address for local mail: set aliases { root = ... }" },
        { "a loop leads to root", "a: b\nb: a\n", "ops@x.example", "a", "ops@x.example" },
        { "a loop without root", "a: b\nb: a\n", "", "a",
          "? no address for local mail: set aliases { root = ... }" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[2000], got[2000] = "";
        struct told told;
        struct local_result result;
        struct arena arena;
        size_t len = 0;

        (void)snprintf(text, sizeof(text), "%s%s", file, rows[i].more);
        struct alias_table *table = table_of(text, &told);
        struct local_rules rules = {
            .mailname = STR("mail.example"),
            .domains = own,
            .domain_count = 2,
            .root = str_of(rows[i].root),
            .table = table,
            .forward = forward,
        };
        arena_init(&arena);
        assert_true(local_is_ours(&rules, str_of(rows[i].ask)));
        local_expand(&rules, str_of(rows[i].ask), &arena, &result);
        for (size_t k = 0; k < result.count; k++)
            len += (size_t)snprintf(got + len, sizeof(got) - len, "%s" STR_FMT, k ? " " : "",
                                    STR_ARG(result.found[k].address));
        if (result.count == 0)
            len +=
                (size_t)snprintf(got + len, sizeof(got) - len, "? " STR_FMT, STR_ARG(result.why));
        if (result.remark.len)
            (void)snprintf(got + len, sizeof(got) - len, " ! " STR_FMT, STR_ARG(result.remark));
        if (strcmp(got, rows[i].want) != 0)
            fail_msg("%s: %s", rows[i].name, got);
        arena_clear(&arena);
        alias_unref(&table);
    }
}

static void which_are_ours(void **state)
{
    static const struct {
        const char *address, *root;
        bool ours;
    } rows[] = {
        { "root", "", true },
        { "nobody", "", true },
        { "nobody@localhost", "", true },
        { "nobody@LocalHost.LocalDomain", "", true },
        { "nobody@host.mail.example", "", true },
        { "nobody@host", "", true },
        { "nobody@mail.example", "", false },
        { "ann@mail.example", "", true },
        { "root@mail.example", "", false },
        { "root@mail.example", "ops@x.example", true },
        { "mailer-daemon@mail.example", "ops@x.example", true },
        { "webmaster@mail.example", "ops@x.example", false },
        { "root@sub.mail.example", "ops@x.example", false },
        { "ann@else.example", "", false },
        { "*@mail.example", "", false },
    };
    struct told told;
    struct alias_table *table = table_of("ann: ann@elsewhere.example\n*: x@y.example\n", &told);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct local_rules rules = {
            .mailname = STR("mail.example"),
            .domains = own,
            .domain_count = 2,
            .root = str_of(rows[i].root),
            .table = table,
        };
        if (local_is_ours(&rules, str_of(rows[i].address)) != rows[i].ours)
            fail_msg("%s with root \"%s\"", rows[i].address, rows[i].root);
    }
    alias_unref(&table);
}

static void words_and_limits(void **state)
{
    struct buf text;
    struct told told;
    struct local_result result;
    struct arena arena;

    (void)state;
    buf_init(&text, 1 << 20);
    buf_cstr(&text, "all: ");
    for (unsigned i = 0; i <= LOCAL_FOUND_MAX; i++)
        buf_printf(&text, "u%u@example.org,\n ", i);
    buf_cstr(&text, "\nroot: ann\nann: ann@elsewhere.example\n");
    buf_append(&text, "", 1);
    struct alias_table *table = table_of(text.at, &told);
    struct local_rules rules = { .mailname = STR("mail.example"),
                                 .root = STR_EMPTY,
                                 .table = table };
    arena_init(&arena);
    local_expand(&rules, STR("all"), &arena, &result);
    assert_int_equal(result.count, 0);
    assert_true(str_starts(result.why, STR("the local name leads to more than 1000")));
    local_expand(&rules, STR("root"), &arena, &result);
    assert_int_equal(result.count, 1);
    assert_true(
        str_eq(result.found[0].words, STR("root -> ann@elsewhere.example (aliases, /a:1004)")));
    arena_clear(&arena);
    alias_unref(&table);
    buf_clear(&text);
}

static void shown_outside(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        { "root", "root@mail.example" },
        { "root@localhost", "root@mail.example" },
        { "root@localhost.localdomain", "root@mail.example" },
        { "root@web1", "root@mail.example" },
        { "root@Web1", "root@mail.example" },
        { "root@web1.example", "root@web1.example" },
        { "a@b.example", "a@b.example" },
    };
    struct local_names names = { .mailname = STR("mail.example"), .machine = STR("web1") };
    struct arena arena;

    (void)state;
    arena_init(&arena);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str out = local_qualify(&names, str_of(rows[i].in), &arena);
        if (!str_eq(out, str_of(rows[i].out)))
            fail_msg("%s: %.*s", rows[i].in, STR_ARG(out));
    }
    names.machine = STR_EMPTY;
    assert_true(str_eq(local_qualify(&names, STR("a@web1"), &arena), STR("a@web1")));
    assert_true(str_eq(local_qualify(&names, STR("a@localhost"), &arena), STR("a@mail.example")));
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_read),   cmocka_unit_test(included_files_are_named),
        cmocka_unit_test(names_lead),       cmocka_unit_test(which_are_ours),
        cmocka_unit_test(words_and_limits), cmocka_unit_test(shown_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
