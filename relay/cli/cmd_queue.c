/*
 * cmd_queue.c - waypost queue: mail that waits, shown and changed.
 */
#include "relay/api/filter.h"
#include "relay/base/clock.h"
#include "relay/cli/cmd.h"
#include "relay/cli/queue_source.h"
#include "relay/cli/queue_text.h"

#include <unistd.h>

#define TEXT_MAX ((size_t)64 << 20)
#define EX_NOTHING 1 /* nothing matched: as grep says it */

/* ---- what lists share ---- */

struct printing {
    const struct queue_wish *wish;
    struct show_paint paint;
    int64_t now_s;
    struct buf text;
    uint64_t count;
    void (*head)(const struct show_paint *paint, struct buf *out);
    void (*row)(const json_t *row, int64_t now_s, const struct show_paint *paint, struct buf *out);
    int code;
};

static int append(const char *bytes, size_t len, void *arg)
{
    return buf_append(arg, bytes, len) ? 0 : -1;
}

static bool print_row(void *arg, const json_t *row)
{
    struct printing *printing = arg;

    if (printing->wish->json) {
        json_dump_callback(row, append, &printing->text, JSON_COMPACT | JSON_ENSURE_ASCII);
        buf_char(&printing->text, '\n');
    } else {
        if (printing->count == 0)
            printing->head(&printing->paint, &printing->text);
        printing->row(row, printing->now_s, &printing->paint, &printing->text);
    }
    printing->count++;
    printing->code = cmd_put(stdout, &printing->text);
    return printing->code == EX_OK;
}

static struct printing printing_of(const struct queue_wish *wish)
{
    struct printing printing = { .wish = wish,
                                 .paint = show_paint_of(stdout),
                                 .now_s = clock_wall_us() / 1000000,
                                 .head = queue_text_head,
                                 .row = queue_text_row };

    buf_init(&printing.text, TEXT_MAX);
    return printing;
}

static int printed(struct printing *printing, enum err err, const struct fault *fault,
                   const char *nothing)
{
    buf_clear(&printing->text);
    if (err)
        return cmd_fail(cmd_code(err), "%s", fault->text);
    if (printing->code)
        return printing->code;
    if (printing->count == 0 && !printing->wish->json)
        (void)printf("%s%s.\n", nothing, relay_ask_scope());
    return EX_OK;
}

/* ---- list, lanes ---- */

static int list_ids(struct queue_source *source, const struct queue_wish *wish)
{
    struct printing printing = printing_of(wish);
    struct fault fault;
    enum err rc = ERR_OK;

    for (size_t i = 0; !rc && i < wish->word_count; i++) {
        json_t *message = queue_source_show(source, wish->words[i], &rc, &fault);
        if (message)
            print_row(&printing, message);
        else if (rc == ERR_NOT_FOUND)
            rc = ERR_OK;
        json_decref(message);
    }
    return printed(&printing, rc, &fault, "None of them is in the queue");
}

static int list_all(struct queue_source *source, const struct queue_wish *wish)
{
    struct printing printing = printing_of(wish);
    struct fault fault;
    enum err rc = queue_source_list(source, wish, print_row, &printing, &fault);

    return printed(&printing, rc, &fault,
                   !filter_is_all(&wish->filter) ? "Nothing in the queue matches"
                   : geteuid() == 0              ? "The queue is empty"
                                                 : "No mail that you may see is in the queue");
}

static int run_list(struct queue_source *source, struct queue_wish *wish)
{
    if (wish->word_count && !filter_is_all(&wish->filter))
        return cmd_misuse("queue list", "queue list: give ids or filters, not both");
    return wish->word_count ? list_ids(source, wish) : list_all(source, wish);
}

static int run_lanes(struct queue_source *source, struct queue_wish *wish)
{
    struct printing printing = printing_of(wish);
    struct fault fault;
    enum err rc;

    if (wish->word_count)
        return cmd_misuse("queue lanes", "queue lanes takes no names");
    printing.head = queue_text_lanes_head;
    printing.row = queue_text_lane;
    rc = queue_source_lanes(source, wish, print_row, &printing, &fault);
    return printed(&printing, rc, &fault, "No mail waits anywhere");
}

/* ---- show ---- */

static int not_there(const char *id, enum err err, const struct fault *fault)
{
    if (err != ERR_NOT_FOUND)
        return cmd_fail(cmd_code(err), "%s", fault->text);
    return cmd_fail(EX_NOTHING,
                    "message %s is not in the queue; waypost trace %s tells what became of it", id,
                    id);
}

