/*
 * mapped_test.c - what a process says and exits with when a page of a mapped file is gone:
 * a file that was cut stands for the disk that fails.
 */
#include "relay/base/mapped.h"
#include "relay/base/thread.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define BYTES ((size_t)8192)

static int file;
static char *at; /* of the file, in memory */

static void make_map(void)
{
    char path[] = "/tmp/waypost-mapped-XXXXXX";

    file = mkstemp(path);
    assert_true(file >= 0);
    unlink(path);
    assert_int_equal(ftruncate(file, (off_t)BYTES), 0);
    at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
}

static void drop_map(void)
{
    munmap(at, BYTES);
    close(file);
}

static void *touch(void *arg)
{
    volatile const char *byte = arg;

    (void)*byte;
    return NULL;
}

/* How a child ends that does this with the file cut; what it wrote. */
static int ended(void (*act)(void), char *words, size_t room)
{
    int out[2], status;
    size_t len = 0;
    ssize_t got;

    assert_int_equal(pipe(out), 0);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        dup2(out[1], STDERR_FILENO);
        signal(SIGBUS, SIG_DFL); /* without a sanitizer's own */
        mapped_guard();
        if (ftruncate(file, 0) == 0)
            act();
        _exit(0);
    }
    close(out[1]);
    while (len + 1 < room && (got = read(out[0], words + len, room - 1 - len)) > 0)
        len += (size_t)got;
    words[len] = '\0';
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void touch_noted(void)
{
    mapped_note(at, BYTES, "/var/queue/data.mdb", false);
    touch(at + BYTES - 1);
}

static void touch_noted_by_a_long_path(void)
{
    char path[2001];

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    mapped_note(at, BYTES, path, true);
    touch(at);
}

static void touch_noted_in_a_thread(void)
{
    pthread_t thread;

    mapped_note(at, BYTES, "/var/queue/lock.mdb", true);
    if (thread_start(&thread, "toucher", touch, at) == 0)
        pthread_join(thread, NULL);
}

static void touch_beside_it(void)
{
    mapped_note(at, BYTES / 2, "/var/queue/data.mdb", false);
    touch(at + BYTES / 2);
}

static void touch_forgotten(void)
{
    struct mapped *mapped = mapped_note(at, BYTES, "/var/queue/data.mdb", false);

    mapped_forget(&mapped);
    mapped_forget(&mapped);
    touch(at);
}

static void send_it(void)
{
    mapped_note(at, BYTES, "/var/queue/data.mdb", false);
    kill(getpid(), SIGBUS);
}

static void touch_with_a_full_pipe(void)
{
    static const char letters[4096];
    int flags = fcntl(STDERR_FILENO, F_GETFL);

    fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK);
    while (write(STDERR_FILENO, letters, sizeof(letters)) > 0)
        ;
    fcntl(STDERR_FILENO, F_SETFL, flags);
    touch_noted();
}

static void a_noted_file_ends_it_with_one_line(void **state)
{
    char words[2000];

    (void)state;
    make_map();
    int status = ended(touch_noted, words, sizeof(words));
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 74);
    assert_non_null(strstr(words, "waypost: ended, because /var/queue/data.mdb cannot be read: "));
    assert_ptr_equal(strchr(words, '\n'), words + strlen(words) - 1);
    status = ended(touch_noted_in_a_thread, words, sizeof(words));
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 74);
    assert_non_null(strstr(words, "/var/queue/lock.mdb cannot be read or written: "));
    drop_map();
}

static void anything_else_stays_a_crash(void **state)
{
    void (*const acts[])(void) = { touch_beside_it, touch_forgotten, send_it };
    char words[2000];

    (void)state;
    make_map();
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
        int status = ended(acts[i], words, sizeof(words));
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGBUS);
        assert_string_equal(words, "");
    }
    drop_map();
}

static void nobody_who_reads_does_not_keep_it(void **state)
{
    int status, out[2];

    (void)state;
    make_map();
    assert_int_equal(pipe(out), 0);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        dup2(out[1], STDERR_FILENO);
        mapped_guard();
        if (ftruncate(file, 0) == 0)
            touch_with_a_full_pipe();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 74);
    close(out[0]);
    close(out[1]);
    drop_map();
}

static void a_long_path_is_cut(void **state)
{
    char words[2000];

    (void)state;
    make_map();
    int status = ended(touch_noted_by_a_long_path, words, sizeof(words));
    assert_true(WIFEXITED(status));
    assert_int_equal(strspn(strstr(words, "xx"), "x"), 400);
    assert_non_null(strstr(words, "then start waypost again\n"));
    drop_map();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_noted_file_ends_it_with_one_line),
        cmocka_unit_test(anything_else_stays_a_crash),
        cmocka_unit_test(nobody_who_reads_does_not_keep_it),
        cmocka_unit_test(a_long_path_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
