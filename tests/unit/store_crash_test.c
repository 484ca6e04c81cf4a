/*
 * store_crash_test.c - the store dies at point 1, 2, 3 ... until a run survives.
 *
 * A child opens the store, works, and tells the parent through a pipe what it
 * was promised; at the given point it is gone. The parent opens the store and
 * checks that every promise was kept: acknowledged mail is whole and can be
 * claimed, what was settled is gone, its reports are there instead of the message,
 * all of them, never beside it.
 */
#include "store_rig.h"

#include <sys/wait.h>

#define DIED 77
#define MESSAGES 8
#define REPORTS 3 /* of one settlement; the second has a side file */

/* What may be known of one message, in this order. */
enum promise { UNKNOWN, OFFERED, ACCEPTED, SETTLING, SETTLED };

struct note {
    unsigned number;
    enum promise promise;
    struct msgid id, dsns[REPORTS];
};

struct story {
    enum promise promise;
    struct msgid id, dsns[REPORTS];
};

/* ---- the child ------------------------------------------------------------------------- */

static void tell(int fd, unsigned number, enum promise promise, const struct msgid *id,
                 struct message *const *dsns)
{
    struct note note = { .number = number, .promise = promise, .id = *id };

    for (size_t i = 0; dsns && i < REPORTS; i++)
        note.dsns[i] = dsns[i]->envelope.id;
    assert_int_equal(write(fd, &note, sizeof(note)), sizeof(note));
}

static void fill_body(char *out, size_t size, unsigned number)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (char)('a' + (i / 7 + number) % 26);
}

static size_t body_len(unsigned number) { return number == 2 ? 300000 : 100 + number * 9000; }

static void give_body(struct rig *rig, struct message *message, unsigned number)
{
    size_t len = body_len(number);
    char *bytes = mem_alloc(len + 1);
    struct fault fault;

    fill_body(bytes, len, number);
    body_unref(&message->body);
    if (len > BODY_INLINE_MAX) {
        struct body_writer *writer =
            body_writer_new(store_folder(rig->store), &message->envelope.id);
        body_writer_add(writer, str_make(bytes, len));
        assert_int_equal(body_writer_seal(writer, &message->body, &fault), ERR_OK);
        body_writer_free(&writer);
        free(bytes);
    } else {
        message->body = body_of_buffer(bytes, len);
    }
}

static struct message *numbered_message(struct rig *rig, unsigned number)
{
    const char *to =
        number % 2 ? "1@x.test direct/x.test" : "1@x.test direct/x.test,2@y.test direct/y.test";
    struct message *message = rig_message(rig, "a@here.test", to);

    give_body(rig, message, number);
    return message;
}

static void settle_reported(struct rig *rig, int fd, unsigned number, struct claim *claim)
{
    struct msgid id = claim->message->envelope.id;
    struct message *dsns[REPORTS];

    for (unsigned i = 0; i < REPORTS; i++) {
        dsns[i] = rig_message(rig, "", "a@here.test direct/here.test");
        give_body(rig, dsns[i], i + 1);
    }
    tell(fd, number, SETTLING, &id, dsns);
    assert_int_equal(rig_settle_dsns(rig, claim, RECIPIENT_FAILED, NOW, dsns, REPORTS), ERR_OK);
    tell(fd, number, SETTLED, &id, dsns);
    for (unsigned i = 0; i < REPORTS; i++)
        message_unref(&dsns[i]);
}

static void settle_delivered(struct rig *rig, int fd, unsigned number, struct claim *claim)
{
    struct msgid id = claim->message->envelope.id;

    tell(fd, number, SETTLING, &id, NULL);
    rig_settle(rig, claim, RECIPIENT_DELIVERED, NOW);
    tell(fd, number, SETTLED, &id, NULL);
}

static void settle_all(struct rig *rig, int fd, const struct msgid *ids)
{
    struct claim *claims, *next;

    /* Both lanes put off once; then one message of two delivered, one bounced. */
    for (claims = rig_claim(rig, "direct/y.test", 99); claims; claims = next) {
        next = claims->next;
        rig_settle(rig, claims, RECIPIENT_DELIVERED, 0);
    }
    for (claims = rig_claim(rig, "direct/x.test", 99); claims; claims = next) {
        next = claims->next;
        rig_settle(rig, claims, RECIPIENT_QUEUED, NOW);
    }
    rig_change(rig, STORE_HOLD, (struct store_filter){ .lane = STR("direct/x.test") });
    rig_change(rig, STORE_RELEASE, (struct store_filter){ .lane = STR("direct/x.test") });
    for (claims = rig_claim(rig, "direct/x.test", 99); claims; claims = next) {
        unsigned number = 0;
        next = claims->next;
        while (msgid_cmp(&ids[number], &claims->message->envelope.id) != 0)
            number++;
        if (number >= 6) { /* these stay */
            claims->next = NULL;
            store_unclaim(rig->store, &claims);
        } else if (number % 3 == 0) {
            settle_reported(rig, fd, number, claims);
        } else {
            settle_delivered(rig, fd, number, claims);
        }
    }
}

