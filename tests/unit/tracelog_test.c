/*
 * tracelog_test.c - what was kept is found again by every kind of handle, also
 * while it is written, across segments, and after a torn tail.
 */
#include "queue/tracelog.h"

#include "store_rig.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#define DAY_US ((int64_t)86400 * 1000000)

static struct tracelog *open_log(const char *folder, uint64_t max_bytes, uint64_t max_age_s)
{
    struct tracelog_options options = { folder, max_bytes, max_age_s };
    struct tracelog *log = NULL;
    struct fault fault;

    assert_int_equal(tracelog_open(&options, &log, &fault), ERR_OK);
    return log;
}

static void put(struct tracelog *log, const struct hop *hop)
{
    char bytes[HOP_ENCODED_MAX];
    size_t len = hop_encode(hop, bytes, sizeof(bytes));

    tracelog_hop(log, hop, str_make(bytes, len));
}

static struct msgid number_id(uint32_t n)
{
    struct msgid_maker maker = { .random = n };

    return msgid_make(&maker, (int64_t)NOW * 1000 + n);
}

/* Three hops of a message: received, sent, settled. */
static struct msgid put_message(struct tracelog *log, uint32_t n, int64_t at_us)
{
    char to[64], message_id[64], remote[64];
    struct hop hop = { .id = number_id(n), .began_us = at_us, .ended_us = at_us };

    snprintf(to, sizeof(to), "User%u@there.test", n);
    snprintf(message_id, sizeof(message_id), "<m%u@here.test>", n);
    snprintf(remote, sizeof(remote), "Q%uZ", n);
    hop.stage = STAGE_RECEIVE;
    hop.message_id = str_of(message_id);
    put(log, &hop);
    hop.message_id = STR_EMPTY;
    hop.stage = STAGE_CONTENT;
    hop.recipient = str_of(to);
    hop.remote_id = str_of(remote);
    put(log, &hop);
    hop.stage = STAGE_SETTLE;
    put(log, &hop);
    return hop.id;
}

struct seen {
    size_t count, messages;
    enum stage stages[16];
    struct msgid last;
};

static bool see(void *arg, const struct hop *hop)
{
    struct seen *seen = arg;

    if (seen->count < 16)
        seen->stages[seen->count] = hop->stage;
    if (msgid_cmp(&seen->last, &hop->id) != 0)
        seen->messages++;
    seen->last = hop->id;
    seen->count++;
    return true;
}

static struct seen find(const char *folder, const char *handle, size_t max)
{
    struct seen seen = { 0 };
    struct fault fault;

    assert_int_equal(tracelog_find(folder, str_of(handle), max, see, &seen, &fault), ERR_OK);
    return seen;
}

static void expect_all_handles(const char *folder, uint32_t n)
{
    char handles[6][64];
    struct msgid id = number_id(n);

    msgid_print(&id, handles[0]);
    snprintf(handles[1], 64, "<m%u@here.test>", n);
    snprintf(handles[2], 64, "m%u@here.test", n);
    snprintf(handles[3], 64, "user%u@THERE.test", n);
    snprintf(handles[4], 64, "Q%uZ", n);
    snprintf(handles[5], 64, "%.25s", handles[0]);
    for (size_t i = 0; i < 6; i++) {
        struct seen seen = find(folder, handles[i], 1);
        if (seen.count != 3 || seen.stages[0] != STAGE_RECEIVE || seen.stages[2] != STAGE_SETTLE)
            fail_msg("%s: %zu hops", handles[i], seen.count);
        assert_int_equal(msgid_cmp(&seen.last, &id), 0);
    }
}

static void every_handle_leads_to_the_message(void **state)
{
    char folder[256];
    (void)state;
    rig_folder(folder, sizeof(folder));
    struct tracelog *log = open_log(folder, 1 << 30, 86400);

    for (uint32_t n = 0; n < 100; n++)
        put_message(log, n, NOW * 1000000LL);
    tracelog_idle(log);
    expect_all_handles(folder, 42); /* while it is being written */
    assert_int_equal(find(folder, "nobody@there.test", 5).count, 0);
    assert_int_equal(find(folder, "", 5).count, 0);
    tracelog_close(&log);
    expect_all_handles(folder, 0);
    rig_remove(folder);
}

