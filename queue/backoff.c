/*
 * backoff.c - exponential delay with jitter.
 */
#include "queue/backoff.h"

static uint64_t doubled(const struct backoff *backoff, uint32_t attempts)
{
    uint64_t delay = backoff->first_s;

    for (uint32_t i = 1; i < attempts && delay < backoff->max_s; i++)
        delay *= 2;
    return delay < backoff->max_s ? delay : backoff->max_s;
}

/* Ids of one batch differ in few bits: stir, so that their retries spread. */
static uint64_t stir(uint64_t noise)
{
    noise ^= noise >> 33;
    noise *= UINT64_C(0xff51afd7ed558ccd);
    noise ^= noise >> 33;
    noise *= UINT64_C(0xc4ceb9fe1a85ec53);
    return noise ^ noise >> 33;
}

uint32_t backoff_delay_s(const struct backoff *backoff, uint32_t attempts, uint32_t hint_s,
                         uint64_t noise)
{
    uint64_t delay = doubled(backoff, attempts);
    uint64_t spread = delay / 4;
    uint64_t least = hint_s < backoff->max_s ? hint_s : backoff->max_s;

    /* Other attempts, other noise: or two messages would meet at every retry. */
    if (spread > 0)
        delay = delay - delay / 8 + stir(noise + attempts) % (spread + 1);
    if (delay < least)
        delay = least;
    if (delay == 0)
        delay = 1;
    return delay < UINT32_MAX ? (uint32_t)delay : UINT32_MAX;
}
