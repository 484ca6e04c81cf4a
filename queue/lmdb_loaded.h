/*
 * lmdb_loaded.h - a message that a claim read, for the claims of its other lanes. All but
 * loaded_new() and loaded_free(): with the lock held.
 */
#ifndef WAYPOST_QUEUE_LMDB_LOADED_H
#define WAYPOST_QUEUE_LMDB_LOADED_H

#include "queue/lmdb_store.h"

struct loaded *loaded_new(struct message *message); /* NULL: not worth it */
/* To the other lanes of the part's message; the caller frees what comes back. Before the
 * part is claimed. */
void loaded_offer(struct lmdb *l, struct part *reader, struct loaded **loaded);
/* A view of the message, and its recipients that are due in the part's lane, malloc'd.
 * NULL: nothing is known of them. */
struct message *loaded_due(struct lmdb *l, const struct part *reader, int64_t now_s,
                           uint32_t **out_indexes, size_t *out_count);
void loaded_over(struct loaded *loaded, const struct part *part); /* its lease ends */
void loaded_changed(struct lmdb *l, const struct msgid *id);      /* by the last commit */
void loaded_free(struct loaded **loaded);
bool loaded_rest(struct lmdb *l, struct kin *kin); /* its last part went; false: nor is it kept */
/* Those that rest for so long go; their bytes. */
size_t loaded_sweep(struct lmdb *l, uint64_t now_ms, uint64_t rest_ms);

#endif
