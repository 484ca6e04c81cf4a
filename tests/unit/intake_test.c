/*
 * intake_test.c - what becomes of content: header and body told apart, mended,
 * re-encoded, kept in memory or beside, stored in the lane of the rules in force.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/intake/intake.h"
#include "virtual_loop.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAX ((size_t)100 * 1024)

static char folder[64];
static struct store *store;
static struct pool *pool;
static struct intake *intake;
static struct intake_options options;
static struct reply said;
static unsigned answers, rooms;

static int setup(void **state)
{
    struct loop_options loop_options = { .count = 1 };
    struct store_options store_options = { .folder = folder,
                                           .map_bytes = 64 << 20,
                                           .quota_bytes = 32 << 20 };
    struct fault fault;

    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/intake_test.XXXXXX");
    assert_non_null(mkdtemp(folder));
    pool = pool_new(1, true);
    loop_options.pool = pool;
    virtual_begin(&loop_options);
    store_options.pool = pool;
    if (store_open_lmdb(&store_options, &store, &fault))
        fail_msg("%s", fault.text);
    options = (struct intake_options){
        .store = store, .hostname = STR("relay.test"), .header_max = HEADER_MAX, .hops_max = 50
    };
    intake = intake_new(&virtual_loop, &options);
    answers = rooms = 0;
    return 0;
}

static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char inside[512];

    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        (void)snprintf(inside, sizeof(inside), "%s/%s", path, entry->d_name);
        if (unlink(inside) != 0)
            remove_folder(inside);
    }
    if (dir)
        closedir(dir);
    (void)rmdir(path);
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(intake_busy(intake), 0);
    intake_free(&intake);
    store_close(&store);
    pool_free(&pool);
    virtual_end();
    remove_folder(folder);
    return 0;
}

/* ---- a message in pieces ---- */

static void has_room(void *arg)
{
    (void)arg;
    rooms++;
}

static void on_done(void *arg, const struct reply *reply)
{
    (void)arg;
    answers++;
    said = *reply;
}

static struct arrival *begin(const struct arrival_facts *facts)
{
    struct envelope envelope;
    struct arrival *arrival;

    envelope_init(&envelope);
    envelope.sender = STR("a@here.test");
    (void)envelope_add(&envelope, STR("b@there.test"));
    arrival = arrival_begin(intake, &envelope, facts);
    envelope_clear(&envelope);
    return arrival;
}

static struct arrival *start(void)
{
    struct arrival_facts facts = { .with = STR("ESMTP"),
                                   .client_address = STR("192.0.2.1"),
                                   .is_submission = true };

    return begin(&facts);
}

static struct arrival *report(void)
{
    struct arrival_facts facts = { .with = STR("LOCAL") };

    return begin(&facts);
}

static void feed(struct arrival *arrival, struct str content, size_t piece)
{
    for (size_t at = 0; at < content.len; at += piece) {
        unsigned before = rooms;
        if (arrival_feed(arrival, str_head(str_from(content, at), piece), has_room, NULL))
            continue;
        assert_int_equal(rooms, before);
        virtual_turn();
        assert_int_equal(rooms, before + 1);
    }
}

static void wait_for_answer(void)
{
    for (unsigned i = 0; i < 60000 && answers == 0; i++) {
        virtual_turn();
        usleep(1000);
    }
    virtual_turn();
    assert_int_equal(answers, 1);
}

static struct msgid submit(struct str content, size_t piece, const struct arrival_end *end)
{
    struct arrival *arrival = start();
    struct msgid id = *arrival_id(arrival);

    answers = 0;
    feed(arrival, content, piece);
    arrival_end(arrival, end, on_done, NULL);
    assert_int_equal(answers, 0);
    wait_for_answer();
    return id;
}

static bool was_got;

static void on_got(struct store_request *request)
{
    (void)request;
    was_got = true;
}

static struct message *stored(const struct msgid *id)
{
    struct store_get get = { .id = *id, .with_content = true };

    get.request.reply_to = loop_mailbox(&virtual_loop);
    get.request.done = on_got;
    was_got = false;
    store_get(store, &get);
    for (unsigned i = 0; i < 60000 && !was_got; i++) {
        virtual_turn();
        usleep(1000);
    }
    assert_true(was_got);
    if (get.request.err)
        fail_msg("%s", get.request.fault.text);
    return get.message;
}

