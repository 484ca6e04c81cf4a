/*
 * lmdb_index.c - what memory knows of the queue: lanes, and the parts of
 * messages that are in a window or leased. Every function: with the lock held.
 *
 * A part in memory is the truth about its (message, lane): a claim that finds
 * an index entry for it on disk leaves that entry alone.
 */
#include "queue/lmdb_loaded.h"

#include "relay/base/clock.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

/* One group of senders may not fill a lane's window. */
#define WINDOW_BUCKET_MAX 1024

/* ---- lanes ------------------------------------------------------------------ */

struct lane *index_lane(struct lmdb *l, struct str name, bool make)
{
    struct lane *lane;

    HASH_FIND(hh, l->lanes, name.at, name.len, lane);
    if (lane || !make)
        return lane;
    lane = mem_alloc(sizeof(*lane));
    lane->name = str_dup(name);
    lane->name_len = name.len;
    HASH_ADD_KEYPTR(hh, l->lanes, lane->name, lane->name_len, lane);
    return lane;
}

void index_sweep(struct lmdb *l, struct lane *lane)
{
    if (!l->scan_done || lane->queued || lane->held || lane->parts || lane->cold)
        return;
    HASH_DELETE(hh, l->lanes, lane);
    free(lane->window);
    free(lane->name);
    free(lane);
}

static int64_t window_due(const struct lane *lane)
{
    int64_t least = 0;

    for (size_t i = 0; lane->window_count && i < STORE_BUCKETS; i++) {
        const struct part *part = lane->window[i].first;
        if (part && (!least || part->due_at < least))
            least = part->due_at;
    }
    return least;
}

int64_t index_lane_due(const struct lane *lane)
{
    int64_t due = window_due(lane);

    return due && (!lane->index_due || due < lane->index_due) ? due : lane->index_due;
}

void index_tell(struct lmdb *l, struct lane *lane, struct mailbox *near)
{
    int64_t due = index_lane_due(lane);

    if (due && (!lane->told || due < lane->told) && l->ready)
        l->ready(l->ready_arg, lane->name, due, near);
    lane->told = due;
}

static void lower(int64_t *least, int64_t due)
{
    if (!*least || due < *least)
        *least = due;
}

void index_add(struct lmdb *l, struct lane *lane, int64_t due_at)
{
    int64_t due = due_at > 0 ? due_at : 1; /* 0 means none */

    (void)l;
    lower(&lane->index_due, due);
    if (lane->cold)
        lower(&lane->added_due, due);
}

/* ---- parts ------------------------------------------------------------------- */

struct kin *kin_find(struct lmdb *l, const struct msgid *id)
{
    struct kin *kin;

    HASH_FIND(hh, l->kins, id, sizeof(*id), kin);
    return kin;
}

struct part *part_first(struct lmdb *l, const struct msgid *id)
{
    const struct kin *kin = kin_find(l, id);

    return kin ? kin->first : NULL;
}

/* How a part begins. */
struct part_key {
    struct msgid id;
    const struct lane *lane;
};
static_assert(offsetof(struct part, id) == offsetof(struct part_key, id) &&
                  offsetof(struct part, lane) == offsetof(struct part_key, lane) &&
                  sizeof(struct part_key) == MSGID_BYTES + sizeof(struct lane *),
              "a part is hashed by its id and lane");

struct part *part_find(struct lmdb *l, const struct msgid *id, const struct lane *lane)
{
    struct part_key key = { *id, lane };
    struct part *part;

    HASH_FIND(hh, l->parts, &key, sizeof(key), part);
    return part;
}

static struct kin *kin_get(struct lmdb *l, const struct msgid *id)
{
    struct kin *kin = kin_find(l, id);

    if (kin && kin->first)
        return kin;
    if (!kin) {
        kin = mem_alloc(sizeof(*kin));
        kin->id = *id;
        HASH_ADD(hh, l->kins, id, sizeof(kin->id), kin);
    }
    kin->was_moved = l->is_moving;
    return kin;
}

struct part *part_new(struct lmdb *l, const struct msgid *id, struct lane *lane,
                      enum part_state state)
{
    struct part *part = mem_alloc(sizeof(*part));

    part->id = *id;
    part->lane = lane;
    part->state = state;
    part->made_ms = (int64_t)clock_mono_ms();
    part->kin = kin_get(l, id);
    lane->parts++;
    part->next_same_id = part->kin->first;
    if (part->kin->first)
        part->kin->first->prev_same_id = part;
    part->kin->first = part;
    HASH_ADD(hh, l->parts, id, sizeof(struct part_key), part);
    return part;
}

void kin_free(struct lmdb *l, struct kin *kin)
{
    HASH_DELETE(hh, l->kins, kin);
    free(kin);
}

static void unchain(struct lmdb *l, struct part *part)
{
    struct kin *kin = part->kin;

    HASH_DELETE(hh, l->parts, part);
    *(part->prev_same_id ? &part->prev_same_id->next_same_id : &kin->first) = part->next_same_id;
    if (part->next_same_id)
        part->next_same_id->prev_same_id = part->prev_same_id;
    if (!kin->first && !loaded_rest(l, kin))
        kin_free(l, kin);
}

void part_lease(struct part *part)
{
    part->state = PART_LEASED;
    part->lane->leased++;
}

void part_read(struct part *part)
{
    struct kin *kin = part->kin;

    part->state = PART_READING;
    part->next = kin->readers;
    if (kin->readers)
        kin->readers->prev = part;
    kin->readers = part;
}

