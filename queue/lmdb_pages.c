/*
 * lmdb_pages.c - the writer's work in pages, between the batches: indexing and
 * counting (lmdb_scan.c) after the start, and writing out mail that has sat in a window
 * too long.
 *
 * A page is small enough that nobody waits for it for more than some
 * milliseconds, so that neither a start with a million messages nor a change of
 * all of them stops accepts.
 */
#include "queue/lmdb_loaded.h"
#include "queue/lmdb_opened.h"

#include "relay/base/clock.h"

#include <malloc.h>

#define SLACK_MS 10000 /* ids are made before the mail is accepted */
#define RECOVER_RETRY_MS 1000
#define REST_TICKS 2 /* what was read of a big message is kept for so long */
#define TRIM_BYTES ((size_t)4 << 20)

static uint64_t tick_ms(const struct lmdb *l) { return l->tuning.spill_ms / 6; }

static bool can_recover(const struct lmdb *l)
{
    return l->is_recovering && clock_mono_ms() >= l->recover_ms;
}

bool pages_waiting(struct lmdb *l) { return l->changes || scan_wait_ms(l) == 0 || can_recover(l); }

/* A commit costs the same whatever is in it: many at once, unless somebody waits. */
size_t pages_size(struct lmdb *l)
{
    return l->backlog || atomic_load(&l->waiting) > 0 ? LMDB_PAGE : LMDB_PAGE_IDLE;
}

/* ---- writing out --------------------------------------------------------------------- */

static int64_t fresh_low(struct lmdb *l, const struct part *part)
{
    int64_t low = l->wall_us() / 1000 - SLACK_MS;

    low = part_low(part, low);
    if (l->is_recovering && msgid_wall_ms(&l->recover_at) < low)
        low = msgid_wall_ms(&l->recover_at);
    return low;
}

/* Collects the old parts; the watermark is what it is without them. */
static void collect_old(struct lmdb *l, uint64_t now_ms, int64_t *out_low)
{
    struct part *part;
    size_t n = 0, max = pages_size(l);

    pthread_mutex_lock(&l->lock);
    for (part = l->oldest; part && n < max; part = part->newer, n++) {
        if ((uint64_t)part->made_ms + l->tuning.spill_ms > now_ms)
            break;
        l->spilled_bytes += part->bytes;
        batch_spill(l, part);
    }
    *out_low = fresh_low(l, part);
    pthread_mutex_unlock(&l->lock);
}

static enum err index_lane_of(struct lmdb *l, struct opened *opened, struct str lane,
                              struct fault *fault)
{
    const struct envelope *envelope = &opened->envelope;
    size_t count;
    const uint32_t *indexes = opened_lane(opened, lane, &count);
    enum err rc = ERR_OK;

    for (size_t i = 0; i < count && !rc; i++) {
        const struct recipient *r = &envelope->recipients[indexes[i]];
        if (r->state != RECIPIENT_QUEUED)
            continue;
        rc = lmdb_put_due(l, l->batch.txn, envelope, (struct due_key){ lane, r->due_at }, fault);
        batch_due(l, lane, r->due_at);
    }
    return rc;
}

static enum err spill_part(struct lmdb *l, const struct part *part, struct fault *fault)
{
    struct opened *opened;
    enum err rc = opened_get(l, &part->id, &opened, fault);

    if (rc == ERR_CORRUPT || rc == ERR_VERSION)
        batch_quarantine(l, &part->id, fault->text);
    if (rc == ERR_CORRUPT || rc == ERR_VERSION || rc == ERR_NOT_FOUND)
        return ERR_OK;
    if (rc)
        return rc;
    rc = index_lane_of(l, opened, str_make(part->lane->name, part->lane->name_len), fault);
    opened_put(l, opened);
    return rc;
}

static enum err spill_page(struct lmdb *l, uint64_t now_ms, struct fault *fault)
{
    enum err rc = batch_begin(l, fault);
    int64_t low;

    if (rc)
        return rc;
    collect_old(l, now_ms, &low);
    for (size_t i = 0; i < l->batch.spilled_count && !rc; i++)
        rc = spill_part(l, l->batch.spilled[i], fault);
    l->batch.state.fresh_low_ms = low;
    if (!rc)
        return batch_commit(l, fault);
    batch_abort(l);
    return rc;
}

static bool oldest_is_old(struct lmdb *l, uint64_t now_ms, int64_t *out_low)
{
    pthread_mutex_lock(&l->lock);
    bool is_old = l->oldest && (uint64_t)l->oldest->made_ms + l->tuning.spill_ms <= now_ms;
    if (!is_old)
        *out_low = fresh_low(l, l->oldest);
    pthread_mutex_unlock(&l->lock);
    return is_old;
}

/* What was written out lay between other things on the heap: without this its pages
 * would stay ours, and the relay big, for as long as the backlog rests. */
static void give_memory_back(struct lmdb *l)
{
#ifdef __GLIBC__
    if (l->spilled_bytes >= TRIM_BYTES)
        malloc_trim(0);
#endif
    l->spilled_bytes = 0;
}

static void write_out(struct lmdb *l, uint64_t now_ms)
{
    struct fault fault;
    int64_t low;

    if (!oldest_is_old(l, now_ms, &low)) {
        give_memory_back(l);
        l->spilled_ms = now_ms;
        l->state.fresh_low_ms = low; /* the next commit takes it along */
        return;
    }
    enum err rc = spill_page(l, now_ms, &fault);
    if (rc) {
        l->spilled_ms = now_ms; /* it stays in memory; tried again in a while */
        space_failed(l, rc, &fault);
    }
}

static void recover(struct lmdb *l)
{
    struct fault fault;
    enum err rc = recover_page(l, pages_size(l), &fault);

    if (!rc)
        return;
    l->recover_ms = clock_mono_ms() + RECOVER_RETRY_MS;
    space_failed(l, rc, &fault);
}

uint64_t pages_wait_ms(struct lmdb *l)
{
    pthread_mutex_lock(&l->lock);
    bool has_some = l->oldest || l->sharing || l->opened;
    pthread_mutex_unlock(&l->lock);
    uint64_t wait_ms = has_some ? tick_ms(l) : UINT64_MAX;
    if (l->is_recovering && wait_ms > RECOVER_RETRY_MS)
        wait_ms = RECOVER_RETRY_MS;
    return scan_wait_ms(l) < wait_ms ? scan_wait_ms(l) : wait_ms;
}

static void forget_rested(struct lmdb *l, uint64_t now_ms, uint64_t rest_ms)
{
    opened_sweep(l, now_ms, rest_ms);
    pthread_mutex_lock(&l->lock);
    l->spilled_bytes += loaded_sweep(l, now_ms, rest_ms);
    pthread_mutex_unlock(&l->lock);
}

void pages_run(struct lmdb *l)
{
    uint64_t now_ms = clock_mono_ms();

    if (can_recover(l))
        recover(l);
    if (l->changes)
        change_page(l);
    else if (scan_wait_ms(l) == 0)
        scan_page(l);
    if (now_ms - l->spilled_ms < tick_ms(l))
        return;
    forget_rested(l, now_ms, REST_TICKS * tick_ms(l));
    write_out(l, now_ms);
}
