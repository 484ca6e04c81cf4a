/*
 * store_lmdb.c - the queue in LMDB: open, close, health; and the account of
 * what a crash leaves. The parts: lmdb_env (on disk), lmdb_maps (in memory; where the disk fails),
 * lmdb_writer and lmdb_batch (the writing thread), lmdb_apply (accept, settle), lmdb_change,
 * lmdb_pages, lmdb_scan, lmdb_index (memory), lmdb_claim, lmdb_cold, lmdb_aged, lmdb_read,
 * lmdb_record, lmdb_recover, lmdb_mend, lmdb_space.
 *
 * On disk (lmdb_record.c has the keys):
 *   msg      id -> envelope, recipients with their state, where the content is
 *   content  id, n -> head and inline body in pages
 *   due      lane, group of senders, due, id -> nothing
 *   main     version; state: watermark, counters, name of the routes; in every commit
 *   bodies/  side files, written and synced before the record that names them
 *
 * Which queued recipients have a due entry: all, but those of parts that memory
 * knows as not indexed (in a window, or claimed from one). No flag says so on
 * disk. Every such message has an id at or above the watermark `fresh_low`, so
 * an open puts the entries of everything from there on, the first few thousand at
 * once and the rest between its first batches; entries that are there
 * already stay as they are. A flag per recipient was the alternative: it would
 * have to be rewritten, with its record, for every message that is spilled.
 *
 * What is on disk when the process dies, and what the next open does:
 *
 *   while the database is made       db.new, not db: made anew
 *   before the folders are synced    nothing was promised yet: no queue, or an empty one
 *   side file written, no accept     a file without a record: removed
 *   before a commit's last write     the state before the batch; nothing of it was
 *                                    answered, so every client still has its mail and
 *                                    every settle is done again: delivered twice at most
 *   after it, before the answers     the batch is whole: mail that was not acknowledged is
 *                                    there (its client may send it again: a duplicate);
 *                                    settles are done, their reports are queued, once
 *   after it, before the unlinks     side files without a record: removed
 *   mail in windows or leased        no due entries, ids above the watermark: put, due now
 *   leased from the index            the due entry is still there: due at once
 *   while windows are written out    entries or none for each message: as above
 *   in the middle of a change        some pages are changed, each message wholly or not
 *   in recovery itself               the watermark moves with each page: goes on from there
 *
 * Counters are in the same transaction as what they count, so they are never off, but by
 * a record that was dropped unread, until all is counted again (lmdb_scan.c).
 * Lanes are found by skipping through `due`; what each holds is counted after the
 * start, in pages.
 */
#include "queue/lmdb_folder.h"
#include "queue/lmdb_loaded.h"
#include "queue/lmdb_opened.h"

#include "relay/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DIED 77

void lmdb_point(struct lmdb *l)
{
    if (l->tuning.die_at && atomic_fetch_add(&l->points, 1) + 1 == l->tuning.die_at)
        _exit(DIED);
}

static void accept_backend(struct store *store, struct store_accept *request)
{
    writer_post(store, &request->request);
}

static void settle_backend(struct store *store, struct store_settle *request)
{
    writer_post(store, &request->request);
}

static void change_backend(struct store *store, struct store_change *request)
{
    writer_post(store, &request->request);
}

static void watch_backend(struct store *store, store_ready_fn *fn, void *arg)
{
    struct lmdb *l = lmdb_of(store);

    pthread_mutex_lock(&l->lock);
    l->ready = fn;
    l->ready_arg = arg;
    for (struct lane *lane = l->lanes; lane; lane = lane->hh.next) {
        lane->told = 0;
        index_tell(l, lane, NULL);
    }
    pthread_mutex_unlock(&l->lock);
}

#define RECHECK_MS 1000

static void health_backend(struct store *store, struct store_health *out_health)
{
    struct lmdb *l = lmdb_of(store);
    uint64_t now_ms = clock_mono_ms();

    pthread_mutex_lock(&l->lock);
    *out_health = l->health;
    /* Also when all seemed fine: others may have filled the disk while we were idle. */
    bool ask = l->has_thread && !l->recheck_posted && now_ms - l->asked_ms >= RECHECK_MS;
    if (ask) {
        l->asked_ms = now_ms;
        l->recheck_posted = true;
    }
    pthread_mutex_unlock(&l->lock);
    out_health->waiting = atomic_load(&l->waiting);
    if (ask)
        mailbox_post(&l->in, &l->recheck);
}

static const char *folder_backend(struct store *store) { return lmdb_of(store)->bodies; }

