/*
 * store_lmdb_test.c - what only a store on disk can do: be opened again, be
 * damaged, be full, be open twice; and many threads at once.
 */
#include "gate.h"
#include "store_rig.h"

#include "queue/lmdb_store.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LANE "direct/there.test"
#define TO "b@there.test " LANE

static const struct store_filter all = { .any_state = true };

static struct rig *rig_lmdb(void)
{
    struct rig *rig = rig_new(true);

    rig_open(rig);
    return rig;
}

/* ---- opening again ------------------------------------------------------------------- */

static void everything_is_there_after_a_restart(void **state)
{
    struct rig *rig = rig_lmdb();
    (void)state;
    struct msgid fresh = rig_put(rig, "a@here.test", TO);
    rig_put(rig, "a@here.test", "1@y.test direct/y.test");
    rig_settle(rig, rig_claim(rig, "direct/y.test", 1), RECIPIENT_QUEUED, NOW + 60);
    rig_put(rig, "a@here.test", "1@held.test direct/held.test");
    rig_change(rig, STORE_HOLD, (struct store_filter){ .recipient = STR("held.test") });
    struct claim *out = rig_claim(rig, LANE, 1); /* leased when it ends */
    rig_reopen(rig);
    rig_free_claims(out);
    struct store_health health = rig_health(rig);
    assert_int_equal(health.messages, 3);
    assert_int_equal(health.recipients_queued, 2);
    assert_int_equal(health.recipients_held, 1);
    assert_int_equal(health.oldest_s, NOW);
    store_watch(rig->store, NULL, NULL);
    out = rig_claim(rig, LANE, 5);
    assert_non_null(out);
    assert_int_equal(msgid_cmp(&out->message->envelope.id, &fresh), 0);
    assert_true(
        str_eq(str_make(out->message->head, out->message->head_len), STR("Subject: x\r\n\r\n")));
    rig_settle(rig, out, RECIPIENT_DELIVERED, 0);
    assert_int_equal(rig_claim_at(rig, "direct/y.test", 5, NOW).next_due, NOW + 60);
    rig_wall_s = NOW + 60;
    rig_deliver(rig, "direct/y.test");
    rig_reopen(rig);
    rig_change(rig, STORE_RELEASE, all);
    rig_deliver(rig, "direct/held.test");
    assert_int_equal(rig_health(rig).messages, 0);
    assert_int_equal(rig_health(rig).queued_bytes, 0);
    rig_free(rig);
}

