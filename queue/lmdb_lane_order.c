/*
 * lmdb_lane_order.c - a message's recipients in order of lane, so that those of one lane
 * are one run and are found without a look at the others. Pure.
 */
#include "queue/lmdb_store.h"

#include <stdlib.h>

static int lane_order(const void *a, const void *b, void *arg)
{
    const struct recipient *recipients = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int order = str_cmp(recipients[x].lane, recipients[y].lane);

    return order ? order : (x > y) - (x < y);
}

void lane_sort(const struct envelope *envelope, uint32_t *indexes, size_t count)
{
    if (count > 1)
        qsort_r(indexes, count, sizeof(*indexes), lane_order, envelope->recipients);
}

/* The first whose lane is not below this one; with `behind`, the first above it. */
static size_t bound(const struct envelope *envelope, const uint32_t *sorted, size_t count,
                    struct str lane, bool behind)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = str_cmp(envelope->recipients[sorted[middle]].lane, lane);
        if (order < 0 || (behind && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const uint32_t *lane_run_of(const struct envelope *envelope, const uint32_t *sorted, size_t count,
                            struct str lane, size_t *out_count)
{
    size_t first = bound(envelope, sorted, count, lane, false);

    *out_count = bound(envelope, sorted + first, count - first, lane, true);
    return sorted + first;
}