static void free_memory(struct lmdb *l)
{
    struct part *part, *next_part;
    struct lane *lane, *next_lane;
    struct corrupt_id *corrupt, *next_corrupt;

    HASH_ITER (hh, l->parts, part, next_part)
        part_free(l, part);
    (void)loaded_sweep(l, UINT64_MAX, 0);
    HASH_ITER (hh, l->lanes, lane, next_lane) {
        HASH_DELETE(hh, l->lanes, lane);
        free(lane->window);
        free(lane->name);
        free(lane);
    }
    HASH_ITER (hh, l->corrupt, corrupt, next_corrupt) {
        HASH_DELETE(hh, l->corrupt, corrupt);
        free(corrupt);
    }
}

static void close_backend(struct store *store)
{
    struct lmdb *l = lmdb_of(store);
    struct batch *batch = &l->batch;

    writer_stop(l);
    opened_clear(l);
    l->ready = NULL;
    free_memory(l);
    lmdb_env_close(l);
    mailbox_clear(&l->in);
    pthread_mutex_destroy(&l->lock);
    pthread_rwlock_destroy(&l->env_lock);
    store_clear(store);
    arena_clear(&batch->arena);
    free(batch->effects);
    free(batch->fresh);
    free(batch->spilled);
    free(batch->ended);
    free(batch->changed);
    free(batch->files);
    free(l->accepts);
    free(l->waiting_names.ids);
    buf_clear(&l->scratch);
    free(l->folder);
    free(l->bodies);
    free(l->db);
    free(l);
}

static const struct store_backend backend = {
    .accept = accept_backend,
    .claim = lmdb_claim,
    .settle = settle_backend,
    .change = change_backend,
    .list = lmdb_list,
    .get = lmdb_get,
    .lanes = lmdb_lanes,
    .unclaim = lmdb_unclaim,
    .watch = watch_backend,
    .health = health_backend,
    .folder = folder_backend,
    .close = close_backend,
};

static char *path_in(const char *folder, const char *name)
{
    size_t room = strlen(folder) + strlen(name) + 2;
    char *path = mem_alloc(room);

    snprintf(path, room, "%s/%s", folder, name);
    return path;
}

#define TIB ((uint64_t)1 << 40)

static struct lmdb *lmdb_new(const struct store_options *options, const struct lmdb_tuning *tuning)
{
    struct lmdb *l = mem_alloc(sizeof(*l));

    store_init(&l->store, &backend);
    l->folder = str_dup(str_of(options->folder));
    l->bodies = path_in(options->folder, "bodies");
    l->db = path_in(options->folder, "db");
    l->lock_fd = -1;
    l->read_only = options->read_only;
    l->pool = options->pool;
    l->ring = options->ring;
    l->wall_us = options->wall_us ? options->wall_us : clock_wall_us;
    l->window_max = options->window_bytes ? options->window_bytes : STORE_WINDOW_BYTES;
    l->map_bytes = options->map_bytes ? options->map_bytes : TIB;
    l->tuning = *tuning;
    l->backlog_last = &l->backlog;
    l->changes_last = &l->changes;
    l->opened_ms = l->readers_ms = l->spilled_ms = clock_mono_ms();
    buf_init(&l->scratch, SIZE_MAX);
    arena_init(&l->batch.arena);
    mailbox_init(&l->in, NULL, NULL);
    pthread_mutex_init(&l->lock, NULL);
    pthread_rwlock_init(&l->env_lock, NULL);
    return l;
}

enum err lmdb_open(const struct store_options *options, const struct lmdb_tuning *tuning,
                   struct store **out_store, struct fault *fault)
{
    struct lmdb *l = lmdb_new(options, tuning);
    enum err rc = lmdb_env_open(l, fault);

    if (!rc && !l->read_only)
        rc = folder_sync_up(l->folder, fault);
    if (!rc)
        rc = lmdb_recover(l, fault);
    if (!rc)
        rc = l->read_only ? ERR_OK : space_open(l, options, fault);
    pthread_mutex_lock(&l->lock);
    space_publish(l); /* now: the state is the writer's as soon as there is one */
    pthread_mutex_unlock(&l->lock);
    if (!rc && !l->read_only)
        rc = writer_start(l, fault);
    if (rc) {
        close_backend(&l->store);
        return rc;
    }
    *out_store = &l->store;
    return ERR_OK;
}

enum err store_open_lmdb(const struct store_options *options, struct store **out_store,
                         struct fault *fault)
{
    /* In memory for 30 s without moving: its lane sleeps, or its attempt does. */
    static const struct lmdb_tuning usual = { .spill_ms = 30000 };

    return lmdb_open(options, &usual, out_store, fault);
}