static void segments_rotate_and_are_bounded(void **state)
{
    const uint64_t max = 4 * 1024 * 1024;
    char folder[256];
    (void)state;
    rig_folder(folder, sizeof(folder));
    struct tracelog *log = open_log(folder, max, 86400 * 365);

    for (uint32_t n = 0; n < 20000; n++) {
        put_message(log, n, NOW * 1000000LL + n);
        if (n % 100 == 0) {
            tracelog_idle(log);
            assert_true(tracelog_bytes(log) < max + 512 * 1024);
        }
        if (n == 5000) { /* over several sealed segments */
            tracelog_idle(log);
            expect_all_handles(folder, 1);
            expect_all_handles(folder, 2500);
            expect_all_handles(folder, 5000);
        }
    }
    tracelog_idle(log);
    assert_int_equal(find(folder, "user0@there.test", 5).count, 0); /* dropped */
    expect_all_handles(folder, 19999);
    assert_int_equal(tracelog_lost(log), 0);
    tracelog_set(log, max / 4, 86400 * 365);
    put_message(log, 20000, NOW * 1000000LL + 20000);
    tracelog_idle(log);
    assert_true(tracelog_bytes(log) < max / 2);
    tracelog_close(&log);
    rig_remove(folder);
}

static void what_is_too_old_goes(void **state)
{
    char folder[256];
    (void)state;
    rig_folder(folder, sizeof(folder));
    int64_t now = clock_wall_us();
    struct tracelog *log = open_log(folder, 1 << 30, 10 * 86400);

    for (uint32_t day = 0; day < 30; day++) {
        for (uint32_t n = 0; n < 10; n++)
            put_message(log, day * 10 + n, now - (29 - (int64_t)day) * DAY_US);
        tracelog_idle(log);
    }
    assert_int_equal(find(folder, "user0@there.test", 5).count, 0);
    assert_int_equal(find(folder, "user100@there.test", 5).count, 0);
    expect_all_handles(folder, 250);
    expect_all_handles(folder, 299);
    tracelog_close(&log);
    rig_remove(folder);
}

static void a_torn_tail_is_cut(void **state)
{
    char folder[256], path[512];
    struct stat st;
    (void)state;
    rig_folder(folder, sizeof(folder));
    snprintf(path, sizeof(path), "%s/000000000001.trace", folder);
    for (uint32_t n = 0; n < 40; n++) {
        struct tracelog *log = open_log(folder, 1 << 30, 86400);
        put_message(log, n, NOW * 1000000LL);
        tracelog_close(&log);
        assert_int_equal(stat(path, &st), 0);
        if (n % 2) /* the last hop loses some bytes */
            assert_int_equal(truncate(path, st.st_size - (long)n), 0);
        char name[64];
        snprintf(name, sizeof(name), "user%u@there.test", n);
        assert_int_equal(find(folder, name, 1).count, n % 2 ? 2 : 3);
    }
    /* bytes that are no hop */
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "garbage garbage garbage", 23), 23);
    close(fd);
    expect_all_handles(folder, 38);
    struct tracelog *log = open_log(folder, 1 << 30, 86400);
    put_message(log, 50, NOW * 1000000LL);
    tracelog_close(&log);
    expect_all_handles(folder, 50);
    rig_remove(folder);
}

static void a_recipient_leads_to_the_newest_messages(void **state)
{
    char folder[256];
    (void)state;
    rig_folder(folder, sizeof(folder));
    struct tracelog *log = open_log(folder, 2 * 1024 * 1024, 86400 * 365);

    for (uint32_t n = 0; n < 3000; n++) {
        struct hop hop = { .id = number_id(n),
                           .stage = STAGE_RCPT,
                           .ended_us = NOW * 1000000LL,
                           .recipient = STR("busy@there.test") };
        put(log, &hop);
    }
    tracelog_idle(log);
    struct seen seen = find(folder, "busy@there.test", 10);
    assert_int_equal(seen.messages, 10);
    struct msgid newest = number_id(2999);
    assert_int_equal(msgid_cmp(&seen.last, &newest), 0);
    tracelog_close(&log);
    rig_remove(folder);
}

static void a_refused_recipient_is_found_without_an_id(void **state)
{
    char folder[256];
    struct hop hop = { .stage = STAGE_RCPT,
                       .ended_us = NOW * 1000000LL,
                       .recipient = STR("no@there.test") };
    (void)state;
    rig_folder(folder, sizeof(folder));
    struct tracelog *log = open_log(folder, 1 << 30, 86400);
    put(log, &hop);
    tracelog_idle(log);
    assert_int_equal(find(folder, "no@there.test", 5).count, 1);
    tracelog_close(&log);
    rig_remove(folder);
}

static void a_lost_index_is_made_anew(void **state)
{
    char folder[256], path[512];
    (void)state;
    rig_folder(folder, sizeof(folder));
    struct tracelog *log = open_log(folder, 2 * 1024 * 1024, 86400 * 365);

    for (uint32_t n = 0; n < 2000; n++)
        put_message(log, n, NOW * 1000000LL);
    tracelog_close(&log);
    snprintf(path, sizeof(path), "%s/000000000001.index", folder);
    assert_int_equal(truncate(path, 100), 0);
    expect_all_handles(folder, 5);
    log = open_log(folder, 2 * 1024 * 1024, 86400 * 365);
    tracelog_close(&log);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size > 100);
    expect_all_handles(folder, 5);
    expect_all_handles(folder, 1999);
    rig_remove(folder);
}

