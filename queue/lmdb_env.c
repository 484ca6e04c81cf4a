/*
 * lmdb_env.c - the environment on disk: made, locked, versioned.
 *
 * A new database is made in a folder of its own and renamed into place once it
 * is synced: one cut off in its very first writes cannot be opened again.
 */
#include "queue/lmdb_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* 2: the counters end with the name of the routes. A waypost that reads only 1 would
 * move lanes and leave the name: it must refuse. */
#define STORE_VERSION 2
#define STATE_FIELDS ((size_t)6)
#define STATE_FIELDS_1 ((size_t)5)

enum err lmdb_fault(struct fault *fault, int rc, const char *words)
{
    enum err err = ERR_IO;

    if (rc == MDB_MAP_FULL || rc == ENOSPC || rc == EDQUOT)
        err = ERR_FULL;
    else if (rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID)
        err = ERR_CORRUPT;
    else if (rc == MDB_VERSION_MISMATCH)
        err = ERR_VERSION;
    else if (rc == MDB_NOTFOUND)
        err = ERR_NOT_FOUND;
    else if (rc > 0)
        err = err_of_errno(rc);
    return fault_set(fault, err, "%s: %s", words, mdb_strerror(rc));
}

static enum err sync_path(const char *path, struct fault *fault)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum err rc = ERR_OK;

    if (fd < 0 || fsync(fd) != 0)
        rc = fault_errno(fault, errno, "cannot sync %s", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

static enum err make_folder(const char *path, struct fault *fault)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return ERR_OK;
    return fault_errno(fault, errno, "cannot create the queue folder %s", path);
}

/* A flock dies with its process: no stale locks, no process ids. */
static enum err lock_folder(struct lmdb *l, struct fault *fault)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/lock", l->folder);
    l->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (l->lock_fd < 0)
        return fault_errno(fault, errno, "cannot open %s (is it owned by the relay's user?)", path);
    if (flock(l->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return ERR_OK;
    if (errno == EWOULDBLOCK)
        return fault_set(fault, ERR_BUSY,
                         "the queue in %s is in use by another waypost: stop that one first, or "
                         "give this one another data folder",
                         l->folder);
    return fault_errno(fault, errno, "cannot lock %s", path);
}

static void put_be(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, value >>= 8)
        to[i] = (uint8_t)value;
}

static uint64_t get_be(const uint8_t *from, int bytes)
{
    uint64_t value = 0;

    for (int i = 0; i < bytes; i++)
        value = value << 8 | from[i];
    return value;
}

static MDB_val key_of(const char *name)
{
    return (MDB_val){ strlen(name), (void *)(uintptr_t)name };
}

enum err lmdb_state_save(struct lmdb *l, MDB_txn *txn, const struct lmdb_state *state,
                         struct fault *fault)
{
    uint8_t bytes[STATE_FIELDS * 8];
    MDB_val key = key_of("state"), value = { sizeof(bytes), bytes };

    put_be(bytes, (uint64_t)state->fresh_low_ms, 8);
    put_be(bytes + 8, state->queued_bytes, 8);
    put_be(bytes + 16, state->messages, 8);
    put_be(bytes + 24, state->queued, 8);
    put_be(bytes + 32, state->held, 8);
    put_be(bytes + 40, state->routes, 8);
    int rc = mdb_put(txn, l->dbi_main, &key, &value, 0);
    return rc ? lmdb_fault(fault, rc, "cannot write the queue's counters") : ERR_OK;
}

static enum err load_state(struct lmdb *l, MDB_txn *txn, struct fault *fault)
{
    MDB_val key = key_of("state"), value;
    int rc = mdb_get(txn, l->dbi_main, &key, &value);

