/*
 * lmdb_hops.c - which next hops the store was told last, in a row of the main table.
 *
 * Read by each page of a change that tells them, written by its last page: in one
 * transaction with the last of the mail that it makes due. Cut off before, the same
 * change finds the old row again and goes on where it was, since what is due by then
 * is not touched. An older waypost passes over the row, and a store without one (an
 * older waypost's) knows of no next hop: so the store's version says nothing of it.
 */
#include "queue/lmdb_store.h"

static MDB_val row_key(void) { return (MDB_val){ 4, (void *)(uintptr_t) "hops" }; }

static enum err read_row(struct lmdb *l, struct str *out_row, struct fault *fault)
{
    MDB_val key = row_key(), value;
    int rc = mdb_get(l->batch.txn, l->dbi_main, &key, &value);

    if (rc && rc != MDB_NOTFOUND)
        return lmdb_fault(fault, rc, "cannot read the next hops of before");
    *out_row = rc ? STR_EMPTY : str_make(value.mv_data, value.mv_size);
    return ERR_OK;
}

enum err hops_compare(struct lmdb *l, struct store_change *change, bool *out_changed,
                      struct fault *fault)
{
    struct str row = STR_EMPTY;
    enum err rc = read_row(l, &row, fault);

    if (!rc)
        *out_changed = rules_hops_changed(change, row);
    return rc;
}

enum err hops_remember(struct lmdb *l, const struct store_change *change, bool *out_written,
                       struct fault *fault)
{
    MDB_val key = row_key();
    struct buf now;
    struct str row = STR_EMPTY;
    enum err rc = read_row(l, &row, fault);

    if (rc)
        return rc;
    rules_hops_row(change, &now);
    if (!str_eq(row, buf_view(&now))) {
        MDB_val value = { now.len, now.at };
        int put = mdb_put(l->batch.txn, l->dbi_main, &key, &value, 0);
        *out_written = put == 0;
        rc = put ? lmdb_fault(fault, put, "cannot write the next hops") : ERR_OK;
    }
    buf_clear(&now);
    return rc;
}
