/*
 * cmd.h - the subcommands: one row each in cmd.c, one file each beside it.
 *
 * Every command gets what follows its name and returns a sysexits code. Human
 * output is aligned text, coloured on a terminal only; --json where it reads.
 */
#ifndef WAYPOST_CLI_CMD_H
#define WAYPOST_CLI_CMD_H

#include "conf/conf.h"
#include "relay/base/buf.h"

#include <sysexits.h>

struct cmd {
    const char *name;
    const char *arguments;                                    /* for usage */
    const char *help;                                         /* one line */
    int (*run)(const char *conf_file, int argc, char **argv); /* argv[0]: the command's name */
};

int cmd_main(int argc, char **argv); /* all of main(): global options, the row, its run */

int cmd_serve(const char *conf_file, int argc, char **argv);
int cmd_check(const char *conf_file, int argc, char **argv);
int cmd_queue(const char *conf_file, int argc, char **argv);
int cmd_trace(const char *conf_file, int argc, char **argv);
int cmd_explain(const char *conf_file, int argc, char **argv);
int cmd_dkim(const char *conf_file, int argc, char **argv);
int cmd_user(const char *conf_file, int argc, char **argv);

/* "waypost: SENTENCE" on standard error; returns `code`. */
int cmd_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cmd_usage(const struct cmd *cmd);

#endif
