/*
 * log.c - from hops to lines: level, form, and changes of both while running.
 */
#include "relay/base/log.h"

#include "relay/base/clock.h"
#include "relay/base/log_sink.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES ((size_t)256 * 1024) /* all texts at their limit, all escaped */

struct settings {
    enum log_to to;
    enum log_format format;
    enum hop_weight level;
    char *path;
};

struct log {
    struct settings *now;
    struct sink sink;
    struct buf line;
    _Atomic(struct settings *) next; /* from log_set, not yet taken over */
    atomic_bool reopen;
};

static struct settings *settings_new(const struct log_options *options)
{
    struct settings *settings = mem_alloc(sizeof(*settings));

    settings->to = options->to;
    settings->format = options->format;
    settings->level = options->level;
    settings->path = options->path ? str_dup(str_of(options->path)) : NULL;
    return settings;
}

static void settings_free(struct settings *settings)
{
    if (settings)
        free(settings->path);
    free(settings);
}

enum err log_open(const struct log_options *options, struct log **out_log, struct fault *fault)
{
    struct sink sink;

    enum err err = sink_open(&sink, options->to, options->path, fault);
    if (err)
        return err;
    struct log *log = mem_alloc(sizeof(*log));
    log->now = settings_new(options);
    log->sink = sink;
    buf_init(&log->line, LINE_MAX_BYTES);
    *out_log = log;
    return ERR_OK;
}

void log_close(struct log **log)
{
    struct log *l = *log;

    if (!l)
        return;
    sink_close(&l->sink);
    settings_free(l->now);
    settings_free(atomic_load(&l->next));
    buf_clear(&l->line);
    free(l);
    *log = NULL;
}

void log_reopen(struct log *log) { atomic_store(&log->reopen, true); }

void log_set(struct log *log, const struct log_options *options)
{
    settings_free(atomic_exchange(&log->next, settings_new(options)));
}

/* ---- one line ------------------------------------------------------------ */

/* syslog(3) severities; an alarm is "action must be taken immediately". */
static unsigned severity(enum hop_weight weight)
{
    static const unsigned by_weight[] = { 7, 6, 4, 1 };

    return (unsigned)weight < HOP_WEIGHT_COUNT ? by_weight[weight] : 6;
}

/* RFC 3164 4.1: local time, English month, day padded by a space. */
static void syslog_head(struct buf *out, const struct hop *hop)
{
    const unsigned facility_mail = 2;
    time_t when = (time_t)(hop->ended_us / 1000000);
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm = { 0 };

    localtime_r(&when, &tm);
    buf_printf(out, "<%u>%.3s %2d %02d:%02d:%02d waypost[%d]: ",
               facility_mail << 3 | severity(hop->weight), &months[(size_t)tm.tm_mon % 12 * 3],
               tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)getpid());
}

static void render(struct log *log, const struct hop *hop)
{
    struct buf *out = &log->line;
    char when[32];

    buf_reset(out);
    if (log->sink.to == LOG_TO_SYSLOG)
        syslog_head(out, hop);
    else if (log->sink.is_journal)
        buf_printf(out, "<%u>", severity(hop->weight));
    if (log->now->format == LOG_FORMAT_JSON) {
        hop_json(hop, out);
        return;
    }
    if (log->sink.to != LOG_TO_SYSLOG && !log->sink.is_journal) {
        clock_iso(hop->ended_us, when, sizeof(when));
        buf_printf(out, "%s ", when);
    }
    buf_printf(out, "%s ", hop_weight_word(hop->weight));
    hop_line(hop, out);
}

/* The log's own words, in the form of everything else in it. */
static struct hop own_hop(enum hop_weight weight, struct str text)
{
    int64_t now_us = clock_wall_us();

    return (struct hop){ .began_us = now_us,
                         .ended_us = now_us,
                         .weight = weight,
                         .stage = STAGE_SERVICE,
                         .result = RESULT_FAILED,
                         .scope = SCOPE_US,
                         .text = text };
}

static void tell_fault(struct log *log, const struct fault *fault)
{
    struct hop hop = own_hop(HOP_ALARM, STR("the log goes on where it was"));

    hop.fault = str_of(fault->text);
    render(log, &hop);
    sink_line(&log->sink, buf_view(&log->line));
}

static void tell_lost(struct log *log)
{
    struct hop hop = own_hop(HOP_WARNING, STR("so many log lines were lost"));

    hop.count = log->sink.lost < UINT32_MAX ? (uint32_t)log->sink.lost : UINT32_MAX;
    render(log, &hop);
    sink_notice(&log->sink, buf_view(&log->line));
}

/* ---- changes from other threads ------------------------------------------- */

static bool same_place(const struct settings *a, const struct settings *b)
{
    return a->to == b->to && str_eq(str_of(a->path), str_of(b->path));
}

/* Level and form change in any case; a place that cannot be opened leaves the
 * old one in use, so that there is a log to say so in. */
static enum err take_over(struct log *log, struct settings *next, struct fault *fault)
{
    bool moves = !same_place(log->now, next);
    struct sink sink;

    enum err err = moves ? sink_open(&sink, next->to, next->path, fault) : ERR_OK;
    if (moves && !err) {
        sink_close(&log->sink);
        sink.lost = log->sink.lost;
        sink.lost_ever = log->sink.lost_ever;
        log->sink = sink;
    }
    if (err) {
        free(next->path);
        next->path = log->now->path;
        next->to = log->now->to;
        log->now->path = NULL;
    }
    settings_free(log->now);
    log->now = next;
    return err;
}

static void apply_changes(struct log *log)
{
    struct fault fault;

    if (atomic_load_explicit(&log->next, memory_order_relaxed)) {
        struct settings *next = atomic_exchange(&log->next, NULL);
        if (next && take_over(log, next, &fault))
            tell_fault(log, &fault);
    }
    if (atomic_load_explicit(&log->reopen, memory_order_relaxed)) {
        atomic_store(&log->reopen, false);
        if (sink_reopen(&log->sink, &fault))
            tell_fault(log, &fault);
    }
}

uint64_t log_lost(struct log *log) { return log->sink.lost_ever; }

void log_hop(void *arg, const struct hop *hop, struct str encoded)
{
    struct log *log = arg;

    (void)encoded;
    apply_changes(log);
    if (hop->weight < log->now->level)
        return;
    if (sink_owes_notice(&log->sink))
        tell_lost(log);
    render(log, hop);
    sink_line(&log->sink, buf_view(&log->line));
}

void log_flush(void *arg)
{
    struct log *log = arg;

    apply_changes(log);
    sink_flush(&log->sink);
    if (!sink_owes_notice(&log->sink))
        return;
    tell_lost(log);
    sink_flush(&log->sink);
}