    if (rc)
        return lmdb_fault(fault, rc, "cannot read the queue's counters");
    if (value.mv_size != STATE_FIELDS * 8 && value.mv_size != STATE_FIELDS_1 * 8)
        return fault_set(fault, ERR_CORRUPT, "the queue's counters in %s are damaged", l->db);
    const uint8_t *bytes = value.mv_data;
    l->state.fresh_low_ms = (int64_t)get_be(bytes, 8);
    l->state.queued_bytes = get_be(bytes + 8, 8);
    l->state.messages = get_be(bytes + 16, 8);
    l->state.queued = get_be(bytes + 24, 8);
    l->state.held = get_be(bytes + 32, 8);
    l->state.routes = value.mv_size > STATE_FIELDS_1 * 8 ? get_be(bytes + 40, 8) : 0;
    return ERR_OK;
}

static enum err check_version(struct lmdb *l, MDB_txn *txn, uint64_t *out_version,
                              struct fault *fault)
{
    MDB_val key = key_of("version"), value;
    int rc = mdb_get(txn, l->dbi_main, &key, &value);

    if (rc || value.mv_size != 4)
        return fault_set(fault, ERR_CORRUPT, "%s is not a waypost queue", l->db);
    uint64_t version = get_be(value.mv_data, 4);
    if (version > STORE_VERSION)
        return fault_set(fault, ERR_VERSION,
                         "the queue in %s was written by a newer waypost (format %llu, this one "
                         "reads up to %d)",
                         l->folder, (unsigned long long)version, STORE_VERSION);
    *out_version = version;
    return ERR_OK;
}

int lmdb_open_dbis(struct lmdb *l, MDB_txn *txn, unsigned flags)
{
    int rc = mdb_dbi_open(txn, NULL, 0, &l->dbi_main);

    if (!rc)
        rc = mdb_dbi_open(txn, "msg", flags, &l->dbi_msg);
    if (!rc)
        rc = mdb_dbi_open(txn, "content", flags, &l->dbi_content);
    if (!rc)
        rc = mdb_dbi_open(txn, "due", flags, &l->dbi_due);
    return rc;
}

/* What mmap() says to more than the process may map. */
static bool is_no_room(int rc) { return rc == ENOMEM || rc == EINVAL || rc == EOVERFLOW; }

enum err lmdb_open_env(struct lmdb *l, const char *path, struct fault *fault)
{
    unsigned flags = MDB_NOTLS | (l->read_only ? MDB_RDONLY : 0);
    int rc = mdb_env_create(&l->env);

    if (!rc)
        rc = mdb_env_set_maxdbs(l->env, 4);
    if (!rc)
        rc = mdb_env_set_mapsize(l->env, (size_t)l->map_bytes);
    if (!rc)
        rc = lmdb_map(l, path, flags);
    if (!rc)
        return ERR_OK;
    lmdb_unmap(l); /* LMDB wants that after an open that failed, too */
    if (rc == EACCES)
        return fault_set(fault, ERR_DENIED,
                         "cannot open the queue in %s: permission denied (reading needs write "
                         "permission on lock.mdb)",
                         path);
    if (is_no_room(rc))
        return fault_set(fault, ERR_FULL,
                         "%s: %s: most likely there is no address space for a map of %lluM; set "
                         "queue { map-size = 4G } or another size that fits, or raise ulimit -v",
                         path, strerror(rc), (unsigned long long)l->map_bytes >> 20);
    if (rc == ENOENT && l->read_only)
        return fault_set(fault, lmdb_fault(fault, rc, path),
                         "there is no queue %s: no relay has run on this data folder yet", path);
    return lmdb_fault(fault, rc, path);
}

static int put_version(struct lmdb *l, MDB_txn *txn)
{
    uint8_t version[4];
    MDB_val key = key_of("version"), value = { sizeof(version), version };

    put_be(version, STORE_VERSION, 4);
    return mdb_put(txn, l->dbi_main, &key, &value, 0);
}

