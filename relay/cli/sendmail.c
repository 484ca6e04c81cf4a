/*
 * sendmail.c - which of its many jobs it is called for.
 */
#include "relay/cli/sendmail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

/* ---- the large program, beside us ---- */

#define LARGE "waypost"

/* The one in our own folder, so that a build runs without being installed; else by the
 * path it was built for. The environment does not choose: who calls may be anybody. */
static void run_large(int argc, char **argv)
{
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - sizeof(LARGE) - 1);
    char **words = mem_alloc(((size_t)argc + 3) * sizeof(char *));
    char name[] = LARGE, verb[] = "sendmail";

    words[0] = argv[0];
    if (len > 0) {
        path[len] = '\0';
        char *slash = strrchr(path, '/');
        (void)snprintf(slash + 1, sizeof(LARGE) + 1, LARGE);
        /* By our own name it does as we do; by another one it needs to be told. */
        if (!sendmail_is_called(argv[0])) {
            words[0] = name;
            words[1] = verb;
        }
        for (int i = 1; i < argc; i++)
            words[i + (words[1] == verb)] = argv[i];
        (void)execv(path, words);
        (void)execv(WAYPOST_SBINDIR "/" LARGE, words);
    }
    free(words);
}

static int no_large(const struct sendmail_wish *wish)
{
    struct sendmail_fault fault = { .trouble = TROUBLE_NONE };

    sendmail_fail(&fault, TROUBLE_MISSING, "cannot run " WAYPOST_SBINDIR "/" LARGE ": %s",
                  strerror(errno));
    return sendmail_say(wish, &fault);
}

static bool needs_large(const struct sendmail_wish *wish)
{
    switch (wish->mode) {
    case SENDMAIL_LIST:
    case SENDMAIL_ALIASES:
    case SENDMAIL_VERIFY:
    case SENDMAIL_FLUSH:
        return true;
    case SENDMAIL_MAIL:
        return wish->wait || wish->verbose;
    case SENDMAIL_SMTP:
    case SENDMAIL_DAEMON:
    case SENDMAIL_NOTHING:
        return false;
    }
    return false;
}

/* ---- jobs ---- */

static int refuse_daemon(const struct sendmail_wish *wish)
{
    struct sendmail_fault fault = { .trouble = TROUBLE_NONE };

    sendmail_fail(&fault, TROUBLE_USAGE,
                  "the relay is not started this way: systemctl start waypost, or waypost serve");
    return sendmail_say(wish, &fault);
}

static int send_and_wait(const struct sendmail_wish *wish, const struct conf *conf,
                         const struct sendmail_large *large)
{
    char id[32];
    int code = sendmail_send(wish, conf, id);

    if (code != EX_OK || !id[0] || !large || !(wish->wait || wish->verbose))
        return code;
    return large->await(wish, conf, id);
}

static int run(const struct sendmail_wish *wish, const struct sendmail_large *large)
{
    struct conf *conf = NULL;
    int code = EX_OK;

    switch (wish->mode) {
    case SENDMAIL_LIST:
        return large->list(wish);
    case SENDMAIL_ALIASES:
        return large->aliases(wish);
    case SENDMAIL_VERIFY:
        return large->verify(wish);
    case SENDMAIL_FLUSH:
        return large->flush(wish);
    case SENDMAIL_DAEMON:
        return refuse_daemon(wish);
    case SENDMAIL_NOTHING:
        return EX_OK;
    case SENDMAIL_MAIL:
    case SENDMAIL_SMTP:
        break;
    }
    /* A caller that may not read the file, or a broken file, leaves the usual paths. */
    (void)conf_glance(wish->conf_file, &conf);
    if (wish->mode == SENDMAIL_SMTP)
        code = sendmail_session(wish, conf);
    else
        code = send_and_wait(wish, conf, large);
    conf_unref(&conf);
    return code;
}

/* Some callers close what they do not need: the relay's socket must not take the place of
 * standard output. Reading and writing still fail as they would. */
static void keep_standard_places(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int sendmail_main(int argc, char **argv, const char *conf_file, const struct sendmail_large *large)
{
    struct sendmail_wish wish;
    int code;

    keep_standard_places();
    code = sendmail_flags(argc, argv, &wish);
    if (code != EX_OK)
        return code;
    if (conf_file)
        wish.conf_file = conf_file;
    openlog("sendmail", LOG_PID, LOG_MAIL);
    if (large || !needs_large(&wish))
        return run(&wish, large);
    run_large(argc, argv);
    return no_large(&wish);
}
