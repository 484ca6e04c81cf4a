/*
 * sendmail_code.c - exit codes and the one line that goes with each.
 *
 * Callers test for zero; people read the line. So it says what went wrong and
 * what to do, and the code is the one that sysexits.h has for it: 75 is the only
 * one that means "try again", and programs believe it.
 */
#include "relay/cli/sendmail.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

static const struct {
    int code;
    const char *fix;
} rows[] = {
    [TROUBLE_NONE] = { EX_OK, "" },
    [TROUBLE_USAGE] = { EX_USAGE, "see waypost-sendmail(1)" },
    [TROUBLE_NO_RECIPIENTS] = { EX_USAGE, "name them as arguments, or use -t with a To field" },
    [TROUBLE_NONE_FOUND] = { EX_NOINPUT, "put an address into To, Cc or Bcc" },
    [TROUBLE_ADDRESS] = { EX_DATAERR, "nothing was sent: correct or remove the address" },
    [TROUBLE_HEADER] = { EX_DATAERR, "nothing was sent: correct the header" },
    [TROUBLE_TOO_LARGE] = { EX_DATAERR, "nothing was sent: message-size and header-size of limits "
                                        "in waypost.conf say how much may be" },
    [TROUBLE_REFUSED] = { EX_UNAVAILABLE, "nothing was sent" },
    [TROUBLE_DENIED] = { EX_NOPERM, "ask root" },
    [TROUBLE_INPUT] = { EX_IOERR, "nothing was sent" },
    [TROUBLE_NOT_TAKEN] = { EX_TEMPFAIL,
                            "nothing was sent: try again; systemctl status waypost says more" },
    [TROUBLE_CONFIG] = { EX_CONFIG, "waypost check says more" },
    [TROUBLE_MISSING] = { EX_OSFILE, "install waypost whole" },
    [TROUBLE_NO_USER] = { EX_NOUSER, "a report goes to the sender" },
    [TROUBLE_NO_HOST] = { EX_NOHOST, "a report goes to the sender" },
    [TROUBLE_REJECTED] = { EX_UNAVAILABLE, "a report goes to the sender" },
};

int sendmail_code(enum sendmail_trouble trouble) { return rows[trouble].code; }

int sendmail_fail(struct sendmail_fault *fault, enum sendmail_trouble trouble, const char *format,
                  ...)
{
    va_list args;

    if (fault->trouble)
        return rows[fault->trouble].code;
    fault->trouble = trouble;
    fault->words.err = ERR_INVALID;
    va_start(args, format);
    (void)vsnprintf(fault->words.text, sizeof(fault->words.text), format, args);
    va_end(args);
    return rows[trouble].code;
}

/* What came from outside is shown so that it cannot play with a terminal. */
static void put_line(const struct sendmail_wish *wish, const char *words, const char *fix)
{
    struct buf line;

    buf_init(&line, (size_t)8 * FAULT_MAX);
    buf_printf(&line, "%s: ", wish->called);
    buf_escaped(&line, str_of(words), FAULT_MAX);
    if (*fix)
        buf_printf(&line, " (%s)", fix);
    buf_char(&line, '\n');
    if (write(STDERR_FILENO, line.at, line.len) < 0)
        syslog(LOG_MAIL | LOG_ERR, "uid %u: %.*s", (unsigned)getuid(), (int)line.len - 1, line.at);
    buf_clear(&line);
}

int sendmail_say(const struct sendmail_wish *wish, const struct sendmail_fault *fault)
{
    if (fault->trouble && wish->errors != ERRORS_QUIET)
        put_line(wish, fault->words.text, rows[fault->trouble].fix);
    return rows[fault->trouble].code;
}

void sendmail_remark(const struct sendmail_wish *wish, const char *format, ...)
{
    char words[FAULT_MAX];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(words, sizeof(words), format, args);
    va_end(args);
    if (wish->errors != ERRORS_QUIET)
        put_line(wish, words, "");
    syslog(LOG_MAIL | LOG_WARNING, "uid %u: %s", (unsigned)getuid(), words);
}
