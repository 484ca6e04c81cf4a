/*
 * lmdb_look.c - reading transactions of other threads, and opening the file anew.
 *
 * When the last write of a commit fails, LMDB gives its environment up for good:
 * nothing more can be read or written through it. The trouble may be over in a
 * minute (a path to a disk array, a file system remounted), so the writer closes
 * the environment and opens it again, once nobody looks into it.
 */
#include "queue/lmdb_store.h"

#include <errno.h>

int lmdb_look_begin(struct lmdb *l, MDB_txn **out_txn)
{
    pthread_rwlock_rdlock(&l->env_lock);
    int rc = l->env ? lmdb_begin(l, MDB_RDONLY, out_txn) : EIO;

    if (rc)
        pthread_rwlock_unlock(&l->env_lock);
    return rc;
}

void lmdb_look_end(struct lmdb *l, MDB_txn *txn)
{
    mdb_txn_abort(txn);
    pthread_rwlock_unlock(&l->env_lock);
}

uint64_t lmdb_last_txn(const struct lmdb *l)
{
    MDB_envinfo info;

    return l->env && mdb_env_info(l->env, &info) == 0 ? info.me_last_txnid : 0;
}

/* LMDB puts the old record back when writing the new one failed. Where even that did
 * not work, the file may know of changes that memory has not followed. */
static enum err check_unchanged(const struct lmdb *l, struct fault *fault)
{
    if (lmdb_last_txn(l) == l->last_txn)
        return ERR_OK;
    return fault_set(fault, ERR_IO,
                     "the queue's file is not as it was left when writing it failed: restart "
                     "waypost, it reads what is there");
}

static enum err open_again(struct lmdb *l, struct fault *fault)
{
    MDB_txn *txn = NULL;
    enum err err = lmdb_open_env(l, l->db, fault);

    if (err)
        return err;
    int rc = lmdb_begin(l, MDB_RDONLY, &txn);
    if (!rc)
        rc = lmdb_open_dbis(l, txn, 0);
    if (!rc)
        rc = mdb_txn_commit(txn); /* keeps the handles */
    else if (txn)
        mdb_txn_abort(txn);
    return rc ? lmdb_fault(fault, rc, "cannot read the queue") : check_unchanged(l, fault);
}

enum err lmdb_reopen(struct lmdb *l, struct fault *fault)
{
    pthread_rwlock_wrlock(&l->env_lock);
    lmdb_unmap(l);
    enum err rc = open_again(l, fault);
    if (rc)
        lmdb_unmap(l);
    pthread_rwlock_unlock(&l->env_lock);
    return rc;
}
