/*
 * lmdb_claim.c - handing out due mail: from the lane's window at once, from the
 * index (lmdb_cold.c) on the disk class.
 *
 * A claim that finds both takes half from each, so that a stream of fresh mail
 * does not starve the retries, nor the other way round. One cold claim runs per
 * lane; others for the same lane wait behind it, so that what one learns about
 * the lane's next due time is not overwritten by an older view.
 */
#include "queue/lmdb_cold.h"

#include <stdlib.h>

static struct store_claim **next_of(struct store_claim *request)
{
    return (struct store_claim **)(void *)&request->request.letter.next;
}

/* ---- from the window: the lock is held -------------------------------------------- */

static struct part *window_next(struct lane *lane, int64_t now_s)
{
    for (unsigned i = 0; lane->window_count && i < STORE_BUCKETS; i++) {
        unsigned bucket = (lane->turn + i) % STORE_BUCKETS;
        struct part *part = lane->window[bucket].first;
        if (!part || part->due_at > now_s)
            continue;
        lane->turn = bucket + 1;
        return part;
    }
    return NULL;
}

/* All of it is due: otherwise it would have index entries. */
static struct claim *claim_part(struct lmdb *l, struct part *part)
{
    struct str name = str_make(part->lane->name, part->lane->name_len);
    uint32_t *indexes = cold_copy(part->indexes, part->count);

    part_leave(l, part);
    part_lease(part);
    return claim_new(message_ref(part->message), name, indexes, part->count, part->due_at);
}

static void claim_window(struct lmdb *l, struct lane *lane, struct store_claim *request, size_t max)
{
    struct claim **last = &request->claims;
    struct part *part;

    for (size_t n = 0; n < max && (part = window_next(lane, request->now_s)); n++) {
        *last = claim_part(l, part);
        last = &(*last)->next;
    }
}

static bool is_looked_for(const struct store_claim *request, const struct part *part)
{
    const struct envelope *envelope = &part->message->envelope;

    for (size_t i = 0; i < part->count; i++)
        if (rules_recipient_is_looked_for(&request->look, envelope,
                                          &envelope->recipients[part->indexes[i]], request->now_s))
            return true;
    return false;
}

/* Everything that is looked for, whatever its number: it is in memory already. */
static void look_at_window(struct lmdb *l, struct lane *lane, struct store_claim *request)
{
    struct claim **last = &request->claims;
    struct part *part, *next;

    for (unsigned bucket = 0; lane->window_count && bucket < STORE_BUCKETS; bucket++) {
        for (part = lane->window[bucket].first; part; part = next) {
            next = part->next;
            if (!is_looked_for(request, part))
                continue;
            bool was_last = lane->window_count == 1;
            *last = claim_part(l, part);
            last = &(*last)->next;
            if (was_last) /* the window is gone with it */
                return;
        }
    }
}

/* ---- a claim's way ------------------------------------------------------------------- */

/* With the lock held, so that no news of the lane overtakes this answer. */
static void finish(struct lmdb *l, struct lane *lane, struct store_claim *request, enum err err)
{
    if (lane) {
        lane->told = request->next_due = index_lane_due(lane);
        if (!request->look.is_on)
            request->more = lane->told && lane->told <= request->now_s;
        index_sweep(l, lane);
    }
    store_answer(&request->request, request->claims ? ERR_OK : err);
}

/* What the window gives at once. True: the index must be asked for the rest. */
static bool start(struct lmdb *l, struct lane *lane, struct store_claim *request)
{
    bool index_is_due = lane->index_due && lane->index_due <= request->now_s;
    size_t from_window = request->max;

    if (request->look.is_on) {
        if (!request->look.place.is_begun)
            look_at_window(l, lane, request);
        return index_is_due;
    }
    if (index_is_due && request->max > 1)
        from_window = (request->max + 1) / 2;
    else if (index_is_due && (lane->index_turn = !lane->index_turn))
        from_window = 0;
    claim_window(l, lane, request, from_window);
    size_t have;
    cold_tail(request, &have);
    return index_is_due && have < request->max;
}

/* The next waiting claim that needs the index, those that do not answered on the way. */
static struct store_claim *next_claim(struct cold *cold)
{
    struct lmdb *l = cold->l;
    struct lane *lane = cold->lane;

    while (cold->first && !start(l, lane, cold->first)) {
        struct store_claim *request = cold->first;
        cold->first = *next_of(request);
        finish(l, lane, request, ERR_OK);
    }
    if (cold->first)
        return cold->first;
    lane->cold = NULL;
    index_sweep(l, lane);
    return NULL;
}

static void end_claim(struct cold *cold, struct store_claim *request, enum err err)
{
    struct lane *lane = cold->lane;

    if (!err && !request->look.is_on) {
        lane->index_due = cold->next_due;
        if (lane->added_due)
            cold_lower(&lane->index_due, lane->added_due);
    }
    cold->first = *next_of(request);
    finish(cold->l, lane, request, err);
}

static void cold_run(struct job *job)
{
    struct cold *cold = (struct cold *)(void *)job;
    struct store_claim *request = cold->first;

    while (request) {
        enum err err = cold_claim(cold, request, &request->request.fault);
        pthread_mutex_lock(&cold->l->lock);
        end_claim(cold, request, err);
        request = next_claim(cold);
        pthread_mutex_unlock(&cold->l->lock);
    }
}

static void cold_done(struct job *job)
{
    struct cold *cold = (struct cold *)(void *)job;

    lmdb_job_done(cold->l);
    free(cold->found);
    free(cold);
}

static struct cold *cold_new(struct lmdb *l, struct lane *lane, struct store_claim *request)
{
    struct cold *cold = mem_alloc(sizeof(*cold));

    cold->l = l;
    cold->lane = lane;
    cold->first = request;
    *next_of(request) = NULL;
    cold->job = (struct job){ .run = cold_run, .done = cold_done };
    lane->cold = cold;
    return cold;
}

static void wait_behind(struct cold *cold, struct store_claim *request)
{
    *next_of(request) = NULL;
    struct store_claim **last = &cold->first;
    while (*last)
        last = next_of(*last);
    *last = request;
}

void lmdb_claim(struct store *store, struct store_claim *request)
{
    struct lmdb *l = lmdb_of(store);
    struct cold *cold = NULL;

    pthread_mutex_lock(&l->lock);
    struct lane *lane = index_lane(l, str_of(request->lane), false);
    if (lane && lane->cold)
        wait_behind(lane->cold, request);
    else if (lane && start(l, lane, request))
        cold = cold_new(l, lane, request);
    else
        finish(l, lane, request, ERR_OK);
    pthread_mutex_unlock(&l->lock);
    if (cold)
        lmdb_job(l, &cold->job);
}

static void unclaim_one(struct lmdb *l, const struct claim *claim)
{
    struct lane *lane = index_lane(l, str_of(claim->lane), false);
    struct part *part = lane ? part_find(l, &claim->message->envelope.id, lane) : NULL;

    if (!part || part->state != PART_LEASED)
        return;
    if (part->indexed) {
        index_add(l, lane, claim->due_at);
        part_free(l, part);
    } else {
        part_enter(l, part, true);
        part_unblock(l, part);
    }
    index_tell(l, lane, NULL);
    index_sweep(l, lane);
}

void lmdb_unclaim(struct store *store, struct claim *claims)
{
    struct lmdb *l = lmdb_of(store);

    pthread_mutex_lock(&l->lock);
    for (struct claim *claim = claims; claim; claim = claim->next)
        unclaim_one(l, claim);
    pthread_mutex_unlock(&l->lock);
}
