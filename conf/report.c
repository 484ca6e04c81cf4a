/*
 * report.c - findings on their way to whoever asked for them.
 */
#include "conf/report.h"

#include "relay/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#define SHOWN_MAX 64UL

__attribute__((format(printf, 5, 0))) static void tell(struct report *report,
                                                       enum conf_severity severity,
                                                       struct place place, const char *fix,
                                                       const char *format, va_list args)
{
    char what[400];

    vsnprintf(what, sizeof(what), format, args);
    report->errors += severity == CONF_ERROR;
    report->tell(report->arg, severity, place.file, place.line, what, fix);
}

void report_error(struct report *report, struct place place, const char *fix, const char *format,
                  ...)
{
    va_list args;

    va_start(args, format);
    tell(report, CONF_ERROR, place, fix, format, args);
    va_end(args);
}

void report_warning(struct report *report, struct place place, const char *fix, const char *format,
                    ...)
{
    va_list args;

    va_start(args, format);
    tell(report, CONF_WARNING, place, fix, format, args);
    va_end(args);
}

const char *report_shown(struct arena *arena, struct str text)
{
    struct buf buf;

    buf_init(&buf, 16 * SHOWN_MAX);
    buf_escaped(&buf, text, SHOWN_MAX);
    const char *shown = arena_cstr(arena, buf_view(&buf));
    buf_clear(&buf);
    return shown;
}
