/*
 * check_report.h - the findings of `waypost check`, gathered and then printed.
 */
#ifndef WAYPOST_CLI_CHECK_REPORT_H
#define WAYPOST_CLI_CHECK_REPORT_H

#include "relay/cli/cmd.h"

struct check_finding {
    enum conf_severity severity;
    const char *file, *what, *fix;
    unsigned line;
};

struct check_report {
    struct arena arena;
    struct check_finding *rows;
    size_t count, errors;
};

void check_report_init(struct check_report *report);
void check_report_clear(struct check_report *report);
conf_finding_fn check_report_tell; /* arg: the report */

/* With the place of a configuration's section. */
struct check_place {
    const char *file;
    unsigned line;
};
void check_report_add(struct check_report *report, enum conf_severity severity,
                      struct check_place place, const char *fix, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

void check_report_print(const struct check_report *report, FILE *out);
void check_report_json(const struct check_report *report, struct buf *out);

#endif
