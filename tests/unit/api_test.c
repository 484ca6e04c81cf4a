/*
 * The API over a real loop, with the store in memory and a client that speaks
 * raw HTTP from another thread.
 */
#include "relay/api/api.h"

#include "queue/tracelog.h"
#include "relay/base/clock.h"
#include "relay/base/container.h"

#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define TOKEN "0123456789abcdef0123"
#define BIG ((size_t)700 * 1024)

#define PATIENCE_MS 100000 /* long before that it hangs */

struct bench {
    struct loop *loop;
    struct store *store;
    struct hops *hops;
    struct pool *pool;
    struct api *api;
    pthread_t thread;
    struct letter stop;
    char folder[128], socket[160], trace[160], token_file[160];
    bool is_lmdb;
    /* what the control was asked for; read once the loop has ended */
    unsigned flushes, reloads;
    char flushed[LANE_MAX];
    bool gather_never;
    atomic_bool is_asked; /* of the state */
    struct deferred deferred;
    api_state_fn *fn;
    void *fn_arg;
    bool with_lanes;
};

/* ---- the control's other end ---- */

static void give_state(void *arg)
{
    struct bench *bench = arg;
    struct api_lane lanes[] = {
        { .lane = STR("ses/*"), .state = STR("ready"), .connections = 2, .later = 1 },
        { .lane = STR("direct/b.test"),
          .dest = STR("b.test"),
          .state = STR("sleeping"),
          .trouble = STR("refused \"twice\""),
          .wake_at = 1800000300,
          .later = 7 },
        { .lane = STR("ses/*"), .state = STR("sleeping"), .connections = 1, .wake_at = 1800000100 },
    };
    struct api_state state = {
        .lanes = lanes,
        .lane_count = bench->with_lanes ? 3 : 0,
        .lanes_known = 2,
        .lanes_sleeping = 2,
        .sessions = 4,
        .started_us = 1700000000000000,
        .certificate_expires_at = 1900000000,
    };

    bench->fn(bench->fn_arg, &state);
}

static void gather(void *arg, bool with_lanes, api_state_fn *fn, void *fn_arg)
{
    struct bench *bench = arg;

    bench->fn = fn;
    bench->fn_arg = fn_arg;
    bench->with_lanes = with_lanes;
    atomic_store(&bench->is_asked, true);
    if (!bench->gather_never)
        loop_defer(bench->loop, &bench->deferred, give_state, bench);
}

static void flush(void *arg, struct str lane)
{
    struct bench *bench = arg;

    bench->flushes++;
    str_copy(bench->flushed, sizeof(bench->flushed), lane);
}

static void reload(void *arg) { ((struct bench *)arg)->reloads++; }

static void reroute(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                    char out_lane[LANE_MAX])
{
    (void)arg;
    (void)envelope;
    (void)recipient;
    str_copy(out_lane, LANE_MAX, STR("ses/*"));
}

/* ---- set up and taken down ---- */

static void *run(void *arg)
{
    struct bench *bench = arg;

    loop_run(bench->loop);
    return NULL;
}