static void lanes_are_counted_after_a_restart(void **state)
{
    struct rig *rig = rig_lmdb();
    struct store_lanes lanes;
    (void)state;
    for (int i = 0; i < 700; i++) /* more than a page */
        rig_put(rig, "a@here.test", i % 2 ? TO : "1@y.test direct/y.test,2@y.test direct/y.test");
    rig_change(rig, STORE_HOLD, (struct store_filter){ .recipient = STR("2@y.test") });
    rig_reopen(rig);
    for (int i = 0; i < 60000; i++) {
        lanes = (struct store_lanes){ .request = rig_request(rig), .max = 10 };
        store_lanes(rig->store, &lanes);
        rig_wait(rig, &lanes.request);
        assert_int_equal(lanes.count, 2);
        if (lanes.lanes[0].queued == 350 && lanes.lanes[1].queued == 350)
            break;
        store_lanes_clear(&lanes);
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    assert_int_equal(lanes.count, 2);
    assert_string_equal(lanes.lanes[1].lane, "direct/y.test");
    assert_int_equal(lanes.lanes[1].held, 350);
    store_lanes_clear(&lanes);
    rig_free(rig);
}

static void a_second_open_is_refused(void **state)
{
    struct rig *rig = rig_lmdb();
    struct store *other = NULL;
    struct fault fault;
    (void)state;
    assert_int_equal(store_open_lmdb(&rig->options, &other, &fault), ERR_BUSY);
    assert_non_null(strstr(fault.text, "in use by another waypost"));
    assert_null(other);
    rig_free(rig);
}

static void reading_works_without_the_daemon(void **state)
{
    struct rig *rig = rig_lmdb();
    (void)state;
    struct msgid id = rig_put(rig, "a@here.test", TO);
    store_close(&rig->store);
    rig->options.read_only = true;
    rig_open(rig);
    struct store_list list = rig_list(rig, all, 10, (struct msgid){ { 0 } });
    assert_int_equal(list.count, 1);
    store_list_clear(&list);
    struct message *message = rig_get(rig, id);
    assert_non_null(message);
    assert_int_equal(rig_accept(rig, message), ERR_DENIED);
    message_unref(&message);
    rig_free(rig);
}

static void a_folder_that_cannot_be_is_named(void **state)
{
    struct rig *rig = rig_new(true);
    struct fault fault;
    (void)state;
    rig->options.folder = "/dev/null/queue";
    assert_int_not_equal(store_open_lmdb(&rig->options, &rig->store, &fault), ERR_OK);
    assert_non_null(strstr(fault.text, "/dev/null/queue"));
    rig_free(rig);
}

/* ---- side files -------------------------------------------------------------------------- */

static struct message *message_with_file(struct rig *rig, size_t size)
{
    struct message *message = rig_message(rig, "a@here.test", TO);
    struct body_writer *writer = body_writer_new(store_folder(rig->store), &message->envelope.id);
    struct fault fault;
    char line[1000];

    for (size_t at = 0; at < size; at += sizeof(line)) {
        memset(line, 'a' + (int)(at / 1000 % 26), sizeof(line));
        if (body_writer_add(writer, str_make(line, sizeof(line))))
            assert_int_equal(body_writer_flush(writer, &fault), ERR_OK);
    }
    body_unref(&message->body);
    assert_int_equal(body_writer_seal(writer, &message->body, &fault), ERR_OK);
    body_writer_free(&writer);
    return message;
}

static size_t files_in(struct rig *rig)
{
    size_t count = 0;
    DIR *dir = opendir(store_folder(rig->store));

    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void large_bodies_are_side_files(void **state)
{
    struct rig *rig = rig_lmdb();
    char bytes[3000];
    size_t len;
    (void)state;
    struct message *message = message_with_file(rig, 1000000);
    assert_int_equal(rig_accept(rig, message), ERR_OK);
    message_unref(&message);
    rig_reopen(rig);
    assert_int_equal(files_in(rig), 1);
    struct claim *claim = rig_claim(rig, LANE, 1);
    assert_int_equal(body_size(claim->message->body), 1000000);
    assert_non_null(body_file(claim->message->body));
    assert_int_equal(body_read(claim->message->body, 999000, bytes, sizeof(bytes), &len, NULL),
                     ERR_OK);
    assert_int_equal(len, 1000);
    assert_int_equal(bytes[0], 'a' + 999 % 26);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, 0);
    assert_int_equal(files_in(rig), 0);
    rig_free(rig);
}

static void files_without_a_record_go_at_the_start(void **state)
{
    struct rig *rig = rig_lmdb();
    (void)state;
    struct message *kept = message_with_file(rig, 400000);
    struct message *orphan = message_with_file(rig, 400000);
    assert_int_equal(rig_accept(rig, kept), ERR_OK);
    assert_int_equal(files_in(rig), 2);
    rig_reopen(rig);
    assert_int_equal(files_in(rig), 1);
    assert_int_equal(rig_health(rig).files_removed, 1);
    struct message *message = rig_get(rig, kept->envelope.id);
    assert_non_null(message);
    message_unref(&message);
    message_unref(&kept);
    message_unref(&orphan);
    rig_free(rig);
}

static void reports_on_a_dropped_one_leave_no_file(void **state)
{
    struct rig *rig = rig_lmdb();
    struct message *dsns[2];
    (void)state;
    rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1);
    for (size_t i = 0; i < 2; i++)
        dsns[i] = message_with_file(rig, 400000);
    assert_int_equal(files_in(rig), 2);
    rig_change(rig, STORE_DROP, all);
    assert_int_equal(rig_settle_dsns(rig, claim, RECIPIENT_FAILED, 0, dsns, 2), ERR_OK);
    for (size_t i = 0; i < 2; i++)
        message_unref(&dsns[i]);
    assert_int_equal(rig_health(rig).messages, 0);
    assert_int_equal(files_in(rig), 0);
    rig_free(rig);
}

static void a_refused_one_leaves_no_file(void **state)
{
    struct rig *rig = rig_new(true);
    (void)state;
    rig->options.quota_bytes = 300000;
    rig_open(rig);
    struct message *message = message_with_file(rig, 500000);
    assert_int_equal(rig_accept(rig, message), ERR_FULL);
    message_unref(&message);
    assert_int_equal(files_in(rig), 0);
    rig_free(rig);
}

/* ---- damage -------------------------------------------------------------------------------- */