static bool write_out(void *arg, struct str bytes)
{
    (void)arg;
    return fwrite(bytes.at, 1, bytes.len, stdout) == bytes.len;
}

static int show_content(struct queue_source *source, const char *id)
{
    struct fault fault;
    enum err rc = queue_source_content(source, id, write_out, NULL, &fault);

    if (rc == ERR_CANCELLED)
        return cmd_fail(EX_IOERR, "the output could not be written");
    return rc ? not_there(id, rc, &fault) : EX_OK;
}

static int show_one(struct queue_source *source, const struct queue_wish *wish, const char *id)
{
    struct show_paint paint = show_paint_of(stdout);
    struct fault fault;
    struct buf text;
    enum err rc;
    json_t *message = queue_source_show(source, id, &rc, &fault);
    int code;

    if (!message)
        return not_there(id, rc, &fault);
    buf_init(&text, TEXT_MAX);
    if (wish->json)
        json_dump_callback(message, append, &text, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    else
        queue_text_message(message, clock_wall_us() / 1000000, &paint, &text);
    if (wish->json)
        buf_char(&text, '\n');
    json_decref(message);
    code = cmd_put(stdout, &text);
    buf_clear(&text);
    return code;
}

static int run_show(struct queue_source *source, struct queue_wish *wish)
{
    int code = EX_OK;

    if (wish->word_count == 0)
        return cmd_misuse("queue show", "queue show: which message? give its id");
    for (size_t i = 0; i < wish->word_count; i++) {
        int one = wish->content ? show_content(source, wish->words[i])
                                : show_one(source, wish, wish->words[i]);
        if (one)
            code = one;
        if (i + 1 < wish->word_count && !wish->content && !wish->json)
            (void)putchar('\n');
    }
    return code;
}

/* ---- changes ---- */

struct counts {
    uint64_t messages, recipients, under_way;
};

static int change_once(struct queue_source *source, const struct queue_wish *wish, const char *path,
                       const char *done, struct counts *counts)
{
    struct fault fault;
    enum err rc;
    json_t *json = relay_ask_json(&source->ask, "POST", path, &rc, &fault);

    if (rc == ERR_REFUSED)
        return relay_ask_say_down(&source->ask, done);
    if (rc)
        return cmd_fail(cmd_code(rc), "queue %s: %s", wish->verb, fault.text);
    counts->messages += show_number(json, "messages");
    counts->recipients += show_number(json, "recipients");
    counts->under_way += show_number(json, "under_way");
    json_decref(json);
    return EX_OK;
}

/* One request, or one for each id. */
static int change(struct queue_source *source, const struct queue_wish *wish, const char *target,
                  const char *done, struct counts *counts)
{
    struct str query = buf_view(&wish->query); /* "?", or "?&name=value..." */
    struct buf path;
    int code = EX_OK;

    *counts = (struct counts){ 0 };
    buf_init(&path, 32768);
    for (size_t i = 0; !code && (i < wish->word_count || i == 0); i++) {
        buf_reset(&path);
        buf_cstr(&path, target);
        if (query.len > 1) {
            buf_char(&path, '?');
            buf_str(&path, str_from(query, 2));
        }
        if (wish->all)
            relay_ask_param(&path, "all", STR("1"));
        if (wish->word_count)
            relay_ask_param(&path, "id", str_of(wish->words[i]));
        buf_char(&path, '\0');
        code = change_once(source, wish, path.at, done, counts);
    }
    buf_clear(&path);
    return code;
}

static void say_counts(const struct queue_wish *wish, const char *done, const struct counts *counts)
{
    unsigned long long m = counts->messages, r = counts->recipients, u = counts->under_way;

    if (wish->json) {
        (void)printf("{\"messages\":%llu,\"recipients\":%llu,\"under_way\":%llu}\n", m, r, u);
        return;
    }
    (void)printf("%s: %llu recipient%s of %llu message%s\n", done, r, r == 1 ? "" : "s", m,
                 m == 1 ? "" : "s");
    if (u > 0)
        (void)printf("%llu of them %s being sent just now: that attempt goes on, and may deliver\n",
                     u, u == 1 ? "is" : "are");
}

static int run_change(struct queue_source *source, struct queue_wish *wish)
{
    static const struct {
        const char *verb, *path, *done;
    } rows[] = {
        { "hold", "/v1/queue/hold", "held" },
        { "release", "/v1/queue/release", "released" },
        { "retry", "/v1/queue/retry", "made due now" },
        { "drop", "/v1/queue/drop", "dropped" },
        { "reroute", "/v1/queue/reroute", "moved" },
    };
    struct counts counts;
    size_t i = 0;
    int code;

    if (strcmp(wish->verb, "drop") == 0 && wish->word_count == 0 && !wish->all &&
        filter_is_all(&wish->filter))
        return cmd_misuse("queue drop",
                          "queue drop: give ids or filters (--all drops the whole queue; "
                          "senders get no report)");
    while (strcmp(rows[i].verb, wish->verb) != 0)
        i++;
    code = change(source, wish, rows[i].path, rows[i].done, &counts);
    if (code)
        return code;
    if (counts.messages == 0 && !wish->json)
        return cmd_fail(EX_NOTHING, "nothing in the queue matches, so nothing was %s",
                        rows[i].done);
    say_counts(wish, rows[i].done, &counts);
    return counts.messages ? EX_OK : EX_NOTHING;
}

/* The store counts what was to wait; most mail of a busy queue is due anyway. */
static void say_flushed(bool has_lane, const struct counts *counts)
{
    unsigned long long m = counts->messages, r = counts->recipients;

    if (r == 0)
        (void)printf("flushed: nothing%s waits for a later attempt%s\n", has_lane ? " there" : "",
                     has_lane ? " (waypost queue lanes lists the places)" : "");
    else
        (void)printf("flushed: %llu recipient%s of %llu message%s no longer wait%s (not counted: "
                     "what was due already, is under way, or held)\n",
                     r, r == 1 ? "" : "s", m, m == 1 ? "" : "s", r == 1 ? "s" : "");
}

static int run_flush(struct queue_source *source, struct queue_wish *wish)
{
    bool has_lane = wish->word_count > 0 || wish->filter.lane.len > 0;
    struct counts counts;
    int code;

    if (wish->word_count > 1 || (wish->word_count && wish->filter.lane.len))
        return cmd_misuse("queue flush", "queue flush: one lane, or none for all");
    if (wish->word_count)
        relay_ask_param(&wish->query, "lane", str_of(wish->words[0]));
    wish->word_count = 0;
    code = change(source, wish, "/v1/flush", "flushed", &counts);
    if (code)
        return code;
    if (wish->json)
        say_counts(wish, "", &counts);
    else
        say_flushed(has_lane, &counts);
    return EX_OK; /* an empty queue is flushed too */
}

/* ---- the verbs ---- */

typedef int run_fn(struct queue_source *source, struct queue_wish *wish);

static int with_source(const char *conf_file, int argc, char **argv, const char *allowed,
                       bool words_are_ids, run_fn *run)
{
    struct queue_source source = { 0 };
    struct queue_wish wish;
    int code = queue_wish_read(argc, argv, allowed, &wish);

    if (!code && words_are_ids)
        code = queue_wish_ids(&wish);
    if (!code)
        code = queue_source_open(conf_file, &source);
    if (!code)
        code = run(&source, &wish);
    queue_source_close(&source);
    queue_wish_clear(&wish);
    return code;
}

static int verb_list(const char *conf_file, int argc, char **argv)
{
    return with_source(conf_file, argc, argv, "fjn", true, run_list);
}

static int verb_show(const char *conf_file, int argc, char **argv)
{
    return with_source(conf_file, argc, argv, "jc", true, run_show);
}

static int verb_lanes(const char *conf_file, int argc, char **argv)
{
    return with_source(conf_file, argc, argv, "jn", false, run_lanes);
}

static int verb_flush(const char *conf_file, int argc, char **argv)
{
    return with_source(conf_file, argc, argv, "lj", false, run_flush);
}

static int verb_change(const char *conf_file, int argc, char **argv)
{
    return with_source(conf_file, argc, argv, "fj", true, run_change);
}

static int verb_drop(const char *conf_file, int argc, char **argv)
{
    return with_source(conf_file, argc, argv, "fja", true, run_change);
}

int cmd_queue(const char *conf_file, int argc, char **argv)
{
    static const struct cmd_verb verbs[] = {
        { "list", verb_list },      { "show", verb_show },    { "lanes", verb_lanes },
        { "flush", verb_flush },    { "retry", verb_change }, { "hold", verb_change },
        { "release", verb_change }, { "drop", verb_drop },    { "reroute", verb_change },
    };
    const struct cmd_verb *verb = cmd_verb(verbs, sizeof(verbs) / sizeof(verbs[0]), argc, argv);

    return verb ? verb->run(conf_file, argc - 1, argv + 1) : EX_USAGE;
}