static void on_stop(struct letter *letter)
{
    struct bench *bench = container_of(letter, struct bench, stop);

    api_free(&bench->api);
    loop_stop(bench->loop);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static struct api_options options_of(struct bench *bench)
{
    return (struct api_options){
        .loop = bench->loop,
        .store = bench->store,
        .hops = bench->hops,
        .trace_folder = bench->trace,
        .socket = bench->socket,
        .request_ms = PATIENCE_MS,
        .control = { .arg = bench,
                     .gather = gather,
                     .flush = flush,
                     .reload = reload,
                     .reroute = reroute },
    };
}

static struct bench *bench_new(bool is_lmdb)
{
    struct bench *bench = mem_alloc(sizeof(*bench));
    struct store_options store = { 0 };
    struct fault fault = { 0 };

    str_copy(bench->folder, sizeof(bench->folder), STR("/tmp/waypost-api-XXXXXX"));
    assert_non_null(mkdtemp(bench->folder));
    snprintf(bench->socket, sizeof(bench->socket), "%s/run/api.sock", bench->folder);
    snprintf(bench->trace, sizeof(bench->trace), "%s/trace", bench->folder);
    snprintf(bench->token_file, sizeof(bench->token_file), "%s/token", bench->folder);
    write_file(bench->token_file, TOKEN "\n");
    bench->is_lmdb = is_lmdb;
    bench->pool = pool_new(2, false);
    bench->hops = hops_new(65536);
    bench->stop.open = on_stop;
    assert_int_equal(
        loop_new(&(struct loop_options){ .count = 1, .pool = bench->pool }, &bench->loop, &fault),
        0);
    store.pool = bench->pool;
    store.folder = is_lmdb ? bench->folder : NULL;
    store.map_bytes = (uint64_t)8 << 30; /* sanitizers have no room for a terabyte */
    if (is_lmdb ? store_open_lmdb(&store, &bench->store, &fault)
                : store_open_mem(&store, &bench->store, &fault))
        fail_msg("%s", fault.text);
    return bench;
}

static void bench_start(struct bench *bench, const struct api_options *options)
{
    struct fault fault = { 0 };

    if (api_new(options, &bench->api, &fault))
        fail_msg("%s", fault.text);
    assert_int_equal(pthread_create(&bench->thread, NULL, run, bench), 0);
}

static struct bench *bench_open(void)
{
    struct bench *bench = bench_new(false);
    struct api_options options = options_of(bench);

    bench_start(bench, &options);
    return bench;
}

static void bench_stop(struct bench *bench)
{
    if (!bench->thread)
        return;
    mailbox_post(loop_mailbox(bench->loop), &bench->stop);
    pthread_join(bench->thread, NULL);
    bench->thread = 0;
    assert_int_not_equal(access(bench->socket, F_OK), 0);
}

static void bench_free(struct bench *bench)
{
    char command[256];

    bench_stop(bench);
    store_close(&bench->store);
    loop_free(&bench->loop);
    pool_free(&bench->pool);
    hops_free(&bench->hops);
    snprintf(command, sizeof(command), "rm -rf '%s'", bench->folder);
    assert_int_equal(system(command), 0);
    free(bench);
}

/* ---- mail to look at ---- */

static void accepted(struct store_request *request) { request->op = 0xD0E; }

static void put_bytes(struct bench *bench, struct message *message, size_t size)
{
    struct body_writer *writer =
        body_writer_new(bench->is_lmdb ? store_folder(bench->store) : NULL, &message->envelope.id);
    char line[64];

    memset(line, 'x', sizeof(line));
    memcpy(line + 62, "\r\n", 2);
    for (size_t at = 0; at < size; at += sizeof(line)) {
        line[at / sizeof(line) % 60] = 'y';
        if (body_writer_add(writer, str_make(line, sizeof(line))))
            assert_int_equal(body_writer_flush(writer, NULL), 0);
    }
    assert_int_equal(body_writer_seal(writer, &message->body, NULL), 0);
    body_writer_free(&writer);
    message->head = str_dup(STR("Subject: hello\r\n\r\n"));
    message->head_len = strlen(message->head);
}

static void put(struct bench *bench, unsigned number, const char *sender, const char *to,
                const char *lane, size_t size, char out_id[MSGID_TEXT + 1])
{
    struct message *message = message_new();
    struct envelope *envelope = &message->envelope;
    struct store_accept accept = { .message = message };
    struct mailbox box;

    mailbox_init(&box, NULL, NULL);
    envelope->id.bytes[0] = 1;
    envelope->id.bytes[14] = (uint8_t)(number >> 8);
    envelope->id.bytes[15] = (uint8_t)number;
    envelope->arrived_us = (clock_wall_us() / 1000000 - 3600) * 1000000 + 123456;
    envelope->sender = arena_str(&envelope->arena, str_of(sender));
    struct recipient *recipient = envelope_add(envelope, str_of(to));
    recipient->lane = arena_str(&envelope->arena, str_of(lane));
    recipient->due_at = clock_wall_us() / 1000000 + 600;
    recipient->attempts = 2;
    recipient->tried_at = 1700000000;
    recipient->stage = STAGE_RCPT;
    recipient->kind = CLASS_SOFT;
    recipient->said = STR("452 4.2.2 mailbox \xe9 full\x1b[31m");
    put_bytes(bench, message, size);
    envelope->size_bytes = message->head_len + body_size(message->body);
    if (out_id)
        msgid_print(&envelope->id, out_id);
    accept.request.reply_to = &box;
    accept.request.done = accepted;
    store_accept(bench->store, &accept);
    while (accept.request.op != 0xD0E)
        for (struct letter *letter = mailbox_wait(&box, PATIENCE_MS); letter;) {
            struct letter *next = letter->next;
            letter->open(letter);
            letter = next;
        }
    assert_int_equal(accept.request.err, 0);
    message_unref(&message);
    mailbox_drain(&box);
    mailbox_clear(&box);
}

/* ---- the client ---- */

static int dial(const char *path)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    str_copy(name.sun_path, sizeof(name.sun_path), str_of(path));
    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&name, sizeof(name)), 0);
    return fd;
}

