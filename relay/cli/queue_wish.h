/*
 * queue_wish.h - what a `waypost queue` line asks for.
 */
#ifndef WAYPOST_CLI_QUEUE_WISH_H
#define WAYPOST_CLI_QUEUE_WISH_H

#include "queue/store.h"
#include "relay/base/buf.h"

struct queue_wish {
    const char *verb;
    struct store_filter filter; /* for reading the store directly */
    struct buf query;           /* "&lane=...": the same filters for the API */
    char **words;               /* ids, or the lane of flush: what is no option */
    size_t word_count;
    uint64_t limit; /* 0: none */
    bool json, all, content;
};

/* allowed: letters of 'f' filters, 'l' --lane only, 'j' --json, 'n' --limit, 'a' --all,
 * 'c' --content. EX_USAGE has been printed when it is not EX_OK. Clear in any case. */
int queue_wish_read(int argc, char **argv, const char *allowed, struct queue_wish *wish);
void queue_wish_clear(struct queue_wish *wish);
/* Are the words ids? Prints what is wrong. */
int queue_wish_ids(const struct queue_wish *wish);

#endif
