/*
 * check_report.c - findings in the order they were found.
 */
#include "relay/cli/check_report.h"

#include <stdarg.h>
#include <stdlib.h>

void check_report_init(struct check_report *report)
{
    *report = (struct check_report){ .count = 0 };
    arena_init(&report->arena);
}

void check_report_clear(struct check_report *report)
{
    free(report->rows);
    arena_clear(&report->arena);
}

void check_report_tell(void *arg, enum conf_severity severity, const char *file, unsigned line,
                       const char *what, const char *fix)
{
    struct check_report *report = arg;

    report->rows = mem_realloc(report->rows, (report->count + 1) * sizeof(*report->rows));
    report->rows[report->count++] = (struct check_finding){
        .severity = severity,
        .file = arena_cstr(&report->arena, str_of(file)),
        .line = line,
        .what = arena_cstr(&report->arena, str_of(what)),
        .fix = arena_cstr(&report->arena, str_of(fix)),
    };
    report->errors += severity == CONF_ERROR;
}

void check_report_add(struct check_report *report, enum conf_severity severity,
                      struct check_place place, const char *fix, const char *format, ...)
{
    char what[FAULT_MAX + 128];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    check_report_tell(report, severity, place.file, place.line, what, fix);
}

void check_report_print(const struct check_report *report, FILE *out)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct check_finding *row = &report->rows[i];
        cmd_print_finding(out, row->severity, row->file, row->line, row->what, row->fix);
    }
}

void check_report_json(const struct check_report *report, struct buf *out)
{
    buf_char(out, '[');
    for (size_t i = 0; i < report->count; i++) {
        const struct check_finding *row = &report->rows[i];
        buf_printf(out, "%s{\"severity\":\"%s\",\"file\":", i > 0 ? "," : "",
                   row->severity == CONF_ERROR ? "error" : "warning");
        buf_json(out, str_of(row->file));
        buf_printf(out, ",\"line\":%u,\"what\":", row->line);
        buf_json(out, str_of(row->what));
        buf_cstr(out, ",\"fix\":");
        buf_json(out, str_of(row->fix));
        buf_char(out, '}');
    }
    buf_char(out, ']');
}