void part_unread(struct part *part)
{
    *(part->prev ? &part->prev->next : &part->kin->readers) = part->next;
    if (part->next)
        part->next->prev = part->prev;
    part->prev = part->next = NULL;
    part->state = PART_LOOSE;
}

/* A lease ends. Claims of other lanes that are reading the message may see it as it was
 * before, with these recipients queued. */
static void tell_readers(const struct part *part)
{
    for (struct part *other = part->kin->readers; other && part->count > 0; other = other->next) {
        other->indexes =
            mem_realloc(other->indexes, (other->count + part->count) * sizeof(*other->indexes));
        memcpy(other->indexes + other->count, part->indexes, part->count * sizeof(*other->indexes));
        other->count += part->count;
    }
}

static bool in_age_list(const struct lmdb *l, const struct part *part)
{
    return part->older || part->newer || l->oldest == part;
}

static void age_append(struct lmdb *l, struct part *part)
{
    part->older = l->newest;
    *(l->newest ? &l->newest->newer : &l->oldest) = part;
    l->newest = part;
}

static void age_remove(struct lmdb *l, struct part *part)
{
    if (!in_age_list(l, part))
        return;
    *(part->older ? &part->older->newer : &l->oldest) = part->newer;
    *(part->newer ? &part->newer->older : &l->newest) = part->older;
    part->older = part->newer = NULL;
}

void part_forget(struct lmdb *l, struct part *part)
{
    part->indexed = true;
    age_remove(l, part);
    l->window_bytes -= part->bytes;
    part->bytes = 0;
    message_unref(&part->message);
}

/* It found recipients due that this part, of another lane, still has. */
void part_block(struct part *part, const struct lane *lane)
{
    struct blocked *blocked = part->blocked;

    while (blocked && strcmp(blocked->lane, lane->name) != 0)
        blocked = blocked->next;
    if (blocked)
        return;
    blocked = mem_alloc(sizeof(*blocked) + lane->name_len + 1);
    memcpy(blocked->lane, lane->name, lane->name_len);
    blocked->next = part->blocked;
    part->blocked = blocked;
}

void part_unblock(struct lmdb *l, struct part *part)
{
    while (part->blocked) {
        struct blocked *blocked = part->blocked;
        struct lane *lane = index_lane(l, str_of(blocked->lane), false);
        if (lane) {
            index_add(l, lane, part->due_at);
            index_tell(l, lane, NULL);
        }
        part->blocked = blocked->next;
        free(blocked);
    }
}

void part_free(struct lmdb *l, struct part *part)
{
    struct lane *lane = part->lane;

    if (part->state == PART_WINDOW)
        part_leave(l, part);
    if (part->state == PART_READING)
        part_unread(part);
    if (part->state == PART_LEASED) {
        lane->leased--;
        tell_readers(part);
    }
    part_forget(l, part);
    part_unblock(l, part);
    unchain(l, part);
    lane->parts--;
    free(part->indexes);
    free(part);
}

int64_t part_low(const struct part *part, int64_t low)
{
    for (; part; part = part->newer) {
        int64_t ms = msgid_wall_ms(&part->id);
        low = ms < low ? ms : low;
    }
    return low;
}

bool part_has_room(struct lmdb *l, const struct lane *lane, unsigned bucket, size_t bytes)
{
    if (l->window_bytes + bytes > l->window_max)
        return false;
    return !lane->window || lane->window[bucket].count < WINDOW_BUCKET_MAX;
}

void part_enter(struct lmdb *l, struct part *part, bool at_front)
{
    struct lane *lane = part->lane;

    if (!lane->window)
        lane->window = mem_alloc(STORE_BUCKETS * sizeof(lane->window[0]));
    struct part_queue *queue = &lane->window[part->bucket];
    if (part->state == PART_LEASED)
        lane->leased--;
    if (!in_age_list(l, part))
        age_append(l, part);
    if (at_front) {
        part->next = queue->first;
        *(queue->first ? &queue->first->prev : &queue->last) = part;
        queue->first = part;
    } else {
        part->prev = queue->last;
        *(queue->last ? &queue->last->next : &queue->first) = part;
        queue->last = part;
    }
    queue->count++;
    lane->window_count++;
    part->state = PART_WINDOW;
}

/* The caller gives it its next state. */
void part_leave(struct lmdb *l, struct part *part)
{
    struct lane *lane = part->lane;
    struct part_queue *queue = &lane->window[part->bucket];

    (void)l;
    *(part->prev ? &part->prev->next : &queue->first) = part->next;
    *(part->next ? &part->next->prev : &queue->last) = part->prev;
    part->prev = part->next = NULL;
    queue->count--;
    part->state = PART_LOOSE;
    if (--lane->window_count == 0) {
        free(lane->window); /* a lane without fresh mail costs little */
        lane->window = NULL;
    }
}

/* ---- records that cannot be read ----------------------------------------------- */

bool index_corrupt(struct lmdb *l, const struct msgid *id)
{
    struct corrupt_id *item;

    HASH_FIND(hh, l->corrupt, id, sizeof(*id), item);
    if (item)
        return false;
    item = mem_alloc(sizeof(*item));
    item->id = *id;
    HASH_ADD(hh, l->corrupt, id, sizeof(item->id), item);
    l->health.corrupt = HASH_COUNT(l->corrupt);
    return true;
}

void index_mended(struct lmdb *l, const struct msgid *id)
{
    struct corrupt_id *item;

    HASH_FIND(hh, l->corrupt, id, sizeof(*id), item);
    if (!item)
        return;
    HASH_DELETE(hh, l->corrupt, item);
    free(item);
    l->health.corrupt = HASH_COUNT(l->corrupt);
}