/* With the store closed: change the value behind the first key of a database. */
static void damage(struct rig *rig, const char *name, const struct msgid *id, size_t at)
{
    char path[512], copy[8192];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val key = { MSGID_BYTES, (void *)(uintptr_t)id->bytes }, value;

    snprintf(path, sizeof(path), "%s/db", rig->folder);
    assert_int_equal(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 4);
    mdb_env_set_mapsize(env, (size_t)1 << 30);
    assert_int_equal(mdb_env_open(env, path, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, name, 0, &dbi), 0);
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE), 0);
    if (at < value.mv_size) {
        memcpy(copy, value.mv_data, value.mv_size);
        copy[at] ^= 0x40;
        value.mv_data = copy;
        assert_int_equal(mdb_cursor_put(cursor, &key, &value, MDB_CURRENT), 0);
    } else {
        assert_int_equal(mdb_cursor_del(cursor, 0), 0);
    }
    mdb_cursor_close(cursor);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* With the store open: a process may open a queue once. */
static void damage_beside(struct rig *rig, const char *name, const struct msgid *id, size_t at)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        damage(rig, name, id, at);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void wait_corrupt(struct rig *rig, size_t count)
{
    for (int i = 0; i < 60000 && rig_health(rig).corrupt != count; i++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    assert_int_equal(rig_health(rig).corrupt, count);
}

static void a_corrupt_record_stops_nobody(void **state)
{
    struct rig *rig = rig_lmdb();
    (void)state;
    struct msgid bad = rig_put(rig, "a@here.test", TO);
    struct msgid good = rig_put(rig, "a@here.test", TO);
    for (struct claim *claims = rig_claim(rig, LANE, 2), *next; claims; claims = next) {
        next = claims->next;
        rig_settle(rig, claims, RECIPIENT_QUEUED, NOW); /* has index entries */
    }
    store_close(&rig->store);
    damage(rig, "msg", &bad, 30);
    rig_open(rig);
    for (int i = 0; i < 3; i++) {
        struct claim *claims = rig_claim(rig, LANE, 5);
        assert_int_equal(rig_count(claims), 1);
        assert_int_equal(msgid_cmp(&claims->message->envelope.id, &good), 0);
        store_unclaim(rig->store, &claims);
    }
    wait_corrupt(rig, 1);
    struct store_list list = rig_list(rig, all, 10, (struct msgid){ { 0 } });
    assert_int_equal(list.count, 2);
    assert_true(list.is_corrupt[0]);
    assert_int_equal(msgid_cmp(&list.envelopes[0].id, &bad), 0);
    assert_false(list.is_corrupt[1]);
    store_list_clear(&list);
    struct store_get get = { .request = rig_request(rig), .id = bad };
    store_get(rig->store, &get);
    rig_wait(rig, &get.request);
    assert_int_equal(get.request.err, ERR_CORRUPT);
    rig_deliver(rig, LANE);
    assert_int_equal(rig_claim_at(rig, LANE, 5, NOW).next_due, 0);
    rig_change(rig, STORE_DROP, (struct store_filter){ .id = bad });
    assert_int_equal(rig_health(rig).corrupt, 0);
    assert_int_equal(rig_health(rig).messages, 0);
    rig_free(rig);
}

static void what_went_bad_while_it_was_out_is_reported_all_the_same(void **state)
{
    struct rig *rig = rig_lmdb();
    (void)state;
    struct msgid bad = rig_put(rig, "a@here.test", TO);
    struct claim *claim = rig_claim(rig, LANE, 1);
    damage_beside(rig, "msg", &bad, 30);
    struct message *report = rig_message(rig, "", "a@here.test back");
    assert_int_equal(rig_settle_dsn(rig, claim, RECIPIENT_FAILED, 0, report), ERR_OK);
    message_unref(&report);
    wait_corrupt(rig, 1);
    assert_int_equal(rig_claim_at(rig, LANE, 5, NOW).next_due, 0);
    rig_deliver(rig, "back");
    rig_free(rig);
}

static void expect_figures(struct rig *rig, uint64_t bytes, uint64_t queued, uint64_t held)
{
    struct store_health health = rig_health(rig);

    for (int i = 0; i < 60000 && health.queued_bytes != bytes; i++) {
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        health = rig_health(rig);
    }
    assert_int_equal(health.queued_bytes, bytes);
    assert_int_equal(health.recipients_queued, queued);
    assert_int_equal(health.recipients_held, held);
}

/* With its record is gone what it takes off the figures: how large it was, and for whom. */
static void what_an_unreadable_one_took_is_free_when_it_is_dropped(void **state)
{
    struct rig *rig = rig_lmdb();
    char to[20 * 48] = "";
    (void)state;

    rig_many(to, sizeof(to), 20, "@there.test " LANE);
    rig_put(rig, "a@here.test", TO);
    rig_put(rig, "a@here.test", "h@there.test " LANE);
    rig_change(rig, STORE_HOLD, (struct store_filter){ .recipient = STR("h@there.test") });
    uint64_t good = rig_health(rig).queued_bytes;
    struct msgid first = rig_put(rig, "a@here.test", TO), second = rig_put(rig, "a@here.test", to);
    uint64_t before = rig_health(rig).queued_bytes;
    store_close(&rig->store);
    damage(rig, "msg", &first, 30);
    damage(rig, "msg", &second, 30);
    rig_open(rig);
    wait_corrupt(rig, 2);
    expect_figures(rig, before, 22, 1);
    rig_change(rig, STORE_DROP, (struct store_filter){ .id = first });
    expect_figures(rig, before, 22, 1); /* the other's part is not known */
    rig_change(rig, STORE_DROP, (struct store_filter){ .id = second });
    expect_figures(rig, good, 1, 1);
    rig_reopen(rig);
    expect_figures(rig, good, 1, 1);
    rig_change(rig, STORE_RELEASE, all);
    rig_deliver(rig, LANE);
    rig_deliver(rig, LANE);
    expect_figures(rig, 0, 0, 0);
    rig_free(rig);
}

static void corrupt_content_is_held(void **state)
{
    struct rig *rig = rig_lmdb();
    (void)state;
    struct msgid bad = rig_put(rig, "a@here.test", TO);
    store_close(&rig->store);
    damage(rig, "content", &bad, 100000); /* the chunk is gone */
    rig_open(rig);
    assert_null(rig_claim(rig, LANE, 5));
    wait_corrupt(rig, 1);
    for (int i = 0; i < 60000 && rig_health(rig).recipients_held == 0; i++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    assert_int_equal(rig_health(rig).recipients_held, 1);
    struct store_list list =
        rig_list(rig, (struct store_filter){ .state = RECIPIENT_HELD }, 5, (struct msgid){ { 0 } });
    assert_int_equal(list.count, 1);
    store_list_clear(&list);
    rig_free(rig);
}

static void a_newer_store_is_refused(void **state)
{
    struct rig *rig = rig_lmdb();
    struct fault fault;
    (void)state;
    store_close(&rig->store);
    char path[512];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val key = { 7, (void *)(uintptr_t) "version" },
            value = { 4, (void *)(uintptr_t) "\0\0\0\x63" };
    snprintf(path, sizeof(path), "%s/db", rig->folder);
    assert_int_equal(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 4);
    assert_int_equal(mdb_env_open(env, path, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_int_equal(store_open_lmdb(&rig->options, &rig->store, &fault), ERR_VERSION);
    assert_non_null(strstr(fault.text, "newer waypost"));
    rig_free(rig);
}

/* ---- full ----------------------------------------------------------------------------------- */

static struct message *message_of(struct rig *rig, size_t size)
{
    struct message *message = rig_message(rig, "a@here.test", TO);
    char *bytes = mem_alloc(size + 1);

    memset(bytes, 'x', size);
    body_unref(&message->body);
    message->body = body_of_buffer(bytes, size);
    return message;
}

/* Accept until refused; how many went in. */
static size_t fill(struct rig *rig, size_t size)
{
    for (size_t count = 0;; count++) {
        struct message *message = message_of(rig, size);
        enum err rc = rig_accept(rig, message);
        message_unref(&message);
        if (rc) {
            assert_int_equal(rc, ERR_FULL);
            return count;
        }
        assert_true(count < 5000);
    }
}

static void drain(struct rig *rig, size_t count)
{
    for (size_t left = count; left > 0;) {
        struct claim *claims = rig_claim(rig, LANE, 20), *next;
        assert_non_null(claims);
        for (; claims; claims = next, left--) {
            next = claims->next;
            rig_settle(rig, claims, RECIPIENT_DELIVERED, 0);
        }
    }
    assert_int_equal(rig_health(rig).messages, 0);
}

static void a_full_map_refuses_and_recovers(void **state)
{
    struct rig *rig = rig_new(true);
    (void)state;
    rig->options.map_bytes = 4 * 1024 * 1024;
    rig->options.quota_bytes = 100 * 1024 * 1024;
    rig_open(rig);
    size_t count = fill(rig, 20000);
    assert_true(count > 50);
    assert_int_equal(rig_health(rig).state, STORE_FULL_QUOTA);
    drain(rig, count);
    assert_true(fill(rig, 20000) > 50);
    rig_free(rig);
}

/* In a mount namespace of our own: it goes with the process, whatever happens. */
static bool mount_small(const char *folder)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("waypost-test", folder, "tmpfs", 0, "size=12m") == 0;
}

static void wait_state(struct rig *rig, enum store_state wanted)
{
    for (int i = 0; i < 60000 && rig_health(rig).state != wanted; i++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    assert_int_equal(rig_health(rig).state, wanted);
}

static void hog(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    char block[4096] = { 1 };

    while (write(fd, block, sizeof(block)) > 0)
        ;
    close(fd);
}

/* Somebody else fills the disk: results are still written, new mail is refused,
 * and all is well again when there is room, without new traffic. */
static void a_full_disk_refuses_and_recovers(void **state)
{
    struct rig *rig = rig_new(true);
    char path[512];
    (void)state;
    if (!mount_small(rig->folder)) {
        print_message("left out: mounting needs root\n");
        rig_free(rig);
        skip();
    }
    rig->options.quota_bytes = 100 * 1024 * 1024;
    rig_open(rig);
    size_t count = fill(rig, 50000);
    assert_true(count > 50);
    snprintf(path, sizeof(path), "%s/hog", rig->folder);
    hog(path);
    wait_state(rig, STORE_FULL_DISK);
    struct claim *claim = rig_claim(rig, LANE, 1);
    rig_settle(rig, claim, RECIPIENT_QUEUED, NOW); /* must be written */
    assert_int_equal(fill(rig, 1000), 0);
    drain(rig, count);
    unlink(path);
    wait_state(rig, STORE_FINE);
    assert_true(fill(rig, 50000) > 0);
    store_close(&rig->store);
    rig_open(rig);
    store_close(&rig->store);
    assert_int_equal(umount(rig->folder), 0);
    rig_open(rig);
    rig_free(rig);
}

/* ---- many ------------------------------------------------------------------------------------- */

static size_t accept_many(struct rig *rig, size_t count)
{
    struct store_accept *requests = mem_alloc(count * sizeof(*requests));
    size_t ok = 0;

    for (size_t i = 0; i < count; i++) {
        char to[64];
        snprintf(to, sizeof(to), "u%zu@d%zu.test direct/d%zu.test", i, i % 100, i % 100);
        requests[i].request = rig_request(rig);
        requests[i].message = rig_message(rig, "a@here.test", to);
        store_accept(rig->store, &requests[i]);
    }
    for (size_t i = 0; i < count; i++) {
        rig_wait(rig, &requests[i].request);
        ok += requests[i].request.err == ERR_OK;
        message_unref(&requests[i].message);
    }
    free(requests);
    return ok;
}

static double seconds_since(uint64_t began_ms)
{
    return (double)(clock_mono_ms() - began_ms) / 1000;
}

static size_t settle_many(struct rig *rig, enum recipient_state to, int64_t due_at)
{
    size_t total = 0;

    for (int d = 0; d < 100; d++) {
        char lane[64];
        snprintf(lane, sizeof(lane), "direct/d%d.test", d);
        for (;;) {
            struct claim *claims = rig_claim(rig, lane, 100);
            size_t count = rig_count(claims), n = 0;
            struct settlement settlements[100];
            struct verdict verdicts[100];
            struct store_settle settle = { .request = rig_request(rig),
                                           .settlements = settlements,
                                           .count = count };
            for (struct claim *claim = claims; claim; claim = claim->next, n++) {
                verdicts[n] = (struct verdict){
                    .index = claim->indexes[0], .state = to, .attempted = true, .due_at = due_at
                };
                settlements[n] = (struct settlement){ .claim = claim,
                                                      .verdicts = &verdicts[n],
                                                      .verdict_count = 1 };
            }
            if (count == 0)
                break;
            store_settle(rig->store, &settle);
            rig_wait(rig, &settle.request);
            assert_int_equal(settle.request.err, ERR_OK);
            rig_free_claims(claims);
            total += count;
        }
    }
    return total;
}

#define MANY (RIG_SANITIZED ? 10000 : 100000)

static void a_hundred_thousand_messages(void **state)
{
    struct rig *rig = rig_lmdb();
    (void)state;
    uint64_t at = clock_mono_ms();
    for (int n = 0; n < MANY; n += 5000)
        assert_int_equal(accept_many(rig, 5000), 5000);
    struct store_health health = rig_health(rig);
    print_message("accept: %.2f s, %.1f a batch\n", seconds_since(at),
                  (double)health.batch_sum / (double)health.commits);
    at = clock_mono_ms();
    assert_int_equal(settle_many(rig, RECIPIENT_QUEUED, NOW + 3600), MANY);
    print_message("claim and put off: %.2f s\n", seconds_since(at));
    at = clock_mono_ms();
    rig_reopen(rig);
    print_message("open: %.2f s\n", seconds_since(at));
    at = clock_mono_ms();
    struct store_change retry = { .request = rig_request(rig), .kind = STORE_RETRY, .filter = all };
    store_change(rig->store, &retry);
    uint64_t slowest = 0;
    size_t meanwhile = 0;
    while (retry.request.op != 0xD0E) { /* accepts go on while it runs */
        uint64_t one = clock_mono_ms();
        rig_put(rig, "a@here.test", TO);
        meanwhile++;
        if (clock_mono_ms() - one > slowest)
            slowest = clock_mono_ms() - one;
    }
    assert_int_equal(retry.recipients, MANY);
    print_message("retry: %.2f s, %zu accepts meanwhile, slowest %d ms\n", seconds_since(at),
                  meanwhile, (int)slowest);
    at = clock_mono_ms();
    assert_int_equal(settle_many(rig, RECIPIENT_DELIVERED, 0), MANY);
    print_message("claim and deliver: %.2f s\n", seconds_since(at));
    assert_int_equal(rig_health(rig).messages, meanwhile);
    rig_free(rig);
}

/* Accepting, claiming, settling, changing and looking from several threads. */
struct worker {
    struct rig rig; /* the same store, a mailbox of its own */
    pthread_t thread;
    unsigned number;
    size_t accepted, delivered;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct rig *rig = &worker->rig;

    for (unsigned n = 0; n < 150; n++) {
        rig_put(rig, worker->number % 2 ? "a@here.test" : "n1@news.test",
                TO ",c@y.test direct/y.test");
        worker->accepted++;
        struct claim *claims = rig_claim(rig, n % 2 ? LANE : "direct/y.test", 3), *next;
        for (; claims; claims = next) {
            next = claims->next;
            claims->next = NULL;
            if (n % 7 == 0) {
                store_unclaim(rig->store, &claims);
                continue;
            }
            bool later = (n + worker->number) % 3 == 0;
            worker->delivered += later ? 0 : claims->count;
            rig_settle(rig, claims, later ? RECIPIENT_QUEUED : RECIPIENT_DELIVERED, NOW);
        }
        if (n % 50 == 10)
            rig_change(rig, STORE_HOLD, (struct store_filter){ .lane = STR(LANE) });
        if (n % 50 == 20)
            rig_change(rig, STORE_RELEASE, all);
        if (n % 50 == 30) {
            struct store_list list = rig_list(rig, all, 20, (struct msgid){ { 0 } });
            store_list_clear(&list);
        }
    }
    return NULL;
}

static void many_threads_lose_nothing(void **state)
{
    struct rig *rig = rig_lmdb();
    struct worker workers[4] = { 0 };
    size_t accepted = 0, delivered = 0;
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        workers[i].number = i;
        workers[i].rig.store = rig->store;
        mailbox_init(&workers[i].rig.mail, NULL, NULL);
        msgid_maker_init(&workers[i].rig.maker);
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(workers[i].thread, NULL);
        mailbox_clear(&workers[i].rig.mail);
        accepted += workers[i].accepted;
        delivered += workers[i].delivered;
    }
    rig_change(rig, STORE_RELEASE, all);
    assert_int_equal(rig_health(rig).recipients_queued, accepted * 2 - delivered);
    static const char *const lanes[] = { LANE, "direct/y.test" };
    for (size_t i = 0; i < 2; i++) {
        struct claim *claims, *next;
        while ((claims = rig_claim(rig, lanes[i], 50))) {
            for (; claims; claims = next) {
                next = claims->next;
                delivered += claims->count;
                rig_settle(rig, claims, RECIPIENT_DELIVERED, 0);
            }
        }
    }
    assert_int_equal(delivered, accepted * 2);
    assert_int_equal(rig_health(rig).messages, 0);
    rig_free(rig);
}

/* ---- company for a commit ------------------------------------------------------------- */

/* Nothing waits for company while the writer has other work. */
static void await_counting(struct rig *rig)
{
    struct lmdb *l = lmdb_of(rig->store);

    for (bool is_done = false; !is_done; sched_yield()) {
        pthread_mutex_lock(&l->lock);
        is_done = l->scan_done;
        pthread_mutex_unlock(&l->lock);
    }
}

static void begin_signing(struct rig *rig, struct job *job)
{
    await_counting(rig);
    *job = (struct job){ .run = wait_at_gate };
    atomic_store(&gate, false);
    assert_int_equal(pool_post(rig->pool, POOL_SIGN, job), ERR_OK);
    while (pool_waited_us(rig->pool, POOL_SIGN) == 0)
        sched_yield();
}

static bool is_gathering(struct rig *rig)
{
    struct mailbox *in = &lmdb_of(rig->store)->in;

    pthread_mutex_lock(&in->lock);
    bool is_gathering = in->is_gathering;
    pthread_mutex_unlock(&in->lock);
    return is_gathering;
}

static void end_signing(struct rig *rig)
{
    while (!is_gathering(rig))
        sched_yield();
    atomic_store(&gate, true);
    while (pool_waited_us(rig->pool, POOL_SIGN))
        sched_yield();
}

/* They lie until one comes that may not, and then share a commit. */
static void commits_are_shared_while_messages_are_signed(void **state)
{
    enum { COUNT = 5 };
    struct rig *rig = rig_new(true);
    struct store_accept accepts[COUNT];
    struct job signing;
    (void)state;

    rig->tuning.gather_ms = 3600000;
    rig_open(rig);
    uint64_t before = rig_health(rig).commits;
    rig_put(rig, "a@here.test", TO); /* nothing is signed: at once */
    assert_int_equal(rig_health(rig).commits, before + 1);
    begin_signing(rig, &signing);
    for (unsigned i = 0; i < COUNT; i++) {
        accepts[i] = (struct store_accept){ .request = rig_request(rig),
                                            .message = rig_message(rig, "a@here.test", TO) };
        if (i == COUNT - 1)
            end_signing(rig);
        store_accept(rig->store, &accepts[i]);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        rig_wait(rig, &accepts[i].request);
        assert_int_equal(accepts[i].request.err, ERR_OK);
        message_unref(&accepts[i].message);
    }
    assert_int_equal(rig_health(rig).commits, before + 2);
    rig_free(rig);
}

/* Signing goes on: time ends the wait, and so does what an operator asks for. */
static void a_commit_does_not_wait_for_ever(void **state)
{
    (void)state;

    for (unsigned by_change = 0; by_change < 2; by_change++) {
        struct rig *rig = rig_new(true);
        struct job signing;
        rig->tuning.gather_ms = by_change ? 3600000 : 5;
        rig_open(rig);
        begin_signing(rig, &signing);
        struct store_accept accept = { .request = rig_request(rig),
                                       .message = rig_message(rig, "a@here.test", TO) };
        store_accept(rig->store, &accept);
        while (by_change && !is_gathering(rig))
            sched_yield();
        if (by_change)
            rig_change(rig, STORE_HOLD, all);
        rig_wait(rig, &accept.request);
        assert_int_equal(accept.request.err, ERR_OK);
        message_unref(&accept.message);
        atomic_store(&gate, true);
        rig_free(rig);
    }
}

/* ---- local names that wait for an address -------------------------------------------- */

static struct msgid put_waiting(struct rig *rig)
{
    struct message *message = rig_message(rig, "a@here.test", "root@here.test " LANE);
    struct msgid id = message->envelope.id;

    message->envelope.recipients[0].state = RECIPIENT_HELD;
    message->envelope.recipients[0].stage = STAGE_EXPAND;
    assert_int_equal(rig_accept(rig, message), ERR_OK);
    message_unref(&message);
    return id;
}

static size_t lead(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                   struct arena *arena, const struct store_address **out)
{
    static const struct store_address ops = { { "ops@there.test", 14 }, { LANE, 17 } };
    const bool *leads = arg;

    (void)envelope, (void)recipient, (void)arena;
    *out = &ops;
    return *leads;
}

/* How many records were read for it. */
static uint64_t readdress(struct rig *rig, bool leads, uint64_t expected)
{
    struct store_change change = { .request = rig_request(rig),
                                   .kind = STORE_READDRESS,
                                   .filter = { .state = RECIPIENT_HELD },
                                   .readdress = lead,
                                   .arg = &leads };

    store_change(rig->store, &change);
    rig_wait(rig, &change.request);
    assert_int_equal(change.request.err, ERR_OK);
    assert_int_equal(change.recipients, expected);
    return change.examined;
}

static void names_that_wait_are_found_without_reading_the_others(void **state)
{
    struct rig *rig = rig_lmdb();
    struct msgid second;
    (void)state;

    rig_put(rig, "a@here.test", TO);
    put_waiting(rig);
    second = put_waiting(rig);
    for (unsigned i = 0; i < 300; i++)
        rig_put(rig, "a@here.test", TO);
    put_waiting(rig);
    assert_int_equal(readdress(rig, false, 0), 3);
    rig_change(rig, STORE_DROP, (struct store_filter){ .id = second, .any_state = true });
    assert_int_equal(readdress(rig, false, 0), 3);
    assert_int_equal(readdress(rig, false, 0), 2);
    rig_reopen(rig);
    await_counting(rig);
    assert_int_equal(readdress(rig, false, 0), 2);
    assert_int_equal(readdress(rig, true, 2), 2);
    assert_int_equal(rig_health(rig).recipients_held, 0);
    (void)readdress(rig, true, 0);
    assert_int_equal(readdress(rig, true, 0), 0);
    rig_free(rig);
}

static void note_number(struct lmdb *l, uint32_t n)
{
    struct msgid id = { .bytes = { [12] = (uint8_t)(n >> 24),
                                   [13] = (uint8_t)(n >> 16),
                                   [14] = (uint8_t)(n >> 8),
                                   [15] = (uint8_t)n } };

    waiting_note(l, &id);
}

static void too_many_that_wait_are_looked_for_anew(void **state)
{
    struct lmdb *l = mem_alloc(sizeof(*l));
    struct msgid at = { .bytes = { 0 } };
    unsigned count = 0;
    (void)state;

    l->scan_done = true;
    for (uint32_t n = 4465; n <= 70000; n++) /* as many as there may be */
        note_number(l, n);
    note_number(l, 5000);
    assert_true(waiting_is_complete(l));
    while (waiting_next(l, &at, &at))
        count++;
    assert_int_equal(count, 65536);
    note_number(l, 4464);
    assert_false(waiting_is_complete(l));
    waiting_begin(l);
    note_number(l, 7);
    assert_false(waiting_is_complete(l)); /* not all were seen */
    waiting_end(l, ERR_IO);
    assert_false(waiting_is_complete(l));
    waiting_begin(l);
    note_number(l, 8);
    waiting_end(l, ERR_OK);
    assert_true(waiting_is_complete(l));
    at = (struct msgid){ .bytes = { 0 } };
    assert_true(waiting_next(l, &at, &at));
    assert_int_equal(at.bytes[15], 8);
    waiting_forget(l, &at);
    at = (struct msgid){ .bytes = { 0 } };
    assert_false(waiting_next(l, &at, &at));
    free(l->waiting_names.ids);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_there_after_a_restart),
        cmocka_unit_test(lanes_are_counted_after_a_restart),
        cmocka_unit_test(a_second_open_is_refused),
        cmocka_unit_test(reading_works_without_the_daemon),
        cmocka_unit_test(a_folder_that_cannot_be_is_named),
        cmocka_unit_test(large_bodies_are_side_files),
        cmocka_unit_test(files_without_a_record_go_at_the_start),
        cmocka_unit_test(a_refused_one_leaves_no_file),
        cmocka_unit_test(reports_on_a_dropped_one_leave_no_file),
        cmocka_unit_test(a_corrupt_record_stops_nobody),
        cmocka_unit_test(what_went_bad_while_it_was_out_is_reported_all_the_same),
        cmocka_unit_test(what_an_unreadable_one_took_is_free_when_it_is_dropped),
        cmocka_unit_test(corrupt_content_is_held),
        cmocka_unit_test(a_newer_store_is_refused),
        cmocka_unit_test(a_full_map_refuses_and_recovers),
        cmocka_unit_test(a_full_disk_refuses_and_recovers),
        cmocka_unit_test(many_threads_lose_nothing),
        cmocka_unit_test(a_hundred_thousand_messages),
        cmocka_unit_test(commits_are_shared_while_messages_are_signed),
        cmocka_unit_test(a_commit_does_not_wait_for_ever),
        cmocka_unit_test(names_that_wait_are_found_without_reading_the_others),
        cmocka_unit_test(too_many_that_wait_are_looked_for_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
