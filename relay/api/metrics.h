/*
 * metrics.h - the counters of the relay as Prometheus text. Pure.
 */
#ifndef WAYPOST_API_METRICS_H
#define WAYPOST_API_METRICS_H

#include "relay/api/api.h"

#define METRICS_LANES 50 /* sleeping places named one by one; more would be a series each */

struct metrics {
    const struct hop_counts *hops;
    const struct store_health *store;
    const struct api_state *state; /* lanes joined over loops */
};

void metrics_render(const struct metrics *metrics, struct buf *out);

#endif
