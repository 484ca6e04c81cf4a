/*
 * queue_source.h - the queue as `waypost queue` reads it: from the relay, or from
 * its store when the relay is down.
 */
#ifndef WAYPOST_CLI_QUEUE_SOURCE_H
#define WAYPOST_CLI_QUEUE_SOURCE_H

#include "relay/cli/queue_direct.h"
#include "relay/cli/queue_wish.h"
#include "relay/cli/relay_ask.h"

struct queue_source {
    struct relay_ask ask;
    struct queue_direct *direct; /* NULL: the relay answers, as far as is known */
};

int queue_source_open(const char *conf_file, struct queue_source *source);
void queue_source_close(struct queue_source *source);

typedef bool queue_row_fn(void *arg, const json_t *row);

/* Every message that the wish's filters mean, page by page; at most wish->limit. */
enum err queue_source_list(struct queue_source *source, const struct queue_wish *wish,
                           queue_row_fn *fn, void *arg, struct fault *fault);
enum err queue_source_lanes(struct queue_source *source, const struct queue_wish *wish,
                            queue_row_fn *fn, void *arg, struct fault *fault);
json_t *queue_source_show(struct queue_source *source, const char *id, enum err *out_err,
                          struct fault *fault);
/* The raw message to `fn`. */
enum err queue_source_content(struct queue_source *source, const char *id, http_chunk_fn *fn,
                              void *arg, struct fault *fault);

#endif
