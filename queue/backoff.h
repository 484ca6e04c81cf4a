/*
 * backoff.h - when to try again. Pure.
 */
#ifndef WAYPOST_QUEUE_BACKOFF_H
#define WAYPOST_QUEUE_BACKOFF_H

#include <stdint.h>

struct backoff {
    uint32_t first_s; /* after the first failed attempt */
    uint32_t max_s;
};

/* Delay in seconds after `attempts` failed attempts (1 and up): doubles from
 * first to max, spread by +-1/8 taken from `noise` (any number; the message id's
 * hash will do), never under 1. A peer's hint (0: none) is a lower bound, itself
 * bounded by max. */
uint32_t backoff_delay_s(const struct backoff *backoff, uint32_t attempts, uint32_t hint_s,
                         uint64_t noise);

#endif
