/*
 * trace_text.h - kept hops as a timeline that a person reads. Pure.
 *
 * One block for each message, the newest last: who sent it, every step with its
 * time, how long it took and what was said, and at the end how each recipient
 * stands.
 */
#ifndef WAYPOST_CLI_TRACE_TEXT_H
#define WAYPOST_CLI_TRACE_TEXT_H

#include "relay/base/hop.h"
#include "relay/cli/show.h"

/* Sorts `hops`. */
void trace_text(struct hop *hops, size_t count, const struct show_paint *paint, struct buf *out);

#endif
