/*
 * spread.c - how many loops take new clients.
 */
#include "relay/ingress/spread.h"

#include <stdbool.h>

#define OLD_MS 500     /* what was before says nothing about a crowd that comes now */
#define TURNOVER_MS 50 /* in which all sessions have to be replaced by new ones */
/* Of a loop's time, in per cent; apart, so that it does not go to and fro. */
#define FULL 94
#define FILLED 80
#define SPARE 90

static bool come_and_go(const struct spread_facts *facts)
{
    return facts->elapsed_ms <= OLD_MS &&
           facts->accepted * TURNOVER_MS >= facts->staying * facts->elapsed_ms;
}

unsigned spread_open(const struct spread_facts *facts)
{
    uint64_t load = facts->busy_ms * 100 / facts->elapsed_ms; /* of one loop */
    uint64_t open = facts->open;

    if (!come_and_go(facts))
        return facts->loops;
    if (load > open * FULL)
        open = (load + FILLED - 1) / FILLED;
    while (open > 1 && load <= (open - 1) * SPARE)
        open--;
    return open < facts->loops ? (unsigned)open : facts->loops;
}
