/*
 * mem_store.h - the inside of the store in memory, shared by its two files.
 */
#ifndef WAYPOST_QUEUE_MEM_STORE_H
#define WAYPOST_QUEUE_MEM_STORE_H

#include "queue/store_backend.h"
#include "queue/store_rules.h"
#include "relay/base/hash.h"
#include "relay/base/timers.h"

struct mem_item {
    struct timer timer; /* due_ms holds wall seconds here: only the heap is used */
    struct mem_item *next;
    struct mem_lane *lane;
    struct mem_entry *entry;
};

struct mem_lane {
    char *name;
    struct timers due[STORE_BUCKETS];
    unsigned turn;         /* the bucket that a claim looks at first */
    uint64_t queued, held; /* recipients */
    uint64_t leased;
    int64_t told; /* earliest due time that the watcher or a claimer knows; 0: none */
    UT_hash_handle hh;
};

struct mem_entry {
    struct msgid id;
    struct message *message;       /* as it is now; replaced when shared and changed */
    bool *leased, *retry;          /* per recipient */
    struct mem_item *items;        /* one for each lane with something to claim */
    struct mem_entry *prev, *next; /* by id */
    UT_hash_handle hh;
};

struct store_mem {
    struct store store;
    pthread_mutex_t lock; /* of everything below */
    int64_t (*wall_us)(void);
    uint64_t quota_bytes, queued_bytes;
    struct mem_lane *lanes;
    struct mem_entry *entries;
    struct mem_entry *first, *last;
    uint64_t queued, held;
    uint64_t routes; /* the name of those that everything was moved by */
    struct buf hops; /* the next hops that were told last */
    store_ready_fn *ready;
    void *ready_arg;
};

/* All with the lock held. */
struct mem_lane *mem_lane(struct store_mem *mem, struct str name, bool make);
void mem_lane_free(struct store_mem *mem, struct mem_lane *lane);
struct mem_item *mem_bucket_first(const struct mem_lane *lane, size_t bucket);
int64_t mem_lane_due(const struct mem_lane *lane);
void mem_lane_tell(struct store_mem *mem, struct mem_lane *lane);
void mem_lane_sweep(struct store_mem *mem, struct str name);

struct mem_entry *mem_entry_find(struct store_mem *mem, const struct msgid *id);
void mem_entry_add(struct store_mem *mem, struct message *message);
/* Every change of an entry happens between open and close or done. */
void mem_entry_open(struct store_mem *mem, struct mem_entry *entry);
void mem_entry_close(struct store_mem *mem, struct mem_entry *entry);
void mem_entry_done(struct store_mem *mem, struct mem_entry *entry); /* it may go */
void mem_entry_free(struct store_mem *mem, struct mem_entry *entry); /* opened */
/* Its envelope, in a version that nobody else sees yet. */
struct envelope *mem_entry_own(struct mem_entry *entry);
uint64_t mem_cost(const struct message *message);

#endif
