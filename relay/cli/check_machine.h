/*
 * check_machine.h - what a right configuration still needs of the machine:
 * files, keys, folders, the user. Blocking.
 */
#ifndef WAYPOST_CLI_CHECK_MACHINE_H
#define WAYPOST_CLI_CHECK_MACHINE_H

#include "relay/cli/check_report.h"

/* As root: folders are looked at, then this process becomes the relay's user
 * for good, so that every file is tried with that user's rights. */
void check_machine(const struct conf *conf, struct check_report *report);

/* check_files.c: as the user that runs the relay. */
void check_files(const struct conf *conf, struct check_report *report);

/* check_aliases.c: the same, and where local mail goes. */
void check_aliases(const struct conf *conf, struct check_report *report);

/* check_sendmail.c: the same, and whether programs can hand in mail. */
void check_sendmail(const struct conf *conf, bool root_makes_it, struct check_report *report);

/* For the summary; 0: there is no certificate that works. */
int64_t check_certificate_expiry(const struct conf_tls *tls);

#endif