static char *read_all(int fd, size_t *out_len)
{
    struct buf got;
    struct pollfd ready = { .fd = fd, .events = POLLIN };

    buf_init(&got, (size_t)64 << 20);
    for (;;) {
        char bytes[65536];
        assert_int_equal(poll(&ready, 1, PATIENCE_MS), 1);
        ssize_t n = read(fd, bytes, sizeof(bytes));
        assert_true(n >= 0);
        if (n == 0)
            break;
        buf_append(&got, bytes, (size_t)n);
    }
    close(fd);
    return buf_take(&got, out_len);
}

static void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static char *ask_raw(const char *path, const char *request, size_t *out_len)
{
    int fd = dial(path);

    say(fd, request);
    return read_all(fd, out_len);
}

/* The status code; *out_body is what is behind the header. Free *out_all. */
static unsigned ask(struct bench *bench, const char *method, const char *target, char **out_all,
                    char **out_body)
{
    char request[4096];
    size_t len;

    snprintf(request, sizeof(request),
             "%s %s HTTP/1.1\r\nHost: waypost\r\nConnection: close\r\n\r\n", method, target);
    *out_all = ask_raw(bench->socket, request, &len);
    *out_body = strstr(*out_all, "\r\n\r\n");
    assert_non_null(*out_body);
    *out_body += 4;
    assert_memory_equal(*out_all, "HTTP/1.1 ", 9);
    return (unsigned)atoi(*out_all + 9);
}

static void expect(struct bench *bench, const char *method, const char *target, unsigned code,
                   const char *const *parts)
{
    char *all, *body;
    unsigned got = ask(bench, method, target, &all, &body);

    if (got != code)
        fail_msg("%s %s: %u instead of %u: %s", method, target, got, code, body);
    for (; *parts; parts++)
        if (!strstr(body, *parts))
            fail_msg("%s %s: no \"%s\" in: %s", method, target, *parts, body);
    free(all);
}

#define EXPECT(bench, method, target, code, ...)                                                   \
    expect(bench, method, target, code, (const char *const[]){ __VA_ARGS__, NULL })

/* ---- tests ---- */

static void well(void **state)
{
    struct bench *bench = bench_open();

    (void)state;
    EXPECT(bench, "GET", "/healthz", 200, "ok\n");
    EXPECT(bench, "HEAD", "/healthz", 200, "");
    EXPECT(bench, "GET", "/v1/info", 200, "\"version\":\"" WAYPOST_VERSION "\"", "\"sessions\":4",
           "\"started\":\"2023-11-14T22:13:20.000Z\"");
    EXPECT(bench, "POST", "/v1/reload", 202, "started");
    bench_stop(bench);
    assert_int_equal(bench->reloads, 1);
    bench_free(bench);
}

