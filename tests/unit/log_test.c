/*
 * log_test.c - lines reach their place, a stuck reader loses lines and nothing
 * else, and changes take effect before the next line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/clock.h"
#include "relay/base/log.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define TIME_US 1795267656123456 /* 2026-11-21T13:27:36.123456Z */

static char dir[64];
static char seen[1 << 22];

static int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    setenv("TZ", "UTC0", 1);
    snprintf(dir, sizeof(dir), "/tmp/waypost-log.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    static const char *const names[] = { "log", "log.1", "other", "sock" };
    char path[128];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static const char *path_of(const char *name)
{
    static char path[2][128];
    static int turn;

    turn = !turn;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
    return path[turn];
}

static const char *content_of(const char *name)
{
    int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t len = read(fd, seen, sizeof(seen) - 1);
    close(fd);
    assert_true(len >= 0);
    seen[len] = '\0';
    return seen;
}

static void say(struct log *log, enum hop_weight weight, const char *text)
{
    struct hop hop = { .weight = weight,
                       .began_us = TIME_US,
                       .ended_us = TIME_US,
                       .stage = STAGE_SERVICE,
                       .text = str_of(text) };

    log_hop(log, &hop, STR_EMPTY);
}

static struct log *open_log(const struct log_options *options)
{
    struct log *log = NULL;
    struct fault fault;

    assert_int_equal(log_open(options, &log, &fault), ERR_OK);
    return log;
}

static struct log *open_file(const char *name, enum hop_weight level)
{
    const struct log_options options = { LOG_TO_FILE, LOG_FORMAT_TEXT, level, path_of(name) };

    return open_log(&options);
}

static void lines_go_to_the_file_with_the_flush(void **state)
{
    struct log *log = open_file("log", HOP_EVENT);

    (void)state;
    say(log, HOP_DETAIL, "quieter than the level");
    say(log, HOP_EVENT, "one");
    say(log, HOP_ALARM, "two words");
    assert_string_equal(content_of("log"), "");
    log_flush(log);
    assert_string_equal(content_of("log"),
                        "2026-11-21T13:27:36.123Z info stage=service side=us result=ok text=one\n"
                        "2026-11-21T13:27:36.123Z alarm stage=service side=us result=ok "
                        "text=\"two words\"\n");
    say(log, HOP_EVENT, "three");
    log_close(&log); /* writes the rest */
    assert_null(log);
    assert_non_null(strstr(content_of("log"), "text=three\n"));
}

static void much_is_written_before_the_flush(void **state)
{
    struct log *log = open_file("log", HOP_EVENT);

    (void)state;
    for (int i = 0; i < 2000; i++)
        say(log, HOP_EVENT, "one of very many");
    assert_true(strlen(content_of("log")) >= 64 * 1024);
    log_close(&log);
}

static void reopen_follows_logrotate(void **state)
{
    struct log *log = open_file("log", HOP_EVENT);

    (void)state;
    say(log, HOP_EVENT, "before");
    assert_int_equal(rename(path_of("log"), path_of("log.1")), 0);
    say(log, HOP_EVENT, "between");
    log_reopen(log);
    say(log, HOP_EVENT, "after");
    log_close(&log);
    assert_non_null(strstr(content_of("log.1"), "between"));
    assert_null(strstr(content_of("log.1"), "after"));
    assert_non_null(strstr(content_of("log"), "after"));
}

static void settings_change_while_running(void **state)
{
    struct log *log = open_file("log", HOP_EVENT);
    struct log_options options = { LOG_TO_FILE, LOG_FORMAT_JSON, HOP_DETAIL, path_of("other") };

    (void)state;
    say(log, HOP_EVENT, "old");
    log_set(log, &options);
    log_set(log, &options); /* the one before was never taken over */
    say(log, HOP_DETAIL, "new");
    options.path = "/nonexistent/log";
    options.format = LOG_FORMAT_TEXT;
    log_set(log, &options);
    say(log, HOP_DETAIL, "stays");
    log_set(log, &options); /* never seen */
    log_close(&log);
    assert_null(strstr(content_of("log"), "new"));
    assert_non_null(strstr(content_of("log"), "text=old\n"));
    assert_non_null(strstr(content_of("other"), "{\"time\":\"2026-11-21T13:27:36.123Z\",\"level\":"
                                                "\"debug\",\"stage\":\"service\",\"side\":\"us\","
                                                "\"result\":\"ok\",\"text\":\"new\"}\n"));
    assert_non_null(strstr(content_of("other"), " alarm stage=service side=us result=failed "));
    assert_non_null(strstr(content_of("other"), "/nonexistent/log: No such file"));
    assert_non_null(strstr(content_of("other"), "text=stays\n"));
}

static void what_cannot_be_opened_is_said(void **state)
{
    static char long_path[300];
    const struct {
        const char *name;
        struct log_options options;
        enum err err;
    } rows[] = {
        { "no such folder", { .to = LOG_TO_FILE, .path = "/nonexistent/log" }, ERR_NOT_FOUND },
        { "no name", { .to = LOG_TO_FILE }, ERR_INVALID },
        { "a folder", { .to = LOG_TO_FILE, .path = dir }, ERR_INVALID },
        { "a long socket name", { .to = LOG_TO_SYSLOG, .path = long_path }, ERR_INVALID },
    };

    (void)state;
    memset(long_path, 'a', sizeof(long_path) - 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct log *log = NULL;
        struct fault fault = { 0 };
        if (log_open(&rows[i].options, &log, &fault) != rows[i].err)
            fail_msg("%s: %s", rows[i].name, fault.text);
        assert_null(log);
        assert_true(strlen(fault.text) > 0);
    }
}

/* Puts a descriptor in the place of stdout or stderr, and back. */
struct swap {
    int place, saved;
};

static struct swap swap_in(int place, int fd)
{
    fflush(NULL);
    struct swap swap = { place, dup(place) };
    dup2(fd, place);
    return swap;
}

static void swap_out(struct swap swap)
{
    dup2(swap.saved, swap.place);
    close(swap.saved);
}

/* Appends to what has been seen at *len. */
static void read_more(int fd, size_t *len)
{
    for (ssize_t got; (got = read(fd, seen + *len, sizeof(seen) - 1 - *len)) > 0;)
        *len += (size_t)got;
    seen[*len] = '\0';
}

static const char *read_all(int fd)
{
    size_t len = 0;

    read_more(fd, &len);
    return seen;
}

static void the_journal_gets_priorities_and_no_time(void **state)
{
    const struct log_options journal = { .to = LOG_TO_JOURNAL, .level = HOP_DETAIL };
    const struct log_options to_stdout = { .to = LOG_TO_STDOUT, .level = HOP_EVENT };
    char stream[64];
    struct stat st;
    int pipes[2];

    (void)state;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    struct swap swap = swap_in(STDERR_FILENO, pipes[1]);
    struct log *log = open_log(&journal);
    say(log, HOP_DETAIL, "a");
    say(log, HOP_WARNING, "b");
    log_close(&log);
    swap_out(swap);
    fstat(pipes[1], &st);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    swap = swap_in(STDOUT_FILENO, pipes[1]);
    log = open_log(&to_stdout);
    unsetenv("JOURNAL_STREAM");
    say(log, HOP_EVENT, "c");
    log_close(&log);
    log = open_log(&to_stdout);
    say(log, HOP_EVENT, "d");
    log_close(&log);
    swap_out(swap);
    close(pipes[1]);
    assert_string_equal(read_all(pipes[0]),
                        "<7>debug stage=service side=us result=ok text=a\n"
                        "<4>warning stage=service side=us result=ok text=b\n"
                        "<6>info stage=service side=us result=ok text=c\n"
                        "2026-11-21T13:27:36.123Z info stage=service side=us result=ok text=d\n");
    close(pipes[0]);
}

static size_t count_of(const char *text, const char *word)
{
    size_t count = 0;

    while ((text = strstr(text, word))) {
        count++;
        text += strlen(word);
    }
    return count;
}

/* The pipe's reader does not read: what fits into pipe and memory is kept. */
static void a_stuck_pipe_loses_lines_and_says_how_many(void **state)
{
    const struct log_options to_stdout = { .to = LOG_TO_STDOUT, .level = HOP_EVENT };
    enum { LINES = 4000 };
    static char text[501];
    char lost[64];
    size_t len = 0;
    int pipes[2];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    struct swap swap = swap_in(STDOUT_FILENO, pipes[1]);
    struct log *log = open_log(&to_stdout);
    uint64_t began_ms = clock_mono_ms();
    for (int i = 0; i < LINES; i++) {
        say(log, HOP_EVENT, text);
        if (i % 100 == 0)
            log_flush(log);
    }
    uint64_t took_ms = clock_mono_ms() - began_ms;
    read_more(pipes[0], &len); /* now there is room again */
    log_flush(log);
    say(log, HOP_EVENT, "last");
    for (int i = 0; i < 40; i++) {
        read_more(pipes[0], &len);
        log_flush(log);
    }
    log_close(&log);
    read_more(pipes[0], &len);
    swap_out(swap);
    size_t kept = count_of(seen, "text=xxx");
    snprintf(lost, sizeof(lost), " count=%zu text=\"so many log lines were lost\"\n", LINES - kept);
    assert_true(took_ms < 30000); /* a line that waited would wait for ever */
    assert_true(kept > 1000 && kept < LINES);
    assert_non_null(strstr(seen, lost));
    assert_non_null(strstr(seen, "text=last\n"));
    close(pipes[0]);
    close(pipes[1]);
}

static void a_closed_pipe_is_survived(void **state)
{
    const struct log_options to_stdout = { .to = LOG_TO_STDOUT, .level = HOP_EVENT };
    int pipes[2];

    (void)state;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    close(pipes[0]);
    struct swap swap = swap_in(STDOUT_FILENO, pipes[1]);
    struct log *log = open_log(&to_stdout);
    for (int i = 0; i < 3; i++) {
        say(log, HOP_EVENT, "nobody reads");
        log_flush(log);
    }
    log_close(&log);
    swap_out(swap);
    close(pipes[1]);
}

/* ---- syslog ---------------------------------------------------------------- */

static int listen_syslog(void)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s", path_of("sock"));
    unlink(at.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

static const char *receive(int fd)
{
    ssize_t len = recv(fd, seen, sizeof(seen) - 1, 0);

    seen[len < 0 ? 0 : len] = '\0';
    return seen;
}

static void syslog_is_found_again(void **state)
{
    const struct log_options options = { .to = LOG_TO_SYSLOG,
                                         .level = HOP_EVENT,
                                         .path = path_of("sock") };
    struct log *log = open_log(&options);
    char expected[128];

    (void)state;
    say(log, HOP_EVENT, "before it runs");
    int fd = listen_syslog();
    say(log, HOP_WARNING, "here");
    assert_non_null(strstr(receive(fd), " count=1 text=\"so many log lines were lost\""));
    snprintf(expected, sizeof(expected),
             "<20>Nov 21 13:27:36 waypost[%d]: warning stage=service side=us result=ok text=here",
             (int)getpid());
    assert_string_equal(receive(fd), expected);
    close(fd);
    fd = listen_syslog(); /* a new daemon */
    say(log, HOP_EVENT, "again");
    assert_non_null(strstr(receive(fd), "text=again"));
    log_reopen(log);
    say(log, HOP_EVENT, "reopened");
    assert_non_null(strstr(receive(fd), "text=reopened"));
    log_close(&log);
    close(fd);
}

static void a_stuck_syslog_is_not_waited_for(void **state)
{
    const struct log_options options = { .to = LOG_TO_SYSLOG,
                                         .level = HOP_EVENT,
                                         .path = path_of("sock") };
    struct log *log = open_log(&options);
    int fd = listen_syslog();

    (void)state;
    uint64_t began_ms = clock_mono_ms();
    for (int i = 0; i < 3000; i++)
        say(log, HOP_EVENT, "nobody reads");
    assert_true(clock_mono_ms() - began_ms < 30000); /* 10 ms for each line */
    log_close(&log);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_go_to_the_file_with_the_flush),
        cmocka_unit_test(much_is_written_before_the_flush),
        cmocka_unit_test(reopen_follows_logrotate),
        cmocka_unit_test(settings_change_while_running),
        cmocka_unit_test(what_cannot_be_opened_is_said),
        cmocka_unit_test(the_journal_gets_priorities_and_no_time),
        cmocka_unit_test(a_stuck_pipe_loses_lines_and_says_how_many),
        cmocka_unit_test(a_closed_pipe_is_survived),
        cmocka_unit_test(syslog_is_found_again),
        cmocka_unit_test(a_stuck_syslog_is_not_waited_for),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
