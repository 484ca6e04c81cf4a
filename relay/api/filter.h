/*
 * filter.h - which mail is meant: filters as words, for the API and the command line.
 *
 * One table of names, used for listing and for changing: what `list` shows
 * with some filters is what `drop` takes with the same ones. Pure.
 */
#ifndef WAYPOST_API_FILTER_H
#define WAYPOST_API_FILTER_H

#include "queue/store.h"

void filter_init(struct store_filter *filter); /* matches everything */

/* name, what its value looks like (empty: a flag, true without a value), help */
struct filter_name {
    const char *name, *value, *help;
};
extern const struct filter_name filter_names[]; /* ends with a NULL name */

/* Text of the value must outlive the filter. ERR_INVALID with a sentence when
 * the name is unknown, the value makes no sense, or the filter has one of this name. */
enum err filter_set(struct store_filter *filter, struct str name, struct str value, int64_t now_s,
                    struct fault *fault);
bool filter_is_all(const struct store_filter *filter);

/* "90", "90s", "15m", "2h", "1h30m", "3d", "1w" */
bool filter_seconds(struct str text, int64_t *out_seconds);

#endif
