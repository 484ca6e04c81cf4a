/*
 * lmdb_writer.c - the one thread that writes: group commit.
 *
 * It takes whatever waits, up to 256 messages or 4 MB, applies accepts and
 * settles in one transaction, syncs, then answers; meanwhile the next batch
 * gathers. Between batches it does one page of longer work, if there is any.
 *
 * A commit waits for company in one case only: while messages are being signed that
 * had to wait for a processor themselves, and no longer than they had to. Then there is
 * other work for all processors, the wait slows nobody down, and a part of the syncs,
 * which are not free for a processor either, is saved. Everywhere else waiting lost
 * more than it won (tests/bench/README.md).
 */
#include "queue/lmdb_store.h"

#include "relay/base/clock.h"
#include "relay/base/thread.h"

#include <stdlib.h>

#define BATCH_OPS 256
#define BATCH_BYTES ((uint64_t)4 * 1024 * 1024)
#define READERS_MS 60000
#define GATHER_MS 8
#define GATHER_OPS 64 /* company enough */

/* How long a commit may wait now; 0: not at all. */
static uint64_t company_ms(struct lmdb *l)
{
    uint64_t waited_us = l->pool ? pool_waited_us(l->pool, POOL_SIGN) : 0;
    uint64_t ms = waited_us / 1000;

    if (waited_us && l->tuning.gather_ms)
        return l->tuning.gather_ms;
    return ms < GATHER_MS ? ms : GATHER_MS;
}

static struct store_request **next_of(struct store_request *request)
{
    return (struct store_request **)(void *)&request->letter.next;
}

/* ---- letters ---------------------------------------------------------------------------- */

static void open_request(struct letter *letter)
{
    struct store_request *request = (struct store_request *)(void *)letter;
    struct lmdb *l = lmdb_of(request->store);

    *next_of(request) = NULL;
    if (request->op == STORE_OP_CHANGE) {
        *l->changes_last = (struct store_change *)(void *)request;
        l->changes_last = (struct store_change **)(void *)next_of(request);
        atomic_fetch_sub(&l->waiting, 1);
        return;
    }
    *l->backlog_last = request;
    l->backlog_last = next_of(request);
}

/* Nothing lies that comes when none is being signed any more: it ends the wait for all. */
static bool may_lie(struct lmdb *l, const struct store_request *request)
{
    return (request->op == STORE_OP_ACCEPT || request->op == STORE_OP_SETTLE) && company_ms(l) > 0;
}

void writer_post(struct store *store, struct store_request *request)
{
    struct lmdb *l = lmdb_of(store);

    if (l->read_only) {
        fault_set(&request->fault, ERR_DENIED, "the queue is open for reading only");
        store_answer(request, ERR_DENIED);
        return;
    }
    request->letter.open = open_request;
    atomic_fetch_add(&l->waiting, 1);
    if (may_lie(l, request))
        mailbox_post_lying(&l->in, &request->letter);
    else
        mailbox_post(&l->in, &request->letter);
}

static void open_stop(struct letter *letter)
{
    struct lmdb *l = container_of(letter, struct lmdb, stop);

    l->stopping = true;
}

/* ---- a batch ------------------------------------------------------------------------------ */

static uint64_t weight(const struct store_request *request, size_t *ops)
{
    const struct store_accept *accept = (const struct store_accept *)(const void *)request;
    const struct store_settle *settle = (const struct store_settle *)(const void *)request;
    struct str body = STR_EMPTY;

    if (request->op == STORE_OP_SETTLE) {
        *ops += settle->count;
        return settle->count * 512;
    }
    ++*ops;
    body_is_inline(accept->message->body, &body);
    return accept->message->head_len + body.len + 1024;
}

/* Cut the next batch off the backlog. */
static struct store_request *take_batch(struct lmdb *l)
{
    struct store_request *first = l->backlog, *last = NULL;
    uint64_t bytes = 0;
    size_t ops = 0;

    while (l->backlog && ops < BATCH_OPS && bytes < BATCH_BYTES) {
        last = l->backlog;
        bytes += weight(last, &ops);
        l->backlog = *next_of(last);
        atomic_fetch_sub(&l->waiting, 1);
    }
    if (!l->backlog)
        l->backlog_last = &l->backlog;
    if (last)
        *next_of(last) = NULL;
    l->batch.ops = ops;
    return first;
}

static enum err apply(struct lmdb *l, struct store_request *first, bool with_accepts,
                      struct fault *fault)
{
    enum err rc = ERR_OK;

    for (struct store_request *r = first; r && !rc; r = *next_of(r)) {
        struct store_accept *accept = (struct store_accept *)(void *)r;
        if (r->op == STORE_OP_SETTLE) {
            rc = apply_settle(l, (struct store_settle *)(void *)r, fault);
        } else if (with_accepts) {
            l->accepts =
                batch_grow(l->accepts, l->accept_count, &l->accept_cap, sizeof(l->accepts[0]));
            l->accepts[l->accept_count++] =
                (struct writer_accept){ .message = accept->message, .request = accept };
        }
    }
    return rc ? rc : apply_accepts(l, fault);
}