static struct msgid put_from(struct tracelog *log, uint32_t n, const char *user, const char *to)
{
    struct hop hop = { .id = number_id(n),
                       .began_us = NOW * 1000000LL,
                       .ended_us = NOW * 1000000LL,
                       .side = HOP_IN,
                       .stage = STAGE_RECEIVE,
                       .user = str_of(user),
                       .recipient = str_of(to) };

    put(log, &hop);
    return hop.id;
}

static void put_settled(struct tracelog *log, const struct msgid *id, const char *to)
{
    struct hop hop = { .id = *id,
                       .began_us = NOW * 1000000LL,
                       .ended_us = NOW * 1000000LL,
                       .side = HOP_OUT,
                       .stage = STAGE_SETTLE,
                       .recipient = str_of(to) };

    put(log, &hop);
}

static struct seen find_own(const char *folder, const char *user, struct str handle, size_t max)
{
    struct seen seen = { 0 };
    struct fault fault;

    assert_int_equal(tracelog_find_own(folder, str_of(user), handle, max, see, &seen, &fault),
                     ERR_OK);
    return seen;
}

static void own_messages_are_found_behind_newer_ones_of_others(void **state)
{
    const char *to = "list@there.test";
    struct msgid own[3], other;
    char folder[256], text[MSGID_TEXT + 1];
    struct seen seen;
    (void)state;
    rig_folder(folder, sizeof(folder));
    struct tracelog *log = open_log(folder, 2 * 1024 * 1024, 86400 * 365);

    for (uint32_t n = 0; n < 3; n++)
        own[n] = put_from(log, n + 1, "uid:7", to);
    for (uint32_t n = 10; n < 4000; n++) /* over several segments */
        other = put_from(log, n, "uid:8", to);
    put_settled(log, &own[0], to); /* far from its arrival */
    tracelog_idle(log);
    assert_int_equal(find(folder, to, 2).messages, 2);
    seen = find_own(folder, "uid:7", str_of(to), 10);
    assert_int_equal(seen.count, 4);
    assert_int_equal(msgid_cmp(&seen.last, &own[0]), 0);
    seen = find_own(folder, "uid:7", str_of(to), 2);
    assert_int_equal(seen.messages, 3); /* 1 and 3, and 1 again: its later hop stands last */
    assert_int_equal(find_own(folder, "uid:9", str_of(to), 10).count, 0);
    msgid_print(&own[0], text);
    assert_int_equal(find_own(folder, "uid:7", str_of(text), 10).count, 2);
    msgid_print(&other, text);
    assert_int_equal(find_own(folder, "uid:7", str_of(text), 10).count, 0);
    assert_int_equal(find_own(folder, "uid:8", str_of(text), 10).count, 1);
    tracelog_close(&log);
    rig_remove(folder);
}

struct reading {
    char folder[256];
    atomic_bool stop;
    size_t found;
};

static void *read_on(void *arg)
{
    struct reading *reading = arg;
    struct fault fault;

    while (!atomic_load(&reading->stop)) {
        struct seen seen = { 0 };
        tracelog_find(reading->folder, STR("user1@there.test"), 1, see, &seen, &fault);
        reading->found += seen.count;
    }
    return NULL;
}

static void reading_while_writing(void **state)
{
    struct reading reading = { .found = 0 };
    pthread_t thread;
    (void)state;
    rig_folder(reading.folder, sizeof(reading.folder));
    struct tracelog *log = open_log(reading.folder, 2 * 1024 * 1024, 86400 * 365);
    put_message(log, 1, NOW * 1000000LL);
    tracelog_idle(log);
    pthread_create(&thread, NULL, read_on, &reading);
    for (uint32_t n = 2; n < 6000; n++) {
        put_message(log, n, NOW * 1000000LL + n);
        if (n % 50 == 0)
            tracelog_idle(log);
    }
    atomic_store(&reading.stop, true);
    pthread_join(thread, NULL);
    tracelog_close(&log);
    rig_remove(reading.folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_handle_leads_to_the_message),
        cmocka_unit_test(segments_rotate_and_are_bounded),
        cmocka_unit_test(what_is_too_old_goes),
        cmocka_unit_test(a_torn_tail_is_cut),
        cmocka_unit_test(a_recipient_leads_to_the_newest_messages),
        cmocka_unit_test(a_refused_recipient_is_found_without_an_id),
        cmocka_unit_test(a_lost_index_is_made_anew),
        cmocka_unit_test(own_messages_are_found_behind_newer_ones_of_others),
        cmocka_unit_test(reading_while_writing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
