/*
 * queue_direct.h - the queue read without the relay: it is down, its store is not.
 *
 * Read-only, the same answers as the API gives.
 */
#ifndef WAYPOST_CLI_QUEUE_DIRECT_H
#define WAYPOST_CLI_QUEUE_DIRECT_H

#include "queue/store.h"

#include <jansson.h>

struct queue_direct;

enum err queue_direct_open(const char *folder, struct queue_direct **out_queue,
                           struct fault *fault);
void queue_direct_close(struct queue_direct **queue);

/* Pages as the API's; NULL on failure. */
json_t *queue_direct_list(struct queue_direct *queue, const struct store_filter *filter,
                          const struct msgid *after, size_t max, struct fault *fault);
/* All lanes as one page. Counted by reading every message: the relay's own counts
 * are in its memory. */
json_t *queue_direct_lanes(struct queue_direct *queue, struct fault *fault);
json_t *queue_direct_show(struct queue_direct *queue, const struct msgid *id, struct fault *fault);

typedef bool queue_direct_fn(void *arg, struct str bytes);
enum err queue_direct_content(struct queue_direct *queue, const struct msgid *id,
                              queue_direct_fn *fn, void *arg, struct fault *fault);

#endif
