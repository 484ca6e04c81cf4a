/*
 * cmd.h - the subcommands: one row each in cmd.c, one file each beside it.
 *
 * Every command gets what follows its name and returns a sysexits code. Human
 * output is aligned text, coloured on a terminal only; --json where it reads.
 * "-c FILE", "--help" and "--version" are dealt with before a command runs, wherever
 * they stand on the line (before "--").
 */
#ifndef WAYPOST_CLI_CMD_H
#define WAYPOST_CLI_CMD_H

#include "conf/conf.h"
#include "relay/base/buf.h"

#include <stdio.h>
#include <sysexits.h>

struct cmd {
    const char *name;
    const char *arguments;                                    /* for usage; one form a line */
    const char *help;                                         /* one line */
    int (*run)(const char *conf_file, int argc, char **argv); /* argv[0]: the command's name */
};

int cmd_main(int argc, char **argv); /* all of main(): global options, the row, its run */

/* conf_file: NULL when none was named (conf.h knows the default then). */
int cmd_serve(const char *conf_file, int argc, char **argv);
int cmd_check(const char *conf_file, int argc, char **argv);
int cmd_queue(const char *conf_file, int argc, char **argv);
int cmd_trace(const char *conf_file, int argc, char **argv);
int cmd_explain(const char *conf_file, int argc, char **argv);
int cmd_dkim(const char *conf_file, int argc, char **argv);
int cmd_user(const char *conf_file, int argc, char **argv);
int cmd_migrate(const char *conf_file, int argc, char **argv);
int cmd_setup(const char *conf_file, int argc, char **argv);
int cmd_sendmail(const char *conf_file, int argc, char **argv);

/* ---- for the commands ---- */

/* "waypost: SENTENCE" on standard error; returns `code`. */
int cmd_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "waypost: SENTENCE" and how the command ("user") or one verb of it ("user add")
 * is used; returns EX_USAGE. */
int cmd_misuse(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What is wrong with the option at which getopt stopped ("unknown option "), and its word. */
struct cmd_wrong {
    const char *what, *word;
};
struct cmd_wrong cmd_wrong_option(int option, char **argv);
/* The exit code that fits. */
int cmd_code(enum err err);

/* The configuration; every mistake in it has been printed when it is NULL
 * (EX_CONFIG). Warnings are left to `check`. */
struct conf *cmd_conf(const char *conf_file);
/* The same without a word: NULL when it is not there or has mistakes. */
struct conf *cmd_conf_quietly(const char *conf_file);

/* "FILE:LINE: error: WHAT (FIX)" */
void cmd_print_finding(FILE *out, enum conf_severity severity, const char *file, unsigned line,
                       const char *what, const char *fix);

/* A subcommand's own verbs ("user add"): NULL, and EX_USAGE has been printed,
 * when argv[1] is none of them. */
struct cmd_verb {
    const char *name;
    int (*run)(const char *conf_file, int argc, char **argv); /* argv[0]: the verb */
};
const struct cmd_verb *cmd_verb(const struct cmd_verb *verbs, size_t count, int argc, char **argv);

enum cmd_colour { COLOUR_NONE, COLOUR_BOLD, COLOUR_RED, COLOUR_YELLOW, COLOUR_GREEN, COLOUR_DIM };
/* The terminal sequence, "" when `out` is no terminal, NO_COLOR is set, or TERM is dumb. */
const char *cmd_colour(FILE *out, enum cmd_colour colour);

/* Write a buf and empty it; EX_IOERR when the output is gone (a full disk, a closed pipe). */
int cmd_put(FILE *out, struct buf *text);

#endif
