/*
 * queue_text.h - queued mail and places as people read them. Pure.
 *
 * Input is the JSON of relay/api/queue_json.h and of the API. Each message is a
 * few lines of its own with fixed columns, so that a queue of any length is
 * printed as it comes.
 */
#ifndef WAYPOST_CLI_QUEUE_TEXT_H
#define WAYPOST_CLI_QUEUE_TEXT_H

#include "relay/cli/show.h"

void queue_text_head(const struct show_paint *paint, struct buf *out);
void queue_text_row(const json_t *message, int64_t now_s, const struct show_paint *paint,
                    struct buf *out);
/* Everything about one. */
void queue_text_message(const json_t *message, int64_t now_s, const struct show_paint *paint,
                        struct buf *out);

void queue_text_lanes_head(const struct show_paint *paint, struct buf *out);
void queue_text_lane(const json_t *lane, int64_t now_s, const struct show_paint *paint,
                     struct buf *out);

#endif
