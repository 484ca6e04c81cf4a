/*
 * report.h - every mistake is told, none ends the reading (inside this layer).
 */
#ifndef WAYPOST_CONF_REPORT_H
#define WAYPOST_CONF_REPORT_H

#include "conf/conf.h"

struct report {
    conf_finding_fn *tell;
    void *arg;
    unsigned errors;
};

struct place {
    const char *file;
    unsigned line;
};

void report_error(struct report *report, struct place place, const char *fix, const char *format,
                  ...) __attribute__((format(printf, 4, 5)));
void report_warning(struct report *report, struct place place, const char *fix, const char *format,
                    ...) __attribute__((format(printf, 4, 5)));

/* Text from the file, safe to show, at most 64 bytes of it; lives in the arena. */
const char *report_shown(struct arena *arena, struct str text);

#endif
