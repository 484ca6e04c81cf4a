/*
 * report_pace.c - places in this hour and in the ones to come.
 */
#include "relay/egress/report_pace.h"

#define HOUR 3600

/* What the hours up to now have not made room for. */
static uint64_t carried(uint64_t word, uint64_t hour, unsigned per_hour)
{
    uint64_t passed = hour - (word >> 32), count = word & UINT32_MAX;
    uint64_t room = passed > UINT32_MAX ? UINT64_MAX : passed * per_hour;

    return count > room ? count - room : 0;
}

int64_t report_pace_take(struct report_pace *pace, unsigned per_hour, int64_t now_s,
                         bool *out_is_first)
{
    uint64_t hour = (uint64_t)(now_s > 0 ? now_s : 0) / HOUR;
    uint64_t word = atomic_load(&pace->hour_and_count), base, count;

    do {
        base = word >> 32;
        if (base < hour) {
            count = carried(word, hour, per_hour);
            base = hour;
        } else { /* the clock was set back: the hours that were given away stay so */
            count = word & UINT32_MAX;
        }
        if (count == UINT32_MAX) /* hundreds of years of them */
            count--;
    } while (!atomic_compare_exchange_weak(&pace->hour_and_count, &word, base << 32 | (count + 1)));
    *out_is_first = count == per_hour;
    if (per_hour == 0 || count < per_hour) /* 0: without a cap */
        return now_s;
    atomic_fetch_add(&pace->put_off, 1);
    /* Spread over its hour, or each hour would begin with a burst. */
    return (int64_t)((base + count / per_hour) * HOUR + count % per_hour * HOUR / per_hour);
}
