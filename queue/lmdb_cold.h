/*
 * lmdb_cold.h - a claim on the index, shared by lmdb_claim.c and lmdb_cold.c.
 */
#ifndef WAYPOST_QUEUE_LMDB_COLD_H
#define WAYPOST_QUEUE_LMDB_COLD_H

#include "queue/lmdb_store.h"

struct candidate {
    struct msgid id;
    int64_t due_at;
    unsigned bucket;
    struct part *part; /* READING, ours; NULL: memory knew of it */
};

struct cold {
    struct job job;
    struct lmdb *l;
    struct lane *lane;
    struct store_claim *first; /* linked through letter.next; the first is running */
    struct candidate *found;   /* by bucket; after choosing, the first `chosen` count */
    size_t found_count, found_cap, chosen;
    int64_t next_due; /* of what stays behind; 0: nothing */
};

/* Adds to the request's claims. Blocking; the lock is not held. */
enum err cold_claim(struct cold *cold, struct store_claim *request, struct fault *fault);

/* The lane's due recipients; malloc'd. */
uint32_t *cold_indexes(const struct envelope *envelope, struct str lane, int64_t now_s,
                       size_t *out_count);
/* The end of the list of claims, and how many there are. */
struct claim **cold_tail(struct store_claim *request, size_t *out_count);
void cold_lower(int64_t *least, int64_t due);
void cold_add(struct cold *cold, const struct candidate *candidate); /* to `found` */

/* ---- lmdb_lease.c ---- */
uint32_t *cold_copy(const uint32_t *indexes, size_t count);
/* The READING part is claimed; the indexes are copied. */
void cold_lease(struct part *part, const uint32_t *indexes, size_t count);
/* Keeps those that nobody else has, or had since the part was made. */
size_t lease_ours(struct lmdb *l, struct part *mine, uint32_t *indexes, size_t count);

/* ---- lmdb_aged.c ---- */
/* Candidates from the request's place on, which moves; `more` when it is not the end. */
int aged_look(struct cold *cold, MDB_cursor *cursor, struct store_claim *request);
/* Neither expired nor to be warned of: its content need not be read. */
bool aged_is_young(struct cold *cold, MDB_txn *txn, const struct candidate *c,
                   const struct store_claim *request);

#endif