static unsigned side_files(void)
{
    char path[96];
    unsigned count = 0;
    struct dirent *entry;

    (void)snprintf(path, sizeof(path), "%s/bodies", store_folder(store));
    DIR *dir = opendir(path);
    if (!dir)
        dir = opendir(store_folder(store));
    while (dir && (entry = readdir(dir)))
        count += strlen(entry->d_name) >= MSGID_TEXT && entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return count;
}

static bool head_has(const struct message *message, const char *text)
{
    struct str head = str_make(message->head, message->head_len);

    return str_find(head, str_of(text)) < head.len;
}

/* ---- what is header, what is body ---- */

static void header_and_body(void **state)
{
    static const struct {
        const char *name, *content, *in_head, *body;
        bool lacks_crlf;
    } rows[] = {
        { "the usual", "Subject: x\r\n\r\nhello\r\n", "Subject: x\r\n", "hello\r\n", false },
        { "no header at all", "hello,\r\nthis is no header\r\n", "From: a@here.test\r\n",
          "hello,\r\nthis is no header\r\n", false },
        { "one line, no header, no end of line", "hello", "Date:", "hello\r\n", true },
        { "an mbox line is no field", "From a@b Mon Jan 1\r\nSubject: x\r\n\r\nhi\r\n",
          "Date:", "From a@b Mon Jan 1\r\nSubject: x\r\n\r\nhi\r\n", false },
        { "an empty header", "\r\nhello\r\n", "Message-ID:", "hello\r\n", false },
        { "header only, no empty line", "Subject: x\r\nTo: b@there.test\r\n", "Subject: x\r\n", "",
          false },
        { "header only, cut in the line", "Subject: x\r\nTo: b@there.test", "To: b@there.test\r\n",
          "", true },
        { "nothing", "", "From: a@here.test\r\n", "", false },
        { "a field with a space before its colon", "Subject : x\r\n\r\nhi\r\n", "x\r\n", "hi\r\n",
          false },
        { "a body without its last end of line", "Subject: x\r\n\r\nhello", "Subject: x\r\n",
          "hello\r\n", true },
        { "Bcc is gone", "Subject: x\r\nBcc: c@d.test\r\n\r\nhi\r\n", "Subject: x\r\n", "hi\r\n",
          false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        /* In one piece, and octet by octet. */
        for (size_t piece = 1; piece <= 65536; piece *= 65536) {
            struct arrival_end end = { .lacks_final_crlf = rows[i].lacks_crlf };
            struct msgid id = submit(str_of(rows[i].content), piece, &end);
            struct message *message;
            struct str body;

            if (said.code != 250)
                fail_msg("%s: %u", rows[i].name, said.code);
            message = stored(&id);
            assert_true(body_is_inline(message->body, &body));
            if (!head_has(message, rows[i].in_head) || head_has(message, "Bcc:") ||
                !head_has(message, "Received: ") || !str_eq(body, str_of(rows[i].body)))
                fail_msg("%s: head\n" STR_FMT "\nbody\n" STR_FMT, rows[i].name,
                         (int)message->head_len, message->head, STR_ARG(body));
            assert_memory_equal(message->head + message->head_len - 4, "\r\n\r\n", 4);
            message_unref(&message);
        }
    }
}

static void large_headers(void **state)
{
    static const struct {
        size_t size;
        unsigned code;
    } rows[] = { { 70 * 1024, 250 }, { 99 * 1024, 250 }, { 101 * 1024, 552 }, { 900 * 1024, 552 } };
    struct arrival_end end = { 0 };
    struct buf content;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_init(&content, SIZE_MAX);
        while (content.len < rows[i].size)
            buf_cstr(&content, "X-Long: 0123456789012345678901234567890123456789012345678901\r\n");
        buf_cstr(&content, "\r\nhi\r\n");
        (void)submit(buf_view(&content), 8192, &end);
        if (said.code != rows[i].code)
            fail_msg("%zu octets: %u", rows[i].size, said.code);
        buf_clear(&content);
    }
}

/* ---- the body beside ---- */

