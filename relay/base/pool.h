/*
 * pool.h - worker threads, by class, so that no kind of work starves another.
 *
 * A job is embedded in what it works on. `run` is called on a worker thread
 * and may block; then the job's letter is posted to `reply_to`, whose thread
 * calls `done`. A job without `reply_to` is over when `run` returns, and may free
 * itself there. A class has its own threads (made when first needed) and its own
 * bound on waiting jobs.
 *
 * house.md draws libuv's pool here. It lost: uv_queue_work must be called on
 * the loop's own thread, so a class-wide cap over many loops would need
 * another hand-over between loops, and one shared pool cannot be partitioned.
 */
#ifndef WAYPOST_BASE_POOL_H
#define WAYPOST_BASE_POOL_H

#include "relay/base/err.h"
#include "relay/base/mailbox.h"

/* name, word, threads (0: as many as cores), most waiting jobs (0: no bound) */
#define POOL_CLASS_MAP(X)                                                                          \
    X(SIGN, "sign", 0, 0)                                                                          \
    X(HASH, "hash", 1, 64)                                                                         \
    X(DISK, "disk", 4, 0)

enum pool_class {
#define X(name, word, threads, most) POOL_##name,
    POOL_CLASS_MAP(X)
#undef X
        POOL_CLASS_COUNT
};

struct pool;
struct job;
typedef void job_fn(struct job *job);

struct job {
    struct letter letter;     /* used by the pool */
    job_fn *run;              /* worker thread */
    job_fn *done;             /* thread of reply_to */
    struct mailbox *reply_to; /* NULL: nobody waits for it */
    uint64_t posted_us;       /* used by the pool */
};

/* threads_off: no threads at all; `run` is called inside pool_post and `done`
 * still comes by letter. The simulation uses this. */
struct pool *pool_new(unsigned cores, bool threads_off);
void pool_free(struct pool **pool); /* waits for running and waiting jobs */

/* ERR_BUSY when the class's waiting line is full: nothing was taken. */
enum err pool_post(struct pool *pool, enum pool_class kind, struct job *job);
size_t pool_waiting(struct pool *pool, enum pool_class kind);
/* How long the job that began last had waited for a thread and a processor; 0: none
 * waits or runs now. Some milliseconds: the processors have more to do than they can. */
uint64_t pool_waited_us(struct pool *pool, enum pool_class kind);
/* When the job that has run longest began (clock_mono_ms); 0: none runs. */
uint64_t pool_oldest_ms(struct pool *pool, enum pool_class kind);
/* Jobs whose letter has not been posted yet: when it is 0, every `done` is in its mailbox. */
size_t pool_busy(struct pool *pool);

#endif
