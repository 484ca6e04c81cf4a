/*
 * lmdb_space.c - how much may be queued, and what happens when the disk is full.
 *
 * Mail is refused (452) while the disk has less than the reserve left, or the
 * queue is over its quota; what happened to mail we have must always be
 * written. For that there is a ballast file: when a commit fails for want of
 * room, accepts are refused, the ballast is dropped and the rest is tried again.
 * All on the writer thread but space_publish's callers, which hold the lock.
 */
#include "queue/lmdb_store.h"

#include "relay/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MIB ((uint64_t)1024 * 1024)
#define LOOK_MS 200 /* between two looks at the disk while all is well */

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

static bool disk(struct lmdb *l, uint64_t *out_size, uint64_t *out_free)
{
    struct statvfs st;

    if (statvfs(l->folder, &st) != 0)
        return false;
    *out_size = (uint64_t)st.f_blocks * st.f_frsize;
    *out_free = (uint64_t)st.f_bavail * st.f_frsize;
    return true;
}

/* Pages inside the queue's file that can be used again: the file never shrinks,
 * so after a disk was filled once they are the only room there is. */
static uint64_t reusable(struct lmdb *l)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    MDB_stat st;
    uint64_t pages = 0;

    if (!l->env || mdb_env_stat(l->env, &st) || lmdb_begin(l, MDB_RDONLY, &txn))
        return 0;
    /* Handle 0 is the list of free pages: each record begins with their number. */
    if (mdb_cursor_open(txn, 0, &cursor) == 0) {
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            size_t count = 0;
            if (value.mv_size >= sizeof(count))
                memcpy(&count, value.mv_data, sizeof(count));
            pages += count;
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return pages * st.ms_psize;
}

/* Room for the queue. The free list is gone through only when it matters. */
static bool room(struct lmdb *l, uint64_t *out_disk, uint64_t *out_room)
{
    uint64_t size;

    if (!disk(l, &size, out_disk))
        return false;
    *out_room = *out_disk + (*out_disk < 4 * l->reserve_bytes ? reusable(l) : 0);
    return true;
}

static void ballast_path(const struct lmdb *l, char *out, size_t size)
{
    snprintf(out, size, "%s/ballast", l->folder);
}

/* Real blocks, not a hole. Failing is fine: then there is no room to set aside. */
static void make_ballast(struct lmdb *l)
{
    char path[4200];

    ballast_path(l, path, sizeof(path));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (posix_fallocate(fd, 0, (off_t)l->ballast_bytes) == 0)
        l->has_ballast = true;
    else
        unlink(path);
    close(fd);
}

bool space_drop_ballast(struct lmdb *l)
{
    char path[4200];
    bool had = l->has_ballast;

    ballast_path(l, path, sizeof(path));
    unlink(path);
    l->has_ballast = false;
    return had;
}

enum err space_open(struct lmdb *l, const struct store_options *options, struct fault *fault)
{
    uint64_t size, free_bytes;

    if (!disk(l, &size, &free_bytes))
        return fault_errno(fault, errno, "cannot see how full the disk of %s is", l->folder);
    l->reserve_bytes =
        options->reserve_bytes ? options->reserve_bytes : clamp(size / 64, MIB, 256 * MIB);
    l->ballast_bytes = clamp(l->reserve_bytes / 2, MIB / 4, 4 * MIB);
    l->quota_bytes =
        options->quota_bytes ? options->quota_bytes : free_bytes / 2 + l->state.queued_bytes;
    /* Pages that wait for their second transaction, and those half empty. */
    if (l->quota_bytes > l->map_bytes / 2)
        l->quota_bytes = l->map_bytes / 2;
    make_ballast(l);
    space_check(l, true);
    return ERR_OK;
}

void space_tell(struct lmdb *l, enum hop_weight weight, const char *what, const char *cause,
                const char *fix)
{
    struct hop hop = {
        .began_us = l->wall_us(),
        .ended_us = l->wall_us(),
        .weight = weight,
        .stage = weight == HOP_ALARM ? STAGE_ALARM : STAGE_QUEUE,
        .result = weight == HOP_ALARM ? RESULT_LATER : RESULT_OK,
        .scope = SCOPE_US,
        .fault = weight == HOP_ALARM ? str_of(what) : STR_EMPTY,
        .text = weight == HOP_ALARM ? STR_EMPTY : str_of(what),
        .cause = str_of(cause),
        .fix = str_of(fix),
    };

    hop_emit(l->ring, &hop);
}

