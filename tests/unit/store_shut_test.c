/*
 * store_shut_test.c - a queue whose lock file cannot be written in memory any more: errors,
 * not the end; and it goes on when that is over.
 *
 * A file that is cut stands for a file system that was shut: a write into its page would
 * be the same SIGBUS.
 */
#include "store_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#define LANE "direct/there.test"
#define TO "b@there.test " LANE

struct lock_file {
    int fd;
    char bytes[65536];
    ssize_t len;
};

/* How often the store's threads have gone to sleep. UINT64_MAX: one does not. */
static uint64_t sleeps(void)
{
    DIR *tasks = opendir("/proc/self/task");
    uint64_t sum = 0;

    for (struct dirent *task; (task = readdir(tasks));) {
        char path[300], line[200], state = 'S';
        unsigned long long count = 0;
        snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
        bool is_other = atoi(task->d_name) != 0 && atoi(task->d_name) != getpid();
        FILE *status = is_other ? fopen(path, "re") : NULL;
        while (status && fgets(line, sizeof(line), status))
            if (sscanf(line, "State: %c", &state) == 0)
                (void)sscanf(line, "voluntary_ctxt_switches: %llu", &count);
        if (status)
            fclose(status);
        sum = state == 'S' && sum != UINT64_MAX ? sum + count : UINT64_MAX;
    }
    closedir(tasks);
    return sum;
}

/* What it does after an answer (looking for dead readers, say) is over: a file that is cut
 * within a transaction is the end. */
static void wait_for_rest(void)
{
    uint64_t before = UINT64_MAX;

    for (int same = 0, i = 0; same < 5; i++) {
        uint64_t now = sleeps();
        same = now != UINT64_MAX && now == before ? same + 1 : 0;
        before = now;
        assert_in_range(i, 0, 5000);
        nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    }
}

static void lock_cut(const struct rig *rig, struct lock_file *file)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/db/lock.mdb", rig->folder);
    file->fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(file->fd >= 0);
    wait_for_rest();
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

/* One message in it, and its lock file cut. */
static struct rig *cut_rig(struct lock_file *file)
{
    struct rig *rig = rig_new(true);

    rig_open(rig);
    assert_int_equal(put(rig), ERR_OK);
    lock_cut(rig, file);
    return rig;
}

static void it_answers_with_errors_and_goes_on(void **state)
{
    struct lock_file file;
    struct rig *rig = cut_rig(&file);
    (void)state;

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
    struct lock_file file;
    struct rig *rig = cut_rig(&file);
    (void)state;

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
