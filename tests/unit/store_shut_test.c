/*
 * store_shut_test.c - a queue whose lock file cannot be written in memory any more: errors,
 * not the end; and it goes on when that is over.
 *
 * A file that is cut stands for a file system that was shut: a write into its page would
 * be the same SIGBUS.
 */
#include "store_rig.h"

#include <fcntl.h>

#define LANE "direct/there.test"
#define TO "b@there.test " LANE

struct lock_file {
    int fd;
    char bytes[65536];
    ssize_t len;
};

static void lock_cut(const struct rig *rig, struct lock_file *file)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/db/lock.mdb", rig->folder);
    file->fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(file->fd >= 0);
    file->len = pread(file->fd, file->bytes, sizeof(file->bytes), 0);
    assert_in_range(file->len, 4096, sizeof(file->bytes) - 1);
    assert_int_equal(ftruncate(file->fd, 0), 0);
}

static void lock_back(struct lock_file *file)
{
    assert_int_equal(pwrite(file->fd, file->bytes, (size_t)file->len, 0), file->len);
    close(file->fd);
}

static enum err put(struct rig *rig)
{
    struct message *message = rig_message(rig, "a@here.test", TO);
    enum err err = rig_accept(rig, message);

    message_unref(&message);
    return err;
}

static enum err list(struct rig *rig)
{
    struct store_list list = { .request = rig_request(rig), .max = 10 };

    store_list(rig->store, &list);
    rig_wait(rig, &list.request);
    store_list_clear(&list);
    return list.request.err;
}

static void it_answers_with_errors_and_goes_on(void **state)
{
    struct rig *rig = rig_new(true);
    struct lock_file file;
    (void)state;

    rig_open(rig);
    assert_int_equal(put(rig), ERR_OK);
    lock_cut(rig, &file);
    assert_int_equal(put(rig), ERR_IO);
    assert_int_equal(rig_health(rig).state, STORE_BROKEN);
    assert_int_equal(list(rig), ERR_IO);
    lock_back(&file);
    assert_int_equal(put(rig), ERR_OK);
    assert_int_equal(rig_health(rig).state, STORE_FINE);
    assert_int_equal(list(rig), ERR_OK);
    rig_reopen(rig);
    assert_int_equal(rig_health(rig).messages, 2);
    rig_deliver(rig, LANE);
    rig_deliver(rig, LANE);
    rig_free(rig);
}

static void it_can_be_closed(void **state)
{
    struct rig *rig = rig_new(true);
    struct lock_file file;
    (void)state;

    rig_open(rig);
    assert_int_equal(put(rig), ERR_OK);
    lock_cut(rig, &file);
    store_close(&rig->store);
    close(file.fd);
    rig_open(rig);
    rig_deliver(rig, LANE);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_answers_with_errors_and_goes_on),
        cmocka_unit_test(it_can_be_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