static void tell_state(struct lmdb *l, enum store_state state)
{
    switch (state) {
    case STORE_FINE:
        space_tell(l, HOP_EVENT, "the queue takes mail again", "", "");
        return;
    case STORE_FULL_QUOTA:
        space_tell(l, HOP_ALARM, "the queue is full",
                   "more mail is queued than `queue size` allows",
                   "see why it does not leave, or raise the size");
        return;
    case STORE_FULL_DISK:
        space_tell(
            l, HOP_ALARM, "the disk of the queue is full",
            "clients get 452 until there is room; mail that is queued goes on being delivered",
            "free some space on it");
        return;
    case STORE_BROKEN:
        space_tell(l, HOP_ALARM, "the queue cannot be written", "a commit failed",
                   "look at the disk's health and the kernel's log");
        return;
    }
}

static enum store_state judge(const struct lmdb *l, uint64_t free_bytes)
{
    uint64_t margin = l->quota_bytes / 64 < MIB ? l->quota_bytes / 64 : MIB;

    if (l->is_broken)
        return STORE_BROKEN;
    if (free_bytes < l->reserve_bytes)
        return STORE_FULL_DISK;
    if (l->state.queued_bytes + margin >= l->quota_bytes)
        return STORE_FULL_QUOTA;
    return STORE_FINE;
}

static void set_state(struct lmdb *l, enum store_state state)
{
    pthread_mutex_lock(&l->lock);
    bool is_news = l->health.state != state;
    l->health.state = state;
    pthread_mutex_unlock(&l->lock);
    if (is_news)
        tell_state(l, state);
}

/* Everything but the state. With the lock held. */
void space_publish(struct lmdb *l)
{
    l->health.queued_bytes = l->state.queued_bytes;
    l->health.quota_bytes = l->quota_bytes;
    l->health.messages = l->state.messages;
    l->health.recipients_queued = l->state.queued;
    l->health.recipients_held = l->state.held;
}

void space_judge(struct lmdb *l)
{
    /* Only this thread writes it. */
    set_state(l, judge(l, l->health.disk_free_bytes));
}

void space_check(struct lmdb *l, bool now)
{
    uint64_t disk_free, free_bytes, ms = clock_mono_ms();

    /* A burst can fill a small disk between two looks. */
    if (!now && ms - l->checked_ms < LOOK_MS && l->used_since < l->reserve_bytes / 4)
        return;
    l->checked_ms = ms;
    l->used_since = 0;
    if (!room(l, &disk_free, &free_bytes))
        return;
    if (!l->has_ballast && disk_free > l->reserve_bytes + 2 * l->ballast_bytes)
        make_ballast(l);
    pthread_mutex_lock(&l->lock);
    l->health.disk_free_bytes = free_bytes;
    space_publish(l);
    pthread_mutex_unlock(&l->lock);
    space_judge(l);
}

enum err space_admit(struct lmdb *l, uint64_t cost, struct fault *fault)
{
    /* Only this thread writes the state. */
    uint64_t free_bytes = l->health.disk_free_bytes;
    uint64_t used = l->used_since + l->batch.new_bytes + cost;

    if (l->batch.state.queued_bytes + cost > l->quota_bytes)
        return fault_set(fault, ERR_FULL, "the queue is full: %llu bytes of %llu",
                         (unsigned long long)l->batch.state.queued_bytes,
                         (unsigned long long)l->quota_bytes);
    if (free_bytes < l->reserve_bytes || free_bytes - l->reserve_bytes < used)
        return fault_set(fault, ERR_FULL, "the disk of the queue is full: %llu bytes are free",
                         (unsigned long long)free_bytes);
    return ERR_OK;
}

/* LMDB reports a short write on a full disk as EIO: ask the disk which it was. */
void space_failed(struct lmdb *l, enum err err, const struct fault *fault)
{
    uint64_t disk_free = 0, free_bytes = 0;

    room(l, &disk_free, &free_bytes);
    l->checked_ms = clock_mono_ms();
    if (err == ERR_FULL || disk_free < l->reserve_bytes) {
        pthread_mutex_lock(&l->lock);
        l->health.disk_free_bytes = free_bytes;
        pthread_mutex_unlock(&l->lock);
        set_state(l, STORE_FULL_DISK);
        return;
    }
    l->is_broken = true;
    space_tell(l, HOP_ALARM, fault->text, "", "");
    set_state(l, STORE_BROKEN);
}