static enum err write_first(struct lmdb *l, struct fault *fault)
{
    MDB_txn *txn = NULL;
    int rc = lmdb_begin(l, 0, &txn);
    if (rc)
        return lmdb_fault(fault, rc, "cannot create the queue");
    rc = lmdb_open_dbis(l, txn, MDB_CREATE);
    if (!rc)
        rc = put_version(l, txn);
    enum err err = rc ? lmdb_fault(fault, rc, "cannot create the queue")
                      : lmdb_state_save(l, txn, &l->state, fault);
    if (err) {
        mdb_txn_abort(txn);
        return err;
    }
    lmdb_point(l);
    rc = mdb_txn_commit(txn);
    return rc ? lmdb_fault(fault, rc, "cannot create the queue") : ERR_OK;
}

static void remove_db(const char *folder)
{
    static const char *const names[] = { "data.mdb", "lock.mdb" };
    char path[4200];

    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static enum err create_db(struct lmdb *l, struct fault *fault)
{
    char temporary[4100], data[4200];
    enum err rc;

    snprintf(temporary, sizeof(temporary), "%s/db.new", l->folder);
    snprintf(data, sizeof(data), "%s/data.mdb", temporary);
    remove_db(temporary);
    rc = make_folder(temporary, fault);
    if (!rc)
        rc = lmdb_open_env(l, temporary, fault);
    if (rc)
        return rc;
    rc = write_first(l, fault);
    lmdb_unmap(l);
    if (!rc)
        rc = sync_path(data, fault);
    if (!rc)
        rc = sync_path(temporary, fault);
    if (rc)
        return rc;
    lmdb_point(l);
    if (rename(temporary, l->db) != 0)
        return fault_errno(fault, errno, "cannot move the new queue to %s", l->db);
    lmdb_point(l);
    return sync_path(l->folder, fault);
}

/* Before anything is written that an older waypost would not understand. */
static enum err upgrade(struct lmdb *l, struct fault *fault)
{
    MDB_txn *txn = NULL;
    int rc = lmdb_begin(l, 0, &txn);

    if (!rc)
        rc = put_version(l, txn);
    if (!rc)
        rc = mdb_txn_commit(txn);
    else if (txn)
        mdb_txn_abort(txn);
    return rc ? lmdb_fault(fault, rc, "cannot write the queue's version") : ERR_OK;
}

static enum err check_contents(struct lmdb *l, struct fault *fault)
{
    uint64_t version = STORE_VERSION;
    MDB_txn *txn = NULL;
    int rc = lmdb_begin(l, MDB_RDONLY, &txn);

    if (rc)
        return lmdb_fault(fault, rc, "cannot read the queue");
    rc = lmdb_open_dbis(l, txn, 0);
    enum err err = rc ? lmdb_fault(fault, rc, "cannot read the queue")
                      : check_version(l, txn, &version, fault);
    if (!err)
        err = load_state(l, txn, fault);
    if (err)
        mdb_txn_abort(txn);
    else
        mdb_txn_commit(txn); /* keeps the handles */
    if (!err && version < STORE_VERSION && !l->read_only)
        err = upgrade(l, fault);
    return err;
}

static enum err prepare_folder(struct lmdb *l, struct fault *fault)
{
    struct stat st;
    enum err rc = make_folder(l->folder, fault);

    if (!rc)
        rc = lock_folder(l, fault);
    if (!rc)
        rc = make_folder(l->bodies, fault);
    if (!rc && stat(l->db, &st) != 0)
        rc = create_db(l, fault);
    return rc;
}

enum err lmdb_env_open(struct lmdb *l, struct fault *fault)
{
    enum err rc = l->read_only ? ERR_OK : prepare_folder(l, fault);

    if (!rc)
        rc = lmdb_open_env(l, l->db, fault);
    if (!rc)
        rc = check_contents(l, fault);
    if (!rc)
        l->last_txn = lmdb_last_txn(l);
    if (!rc && !l->read_only)
        lmdb_check_readers(l);
    return rc;
}

void lmdb_env_close(struct lmdb *l)
{
    lmdb_unmap(l);
    if (l->lock_fd >= 0)
        close(l->lock_fd);
    l->lock_fd = -1;
}
