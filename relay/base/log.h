/*
 * log.h - where log lines go: hops rendered as text or JSON lines.
 *
 * A tap of the hop hub (see hop.h): everything here runs on the hub's consumer
 * thread, except log_reopen, which may be called from any thread and takes
 * effect before the next line. A destination that blocks or fails loses lines,
 * never mail: what could not be written is counted, and the next line that can
 * be written says how many were lost.
 *
 * Text form:  2026-11-21T13:27:36.123Z info id=... session=... stage=rcpt ...
 * Journal (stderr, and stdout when systemd says that it is the journal): the
 * same without the time, behind "<N>" (sd-daemon priority). Syslog: RFC 3164
 * datagram to /dev/log, facility mail.
 */
#ifndef WAYPOST_BASE_LOG_H
#define WAYPOST_BASE_LOG_H

#include "relay/base/hop.h"

#define LOG_TO_MAP(X) X(STDOUT, "stdout") X(JOURNAL, "journal") X(SYSLOG, "syslog") X(FILE, "file")
enum log_to {
#define X(name, word) LOG_TO_##name,
    LOG_TO_MAP(X)
#undef X
};

#define LOG_FORMAT_MAP(X) X(TEXT, "text") X(JSON, "json")
enum log_format {
#define X(name, word) LOG_FORMAT_##name,
    LOG_FORMAT_MAP(X)
#undef X
};

struct log_options {
    enum log_to to;
    enum log_format format;
    enum hop_weight level; /* quieter hops are left out */
    const char *path;      /* the file; for syslog the socket, NULL: /dev/log. Copied */
};

struct log;
enum err log_open(const struct log_options *options, struct log **out_log, struct fault *fault);
void log_close(struct log **log);
void log_reopen(struct log *log); /* any thread: after logrotate or SIGHUP */
void log_set(struct log *log,
             const struct log_options *options); /* any thread: takes effect before the next line */
uint64_t log_lost(struct log *log); /* lines that could not be written, ever; any thread */
void log_hop(void *log, const struct hop *hop, struct str encoded); /* a hop_tap_fn */
void log_flush(void *log);                                          /* a hop_idle_fn */

#endif
