/*
 * lmdb_opened.h - records that the writer has decoded; the writer's alone.
 */
#ifndef WAYPOST_QUEUE_LMDB_OPENED_H
#define WAYPOST_QUEUE_LMDB_OPENED_H

#include "queue/lmdb_store.h"

struct opened {
    struct msgid id;
    struct envelope envelope;
    struct record_content content;
    size_t open;       /* recipients that are queued or held */
    bool is_ordered;   /* by_lane is made */
    uint32_t *by_lane; /* all recipients, in order of lane */
    size_t by_lane_cap;
    size_t loaded_bytes; /* of the arena, as it was read */
    size_t kept_bytes;   /* counted in opened_bytes */
    uint64_t used_ms;
    UT_hash_handle hh; /* in order of last use */
};

/* As it is in the batch. Give it back with opened_put(), settled or not. */
enum err opened_get(struct lmdb *l, const struct msgid *id, struct opened **out_opened,
                    struct fault *fault);
void opened_put(struct lmdb *l, struct opened *opened);
void opened_settle(struct lmdb *l, struct opened *opened, const struct verdict *verdict,
                   bool retry);
/* The lane's recipients, in any state. */
const uint32_t *opened_lane(struct opened *opened, struct str lane, size_t *out_count);
void opened_written(struct lmdb *l, const struct msgid *id); /* by another way: it is forgotten */
void opened_forget_all(struct lmdb *l);
void opened_sweep(struct lmdb *l, uint64_t now_ms, uint64_t rest_ms);
void opened_clear(struct lmdb *l);

#endif
