/*
 * queue_json.h - a queued message as JSON: the API's answer and what `queue list`
 * shows, whether it asked the API or read the store itself.
 */
#ifndef WAYPOST_API_QUEUE_JSON_H
#define WAYPOST_API_QUEUE_JSON_H

#include "queue/store.h"

#include <jansson.h>

#define QUEUE_JSON_RECIPIENTS 20 /* of one message in a page */

/* Text from outside as a JSON string; a byte that is not UTF-8 becomes U+00XX. */
json_t *json_text(struct str text);
json_t *json_wall(int64_t wall_s); /* "2026-11-21T13:27:36.000Z" */

/* In a page: the facts a list needs and the first recipients that match. */
json_t *queue_json_listed(const struct envelope *envelope, const struct store_filter *filter);
json_t *queue_json_corrupt(const struct msgid *id);
/* All of it. */
json_t *queue_json_message(const struct envelope *envelope);

/* A page: {"messages": [...], "more": true, "after": ID} */
json_t *queue_json_page(const struct store_list *list);

#endif