static void fill(struct buf *content, size_t lines, size_t width)
{
    buf_init(content, SIZE_MAX);
    buf_cstr(content, "Subject: large\r\n\r\n");
    for (size_t i = 0; i < lines; i++) {
        for (size_t k = 0; k < width; k++)
            buf_append(content, &"abcdefghijklmnop"[(i + k) % 16], 1);
        buf_cstr(content, "\r\n");
    }
}

static void side_file_bodies(void **state)
{
    struct arrival_end end = { 0 };
    struct buf content;
    struct msgid id;
    struct message *message;
    struct fault fault;
    size_t got = 0, head = strlen("Subject: large\r\n\r\n");

    (void)state;
    fill(&content, 10000, 76);
    id = submit(buf_view(&content), 30000, &end);
    assert_int_equal(said.code, 250);
    assert_true(rooms > 0);
    assert_int_equal(side_files(), 1);
    message = stored(&id);
    assert_int_equal(body_size(message->body), content.len - head);
    char *all = mem_alloc(content.len);
    for (size_t at = 0; at < content.len - head; at += got) {
        assert_int_equal(body_read(message->body, at, all + at, content.len - at, &got, &fault),
                         ERR_OK);
        assert_true(got > 0);
    }
    assert_memory_equal(all, content.at + head, content.len - head);
    free(all);
    message_unref(&message);
    buf_clear(&content);
}

static void given_up_leaves_no_file(void **state)
{
    struct arrival *arrival = start();
    struct arrival_end end = { 0 };
    struct buf content;

    (void)state;
    fill(&content, 10000, 76);
    feed(arrival, buf_view(&content), 30000);
    assert_int_equal(side_files(), 1);
    arrival_abort(&arrival);
    virtual_turn();
    assert_int_equal(side_files(), 0);
    /* In the middle of a flush. */
    arrival = start();
    for (size_t at = 0;
         arrival_feed(arrival, str_head(str_from(buf_view(&content), at), 30000), has_room, NULL);)
        at += 30000;
    rooms = 0;
    arrival_abort(&arrival);
    virtual_turn();
    assert_int_equal(rooms, 0);
    assert_int_equal(side_files(), 0);
    /* After the end: it may become durable, nobody is told. */
    arrival = start();
    feed(arrival, STR("Subject: x\r\n\r\nhi\r\n"), 100);
    answers = 0;
    arrival_end(arrival, &end, on_done, NULL);
    arrival_abort(&arrival);
    for (unsigned i = 0; i < 60000 && intake_busy(intake); i++) {
        virtual_turn();
        usleep(1000);
    }
    assert_int_equal(answers, 0);
    buf_clear(&content);
}

static bool is_named_by(const struct body *body, const struct msgid *id)
{
    char text[MSGID_TEXT + 1];

    msgid_print(id, text);
    return body_file(body) && strncmp(body_file(body), text, MSGID_TEXT) == 0;
}

static void long_lines(void **state)
{
    struct arrival_end end = { .has_long_line = true };
    struct buf content;
    struct msgid id;
    struct message *message;
    struct str body;

    (void)state;
    fill(&content, 3, 2000);
    id = submit(buf_view(&content), 1000, &end);
    assert_int_equal(said.code, 250);
    message = stored(&id);
    assert_true(head_has(message, "Content-Transfer-Encoding: quoted-printable"));
    assert_true(body_is_inline(message->body, &body));
    for (struct str line, rest = body; str_next(&rest, '\n', &line);)
        assert_true(line.len <= 999);
    message_unref(&message);
    buf_clear(&content);
    /* Large ones too: the first file is gone, the second is kept. */
    fill(&content, 300, 2000);
    id = submit(buf_view(&content), 30000, &end);
    assert_int_equal(said.code, 250);
    assert_int_equal(side_files(), 1);
    /* Named by the message's own id: by it the store finds out at start whose it is. */
    message = stored(&id);
    assert_true(is_named_by(message->body, &id));
    message_unref(&message);
    /* What somebody else signed is not ours to change. */
    buf_reset(&content);
    buf_cstr(&content,
             "DKIM-Signature: v=1; a=rsa-sha256; d=x.test; s=s; h=from; bh=AA==; b=AA==\r\n"
             "Subject: signed\r\n\r\n");
    for (size_t i = 0; i < 400000; i++)
        buf_append(&content, "x", 1);
    buf_cstr(&content, "\r\n");
    (void)submit(buf_view(&content), 30000, &end);
    assert_int_equal(said.code, 550);
    assert_int_equal(said.status.subject, 6);
    assert_int_equal(side_files(), 1);
    buf_clear(&content);
}

