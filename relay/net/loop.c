/*
 * loop.c - the loop of one thread, on libuv.
 *
 * All deadlines share one uv_timer: it is set for the earliest of a heap
 * (base/timers), so moving a deadline costs no system call and no libuv work
 * unless it becomes the earliest. Deferred calls run twice a turn: before the
 * poll (what timers asked for) and after it (what sockets asked for).
 */
#include "relay/net/loop_uv.h"

#include "relay/base/clock.h"
#include "relay/base/str.h"

#include <assert.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define WALL_SET_S 30           /* less is a correction: nothing that counts in seconds minds */
#define DEFERRED_PER_RUN 100000 /* a pair that defers each other for ever must not stop time */

/* Wall time is read once per turn; apart from the loop so that reading it is const. */
struct loop_wall {
    uint64_t read_at_ms;
    int64_t us;
    int64_t asleep_ms; /* how far boot time was ahead of monotonic time: suspended for so long */
    struct loop_wall_set set;
};

struct loop_signal {
    uv_signal_t handle;
    loop_signal_fn *fn;
    void *arg;
    struct loop_signal *next;
};

struct loop {
    uv_loop_t uv;
    uv_timer_t timer;
    uv_async_t wake;
    uv_prepare_t before;
    uv_check_t after;
    uv_idle_t busy; /* active while calls are deferred: the poll must not wait */
    uint64_t armed_ms;
    bool in_timers;
    bool is_stopping;
    struct timers timers;
    struct deferred *deferred, **deferred_last;
    struct loop_end *ends;
    struct loop_signal *signals;
    struct loop_wall *wall;
    struct mailbox mailbox;
    struct msgid_maker maker;
    uint64_t numbers;
    struct loop_options options;
    char *read_buffer;
    bool reads_little;
};

