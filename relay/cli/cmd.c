/*
 * cmd.c - the table of subcommands, and what is the same for all of them.
 */
#include "relay/cli/cmd.h"

#include "relay/base/mapped.h"
#include "relay/cli/sendmail.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

static const struct cmd cmds[] = {
    { "serve", "", "run the relay in the foreground", cmd_serve },
    { "setup",
      "[--smarthost HOST[:PORT] | --direct] [--username NAME] [--password-file FILE] "
      "[--tls LEVEL] [--ca-file FILE] [--domain NAME] [--root ADDRESS] [--sender ADDRESS] "
      "[--batch] [--no-test] [--force]",
      "a first configuration: asks, tries each answer, writes", cmd_setup },
    { "migrate", "[--from postfix|msmtp|dma|nullmailer] [--secrets FOLDER] FILE",
      "another program's configuration as a waypost.conf", cmd_migrate },
    { "check", "[--json] [FILE]", "validate the configuration and every file it names", cmd_check },
    { "queue",
      "list [FILTER]... [--limit N] [--json] [ID]...\n"
      "show [--content] [--json] ID...\n"
      "lanes [--limit N] [--json]\n"
      "flush [--json] [LANE]\n"
      "retry|hold|release|reroute [FILTER]... [--json] [ID]...\n"
      "drop [FILTER]... [--all] [--json] [ID]...\n"
      " FILTER: --lane LANE, --sender PATTERN, --recipient PATTERN, --user NAME,\n"
      " --state STATE, --older-than 2h, --newer-than 30m, --deferred",
      "mail that waits: shown, tried now, held, moved, dropped", cmd_queue },
    { "trace", "[--limit N] [--json] HANDLE", "the whole path of a message, step by step",
      cmd_trace },
    { "explain", "[--json] 'REPLY TEXT'", "what a mail server's reply means and what to do",
      cmd_explain },
    { "dkim",
      "keygen DOMAIN [--selector NAME] [--type rsa|ed25519|both] [--dir FOLDER | --file KEY]\n"
      "record [DOMAIN] [--selector NAME] [--file KEY]\n"
      "check [DOMAIN] [--selector NAME] [--file KEY]",
      "signing keys and their DNS records", cmd_dkim },
    { "sendmail", "[FLAGS] [RECIPIENT]...", "what programs call sendmail: see waypost-sendmail(1)",
      cmd_sendmail },
    { "user",
      "add NAME [--sender PATTERN]... [--scram] [--clear] [--file FILE]\n"
      "passwd NAME [--scram] [--file FILE]\n"
      "list [--json] [--file FILE]\n"
      "remove NAME [--file FILE]",
      "who may log in, and which senders they may use", cmd_user },
};
#define CMD_COUNT (sizeof(cmds) / sizeof(cmds[0]))

/* ---- words ---- */

int cmd_fail(int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)fputs("waypost: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    return code;
}

const char *cmd_colour(FILE *out, enum cmd_colour colour)
{
    static const char *const sequences[] = {
        [COLOUR_NONE] = "\033[0m",    [COLOUR_BOLD] = "\033[1m",   [COLOUR_RED] = "\033[1;31m",
        [COLOUR_YELLOW] = "\033[33m", [COLOUR_GREEN] = "\033[32m", [COLOUR_DIM] = "\033[2m",
    };
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

    if (!isatty(fileno(out)) || !term || strcmp(term, "dumb") == 0 || (no_color && *no_color))
        return "";
    return sequences[colour];
}

/* "retry|hold|release ..." is a form of each of them. */
static bool is_form_of(struct str form, struct str verb)
{
    struct str words = str_head(form, str_chr(form, ' ')), word;

    while (str_next(&words, '|', &word))
        if (str_eq(word, verb))
            return true;
    return verb.len == 0;
}

/* All forms, or those of one verb; remarks belong to the forms that say FILTER. */
static void print_forms(FILE *out, const struct cmd *cmd, struct str verb)
{
    struct str rest = str_of(cmd->arguments), form;
    const char *lead = "usage:";
    bool has_filter = false;

    if (rest.len == 0)
        (void)fprintf(out, "usage: waypost %s\n", cmd->name);
    while (str_next(&rest, '\n', &form)) {
        if (str_starts(form, STR(" "))) {
            if (has_filter)
                (void)fprintf(out, "%-14s" STR_FMT "\n", "", STR_ARG(form));
        } else if (is_form_of(form, verb)) {
            (void)fprintf(out, "%-6s waypost %s " STR_FMT "\n", lead, cmd->name, STR_ARG(form));
            has_filter |= str_find(form, STR("FILTER")) < form.len;
            lead = "";
        }
    }
}

static const struct cmd *find(struct str name)
{
    for (size_t i = 0; i < CMD_COUNT; i++)
        if (str_eq(str_of(cmds[i].name), name))
            return &cmds[i];
    return NULL;
}