static void refusals(void **state)
{
    static const struct {
        const char *method, *target;
        unsigned code;
        const char *says;
    } rows[] = {
        { "GET", "/", 404, "{\"error\": \"nothing" },
        { "GET", "/v1/queue/", 404, "error" },
        { "GET", "/v1/queue/a/b", 404, "error" },
        { "POST", "/healthz", 405, "use GET" },
        { "GET", "/v1/queue/hold", 400, "26 letters" },
        { "GET", "/v1/flush", 405, "use POST" },
        { "GET", "/v1/queue/0000000000000000000000000z", 404, "not in the queue" },
        { "GET", "/v1/queue?laine=x", 400, "no filter is named \\\"laine\\\"; there are: id lane" },
        { "GET", "/v1/queue?state=lost", 400, "is not understood" },
        { "GET", "/v1/queue?max=0", 400, "1 to 500" },
        { "GET", "/v1/queue?max=501", 400, "1 to 500" },
        { "GET", "/v1/queue?after=x", 400, "after is the id" },
        { "GET", "/v1/queue?older-than=soon", 400, "older-than" },
        { "POST", "/v1/queue/drop", 400, "all=1" },
        { "POST", "/v1/queue/burn", 405, "use GET" },
        { "GET", "/metrics?x=1", 400, "no parameter" },
        { "GET", "/v1/trace", 400, "handle is missing" },
        { "GET", "/v1/trace?handle=nobody@x.test", 404, "no trace" },
    };
    struct bench *bench = bench_open();

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        EXPECT(bench, rows[i].method, rows[i].target, rows[i].code, rows[i].says);
    bench_free(bench);
}

/* "GET /v1/queue?x&x&x", so many, or one parameter of that length. */
static char *line_of(size_t params, size_t length)
{
    struct buf line;

    buf_init(&line, (size_t)1 << 20);
    buf_cstr(&line, "GET /v1/queue?x");
    for (size_t i = 1; i < params; i++)
        buf_cstr(&line, "&x");
    while (length--)
        buf_char(&line, 'x');
    buf_cstr(&line, " HTTP/1.1\r\nHost: x\r\n\r\n");
    buf_char(&line, '\0');
    return buf_take(&line, NULL);
}

static void long_lines_are_answered_at_once(void **state)
{
    static const struct {
        size_t params, length;
        const char *code, *says;
    } rows[] = {
        { 32, 0, " 400 ", "no filter is named" },
        { 33, 0, " 400 ", "more than 32 parameters" },
        { 500, 0, " 400 ", "more than 32 parameters" },
        { 5000, 0, " 400 ", "more than 32" },
        { 32, 31000, " 400 ", "no filter is named" },
        { 1, 33000, " 414 ", "over 32 KiB" },
        { 30000, 0, " 414 ", "over 32 KiB" },
    };
    struct bench *bench = bench_new(false);
    struct api_options options = options_of(bench);

    (void)state;
    options.request_ms = 3600000; /* read_all() does not wait so long */
    bench_start(bench, &options);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *line = line_of(rows[i].params, rows[i].length);
        size_t len;
        char *got = ask_raw(bench->socket, line, &len);
        if (!strstr(got, rows[i].code) || !strstr(got, rows[i].says))
            fail_msg("row %zu: %s", i, got);
        free(got);
        free(line);
    }
    bench_free(bench);
}

