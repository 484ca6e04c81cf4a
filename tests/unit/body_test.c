/*
 * body_test.c - bodies in memory and in side files; messages that count their
 * users; how long to wait.
 */
#include "queue/backoff.h"

#include "store_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* In place of libc's: a disk that says what is wrong while a file is still arriving. */
static int early_writes, early_errno;

int sync_file_range(int fd, off64_t from, off64_t len, unsigned flags)
{
    (void)fd, (void)from, (void)len, (void)flags;
    early_writes++;
    errno = early_errno;
    return early_errno ? -1 : 0;
}

static void write_body(const char *folder, size_t size, struct body **out_body)
{
    struct msgid id = { { 1, 2, 3 } };
    struct body_writer *writer = body_writer_new(folder, &id);
    struct fault fault;
    char piece[777];

    for (size_t at = 0; at < size; at += sizeof(piece)) {
        size_t len = size - at < sizeof(piece) ? size - at : sizeof(piece);
        for (size_t i = 0; i < len; i++)
            piece[i] = (char)((at + i) % 251);
        if (body_writer_add(writer, str_make(piece, len)))
            assert_int_equal(body_writer_flush(writer, &fault), ERR_OK);
    }
    assert_int_equal(body_writer_size(writer), size);
    assert_int_equal(body_writer_seal(writer, out_body, &fault), ERR_OK);
    body_writer_free(&writer);
}

static void expect_body(struct body *body, size_t size, size_t window)
{
    char *bytes = mem_alloc(window);
    size_t at = 0, len;

    assert_int_equal(body_size(body), size);
    do {
        assert_int_equal(body_read(body, at, bytes, window, &len, NULL), ERR_OK);
        for (size_t i = 0; i < len; i++)
            assert_int_equal((unsigned char)bytes[i], (at + i) % 251);
        at += len;
    } while (len > 0);
    assert_int_equal(at, size);
    free(bytes);
}

static void bodies_of_every_size(void **state)
{
    static const struct {
        const char *name;
        size_t size;
        bool in_memory, has_file;
    } rows[] = {
        { "empty", 0, false, false },
        { "one byte", 1, false, false },
        { "just inline", BODY_INLINE_MAX, false, false },
        { "just too large", BODY_INLINE_MAX + 1, false, true },
        { "large", 3000000, false, true },
        { "large, in memory", 3000000, true, false },
    };
    char folder[256];
    (void)state;
    rig_folder(folder, sizeof(folder));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct body *body = NULL;
        struct str view;
        write_body(rows[i].in_memory ? NULL : folder, rows[i].size, &body);
        if ((body_file(body) != NULL) != rows[i].has_file ||
            body_is_inline(body, &view) == rows[i].has_file)
            fail_msg("%s", rows[i].name);
        expect_body(body, rows[i].size, BODY_WINDOW);
        body_remove(body);
        body_unref(&body);
        assert_null(body);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void two_bodies_of_one_message(void **state)
{
    struct body *one = NULL, *two = NULL;
    char folder[256];
    (void)state;
    rig_folder(folder, sizeof(folder));
    write_body(folder, 300000, &one);
    write_body(folder, 400000, &two);
    assert_string_not_equal(body_file(one), body_file(two));
    expect_body(one, 300000, 1000);
    expect_body(two, 400000, 1000);
    body_remove(one);
    struct fault fault;
    char byte;
    size_t len = 0;
    assert_int_equal(body_read(one, 0, &byte, 1, &len, &fault), ERR_NOT_FOUND);
    body_unref(&one);
    body_unref(&two);
    rig_remove(folder);
}

static void an_unsealed_one_leaves_no_file(void **state)
{
    struct msgid id = { { 9 } };
    char folder[256];
    struct fault fault;
    (void)state;
    rig_folder(folder, sizeof(folder));
    struct body_writer *writer = body_writer_new(folder, &id);
    body_writer_add(writer, STR("bytes"));
    assert_false(body_writer_has_file(writer));
    assert_int_equal(body_writer_flush(writer, &fault), ERR_OK);
    assert_true(body_writer_has_file(writer));
    body_writer_free(&writer);
    assert_null(writer);
    assert_int_equal(rmdir(folder), 0);
}

/* Linux tells an error of writing back once: whoever heard of it must not forget it. */
static void an_early_error_of_the_disk_counts(void **state)
{
    static const struct {
        int error;
        enum err rc;
    } rows[] = { { 0, ERR_OK }, { EIO, ERR_IO }, { ENOSPC, ERR_FULL }, { EINVAL, ERR_OK } };
    struct str piece = str_make(mem_alloc(1000000), 1000000);
    struct msgid id = { { 9 } };
    char folder[256];
    (void)state;
    rig_folder(folder, sizeof(folder));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct body_writer *writer = body_writer_new(folder, &id);
        struct body *body = NULL;
        struct fault fault;
        early_writes = 0;
        body_writer_add(writer, piece);
        assert_int_equal(body_writer_flush(writer, &fault), ERR_OK);
        assert_int_equal(early_writes, 0);
        early_errno = rows[i].error;
        body_writer_add(writer, piece);
        assert_int_equal(body_writer_flush(writer, &fault), rows[i].rc);
        assert_true(early_writes > 0);
        early_errno = 0;
        assert_int_equal(body_writer_seal(writer, &body, &fault),
                         rows[i].rc == ERR_OK ? ERR_OK : ERR_IO);
        if (body)
            body_remove(body);
        body_unref(&body);
        body_writer_free(&writer);
    }
    free((char *)piece.at);
    assert_int_equal(rmdir(folder), 0);
}