int cmd_misuse(const char *name, const char *format, ...)
{
    struct str verb = str_of(name), first = STR_EMPTY;
    const struct cmd *cmd;
    va_list args;

    va_start(args, format);
    (void)fputs("waypost: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    str_next(&verb, ' ', &first);
    cmd = find(first);
    if (cmd)
        print_forms(stderr, cmd, verb);
    return EX_USAGE;
}

static int help(void)
{
    (void)puts("usage: waypost [-c FILE] COMMAND [ARGUMENTS]\n");
    for (size_t i = 0; i < CMD_COUNT; i++)
        (void)printf("  %-10s %s\n", cmds[i].name, cmds[i].help);
    (void)printf("\n"
                 "  -c, --config FILE   the configuration (else $WAYPOST_CONF, else %s)\n"
                 "  --version\n"
                 "  -h, --help          this, or how a command is used: waypost COMMAND --help\n",
                 CONF_FILE_DEFAULT);
    return EX_OK;
}

static int help_for(const struct cmd *cmd)
{
    print_forms(stdout, cmd, STR_EMPTY);
    (void)printf("\n%s\n", cmd->help);
    return EX_OK;
}

/* ---- the nearest name ---- */

/* Levenshtein's distance, by rows. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], len = strlen(b);

    if (len >= sizeof(row) / sizeof(row[0]))
        return len;
    for (size_t j = 0; j <= len; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[len];
}

struct nearest {
    const char *given, *name;
    size_t distance;
};

static void consider(struct nearest *nearest, const char *name)
{
    size_t d = distance(nearest->given, name);

    if (strlen(nearest->given) >= 3 && strncmp(name, nearest->given, strlen(nearest->given)) == 0)
        d = 1; /* cut short */
    if (d >= nearest->distance)
        return;
    nearest->distance = d;
    nearest->name = name;
}

static void say_unknown(const struct nearest *nearest, const char *what)
{
    struct buf shown;

    buf_init(&shown, 1024);
    buf_escaped(&shown, str_of(nearest->given), 64);
    buf_char(&shown, '\0');
    if (nearest->name)
        (void)cmd_fail(EX_USAGE, "there is no %s \"%s\"; did you mean \"%s\"?", what, shown.at,
                       nearest->name);
    else
        (void)cmd_fail(EX_USAGE, "there is no %s \"%s\"; waypost --help lists them", what,
                       shown.at);
    buf_clear(&shown);
}

const struct cmd_verb *cmd_verb(const struct cmd_verb *verbs, size_t count, int argc, char **argv)
{
    struct nearest nearest = { .given = argc > 1 ? argv[1] : "", .distance = 3 };
    char what[64];

    for (size_t i = 0; i < count; i++) {
        if (strcmp(verbs[i].name, nearest.given) == 0)
            return &verbs[i];
        consider(&nearest, verbs[i].name);
    }
    (void)snprintf(what, sizeof(what), "command %s", argv[0]);
    if (argc > 1)
        say_unknown(&nearest, what);
    print_forms(stderr, find(str_of(argv[0])), STR_EMPTY);
    return NULL;
}

static int unknown(const char *name)
{
    struct nearest nearest = { .given = name, .distance = 3 };

    for (size_t i = 0; i < CMD_COUNT; i++)
        consider(&nearest, cmds[i].name);
    say_unknown(&nearest, "command");
    return EX_USAGE;
}

/* ---- the line ---- */

struct line {
    const char *conf_file;
    bool wants_help, wants_version, is_broken;
    int argc;
    char **argv; /* what is left, argv[0] the command; NULL at the end */
};

/* "-c FILE", "-cFILE", "--config FILE", "--config=FILE"; NULL: another argument. */
static const char *conf_argument(char **argv, int *i)
{
    const char *arg = argv[*i];

    if (strcmp(arg, "-c") == 0 || strcmp(arg, "--config") == 0) {
        if (!argv[*i + 1])
            return "";
        return argv[++*i];
    }
    if (strncmp(arg, "-c", 2) == 0)
        return arg + 2;
    if (strncmp(arg, "--config=", 9) == 0)
        return arg + 9;
    return NULL;
}

static void read_line(int argc, char **argv, struct line *line)
{
    bool only_words = false;

    *line = (struct line){ .argv = mem_alloc((size_t)(argc + 1) * sizeof(char *)) };
    for (int i = 1; i < argc; i++) {
        const char *file = only_words ? NULL : conf_argument(argv, &i);
        bool is_option = !only_words && !file;
        if (file) {
            line->conf_file = file;
            line->is_broken = line->is_broken || !*file;
        } else if (is_option && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            line->wants_help = true;
        } else if (is_option && strcmp(argv[i], "--version") == 0) {
            line->wants_version = true;
        } else {
            /* The letters behind "sendmail" are sendmail's own. */
            only_words = only_words || strcmp(argv[i], "--") == 0 ||
                         (line->argc == 0 && strcmp(argv[i], "sendmail") == 0);
            line->argv[line->argc++] = argv[i];
        }
    }
}

