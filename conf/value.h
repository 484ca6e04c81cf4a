/*
 * value.h - values of options: from their text into a field, and back into words
 * (inside this layer).
 */
#ifndef WAYPOST_CONF_VALUE_H
#define WAYPOST_CONF_VALUE_H

#include "conf/schema.h"
#include "relay/base/buf.h"

/* What was wrong with a value, as the end of a sentence that begins with it. */
struct wrong {
    size_t index;   /* of the value in a list */
    char what[160]; /* "is not a size" */
    char fix[320];  /* "write a number with K, M, G or T, as in 50M" */
};

/* Write the value into its field. `home` is the struct that the row's offset counts in. */
bool value_set(const struct option_row *row, void *home, const struct str *values, size_t count,
               struct arena *arena, struct wrong *wrong);
bool value_set_default(const struct option_row *row, void *home, struct arena *arena);

bool value_size(struct str text, uint64_t *out_octets);  /* "50M", "1024" */
bool value_duration(struct str text, uint64_t *out_ms);  /* "1m30s", "250ms", "0" */
bool value_rate(struct str text, double *out_per_s);     /* "50/s", "600/m", "10000/h" */
void value_print_size(uint64_t octets, struct buf *out); /* "50M" */
void value_print_duration(uint64_t ms, struct buf *out); /* "1m30s" */
void value_print_range(const struct option_row *row, struct buf *out); /* "1s to 1h" */

#define UNIX_PATH_MAX 107 /* of a socket; the NUL behind it not counted */

/* Does a text look as it should? If not, *out_wants says how. */
bool form_fits(enum option_form form, struct str text, const char **out_wants);

bool form_network_is_all(struct str network); /* 0.0.0.0/0, ::/0 */
unsigned form_network_bits(struct str network, bool *out_is_ipv6);
bool form_is_loopback(struct str listen_address); /* unix sockets too */

#endif