static void live(struct rig *rig, int fd)
{
    struct msgid ids[MESSAGES];

    rig_open(rig);
    for (unsigned n = 0; n < MESSAGES; n++) {
        struct message *message = numbered_message(rig, n);
        ids[n] = message->envelope.id;
        tell(fd, n, OFFERED, &ids[n], NULL);
        assert_int_equal(rig_accept(rig, message), ERR_OK);
        tell(fd, n, ACCEPTED, &ids[n], NULL);
        message_unref(&message);
    }
    settle_all(rig, fd, ids);
    store_close(&rig->store);
}

/* Returns whether it died at its point. */
static bool run_child(struct rig *rig, unsigned die_at, struct story *stories)
{
    struct note note;
    int fds[2], status;

    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        rig->tuning.die_at = die_at;
        live(rig, fds[1]);
        _exit(0);
    }
    close(fds[1]);
    while (read(fds[0], &note, sizeof(note)) == (ssize_t)sizeof(note)) {
        stories[note.number].promise = note.promise;
        stories[note.number].id = note.id;
        memcpy(stories[note.number].dsns, note.dsns, sizeof(note.dsns));
    }
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || (WEXITSTATUS(status) != DIED && WEXITSTATUS(status) != 0))
        fail_msg("the child ended with status %d at point %u", status, die_at);
    return WEXITSTATUS(status) == DIED;
}

/* ---- the check --------------------------------------------------------------------------- */

static void expect_whole(struct message *message, unsigned number)
{
    size_t len = body_len(number), got;
    char *want = mem_alloc(len), *have = mem_alloc(len);

    fill_body(want, len, number);
    assert_int_equal(body_size(message->body), len);
    assert_int_equal(body_read(message->body, 0, have, len, &got, NULL), ERR_OK);
    assert_int_equal(got, len);
    assert_memory_equal(want, have, len);
    free(want);
    free(have);
}

static bool is_there(struct rig *rig, struct msgid id, int number)
{
    struct message *message = rig_get(rig, id);

    if (!message)
        return false;
    if (number >= 0)
        expect_whole(message, (unsigned)number);
    message_unref(&message);
    return true;
}

static void check_story(struct rig *rig, unsigned number, const struct story *story, unsigned point)
{
    if (story->promise == UNKNOWN)
        return;
    bool has_dsn = !msgid_is_nil(&story->dsns[0]);
    bool here = is_there(rig, story->id, (int)number);
    bool reported = has_dsn && is_there(rig, story->dsns[0], 1);

    for (unsigned i = 1; i < REPORTS; i++)
        if (has_dsn && is_there(rig, story->dsns[i], (int)i + 1) != reported)
            fail_msg("point %u: some reports of message %u without the others", point, number);
    if (story->promise == ACCEPTED && !here)
        fail_msg("point %u: message %u was acknowledged and is gone", point, number);
    if (story->promise == SETTLED && here)
        fail_msg("point %u: message %u was settled and is back", point, number);
    if (story->promise == SETTLED && has_dsn && !reported)
        fail_msg("point %u: the report of message %u is lost", point, number);
    if (story->promise == SETTLING && has_dsn && here == reported)
        fail_msg("point %u: message %u and its report: %d, %d", point, number, here, reported);
}

/* Everything that is queued can be claimed, and then nothing is left over. */
static void drain(struct rig *rig, unsigned point)
{
    static const char *const lanes[] = { "direct/x.test", "direct/y.test", "direct/here.test" };

    rig_change(rig, STORE_RELEASE, (struct store_filter){ .any_state = true });
    for (size_t i = 0; i < 3; i++) {
        struct claim *claims, *next;
        while ((claims = rig_claim(rig, lanes[i], 99))) {
            for (; claims; claims = next) {
                next = claims->next;
                rig_settle(rig, claims, RECIPIENT_DELIVERED, 0);
            }
        }
    }
    struct store_health health = rig_health(rig);
    if (health.messages || health.queued_bytes || health.recipients_queued ||
        health.recipients_held)
        fail_msg("point %u: %d messages, %d bytes, %d queued, %d held are left over", point,
                 (int)health.messages, (int)health.queued_bytes, (int)health.recipients_queued,
                 (int)health.recipients_held);
    size_t files = 0;
    DIR *dir = opendir(store_folder(rig->store));
    for (struct dirent *entry; (entry = readdir(dir));)
        files += entry->d_name[0] != '.';
    closedir(dir);
    if (files > 0)
        fail_msg("point %u: %zu side files are left over", point, files);
}

/* No pool: a child must not inherit threads' locks. */
static struct rig *rig_plain(size_t window_bytes, uint64_t spill_ms)
{
    struct rig *rig = rig_new(true);

    pool_free(&rig->pool);
    rig->options.pool = NULL;
    rig->options.window_bytes = window_bytes;
    rig->tuning.spill_ms = spill_ms;
    return rig;
}

static void die_everywhere(size_t window_bytes, uint64_t spill_ms, unsigned step)
{
    bool died = true;
    unsigned point;

    for (point = 1; died; point += step) {
        struct rig *rig = rig_plain(window_bytes, spill_ms);
        struct story stories[MESSAGES] = { 0 };
        died = run_child(rig, point, stories);
        rig_open(rig);
        for (unsigned n = 0; n < MESSAGES; n++)
            check_story(rig, n, &stories[n], point);
        drain(rig, point);
        rig_free(rig);
    }
    assert_true(point > 50);
}

