/*
 * loop.h - one thread's event loop: time, timers, letters, deferred calls.
 *
 * Everything with a `struct loop *` belongs to that loop's thread. Other
 * threads reach it only by posting letters to loop_mailbox(). The real one
 * runs on libuv; tests/sim links another behind the same header, on a virtual
 * clock, with a pool that has no threads.
 */
#ifndef WAYPOST_NET_LOOP_H
#define WAYPOST_NET_LOOP_H

#include "relay/base/err.h"
#include "relay/base/hop.h"
#include "relay/base/mailbox.h"
#include "relay/base/msgid.h"
#include "relay/base/pool.h"
#include "relay/base/timers.h"

struct loop;
typedef void loop_fn(void *arg);

struct loop_options {
    struct pool *pool;     /* shared by all loops */
    struct hop_ring *ring; /* this thread's own; may be NULL */
    unsigned index;        /* 0, 1, ... */
    unsigned count;        /* of loops */
};

enum err loop_new(const struct loop_options *options, struct loop **out_loop, struct fault *fault);
/* Runs until loop_stop() and until every stream, listener and timer is gone. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop); /* on the loop's thread; lingering streams are cut short */
/* Opens the letters that are still there. Nobody may post any more. */
void loop_free(struct loop **loop);

uint64_t loop_now_ms(const struct loop *loop); /* monotonic, cached per turn */
int64_t loop_wall_us(const struct loop *loop); /* wall clock, cached per turn */
static inline int64_t loop_wall_s(const struct loop *loop) { return loop_wall_us(loop) / 1000000; }

/* The wall clock was set while this loop ran, by half a minute or more. */
struct loop_wall_set {
    unsigned times;
    int64_t last_s;    /* the last time by so much; negative: back */
    int64_t forward_s; /* forward in all, as far as it was not taken back */
    int64_t at_s;      /* the last moment by the clock before it was set forward */
};
struct loop_wall_set loop_wall_set(const struct loop *loop);
unsigned loop_index(const struct loop *loop);
unsigned loop_count(const struct loop *loop);

/* due in `delay_ms` from now; timer_fn runs on the loop. Stop with loop_timer_stop. */
void loop_timer_start(struct loop *loop, struct timer *timer, uint64_t delay_ms, timer_fn *fn,
                      void *arg);
void loop_timer_stop(struct loop *loop, struct timer *timer);

/* Memory is needed: streams of this loop are read in small pieces, until told otherwise. */
void loop_read_little(struct loop *loop, bool is_little);

/* Call fn(arg) after the present callback has returned, before waiting again. */
struct deferred {
    struct deferred *next, **link; /* link: what points at us */
    loop_fn *fn;
    void *arg;
    bool is_queued;
};
void loop_defer(struct loop *loop, struct deferred *deferred, loop_fn *fn, void *arg);
void loop_undefer(struct loop *loop, struct deferred *deferred); /* safe when not queued */

struct mailbox *loop_mailbox(struct loop *loop);
struct pool *loop_pool(struct loop *loop);
struct hop_ring *loop_ring(struct loop *loop);
struct msgid loop_msgid(struct loop *loop); /* a new id */
uint64_t loop_number(struct loop *loop);    /* a new session number, unique over all loops */

/* SIGTERM, SIGINT, SIGHUP ... delivered on this loop; only the real loop has it. */
typedef void loop_signal_fn(void *arg, int signum);
enum err loop_on_signal(struct loop *loop, int signum, loop_signal_fn *fn, void *arg);

/* Watch a descriptor that a library owns (libmicrohttpd's epoll) for reading. */
struct loop_watch;
enum err loop_watch_fd(struct loop *loop, int fd, loop_fn *fn, void *arg,
                       struct loop_watch **out_watch);
void loop_unwatch(struct loop_watch **watch);

#endif
