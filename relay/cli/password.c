/*
 * password.c - reading without echo, and leaving the terminal as it was.
 */
#include "relay/cli/password.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int signum) { interrupted = signum; }

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
#define SIGNAL_COUNT (sizeof(signals) / sizeof(signals[0]))

struct handling { /* as it was */
    struct sigaction actions[SIGNAL_COUNT];
    sigset_t mask;
};

/* A signal ends the wait for input, so that echo comes back before it takes effect. It is let in
 * nowhere else: one that came just before a read would not end that. */
static void catch_signals(struct handling *before)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigset_t ours;

    interrupted = 0;
    sigemptyset(&action.sa_mask);
    sigemptyset(&ours);
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        sigaddset(&ours, signals[i]);
    sigprocmask(SIG_BLOCK, &ours, &before->mask);
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        sigaction(signals[i], &action, &before->actions[i]);
}

static void restore_signals(const struct handling *before)
{
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        sigaction(signals[i], &before->actions[i], NULL);
    sigprocmask(SIG_SETMASK, &before->mask, NULL);
}

/* One octet; `mask` while it is waited for, NULL: as it is. */
static ssize_t read_one(char *out, const sigset_t *mask)
{
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };

    return ppoll(&input, 1, NULL, mask) < 0 ? -1 : read(STDIN_FILENO, out, 1);
}

/* One line, byte by byte: what follows it in a pipe is not ours. */
static enum err read_line(const sigset_t *mask, char out[PASSWORD_MAX], size_t *out_len,
                          struct fault *fault)
{
    size_t len = 0;
    bool too_long = false;
    char c;

    for (;;) {
        ssize_t n = read_one(&c, mask);
        if (n < 0 && errno == EINTR && !interrupted)
            continue;
        if (n < 0)
            return fault_errno(fault, errno, "cannot read the password");
        if (n == 0 || c == '\n')
            break;
        too_long = len == PASSWORD_MAX - 1;
        if (!too_long)
            out[len++] = c;
        else
            break;
    }
    if (too_long)
        return fault_set(fault, ERR_LIMIT, "the password is longer than %d octets",
                         PASSWORD_MAX - 1);
    if (len > 0 && out[len - 1] == '\r')
        len--;
    out[len] = '\0';
    *out_len = len;
    return ERR_OK;
}

static enum err ask(const char *prompt, char out[PASSWORD_MAX], size_t *out_len,
                    struct fault *fault)
{
    struct handling before;
    struct termios usual, silent;
    enum err rc;

    if (tcgetattr(STDIN_FILENO, &usual) != 0)
        return fault_errno(fault, errno, "cannot talk to the terminal");
    silent = usual;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    catch_signals(&before);
    /* Silent first: who answers as soon as he is asked is not shown, nor flushed away. */
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    (void)fprintf(stderr, "%s: ", prompt);
    rc = read_line(&before.mask, out, out_len, fault);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &usual);
    (void)fputc('\n', stderr);
    restore_signals(&before);
    if (interrupted)
        (void)raise(interrupted);
    return interrupted ? fault_set(fault, ERR_CANCELLED, "no password given") : rc;
}

static enum err ask_twice(const char *prompt, char out[PASSWORD_MAX], size_t *out_len,
                          struct fault *fault)
{
    char again[PASSWORD_MAX];
    size_t again_len = 0;
    enum err rc = ask(prompt, out, out_len, fault);

    if (!rc)
        rc = ask("The same again", again, &again_len, fault);
    if (!rc && (again_len != *out_len || memcmp(again, out, again_len) != 0))
        rc = fault_set(fault, ERR_INVALID, "the two passwords differ, nothing was changed");
    explicit_bzero(again, sizeof(again));
    return rc;
}

enum err password_read(const char *prompt, char out[PASSWORD_MAX], size_t *out_len,
                       struct fault *fault)
{
    if (isatty(STDIN_FILENO))
        return ask(prompt, out, out_len, fault);
    return read_line(NULL, out, out_len, fault);
}

enum err password_choose(const char *prompt, char out[PASSWORD_MAX], size_t *out_len,
                         struct fault *fault)
{
    if (isatty(STDIN_FILENO))
        return ask_twice(prompt, out, out_len, fault);
    return read_line(NULL, out, out_len, fault);
}