static void one_request_a_connection(void **state)
{
    struct bench *bench = bench_open();
    size_t len;
    char *got = ask_raw(bench->socket, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", &len);

    (void)state;
    assert_non_null(strstr(got, "\r\nConnection: close\r\n"));
    free(got);
    bench_free(bench);
}

static void bodies_are_refused(void **state)
{
    struct bench *bench = bench_open();
    size_t len;
    char *got = ask_raw(bench->socket,
                        "POST /v1/queue/drop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                        "Content-Length: 8\r\n\r\nlane=all",
                        &len);

    (void)state;
    assert_non_null(strstr(got, " 400 "));
    assert_non_null(strstr(got, "takes a body"));
    free(got);
    bench_free(bench);
}

static void queue_pages(void **state)
{
    struct bench *bench = bench_new(false);
    struct api_options options = options_of(bench);
    char id[MSGID_TEXT + 1], target[128];

    (void)state;
    for (unsigned i = 1; i <= 5; i++)
        put(bench, i, i == 3 ? "" : "a@here.test", i == 4 ? "z@c.test" : "b@b.test",
            i == 4 ? "direct/c.test" : "direct/b.test", 100, id);
    bench_start(bench, &options);
    EXPECT(bench, "GET", "/v1/queue?max=2", 200, "\"more\":true", "\"sender\":\"a@here.test\"",
           ".123Z\",\"size\"", "\"class\":\"soft\"", "mailbox \\u00E9 full\\u001B[31m");
    EXPECT(bench, "GET", "/v1/queue?after=01000000000000000000000004", 200, "\"messages\":[");
    EXPECT(bench, "GET", "/v1/queue?sender=%3C%3E", 200, "\"sender\":\"<>\"", "\"more\":false");
    EXPECT(bench, "GET", "/v1/queue?lane=c.test&deferred&older-than=30m", 200,
           "\"address\":\"z@c.test\"");
    EXPECT(bench, "GET", "/v1/queue?newer-than=30m", 200, "{\"messages\":[],\"more\":false}");
    snprintf(target, sizeof(target), "/v1/queue/%s", id);
    EXPECT(bench, "GET", target, 200, id, "\"recipient-count\":1", "\"attempts\":2", ".123Z\"");
    bench_free(bench);
}

static void change_and_flush(void **state)
{
    struct bench *bench = bench_new(false);
    struct api_options options = options_of(bench);
    char id[MSGID_TEXT + 1], target[128];

    (void)state;
    for (unsigned i = 1; i <= 4; i++)
        put(bench, i, "a@here.test", "b@b.test", i == 4 ? "direct/c.test" : "direct/b.test", 100,
            id);
    bench_start(bench, &options);
    EXPECT(bench, "POST", "/v1/queue/hold?lane=b.test", 200,
           "{\"messages\":3,\"recipients\":3,\"under_way\":0}");
    EXPECT(bench, "GET", "/v1/queue?state=held", 200, "held-since");
    EXPECT(bench, "POST", "/v1/queue/release?sender=here.test", 200, "\"recipients\":3");
    EXPECT(bench, "POST", "/v1/queue/reroute?lane=b.test", 200, "\"recipients\":3");
    snprintf(target, sizeof(target), "/v1/queue/retry?id=%s", id);
    EXPECT(bench, "POST", target, 200, "\"recipients\":1");
    bench_stop(bench);
    assert_int_equal(bench->flushes, 1);
    assert_string_equal(bench->flushed, "direct/c.test");
    bench_start(bench, &options);
    EXPECT(bench, "POST", "/v1/flush?lane=ses", 200, "messages");
    EXPECT(bench, "POST", "/v1/queue/drop?all=1", 200, "\"messages\":4");
    EXPECT(bench, "GET", "/v1/queue", 200, "\"messages\":[]");
    bench_stop(bench);
    assert_int_equal(bench->flushes, 2);
    assert_string_equal(bench->flushed, "ses");
    bench_free(bench);
}

static void lanes_are_joined(void **state)
{
    struct bench *bench = bench_new(false);
    struct api_options options = options_of(bench);

    (void)state;
    put(bench, 1, "a@here.test", "b@b.test", "direct/b.test", 10, NULL);
    put(bench, 2, "a@here.test", "b@b.test", "ses/*", 10, NULL);
    put(bench, 3, "a@here.test", "b@b.test", "zzz/*", 10, NULL);
    bench_start(bench, &options);
    EXPECT(bench, "GET", "/v1/lanes", 200, "\"lane\":\"direct/b.test\"",
           "\"trouble\":\"refused \\\"twice\\\"\"", "\"connections\":3",
           "\"wakes\":\"2027-01-15T08:01:40.000Z\"", "\"state\":\"idle\"", "\"more\":false");
    EXPECT(bench, "GET", "/v1/lanes?max=1", 200, "\"more\":true", "\"after\":\"direct/b.test\"");
    EXPECT(bench, "GET", "/metrics", 200, "waypost_lane_wakes_seconds{lane=\"ses/*\"",
           "waypost_sessions 4\n", "waypost_queue_messages 3\n");
    bench_free(bench);
}

/* Inline from memory, and a side file through windows; every octet of both. */
static void content(void **state)
{
    struct bench *bench = bench_new(true);
    struct api_options options = options_of(bench);
    const size_t sizes[] = { 0, 640, BIG };
    char id[3][MSGID_TEXT + 1], target[128];

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        put(bench, i + 1, "a@here.test", "b@b.test", "direct/b.test", sizes[i], id[i]);
    bench_start(bench, &options);
    for (unsigned i = 0; i < 3; i++) {
        char *all, *body, length[64];
        snprintf(target, sizeof(target), "/v1/queue/%s?content=1", id[i]);
        assert_int_equal(ask(bench, "GET", target, &all, &body), 200);
        assert_memory_equal(body, "Subject: hello\r\n\r\n", 18);
        assert_int_equal(strlen(body), 18 + sizes[i]);
        snprintf(length, sizeof(length), "Content-Length: %zu\r\n", 18 + sizes[i]);
        assert_non_null(strstr(all, length));
        for (size_t at = 0; at < sizes[i]; at += 64) {
            assert_int_equal(body[18 + at + at / 64 % 60], 'y');
            assert_memory_equal(body + 18 + at + 62, "\r\n", 2);
        }
        free(all);
    }
    bench_free(bench);
}

/* A client that reads nothing and goes away holds nothing up, nor does stopping then. */
static void client_goes_away(void **state)
{
    struct bench *bench = bench_new(true);
    struct api_options options = options_of(bench);
    char id[MSGID_TEXT + 1], request[256];
    int fds[3];

    (void)state;
    put(bench, 1, "a@here.test", "b@b.test", "direct/b.test", BIG, id);
    bench_start(bench, &options);
    snprintf(request, sizeof(request), "GET /v1/queue/%s?content=1 HTTP/1.1\r\nHost: x\r\n\r\n",
             id);
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = dial(bench->socket);
        assert_true(write(fds[i], request, strlen(request)) > 0);
    }
    close(fds[0]);
    EXPECT(bench, "GET", "/healthz", 200, "ok");
    bench_stop(bench);
    close(fds[1]);
    close(fds[2]);
    bench_free(bench);
}

