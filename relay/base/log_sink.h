/*
 * log_sink.h - gathered lines on their way out of the process.
 *
 * Part of log: nobody else includes it. A sink waits only a moment for a
 * reader that does not read, keeps a bounded amount for it, and counts the
 * lines it had to drop. One thread.
 */
#ifndef WAYPOST_BASE_LOG_SINK_H
#define WAYPOST_BASE_LOG_SINK_H

#include "relay/base/buf.h"
#include "relay/base/log.h"

struct sink {
    enum log_to to;
    char *path; /* file or socket; NULL for stdout and stderr */
    int fd;     /* -1: syslog, not connected */
    bool is_journal;
    bool is_regular, is_socket; /* how the descriptor can be written */
    bool stuck;                 /* it took nothing in time: not waited for until it does */
    bool mid_line;              /* what was written last did not end a line */
    struct buf pending;         /* whole lines, except the first when mid_line */
    uint64_t lost;              /* lines dropped that no notice has told of */
    _Atomic uint64_t lost_ever; /* all of them since the start; any thread reads it */
    uint64_t told;              /* told by a notice that is still pending */
    size_t told_len;            /* bytes up to the end of that notice */
};

enum err sink_open(struct sink *sink, enum log_to to, const char *path, struct fault *fault);
void sink_close(struct sink *sink); /* a last try to write what is pending; `lost` stays */
/* Open the same place again; the old descriptor stays when that fails. */
enum err sink_reopen(struct sink *sink, struct fault *fault);

/* Take one line, without its end. */
void sink_line(struct sink *sink, struct str line);
/* Whether lines were lost that can be told of now: the reader reads again. */
bool sink_owes_notice(const struct sink *sink);
/* sink_line() for the notice that `lost` lines were dropped: they are accounted
 * for when it has been written. */
void sink_notice(struct sink *sink, struct str line);
void sink_flush(struct sink *sink);

#endif
