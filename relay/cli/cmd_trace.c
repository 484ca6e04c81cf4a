/*
 * cmd_trace.c - waypost trace: the whole path of a message, step by step.
 *
 * The relay is asked; when it is down the kept traces are read as they are.
 */
#include "queue/tracelog.h"
#include "relay/cli/cmd.h"
#include "relay/cli/relay_ask.h"
#include "relay/cli/trace_hop.h"
#include "relay/cli/trace_text.h"

#include <getopt.h>
#include <stdlib.h>

#define LINES_MAX ((size_t)32 << 20)
#define TEXT_MAX ((size_t)128 << 20)
#define HOP_ROOM ((size_t)8 * HOP_ENCODED_MAX) /* as JSON */
#define MESSAGES 10
#define MESSAGES_MAX 100
#define EX_NOTHING 1

struct tracing {
    struct relay_ask ask;
    const char *handle;
    uint64_t max;
    bool json;
    struct buf lines; /* JSON, one hop a line */
    bool is_cut, is_down;
};

/* ---- getting the hops ---- */

static enum err ask_relay(struct tracing *tracing, struct fault *fault)
{
    struct http_response response;
    struct buf path;
    enum err rc;

    buf_init(&path, 16384);
    buf_printf(&path, "/v1/trace?max=%llu", (unsigned long long)tracing->max);
    relay_ask_param(&path, "handle", str_of(tracing->handle));
    buf_char(&path, '\0');
    rc = relay_ask_call(&tracing->ask, "GET", path.at, NULL, NULL, &response, fault);
    if (!rc)
        buf_str(&tracing->lines, buf_view(&response.body));
    http_response_clear(&response);
    buf_clear(&path);
    return rc;
}

static bool add_hop(void *arg, const struct hop *hop)
{
    struct tracing *tracing = arg;

    hop_json(hop, &tracing->lines);
    buf_char(&tracing->lines, '\n');
    tracing->is_cut = tracing->lines.len + HOP_ROOM > LINES_MAX;
    return !tracing->is_cut;
}

static enum err read_disk(struct tracing *tracing, struct fault *fault)
{
    enum err rc = ERR_OK;

    if (!tracing->is_down)
        rc = relay_ask_go_direct(&tracing->ask, tracing->ask.trace_folder, fault);
    tracing->is_down = true;
    if (rc)
        return rc;
    rc = tracelog_find(tracing->ask.trace_folder, str_of(tracing->handle), (size_t)tracing->max,
                       add_hop, tracing, fault);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

/* ---- showing them ---- */

static size_t count_lines(struct str text)
{
    size_t count = 0;

    for (size_t i = 0; i < text.len; i++)
        count += text.at[i] == '\n';
    return count;
}

static int show_text_of(struct tracing *tracing)
{
    struct str rest = buf_view(&tracing->lines), line;
    size_t most = count_lines(rest) + 1, count = 0;
    struct hop *hops = mem_alloc(most * sizeof(*hops));
    json_t *keep = json_array();
    struct show_paint paint = show_paint_of(stdout);
    struct buf text;
    int code;

    while (str_next(&rest, '\n', &line)) {
        json_t *json = json_loadb(line.at, line.len, JSON_ALLOW_NUL, NULL);
        if (json_is_true(json_object_get(json, "cut")))
            tracing->is_cut = true;
        if (json && trace_hop_read(json, &hops[count]))
            count++;
        json_array_append_new(keep, json); /* the texts are views into it */
    }
    buf_init(&text, TEXT_MAX);
    trace_text(hops, count, &paint, &text);
    code = cmd_put(stdout, &text);
    buf_clear(&text);
    json_decref(keep);
    free(hops);
    return code;
}

static int nothing(const struct tracing *tracing)
{
    struct buf shown;

    buf_init(&shown, 4096);
    buf_escaped(&shown, str_of(tracing->handle), 512);
    buf_char(&shown, '\0');
    (void)cmd_fail(EX_NOTHING,
                   "no trace of \"%s\"%s: try the message id that the relay gave in its 250 reply, "
                   "the Message-ID field, a recipient's whole address, or the queue id in the next "
                   "hop's reply; traces are kept for queue.trace-age and up to queue.trace-size.",
                   shown.at, relay_ask_scope());
    buf_clear(&shown);
    return EX_NOTHING;
}

/* ERR_OK also when nothing is known of the handle. */
static enum err look(struct tracing *tracing, struct fault *fault)
{
    enum err rc = tracing->is_down ? ERR_REFUSED : ask_relay(tracing, fault);

    if (rc == ERR_REFUSED)
        return read_disk(tracing, fault);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

/* "root": traces have such names with mailname. */
static bool is_bare_name(const struct tracing *tracing)
{
    struct str handle = str_of(tracing->handle), mailname = tracing->ask.conf->aliases.mailname;
    struct msgid id;

    return mailname.len > 0 && str_chr(handle, '@') == handle.len && !msgid_parse(handle, &id);
}

static enum err look_by_name(struct tracing *tracing, struct fault *fault)
{
    const char *given = tracing->handle;
    struct buf whole;
    enum err rc;

    buf_init(&whole, 4096);
    buf_printf(&whole, "%s@" STR_FMT, given, STR_ARG(tracing->ask.conf->aliases.mailname));
    buf_char(&whole, '\0');
    tracing->handle = whole.at;
    rc = whole.overflowed ? ERR_OK : look(tracing, fault);
    tracing->handle = given;
    buf_clear(&whole);
    return rc;
}

static int trace(struct tracing *tracing)
{
    struct fault fault = { 0 };
    enum err rc = look(tracing, &fault);
    int code;

    if (!rc && tracing->lines.len == 0 && is_bare_name(tracing))
        rc = look_by_name(tracing, &fault);
    if (rc)
        return cmd_fail(cmd_code(rc), "%s", fault.text);
    if (tracing->lines.len == 0)
        return nothing(tracing);
    code = tracing->json ? cmd_put(stdout, &tracing->lines) : show_text_of(tracing);
    if (tracing->is_cut)
        (void)cmd_fail(EX_OK, "the trace is longer than what is shown; ask for a message id");
    return code;
}

/* ---- the line ---- */

static int read_options(int argc, char **argv, struct tracing *tracing)
{
    static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                                             { "limit", required_argument, NULL, 'n' },
                                             { 0 } };
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == '?' || option == ':') {
            struct cmd_wrong wrong = cmd_wrong_option(option, argv);
            return cmd_misuse("trace", "%s%s", wrong.what, wrong.word);
        }
        tracing->json |= option == 'j';
        if (option == 'n' && (!str_u64(str_of(optarg), &tracing->max) || tracing->max == 0 ||
                              tracing->max > MESSAGES_MAX))
            return cmd_misuse("trace", "--limit is a number of messages from 1 to %d",
                              MESSAGES_MAX);
    }
    if (argc - optind != 1 || argv[optind][0] == '\0')
        return cmd_misuse("trace", "trace what? one message id, Message-ID, recipient or queue id");
    tracing->handle = argv[optind];
    return EX_OK;
}

int cmd_trace(const char *conf_file, int argc, char **argv)
{
    struct tracing tracing = { .max = MESSAGES };
    int code = read_options(argc, argv, &tracing);

    if (!code)
        code = relay_ask_open(conf_file, &tracing.ask);
    if (!code) {
        buf_init(&tracing.lines, LINES_MAX);
        code = trace(&tracing);
        buf_clear(&tracing.lines);
    }
    relay_ask_close(&tracing.ask);
    return code;
}