static void stopping_answers_503(void **state)
{
    struct bench *bench = bench_new(false);
    struct api_options options = options_of(bench);
    const char *request = "GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\n";
    size_t len;

    (void)state;
    bench->gather_never = true;
    bench_start(bench, &options);
    int fd = dial(bench->socket);
    assert_true(write(fd, request, strlen(request)) > 0);
    while (!atomic_load(&bench->is_asked))
        usleep(1000);
    bench_stop(bench);
    char *got = read_all(fd, &len);
    assert_non_null(strstr(got, " 503 "));
    assert_non_null(strstr(got, "stopping"));
    free(got);
    if (bench->fn) /* what was gathered comes home after all was freed */
        give_state(bench);
    bench_free(bench);
}

static void traces(void **state)
{
    struct bench *bench = bench_new(false);
    struct api_options options = options_of(bench);
    struct tracelog *log;
    struct fault fault = { 0 };
    struct hop hop = { .stage = STAGE_RCPT,
                       .result = RESULT_LATER,
                       .side = HOP_OUT,
                       .began_us = 1700000000000000,
                       .ended_us = 1700000001000000,
                       .recipient = STR("b@b.test"),
                       .said = STR("452 \x1b[31mno") };
    char bytes[HOP_ENCODED_MAX];

    (void)state;
    hop.id.bytes[0] = 9;
    if (tracelog_open(&(struct tracelog_options){ .folder = bench->trace,
                                                  .max_bytes = 1 << 20,
                                                  .max_age_s = UINT32_MAX },
                      &log, &fault))
        fail_msg("%s", fault.text);
    tracelog_hop(log, &hop, str_make(bytes, hop_encode(&hop, bytes, sizeof(bytes))));
    tracelog_close(&log);
    bench_start(bench, &options);
    EXPECT(bench, "GET", "/v1/trace?handle=b@b.test&max=3", 200, "\"stage\":\"rcpt\"",
           "\"reply\":\"452 \\u001b[31mno\"");
    EXPECT(bench, "GET", "/v1/trace?handle=b@b.test&max=101", 400, "1 to 100");
    bench_free(bench);
}

