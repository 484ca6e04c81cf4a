/*
 * cmd_explain.c - waypost explain: what a reply means and what to do about it.
 */
#include "relay/base/clock.h"
#include "relay/cli/cmd.h"
#include "relay/mail/outcome.h"

#include <getopt.h>
#include <unistd.h>

#define TEXT_MAX 65536

static bool read_input(struct buf *text)
{
    char piece[4096];
    size_t n;

    while ((n = fread(piece, 1, sizeof(piece), stdin)) > 0)
        if (!buf_append(text, piece, n))
            return false;
    return !ferror(stdin);
}

static bool gather(int argc, char **argv, struct buf *text)
{
    bool reads = argc == 0 || (argc == 1 && strcmp(argv[0], "-") == 0);

    if (reads && isatty(STDIN_FILENO))
        (void)fputs("Paste the reply, then press Enter and Ctrl-D:\n", stderr);
    if (reads)
        return read_input(text);
    for (int i = 0; i < argc; i++)
        if ((i > 0 && !buf_char(text, ' ')) || !buf_cstr(text, argv[i]))
            return false;
    return true;
}

static const char *status_text(const struct outcome *outcome, char out[16])
{
    return status_print(outcome->status, out, 16) ? out : "none";
}

static const char *scope_help(enum scope scope)
{
    switch (scope) {
    case SCOPE_NONE:
        return "";
    case SCOPE_RECIPIENT:
        return "only this recipient is affected";
    case SCOPE_MESSAGE:
        return "this message, at any host";
    case SCOPE_HOST:
        return "this host; the next one is tried";
    case SCOPE_DEST:
        return "everything that goes there";
    case SCOPE_US:
        return "us: nobody else is to blame";
    case SCOPE_COUNT:
        break;
    }
    return "";
}

static const char *result_help(enum result result)
{
    switch (result) {
    case RESULT_OK:
        return "goes on";
    case RESULT_DELIVERED:
        return "delivered: the next hop has the message";
    case RESULT_LATER:
        return "later: it is tried again by itself";
    case RESULT_FAILED:
        return "failed: it is not tried again, the sender gets a report";
    case RESULT_COUNT:
        break;
    }
    return "";
}

static void print_text(const struct outcome *outcome, struct buf *out)
{
    char status[16], span[24];
    const char *bold = cmd_colour(stdout, COLOUR_BOLD), *end = cmd_colour(stdout, COLOUR_NONE);

    buf_printf(out, "%scause%s   %s\n", bold, end, outcome->cause);
    buf_printf(out, "%sfix%s     %s\n", bold, end, outcome->fix);
    buf_printf(out, "%sresult%s  %s\n", bold, end, result_help(outcome->result));
    buf_printf(out, "%sclass%s   %s\n", bold, end, class_word(outcome->kind));
    if (outcome->scope != SCOPE_NONE)
        buf_printf(out, "%sscope%s   %s: %s\n", bold, end, scope_word(outcome->scope),
                   scope_help(outcome->scope));
    buf_printf(out, "%sstatus%s  %s\n", bold, end, status_text(outcome, status));
    if (outcome->retry_after_s) {
        clock_span(outcome->retry_after_s, span, sizeof(span));
        buf_printf(out, "%sretry%s   they ask to wait %s\n", bold, end, span);
    }
}

static void print_json(const struct outcome *outcome, struct buf *out)
{
    char status[16];

    buf_printf(out, "{\"result\":\"%s\",\"class\":\"%s\",\"scope\":\"%s\",\"status\":",
               result_word(outcome->result), class_word(outcome->kind), scope_word(outcome->scope));
    buf_json(out, str_of(status_text(outcome, status)));
    buf_cstr(out, ",\"cause\":");
    buf_json(out, str_of(outcome->cause));
    buf_cstr(out, ",\"fix\":");
    buf_json(out, str_of(outcome->fix));
    buf_printf(out, ",\"row\":\"%s\",\"retry_after_s\":%u}\n", outcome->row,
               outcome->retry_after_s);
}

static int explain(struct str pasted, bool json)
{
    struct outcome outcome;
    struct buf out;
    int code;

    if (str_trim(pasted).len == 0)
        return cmd_misuse("explain", "nothing to explain: give the reply as an argument or on "
                                     "standard input");
    if (!outcome_explain(pasted, &outcome))
        return cmd_fail(EX_DATAERR, "nothing in this text is known; paste the reply with its code, "
                                    "such as 550 5.7.26");
    buf_init(&out, TEXT_MAX);
    if (json)
        print_json(&outcome, &out);
    else
        print_text(&outcome, &out);
    code = cmd_put(stdout, &out);
    buf_clear(&out);
    return code;
}

int cmd_explain(const char *conf_file, int argc, char **argv)
{
    static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
    bool json = false;
    struct buf text;
    int option, code;

    (void)conf_file;
    opterr = 0;
    /* "+": a reply may have words that look like options. */
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (option != 'j') {
            struct cmd_wrong wrong = cmd_wrong_option(option, argv);
            return cmd_misuse("explain", "%s%s", wrong.what, wrong.word);
        }
        json = true;
    }
    buf_init(&text, TEXT_MAX);
    if (gather(argc - optind, argv + optind, &text))
        code = explain(buf_view(&text), json);
    else
        code = cmd_fail(EX_DATAERR, "the text is longer than %u octets", TEXT_MAX);
    buf_clear(&text);
    return code;
}
