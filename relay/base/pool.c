/*
 * pool.c - one mailbox of jobs and up to so many threads per class.
 *
 * Threads are made when a job finds none idle. Everything that posters on
 * several loops share is an atomic or inside the mailbox.
 */
#include "relay/base/pool.h"

#include "relay/base/clock.h"
#include "relay/base/container.h"
#include "relay/base/str.h"
#include "relay/base/thread.h"

#include <stdatomic.h>
#include <stdlib.h>

struct pool_line;
struct pool_slot {
    atomic_bool taken;             /* a thread runs, or is being made */
    atomic_uint_fast64_t began_ms; /* its job; 0: it has none */
    struct pool_line *line;
    pthread_t thread;
};

struct pool_line {
    struct mailbox jobs;
    const char *word;
    struct pool_slot *slots;
    unsigned slot_count;
    size_t most; /* waiting jobs; 0: no bound */
    atomic_size_t waiting;
    atomic_uint_fast64_t waited_us; /* the job that began last */
    atomic_size_t undone;           /* posted, and not run yet */
    atomic_size_t busy;             /* posted, and its letter not yet */
    atomic_size_t idle;
    atomic_size_t alive; /* counted before a thread is made */
};

struct pool {
    bool threads_off;
    struct pool_line lines[POOL_CLASS_COUNT];
};

static const struct {
    const char *word;
    unsigned threads;
    size_t most;
} classes[] = {
#define X(name, word, threads, most) { word, threads, most },
    POOL_CLASS_MAP(X)
#undef X
};

struct pool *pool_new(unsigned cores, bool threads_off)
{
    struct pool *pool = mem_alloc(sizeof(*pool));

    pool->threads_off = threads_off;
    for (size_t i = 0; i < POOL_CLASS_COUNT; i++) {
        struct pool_line *line = &pool->lines[i];
        mailbox_init(&line->jobs, NULL, NULL);
        line->word = classes[i].word;
        line->most = classes[i].most;
        line->slot_count = classes[i].threads ? classes[i].threads : cores;
        if (line->slot_count == 0)
            line->slot_count = 1;
        line->slots = mem_alloc(line->slot_count * sizeof(line->slots[0]));
    }
    return pool;
}

static void open_done(struct letter *letter)
{
    struct job *job = container_of(letter, struct job, letter);

    job->done(job);
}

static void run_job(struct pool_line *line, struct job *job)
{
    struct mailbox *reply_to = job->reply_to;

    job->run(job);
    atomic_fetch_sub(&line->undone, 1);
    if (reply_to) {
        job->letter.open = open_done;
        mailbox_post(reply_to, &job->letter);
    }
    atomic_fetch_sub(&line->busy, 1);
}

/* Jobs posted while a first thread was being made, which then failed. */
static void run_rest(struct pool_line *line)
{
    struct letter *letter;

    while ((letter = mailbox_wait_one(&line->jobs, 0)))
        run_job(line, container_of(letter, struct job, letter));
}

void pool_free(struct pool **pool)
{
    struct pool *p = *pool;

    if (!p)
        return;
    for (size_t i = 0; i < POOL_CLASS_COUNT; i++)
        mailbox_close(&p->lines[i].jobs);
    for (size_t i = 0; i < POOL_CLASS_COUNT; i++) {
        struct pool_line *line = &p->lines[i];
        for (unsigned n = 0; n < line->slot_count; n++) {
            if (atomic_load(&line->slots[n].taken))
                pthread_join(line->slots[n].thread, NULL);
        }
        run_rest(line);
        mailbox_clear(&line->jobs);
        free(line->slots);
    }
    free(p);
    *pool = NULL;
}

static uint64_t now_us(void) { return clock_mono_ns() / 1000; }

static void begin(struct pool_slot *slot, const struct job *job)
{
    uint64_t began_us = now_us();

    atomic_fetch_sub(&slot->line->waiting, 1);
    /* Never 0, which says that there is no job. */
    atomic_store_explicit(&slot->line->waited_us, began_us - job->posted_us + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&slot->began_ms, began_us / 1000, memory_order_relaxed);
}

static void *worker(void *arg)
{
    struct pool_slot *slot = arg;
    struct pool_line *line = slot->line;

    for (;;) {
        atomic_fetch_add(&line->idle, 1);
        struct letter *letter = mailbox_wait_one(&line->jobs, UINT64_MAX);
        atomic_fetch_sub(&line->idle, 1);
        if (!letter)
            return NULL;
        struct job *job = container_of(letter, struct job, letter);
        begin(slot, job);
        run_job(line, job);
        atomic_store_explicit(&slot->began_ms, 0, memory_order_relaxed);
    }
}

static bool start_thread(struct pool_line *line, struct pool_slot *slot)
{
    slot->line = line;
    return thread_start(&slot->thread, line->word, worker, slot) == 0;
}

static void add_thread(struct pool_line *line)
{
    for (unsigned n = 0; n < line->slot_count; n++) {
        bool free_slot = false;
        if (!atomic_compare_exchange_strong(&line->slots[n].taken, &free_slot, true))
            continue;
        atomic_fetch_add(&line->alive, 1);
        if (start_thread(line, &line->slots[n]))
            return;
        atomic_fetch_sub(&line->alive, 1);
        atomic_store(&line->slots[n].taken, false);
        return;
    }
}

enum err pool_post(struct pool *pool, enum pool_class kind, struct job *job)
{
    struct pool_line *line = &pool->lines[kind];

    atomic_fetch_add(&line->busy, 1);
    atomic_fetch_add(&line->undone, 1);
    if (pool->threads_off) {
        run_job(line, job);
        return ERR_OK;
    }
    size_t ahead = atomic_fetch_add(&line->waiting, 1);
    if (line->most && ahead >= line->most) {
        atomic_fetch_sub(&line->waiting, 1);
        atomic_fetch_sub(&line->busy, 1);
        atomic_fetch_sub(&line->undone, 1);
        return ERR_BUSY;
    }
    if (ahead >= atomic_load(&line->idle))
        add_thread(line);
    if (atomic_load(&line->alive) == 0) {
        /* The system refuses us even one thread: slow beats lost. */
        atomic_fetch_sub(&line->waiting, 1);
        run_job(line, job);
        return ERR_OK;
    }
    job->posted_us = now_us();
    mailbox_post(&line->jobs, &job->letter);
    return ERR_OK;
}

size_t pool_waiting(struct pool *pool, enum pool_class kind)
{
    return atomic_load(&pool->lines[kind].waiting);
}

uint64_t pool_waited_us(struct pool *pool, enum pool_class kind)
{
    struct pool_line *line = &pool->lines[kind];

    if (atomic_load(&line->undone) == 0)
        return 0;
    return atomic_load_explicit(&line->waited_us, memory_order_relaxed);
}

uint64_t pool_oldest_ms(struct pool *pool, enum pool_class kind)
{
    struct pool_line *line = &pool->lines[kind];
    uint64_t oldest = 0;

    for (unsigned n = 0; n < line->slot_count; n++) {
        uint64_t began = atomic_load_explicit(&line->slots[n].began_ms, memory_order_relaxed);
        if (began && (oldest == 0 || began < oldest))
            oldest = began;
    }
    return oldest;
}

size_t pool_busy(struct pool *pool)
{
    size_t busy = 0;

    for (size_t i = 0; i < POOL_CLASS_COUNT; i++)
        busy += atomic_load(&pool->lines[i].busy);
    return busy;
}