/* ---- TCP and the token; the socket file ---- */

static int dial_tcp(uint16_t port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&at, sizeof(at)), 0);
    return fd;
}

static unsigned over_tcp(uint16_t port, const char *authorization)
{
    char request[256], answer[4096] = "";
    int fd = dial_tcp(port);

    snprintf(request, sizeof(request),
             "GET /healthz HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n", authorization);
    assert_true(write(fd, request, strlen(request)) > 0);
    assert_true(read(fd, answer, sizeof(answer) - 1) > 9);
    close(fd);
    return (unsigned)atoi(answer + 9);
}

static uint16_t free_port(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&at, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)(void *)&at, &len), 0);
    close(fd);
    return ntohs(at.sin_port);
}

/* ---- a full door ---- */

#define PLACES 64
#define CROWD (PLACES + 10)

/* Both ends are in this process. */
static unsigned open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static void await_descriptors(unsigned count)
{
    uint64_t began = clock_mono_ms();

    while (open_descriptors() != count) {
        if (clock_mono_ms() - began > PATIENCE_MS)
            fail_msg("%u descriptors are open, not %u", open_descriptors(), count);
        poll(NULL, 0, 1);
    }
}

/* Returns when every place is taken; CROWD - PLACES wait outside. */
static void fill(struct bench *bench, int fds[CROWD])
{
    unsigned before = open_descriptors();

    for (int i = 0; i < CROWD; i++)
        fds[i] = dial(bench->socket);
    await_descriptors(before + CROWD + PLACES);
}

static struct bench *open_with_tcp(unsigned request_ms, uint16_t *out_port)
{
    struct bench *bench = bench_new(false);
    struct api_options options = options_of(bench);
    char address[64];

    *out_port = free_port();
    snprintf(address, sizeof(address), "127.0.0.1:%u", *out_port);
    options.address = address;
    options.token_file = bench->token_file;
    options.request_ms = request_ms;
    bench_start(bench, &options);
    return bench;
}

static void full_door_opens_again(void **state)
{
    struct bench *bench = bench_open();
    unsigned before = open_descriptors();
    int fds[CROWD];

    (void)state;
    for (int round = 0; round < 2; round++) {
        fill(bench, fds);
        for (int i = 0; i < CROWD; i++)
            close(fds[i]);
        EXPECT(bench, "GET", "/healthz", 200, "ok");
        await_descriptors(before);
    }
    bench_free(bench);
}

static void waiting_ones_get_the_places_of_those_answered(void **state)
{
    struct bench *bench = bench_open();
    int fds[CROWD];
    size_t len;

    (void)state;
    fill(bench, fds);
    for (int i = 0; i < CROWD; i++)
        say(fds[i], "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < CROWD; i++) {
        char *got = read_all(fds[i], &len);
        assert_non_null(strstr(got, " 200 "));
        free(got);
    }
    bench_free(bench);
}

/* True: it has hung up on us. Half a request more, if not. */
static bool is_shown_out(int fd)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    char byte;

    (void)send(fd, "A", 1, MSG_NOSIGNAL);
    return poll(&ready, 1, 20) == 1 && read(fd, &byte, 1) <= 0;
}

