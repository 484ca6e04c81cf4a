/*
 * record.h - every hop of a run, kept for questions.
 */
#ifndef WAYPOST_SIM_RECORD_H
#define WAYPOST_SIM_RECORD_H

#include "relay/base/hop.h"

struct record {
    struct {
        char *bytes;
        size_t len;
    } * hops;
    size_t count, cap;
};

void record_hop(void *record, const struct hop *hop, struct str encoded); /* a hop_tap_fn */
void record_clear(struct record *record);
bool record_get(const struct record *record, size_t i, struct hop *out_hop);
/* The last SETTLE hop about this address. */
bool record_settled(const struct record *record, struct str address, struct hop *out_hop);
/* The last `most` hops as lines with the time since the beginning. */
void record_print(const struct record *record, size_t most);

#endif