static enum err attempt(struct lmdb *l, struct store_request *first, bool with_accepts,
                        struct fault *fault)
{
    enum err rc = batch_begin(l, fault);

    l->accept_count = 0;
    if (rc)
        return rc;
    rc = apply(l, first, with_accepts, fault);
    if (!rc)
        return batch_commit(l, fault);
    batch_abort(l);
    return rc;
}

static void set_accepts(struct lmdb *l)
{
    for (size_t i = 0; i < l->accept_count; i++) {
        struct writer_accept *slot = &l->accepts[i];
        if (slot->request)
            slot->request->request.err = slot->err;
    }
}

static bool fail(struct store_request *first, enum store_op op, enum err err,
                 const struct fault *fault)
{
    bool any_left = false;

    for (struct store_request *r = first; r; r = *next_of(r)) {
        any_left |= r->op != op;
        if (r->op != op)
            continue;
        r->err = err;
        r->fault = *fault;
    }
    return any_left;
}

/* Mail that is refused is still the client's; what became of mail that we have
 * is known to us alone, so it gets the ballast's room, and a second try. */
static void after_failure(struct lmdb *l, struct store_request *first, enum err err,
                          struct fault *fault)
{
    space_failed(l, err, fault);
    if (!fail(first, STORE_OP_ACCEPT, err, fault))
        return;
    err = attempt(l, first, false, fault);
    /* Freed pages can be used from the second transaction on. */
    for (int i = 0; err && i < 2; i++) {
        space_drop_ballast(l);
        err = attempt(l, first, false, fault);
    }
    if (err)
        fail(first, STORE_OP_SETTLE, err, fault);
}

static void answer(struct store_request *request)
{
    struct store_accept *accept = (struct store_accept *)(void *)request;

    if (request->op == STORE_OP_ACCEPT && request->err && request->err != ERR_EXISTS)
        body_remove(accept->message->body);
    store_answer(request, request->err);
}

static void run_batch(struct lmdb *l)
{
    struct store_request *first = take_batch(l);
    struct fault fault;

    space_check(l, false);
    enum err rc = attempt(l, first, true, &fault);
    if (rc) {
        after_failure(l, first, rc, &fault);
    } else {
        l->is_broken = false;
        space_judge(l);
        set_accepts(l);
    }
    while (first) {
        struct store_request *request = first;
        first = *next_of(request);
        answer(request);
    }
}

/* ---- the thread ----------------------------------------------------------------------------- */

/* Somebody asked how we are while we were not fine: can we write again? */
static void open_recheck(struct letter *letter)
{
    struct lmdb *l = container_of(letter, struct lmdb, recheck);
    struct fault fault;

    pthread_mutex_lock(&l->lock);
    l->recheck_posted = false;
    pthread_mutex_unlock(&l->lock);
    if (l->is_broken && batch_begin(l, &fault) == ERR_OK)
        l->is_broken = batch_commit(l, &fault) != ERR_OK;
    space_check(l, true);
}

static void check_readers(struct lmdb *l)
{
    uint64_t now_ms = clock_mono_ms();

    if (now_ms - l->readers_ms < READERS_MS)
        return;
    l->readers_ms = now_ms;
    lmdb_check_readers(l);
}

static bool is_done(struct lmdb *l)
{
    return l->stopping && !l->backlog && !l->changes && atomic_load(&l->jobs) == 0;
}

static void open_all(struct letter *letter)
{
    while (letter) {
        struct letter *next = letter->next;
        letter->open(letter);
        letter = next;
    }
}

static bool has_work(struct lmdb *l) { return (pages_waiting(l) && !l->stopping) || l->changes; }

static void gather(struct lmdb *l)
{
    uint64_t ms = has_work(l) || atomic_load(&l->waiting) >= GATHER_OPS ? 0 : company_ms(l);

    if (ms)
        open_all(mailbox_gather(&l->in, ms));
}

static void *writer(void *arg)
{
    struct lmdb *l = arg;

    while (!is_done(l)) {
        bool had_backlog = l->backlog;
        open_all(mailbox_wait(&l->in, had_backlog || has_work(l) ? 0 : pages_wait_ms(l)));
        if (l->backlog && !had_backlog)
            gather(l);
        if (l->backlog)
            run_batch(l);
        pages_run(l);
        check_readers(l);
    }
    return NULL;
}

enum err writer_start(struct lmdb *l, struct fault *fault)
{
    l->recheck.open = open_recheck;
    l->stop.open = open_stop;
    int rc = thread_start(&l->thread, "store", writer, l);
    if (rc)
        return fault_errno(fault, rc, "cannot start the queue's writer");
    l->has_thread = true;
    return ERR_OK;
}

void writer_stop(struct lmdb *l)
{
    if (!l->has_thread)
        return;
    mailbox_post(&l->in, &l->stop);
    pthread_join(l->thread, NULL);
    l->has_thread = false;
}