/* ---- lanes ---- */

static void the_lane_of_the_rules_in_force(void **state)
{
    static const struct str all[] = { STR("*") };
    static const struct lane_route smart = {
        .name = STR("smart"), .match = all, .match_count = 1, .is_smarthost = true
    };
    struct arrival_end end = { .has_long_line = true }; /* so that a worker is asked */
    struct arrival *arrival = start();
    struct msgid id = *arrival_id(arrival);
    struct message *message;

    (void)state;
    answers = 0;
    feed(arrival, STR("Subject: x\r\n\r\nhi\r\n"), 100);
    arrival_end(arrival, &end, on_done, NULL);
    options.routes = &smart;
    options.route_count = 1;
    intake_set(intake, &options); /* a reload, while it is being made */
    wait_for_answer();
    message = stored(&id);
    assert_true(lane_is_smarthost(message->envelope.recipients[0].lane));
    message_unref(&message);
}

/* ---- local names ---- */

static const char *first_done;

static void on_named_done(void *arg, const struct reply *reply)
{
    answers++;
    said = *reply;
    if (!first_done)
        first_done = arg;
}

static struct arrival *to_local_names(unsigned count)
{
    struct arrival_facts facts = { .with = STR("LOCAL"), .is_submission = true };
    struct envelope envelope;
    struct arrival *arrival;
    char name[32];

    envelope_init(&envelope);
    envelope.sender = STR("a@here.test");
    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(name, sizeof(name), "nobody-%u", i);
        (void)envelope_add(&envelope, str_of(name));
    }
    arrival = arrival_begin(intake, &envelope, &facts);
    envelope_clear(&envelope);
    feed(arrival, STR("Subject: x\r\n\r\nhi\r\n"), 100);
    return arrival;
}

/* Each has to be looked up in the machine's user database: the worker that does it
 * stands in line again after some of them. */
static void a_crowd_of_names_lets_others_pass(void **state)
{
    struct locals_options locals_options = { .root = STR("ops@desk.test"),
                                             .names = { .mailname = STR("here.test") },
                                             .forward = true };
    char crowd_name[] = "crowd", one_name[] = "one";
    struct arrival_end end = { .has_8bit = false };
    struct arrival *crowd, *one;
    struct msgid crowd_id, one_id;
    struct message *message;

    (void)state;
    options.locals = locals_new(&locals_options);
    intake_set(intake, &options);
    crowd = to_local_names(300);
    one = to_local_names(1);
    crowd_id = *arrival_id(crowd);
    one_id = *arrival_id(one);
    first_done = NULL;
    arrival_end(crowd, &end, on_named_done, crowd_name);
    arrival_end(one, &end, on_named_done, one_name);
    for (unsigned i = 0; i < 60000 && answers < 2; i++) {
        virtual_turn();
        usleep(1000);
    }
    assert_int_equal(answers, 2);
    assert_string_equal(first_done, "one");
    message = stored(&one_id);
    assert_true(str_eq(message->envelope.recipients[0].address, STR("ops@desk.test")));
    message_unref(&message);
    message = stored(&crowd_id); /* all of them lead to one address */
    assert_int_equal(message->envelope.recipient_count, 1);
    message_unref(&message);
    locals_unref(&options.locals);
    intake_set(intake, &options);
}

static void of_lines(struct buf *out, const char *first, const char *line, size_t len)
{
    buf_init(out, len + 100);
    buf_cstr(out, first);
    while (out->len < len)
        buf_cstr(out, line);
}

/* At the first that makes them a crowd it ends; how many there are then. */
static unsigned until_crowded(struct arrival *crowd[40], struct str content)
{
    unsigned count = 0;

    options.held_max = 256 << 10;
    options.held_most = 512 << 10;
    intake_set(intake, &options);
    for (; count < 40 && !virtual_loop.reads_little; count++) {
        crowd[count] = start();
        assert_true(arrival_feed(crowd[count], content, has_room, NULL));
    }
    return count;
}