static void given_up_on_a_worker(void **state)
{
    struct msgid id = { { 9 } };
    struct body *small = body_of_bytes(STR("bytes")), *large = NULL;
    struct pool *pool = pool_new(1, false);
    char folder[256];
    struct fault fault;
    (void)state;
    rig_folder(folder, sizeof(folder));
    write_body(folder, 300000, &large);
    struct body_writer *writer = body_writer_new(folder, &id);
    struct body_writer *empty = body_writer_new(folder, &id);
    body_writer_add(writer, STR("bytes"));
    assert_int_equal(body_writer_flush(writer, &fault), ERR_OK);
    body_writer_add(writer, STR("and more of it"));
    assert_true(body_writer_memory(writer) > 0);
    body_writer_give_up(writer); /* the first thing that freeing later does */
    assert_int_equal(body_writer_memory(writer), 0);
    body_writer_free_later(&writer, pool);
    body_writer_free_later(&empty, pool);
    body_discard_later(&large, pool);
    body_discard_later(&small, pool);
    assert_true(!writer && !empty && !large && !small);
    pool_free(&pool); /* waits for what was posted */
    assert_int_equal(rmdir(folder), 0);
}

static void a_file_cut_short_is_corrupt(void **state)
{
    struct body *body = NULL;
    char folder[256], path[600], bytes[1000];
    struct fault fault;
    size_t len;
    (void)state;
    rig_folder(folder, sizeof(folder));
    write_body(folder, 300000, &body);
    snprintf(path, sizeof(path), "%s/%s", folder, body_file(body));
    assert_int_equal(truncate(path, 200000), 0);
    assert_int_equal(body_read(body, 199500, bytes, 1000, &len, &fault), ERR_CORRUPT);
    assert_int_equal(body_read(body, 1000, bytes, 1000, &len, &fault), ERR_OK);
    body_unref(&body);
    rig_remove(folder);
}

static void a_message_goes_with_its_last_user(void **state)
{
    (void)state;
    struct message *message = message_new();
    message->body = body_of_bytes(STR("x"));
    struct message *other = message_ref(message);
    message_unref(&message);
    assert_null(message);
    struct str view;
    assert_true(body_is_inline(other->body, &view));
    message_unref(&other);
    message_unref(&other); /* NULL is fine */
}

static void delays_grow_and_spread(void **state)
{
    const struct backoff backoff = { .first_s = 60, .max_s = 14400 };
    static const struct {
        const char *name;
        uint32_t attempts, hint, least, most;
    } rows[] = {
        { "the first", 1, 0, 52, 68 },
        { "the second", 2, 0, 105, 135 },
        { "the fifth", 5, 0, 840, 1080 },
        { "at the most", 20, 0, 12600, 16200 },
        { "for ever", 4000000000, 0, 12600, 16200 },
        { "none failed yet", 0, 0, 52, 68 },
        { "a hint is a lower bound", 1, 300, 300, 300 },
        { "a shorter hint changes nothing", 5, 300, 840, 1080 },
        { "a hint has a bound too", 1, 1000000, 14400, 14400 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (uint64_t noise = 0; noise < 500; noise++) {
            uint32_t delay = backoff_delay_s(&backoff, rows[i].attempts, rows[i].hint, noise);
            if (delay < rows[i].least || delay > rows[i].most)
                fail_msg("%s: %u", rows[i].name, delay);
        }
    }
    const struct backoff none = { 0, 0 };
    assert_int_equal(backoff_delay_s(&none, 3, 0, 1), 1);
    assert_int_not_equal(backoff_delay_s(&backoff, 9, 0, 1), backoff_delay_s(&backoff, 9, 0, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_of_every_size),
        cmocka_unit_test(two_bodies_of_one_message),
        cmocka_unit_test(an_unsealed_one_leaves_no_file),
        cmocka_unit_test(an_early_error_of_the_disk_counts),
        cmocka_unit_test(given_up_on_a_worker),
        cmocka_unit_test(a_file_cut_short_is_corrupt),
        cmocka_unit_test(a_message_goes_with_its_last_user),
        cmocka_unit_test(delays_grow_and_spread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