static void silent_ones_do_not_stay(void **state)
{
    uint16_t port;
    struct bench *bench = open_with_tcp(2000, &port);
    int fds[CROWD];

    (void)state;
    for (int i = 0; i < CROWD; i++)
        fds[i] = dial_tcp(port);
    EXPECT(bench, "GET", "/healthz", 200, "ok"); /* the other door has places of its own */
    assert_int_equal(over_tcp(port, "Authorization: Bearer " TOKEN "\r\n"), 200);
    for (int i = 0; i < CROWD; i++) {
        while (!is_shown_out(fds[i]))
            ;
        close(fds[i]);
    }
    bench_free(bench);
}

static void tcp_needs_the_token(void **state)
{
    uint16_t port;
    struct bench *bench = open_with_tcp(PATIENCE_MS, &port);

    (void)state;
    assert_int_equal(over_tcp(port, ""), 401);
    assert_int_equal(over_tcp(port, "Authorization: Basic " TOKEN "\r\n"), 401);
    assert_int_equal(over_tcp(port, "Authorization: Bearer 0123456789abcdef012\r\n"), 401);
    assert_int_equal(over_tcp(port, "Authorization: Bearer " TOKEN "4\r\n"), 401);
    assert_int_equal(over_tcp(port, "Authorization: Bearer " TOKEN "\r\n"), 200);
    EXPECT(bench, "GET", "/healthz", 200, "ok"); /* the unix socket needs none */
    bench_free(bench);
}

static void starts_that_are_refused(void **state)
{
    struct bench *bench = bench_open();
    struct api_options options = options_of(bench);
    struct api *second = NULL;
    struct fault fault = { 0 };

    (void)state;
    /* A second API on the same socket, made by the test's own thread: it never runs. */
    assert_int_equal(api_new(&options, &second, &fault), ERR_BUSY);
    EXPECT(bench, "GET", "/healthz", 200, "ok");
    bench_stop(bench);
    options.address = "127.0.0.1:0";
    assert_int_equal(api_new(&options, &second, &fault), ERR_INVALID);
    assert_non_null(strstr(fault.text, "token-file"));
    options.token_file = bench->token_file;
    write_file(bench->token_file, "short\n");
    assert_int_equal(api_new(&options, &second, &fault), ERR_INVALID);
    assert_non_null(strstr(fault.text, "5 characters"));
    options.address = NULL;
    write_file(bench->socket, "a file\n");
    assert_int_equal(api_new(&options, &second, &fault), ERR_BUSY);
    assert_int_equal(access(bench->socket, F_OK), 0);
    unlink(bench->socket);
    bench_free(bench);
}

static void stale_socket_is_replaced(void **state)
{
    struct bench *bench = bench_new(false);
    struct api_options options = options_of(bench);
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    char folder[160];
    struct stat st;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)state;
    snprintf(folder, sizeof(folder), "%s/run", bench->folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    str_copy(name.sun_path, sizeof(name.sun_path), str_of(bench->socket));
    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&name, sizeof(name)), 0);
    close(fd);
    bench_start(bench, &options);
    assert_int_equal(stat(bench->socket, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0666); /* who asks is judged, not who may connect */
    EXPECT(bench, "GET", "/healthz", 200, "ok");
    bench_free(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well),
        cmocka_unit_test(refusals),
        cmocka_unit_test(long_lines_are_answered_at_once),
        cmocka_unit_test(one_request_a_connection),
        cmocka_unit_test(bodies_are_refused),
        cmocka_unit_test(queue_pages),
        cmocka_unit_test(change_and_flush),
        cmocka_unit_test(lanes_are_joined),
        cmocka_unit_test(content),
        cmocka_unit_test(client_goes_away),
        cmocka_unit_test(stopping_answers_503),
        cmocka_unit_test(traces),
        cmocka_unit_test(full_door_opens_again),
        cmocka_unit_test(waiting_ones_get_the_places_of_those_answered),
        cmocka_unit_test(silent_ones_do_not_stay),
        cmocka_unit_test(tcp_needs_the_token),
        cmocka_unit_test(starts_that_are_refused),
        cmocka_unit_test(stale_socket_is_replaced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