static void with_mail_in_windows(void **state)
{
    (void)state;
    die_everywhere(0, 30000, 1);
}

static void with_all_mail_indexed(void **state)
{
    (void)state;
    die_everywhere(1, 30000, 3);
}

static void with_windows_written_out(void **state)
{
    (void)state;
    die_everywhere(0, 0, 3);
}

/* ---- dying while mail for a next hop that changed is made due ---- */

/* All that is due in the lane is put off; how many messages that were. */
static size_t put_off(struct rig *rig, size_t max)
{
    struct claim *claims = rig_claim(rig, "smart/*", max), *claim = claims;
    size_t count = rig_count(claims);
    struct settlement *settlements = mem_alloc((count + 1) * sizeof(*settlements));
    struct verdict later = { .state = RECIPIENT_QUEUED, .attempted = true, .due_at = NOW + 3600 };
    struct store_settle settle = { .request = rig_request(rig),
                                   .settlements = settlements,
                                   .count = count };

    for (size_t i = 0; i < count; i++, claim = claim->next)
        settlements[i] =
            (struct settlement){ .claim = claim, .verdicts = &later, .verdict_count = 1 };
    store_settle(rig->store, &settle);
    rig_wait(rig, &settle.request);
    assert_int_equal(settle.request.err, ERR_OK);
    rig_free_claims(claims);
    free(settlements);
    return count;
}

static bool die_telling(struct rig *rig, unsigned die_at, uint64_t hop)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        uint64_t due;
        rig->tuning.die_at = die_at;
        rig_open(rig);
        (void)rig_tell_hops(rig, hop, 5, &due);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == DIED;
}

/* The next start makes due what was not yet, and when that was all, nothing. Returns how
 * often some were due before it and some not. */
static unsigned die_waking(size_t count, unsigned step)
{
    struct rig *rig = rig_plain(1, 30000);
    unsigned point, parts = 0;
    bool died = true;
    uint64_t due;

    rig_open(rig);
    for (size_t i = 0; i < count; i++)
        rig_put(rig, "a@here.test", "1@x.test smart/*");
    assert_int_equal(rig_tell_hops(rig, 1, 5, &due), ERR_OK);
    for (point = 1; died; point += step) {
        size_t woken = put_off(rig, count);
        if (woken != count)
            fail_msg("point %u: %zu are due", point, woken);
        store_close(&rig->store);
        died = die_telling(rig, point, point + 1);
        rig_open(rig);
        assert_int_equal(rig_tell_hops(rig, point + 1, 5, &due), ERR_OK);
        parts += due > 0 && due < count;
    }
    assert_int_equal(due, 0);
    assert_int_equal(put_off(rig, count), count);
    assert_true(point > 5);
    rig_free(rig);
    return parts;
}

static void while_waking(void **state)
{
    (void)state;
    assert_int_equal(die_waking(3, 1), 0);
}

static void between_two_pages_that_wake(void **state)
{
    (void)state;
    assert_true(die_waking(LMDB_PAGE_IDLE + 500, 397) > 0);
}

/* ---- dying while recovering ---------------------------------------------------------------- */

static bool die_opening(struct rig *rig, unsigned die_at)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        rig->tuning.die_at = die_at;
        rig_open(rig);
        _exit(0); /* a crash too, but a late one */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == DIED;
}

static void while_recovering(void **state)
{
    struct rig *rig = rig_plain(0, 30000);
    (void)state;
    pid_t pid = fork();
    if (pid == 0) { /* leaves mail that was only in memory, and an orphan file */
        rig_open(rig);
        for (unsigned n = 0; n < MESSAGES; n++)
            assert_int_equal(rig_accept(rig, numbered_message(rig, n)), ERR_OK);
        numbered_message(rig, 2);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    unsigned point = 1;
    while (die_opening(rig, point))
        point++;
    assert_true(point > 5);
    rig_open(rig);
    struct claim *claims = rig_claim(rig, "direct/x.test", 99);
    assert_int_equal(rig_count(claims), MESSAGES);
    store_unclaim(rig->store, &claims);
    drain(rig, point);
    rig_free(rig);
}

/* ThreadSanitizer does not follow threads that are made after a fork. */
#if defined(__SANITIZE_THREAD__)
#define CANNOT_FORK 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CANNOT_FORK 1
#endif
#endif
#ifndef CANNOT_FORK
#define CANNOT_FORK 0
#endif

int main(void)
{
    if (CANNOT_FORK)
        return 77; /* left out, to meson */
    /* A killed process loses nothing that it wrote, synced or not: memory will do, and
     * hundreds of new databases are slow on a disk. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_mail_in_windows),        cmocka_unit_test(with_all_mail_indexed),
        cmocka_unit_test(with_windows_written_out),    cmocka_unit_test(while_waking),
        cmocka_unit_test(between_two_pages_that_wake), cmocka_unit_test(while_recovering),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