enum err fault_uv(struct fault *fault, int status, const char *format, ...)
{
    char what[FAULT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    return fault_errno(fault, -status, "%s", what); /* on Unix a status is a negated errno */
}

/* ---- timers ---- */

static void on_timer(uv_timer_t *timer);

static void arm(struct loop *loop)
{
    uint64_t due = 0;

    if (loop->in_timers)
        return;
    if (!timers_next(&loop->timers, &due)) {
        loop->armed_ms = UINT64_MAX;
        uv_timer_stop(&loop->timer);
        return;
    }
    /* Later than armed: the timer fires once for nothing, which is cheaper
     * than moving it each time the earliest deadline is put off. */
    if (due >= loop->armed_ms)
        return;
    uint64_t now = uv_now(&loop->uv);
    loop->armed_ms = due;
    uv_timer_start(&loop->timer, on_timer, due > now ? due - now : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct loop *loop = timer->data;

    loop->armed_ms = UINT64_MAX;
    loop->in_timers = true;
    timers_run(&loop->timers, uv_now(&loop->uv));
    loop->in_timers = false;
    arm(loop);
}

void loop_timer_start(struct loop *loop, struct timer *timer, uint64_t delay_ms, timer_fn *fn,
                      void *arg)
{
    uint64_t now = uv_now(&loop->uv);
    uint64_t due = delay_ms < UINT64_MAX - now ? now + delay_ms : UINT64_MAX;

    timer_start(&loop->timers, timer, due, fn, arg);
    arm(loop);
}

void loop_timer_stop(struct loop *loop, struct timer *timer)
{
    timer_stop(&loop->timers, timer);
    if (loop->timers.count == 0)
        arm(loop);
}

/* ---- deferred calls ---- */

static void on_busy(uv_idle_t *busy) { (void)busy; } /* it is there to be active */

void loop_defer(struct loop *loop, struct deferred *deferred, loop_fn *fn, void *arg)
{
    loop_undefer(loop, deferred);
    if (!loop->deferred)
        uv_idle_start(&loop->busy, on_busy);
    *deferred = (struct deferred){ .link = loop->deferred_last, .fn = fn, .arg = arg };
    deferred->is_queued = true;
    *loop->deferred_last = deferred;
    loop->deferred_last = &deferred->next;
}

void loop_undefer(struct loop *loop, struct deferred *deferred)
{
    if (!deferred->is_queued)
        return;
    *deferred->link = deferred->next;
    if (deferred->next)
        deferred->next->link = deferred->link;
    else
        loop->deferred_last = deferred->link;
    deferred->next = NULL;
    deferred->is_queued = false;
}

static void run_deferred(struct loop *loop)
{
    for (unsigned n = 0; loop->deferred && n < DEFERRED_PER_RUN; n++) {
        struct deferred *deferred = loop->deferred;
        loop_undefer(loop, deferred);
        deferred->fn(deferred->arg); /* may free it */
    }
    if (!loop->deferred)
        uv_idle_stop(&loop->busy);
}

static void on_before(uv_prepare_t *before) { run_deferred(before->data); }
static void on_after(uv_check_t *after) { run_deferred(after->data); }

/* ---- letters ---- */

static void on_wake(uv_async_t *wake)
{
    struct loop *loop = wake->data;

    mailbox_drain(&loop->mailbox); /* to empty: many sends make one call */
}

static void wake_loop(void *arg)
{
    struct loop *loop = arg;

    uv_async_send(&loop->wake);
}

/* ---- life ---- */

static void init_handles(struct loop *loop)
{
    uv_timer_init(&loop->uv, &loop->timer);
    uv_prepare_init(&loop->uv, &loop->before);
    uv_check_init(&loop->uv, &loop->after);
    uv_idle_init(&loop->uv, &loop->busy);
    loop->timer.data = loop;
    loop->wake.data = loop;
    loop->before.data = loop;
    loop->after.data = loop;
    uv_prepare_start(&loop->before, on_before);
    uv_check_start(&loop->after, on_after);
    uv_unref((uv_handle_t *)&loop->before);
    uv_unref((uv_handle_t *)&loop->after);
}

enum err loop_new(const struct loop_options *options, struct loop **out_loop, struct fault *fault)
{
    struct loop *loop = mem_alloc(sizeof(*loop));

    int rc = uv_loop_init(&loop->uv);
    if (rc) {
        free(loop);
        return fault_uv(fault, rc, "cannot make an event loop");
    }
    rc = uv_async_init(&loop->uv, &loop->wake, on_wake);
    if (rc) {
        uv_loop_close(&loop->uv);
        free(loop);
        return fault_uv(fault, rc, "cannot make an event loop");
    }
    signal(SIGPIPE, SIG_IGN); /* a peer that left is an error code, not a death */
    loop->options = *options;
    loop->armed_ms = UINT64_MAX;
    loop->deferred_last = &loop->deferred;
    loop->wall = mem_alloc(sizeof(*loop->wall));
    loop->read_buffer = mem_alloc(LOOP_READ_BUFFER);
    timers_init(&loop->timers);
    mailbox_init(&loop->mailbox, wake_loop, loop);
    msgid_maker_init(&loop->maker);
    init_handles(loop);
    (void)loop_wall_us(loop); /* from now on it notices when that clock is set */
    *out_loop = loop;
    return ERR_OK;
}

void loop_run(struct loop *loop) { uv_run(&loop->uv, UV_RUN_DEFAULT); }

void loop_stop(struct loop *loop)
{
    if (loop->is_stopping)
        return;
    loop->is_stopping = true;
    uv_unref((uv_handle_t *)&loop->wake);
    while (loop->ends) {
        struct loop_end end = *loop->ends;
        loop_end_remove(loop->ends);
        end.fn(end.arg); /* may free it */
    }
}

static void free_signal(uv_handle_t *handle) { free(handle->data); }

void loop_free(struct loop **loop_at)
{
    struct loop *loop = *loop_at;

    if (!loop)
        return;
    loop_stop(loop);
    mailbox_drain(&loop->mailbox);
    uv_run(&loop->uv, UV_RUN_DEFAULT); /* what the letters closed finishes closing */
    for (struct loop_signal *s = loop->signals, *next; s; s = next) {
        next = s->next;
        uv_close((uv_handle_t *)&s->handle, free_signal);
    }
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_close((uv_handle_t *)&loop->wake, NULL);
    uv_close((uv_handle_t *)&loop->before, NULL);
    uv_close((uv_handle_t *)&loop->after, NULL);
    uv_close((uv_handle_t *)&loop->busy, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&loop->uv);
    assert(rc == 0); /* a stream, listener or watch was left open */
    (void)rc;
    timers_clear(&loop->timers);
    mailbox_clear(&loop->mailbox);
    free(loop->wall);
    free(loop->read_buffer);
    free(loop);
    *loop_at = NULL;
}

void loop_end_add(struct loop *loop, struct loop_end *end, loop_fn *fn, void *arg)
{
    loop_end_remove(end);
    *end = (struct loop_end){ .next = loop->ends, .link = &loop->ends, .fn = fn, .arg = arg };
    if (end->next)
        end->next->link = &end->next;
    loop->ends = end;
}

void loop_end_remove(struct loop_end *end)
{
    if (!end->link)
        return;
    *end->link = end->next;
    if (end->next)
        end->next->link = end->link;
    *end = (struct loop_end){ 0 };
}

/* ---- small questions ---- */

uint64_t loop_now_ms(const struct loop *loop) { return uv_now(&loop->uv); }

static int64_t asleep_ms(void) { return (int64_t)(clock_boot_ms() - clock_mono_ms()); }

/* `by_us`: how much further the wall clock went than this loop's. */
static void notice_set(struct loop_wall *wall, int64_t by_us)
{
    int64_t asleep = asleep_ms(), by_s = (by_us - (asleep - wall->asleep_ms) * 1000) / 1000000;

    wall->asleep_ms = asleep;
    if (llabs(by_s) < WALL_SET_S)
        return;
    wall->set.times++;
    wall->set.last_s = by_s;
    if (by_s > 0)
        wall->set.at_s = wall->us / 1000000 - by_s;
    /* Set back again: what was added was not true. */
    wall->set.forward_s = wall->set.forward_s + by_s > 0 ? wall->set.forward_s + by_s : 0;
}

int64_t loop_wall_us(const struct loop *loop)
{
    struct loop_wall *wall = loop->wall;
    uint64_t now = uv_now(&loop->uv);
    int64_t before_us = wall->us, by_us;

    if (before_us && wall->read_at_ms == now)
        return before_us;
    wall->us = clock_wall_us();
    by_us = wall->us - before_us - (int64_t)(now - wall->read_at_ms) * 1000;
    wall->read_at_ms = now;
    if (!before_us)
        wall->asleep_ms = asleep_ms();
    else if (llabs(by_us) >= WALL_SET_S * INT64_C(1000000))
        notice_set(wall, by_us);
    return wall->us;
}

struct loop_wall_set loop_wall_set(const struct loop *loop)
{
    (void)loop_wall_us(loop);
    return loop->wall->set;
}

unsigned loop_index(const struct loop *loop) { return loop->options.index; }
unsigned loop_count(const struct loop *loop) { return loop->options.count; }
struct mailbox *loop_mailbox(struct loop *loop) { return &loop->mailbox; }
struct pool *loop_pool(struct loop *loop) { return loop->options.pool; }
struct hop_ring *loop_ring(struct loop *loop) { return loop->options.ring; }
uv_loop_t *loop_uv(struct loop *loop) { return &loop->uv; }
char *loop_read_buffer(struct loop *loop) { return loop->read_buffer; }
void loop_read_little(struct loop *loop, bool is_little) { loop->reads_little = is_little; }

size_t loop_read_most(const struct loop *loop)
{
    return loop->reads_little ? LOOP_READ_LITTLE : LOOP_READ_BUFFER;
}

bool loop_is_stopping(const struct loop *loop) { return loop->is_stopping; }

struct msgid loop_msgid(struct loop *loop)
{
    return msgid_make(&loop->maker, loop_wall_us(loop) / 1000);
}

uint64_t loop_number(struct loop *loop)
{
    uint64_t count = loop->options.count ? loop->options.count : 1;

    return ++loop->numbers * count + loop->options.index;
}

/* ---- signals ---- */

static void on_signal(uv_signal_t *handle, int signum)
{
    struct loop_signal *s = handle->data;

    s->fn(s->arg, signum);
}

enum err loop_on_signal(struct loop *loop, int signum, loop_signal_fn *fn, void *arg)
{
    struct loop_signal *s = mem_alloc(sizeof(*s));

    *s = (struct loop_signal){ .fn = fn, .arg = arg, .next = loop->signals };
    uv_signal_init(&loop->uv, &s->handle);
    s->handle.data = s;
    loop->signals = s;
    int rc = uv_signal_start(&s->handle, on_signal, signum);
    uv_unref((uv_handle_t *)&s->handle);
    return rc ? fault_uv(NULL, rc, "signal") : ERR_OK;
}