static int help_on(const char *name)
{
    const struct cmd *cmd = find(str_of(name));

    return cmd ? help_for(cmd) : unknown(name);
}

static int run(const struct line *line)
{
    const struct cmd *cmd;

    if (line->wants_version) {
        (void)puts("waypost " WAYPOST_VERSION);
        return EX_OK;
    }
    if (line->is_broken)
        return cmd_fail(EX_USAGE, "-c needs the name of a file");
    if (line->argc == 0) {
        if (line->wants_help)
            return help();
        return cmd_fail(EX_USAGE, "no command; waypost --help lists them");
    }
    if (strcmp(line->argv[0], "help") == 0)
        return line->argc > 1 ? help_on(line->argv[1]) : help();
    cmd = find(str_of(line->argv[0]));
    if (!cmd)
        return unknown(line->argv[0]);
    if (line->wants_help)
        return help_for(cmd);
    return cmd->run(line->conf_file, line->argc, line->argv);
}

int cmd_main(int argc, char **argv)
{
    struct line line;
    int code;

    mapped_guard();
    if (sendmail_is_called(argv[0]))
        return cmd_sendmail(NULL, argc, argv);
    read_line(argc, argv, &line);
    code = run(&line);
    free(line.argv);
    if (fflush(stdout) != 0 && code == EX_OK)
        code = cmd_fail(EX_IOERR, "the output could not be written");
    return code;
}

/* ---- for the commands ---- */

/* Among several letters behind one hyphen getopt has not left the word yet. */
static const char *word_of_option(char **argv)
{
    const char *next = argv[optind];

    if (next && next[0] == '-' && next[1] && next[1] != '-' && next[2] && optopt > 0 &&
        optopt < 256 && strchr(next + 1, optopt))
        return next;
    return argv[optind - 1];
}

struct cmd_wrong cmd_wrong_option(int option, char **argv)
{
    struct cmd_wrong wrong = { "unknown option ", word_of_option(argv) };

    if (option == ':')
        wrong.what = "a value is missing behind ";
    else if (option == '?' && optopt && strncmp(wrong.word, "--", 2) == 0)
        wrong.what = "this option has no value: ";
    return wrong;
}

int cmd_code(enum err err)
{
    switch (err) {
    case ERR_OK:
        return EX_OK;
    case ERR_INVALID:
    case ERR_LIMIT:
    case ERR_CORRUPT:
    case ERR_EXISTS:
        return EX_DATAERR;
    case ERR_NOT_FOUND:
        return EX_NOINPUT;
    case ERR_DENIED:
        return EX_NOPERM;
    case ERR_BUSY:
    case ERR_AGAIN:
    case ERR_TIMEOUT:
    case ERR_CLOSED:
    case ERR_DNS:
        return EX_TEMPFAIL;
    case ERR_FULL:
        return EX_CANTCREAT;
    case ERR_IO:
        return EX_IOERR;
    case ERR_REFUSED:
    case ERR_UNREACHABLE:
    case ERR_VERSION:
    case ERR_UNSUPPORTED:
    case ERR_TLS:
    case ERR_CANCELLED:
        return EX_UNAVAILABLE;
    }
    return EX_SOFTWARE;
}

void cmd_print_finding(FILE *out, enum conf_severity severity, const char *file, unsigned line,
                       const char *what, const char *fix)
{
    bool is_error = severity == CONF_ERROR;
    char at[16] = "";

    if (line)
        (void)snprintf(at, sizeof(at), ":%u", line);
    (void)fprintf(out, "%s%s: %s%s%s: %s", file, at,
                  cmd_colour(out, is_error ? COLOUR_RED : COLOUR_YELLOW),
                  is_error ? "error" : "warning", cmd_colour(out, COLOUR_NONE), what);
    if (fix && *fix)
        (void)fprintf(out, " (%s)", fix);
    (void)fputc('\n', out);
}

static void tell_error(void *arg, enum conf_severity severity, const char *file, unsigned line,
                       const char *what, const char *fix)
{
    (void)arg;
    if (severity == CONF_ERROR)
        cmd_print_finding(stderr, severity, file, line, what, fix);
}

static void tell_nobody(void *arg, enum conf_severity severity, const char *file, unsigned line,
                        const char *what, const char *fix)
{
    (void)arg, (void)severity, (void)file, (void)line, (void)what, (void)fix;
}

struct conf *cmd_conf(const char *conf_file)
{
    struct conf *conf = NULL;

    (void)conf_read(conf_file, tell_error, NULL, &conf);
    return conf;
}

struct conf *cmd_conf_quietly(const char *conf_file)
{
    struct conf *conf = NULL;

    (void)conf_read(conf_file, tell_nobody, NULL, &conf);
    return conf;
}

int cmd_put(FILE *out, struct buf *text)
{
    struct str all = buf_view(text);
    bool ok = all.len == 0 || fwrite(all.at, 1, all.len, out) == all.len;

    buf_reset(text);
    return ok ? EX_OK : EX_IOERR;
}