/* Many at once, none of them large: what they take together goes to the disk before
 * it is too much, and each brings little while it is. */
static void a_crowd_does_not_fill_the_memory(void **state)
{
    struct arrival *crowd[41];
    struct buf body;
    unsigned i;

    (void)state;
    of_lines(&body, "Subject: crowd\r\n\r\n", "a line of it\r\n", 30000);
    i = until_crowded(crowd, buf_view(&body)); /* each holds what it brought, as that is little */
    assert_in_range(i, 8, 20);                 /* 384 KB, in buffers of 32 and 64 */
    /* A report of ours on other mail is no part of it: without a file it can always be made. */
    crowd[i] = report();
    assert_true(arrival_feed(crowd[i++], STR("Subject: x\r\n\r\nsorry\r\n"), has_room, NULL));
    for (unsigned more = 0; more < i; more++)
        feed(crowd[more], STR("one more line\r\n"), 100);
    assert_int_equal(rooms > 0, 1);
    assert_false(virtual_loop.reads_little);
    while (i > 0)
        arrival_abort(&crowd[--i]);
    virtual_turn();
    buf_clear(&body);
}

/* A file for each costs a sync for each: mail that is small goes into the queue with that of
 * others as long as no limit of memory forbids it. */
static void a_crowd_of_small_mail_needs_no_files_where_there_is_memory(void **state)
{
    struct arrival *crowd[40];
    struct buf body;

    (void)state;
    options.held_max = 256 << 10;
    intake_set(intake, &options);
    of_lines(&body, "Subject: crowd\r\n\r\n", "a line of it\r\n", 20000);
    for (unsigned i = 0; i < 40; i++) {
        crowd[i] = start();
        assert_true(arrival_feed(crowd[i], buf_view(&body), has_room, NULL));
    }
    assert_false(virtual_loop.reads_little);
    for (unsigned i = 0; i < 40; i++)
        arrival_abort(&crowd[i]);
    buf_clear(&body);
}

/* A header has to stay in memory, so it counts while it comes, and with too many of them
 * a long one is refused. */
static void a_crowd_of_headers_does_not_fill_the_memory(void **state)
{
    struct arrival_end end = { .has_8bit = false };
    struct arrival *crowd[40], *small;
    struct buf header;
    unsigned i;

    (void)state;
    of_lines(&header, "From: a@here.test\r\n", "X-Long: as long as this\r\n", 30000);
    i = until_crowded(crowd, buf_view(&header));
    assert_in_range(i, 8, 14);
    for (; i < 40; i++) {
        crowd[i] = start();
        assert_true(arrival_feed(crowd[i], buf_view(&header), has_room, NULL));
    }
    small = start();
    feed(small, STR("Subject: small\r\n\r\n"), 100);
    arrival_end(small, &end, on_done, NULL);
    wait_for_answer();
    assert_int_equal(said.code, 250);
    answers = 0;
    arrival_end(crowd[0], &end, on_done, NULL); /* there were too many: it is the first to go */
    wait_for_answer();
    assert_int_equal(said.code, 452);
    for (i = 1; i < 40; i++)
        assert_true(arrival_feed(crowd[i], STR("X-More: of it\r\n"), has_room, NULL));
    assert_true(virtual_loop.reads_little); /* half as many are left: no more than may be */
    answers = 0;
    arrival_end(crowd[39], &end, on_done, NULL);
    wait_for_answer();
    assert_int_equal(said.code, 250);
    for (i = 1; i < 39; i++)
        arrival_abort(&crowd[i]);
    assert_false(virtual_loop.reads_little);
    buf_clear(&header);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(header_and_body),
        TEST(large_headers),
        TEST(side_file_bodies),
        TEST(given_up_leaves_no_file),
        TEST(long_lines),
        TEST(the_lane_of_the_rules_in_force),
        TEST(a_crowd_of_names_lets_others_pass),
        TEST(a_crowd_does_not_fill_the_memory),
        TEST(a_crowd_of_small_mail_needs_no_files_where_there_is_memory),
        TEST(a_crowd_of_headers_does_not_fill_the_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
