/*
 * body.h - the content of a message: written once, sealed, then only read.
 *
 * In memory up to a limit, then a side file in the store's folder. A sealed
 * body is immutable and counted atomically: the only object threads share.
 * Side files are named by the message id (with ".1" and so on behind it when a
 * message is re-encoded); the record that `accept` commits names them, files
 * without a record are removed at start.
 */
#ifndef WAYPOST_QUEUE_BODY_H
#define WAYPOST_QUEUE_BODY_H

#include "relay/base/err.h"
#include "relay/base/msgid.h"
#include "relay/base/pool.h"
#include "relay/base/str.h"

#define BODY_INLINE_MAX ((size_t)256 * 1024)
/* How much of a side file is held in memory at once. A buffer that grows by doubling
 * holds it and a piece more in 128 KB. */
#define BODY_WINDOW ((size_t)96 * 1024)

struct body;

struct body *body_of_bytes(struct str bytes);            /* copies */
struct body *body_of_buffer(char *malloced, size_t len); /* takes */
/* A sealed side file that is there already (the store, loading a message). */
struct body *body_of_file(const char *folder, struct str file, uint64_t size);
struct body *body_ref(struct body *body); /* any thread */
void body_unref(struct body **body);      /* any thread; does not remove a file */
/* Give it up and remove its file too: for a body that no record will name (a
 * replaced or temporary copy). Blocks for side files. */
void body_discard(struct body **body);
uint64_t body_size(const struct body *body);
bool body_is_inline(const struct body *body, struct str *out_view);
const char *body_file(const struct body *body); /* file name inside the folder; NULL when inline */

/* Unlink the side file of a body that no record names: one that was sealed but
 * never given to store_accept. Inline: nothing happens. Blocking. */
void body_remove(const struct body *body);

/* The same as body_discard(), for loops: a side file goes on a disk worker of the
 * pool, some time later. */
void body_discard_later(struct body **body, struct pool *pool);

/* Blocking for side files (disk class); *out_len 0 at the end. Any thread, any number at once. */
enum err body_read(struct body *body, uint64_t offset, void *out, size_t size, size_t *out_len,
                   struct fault *fault);

/* ---- writing ---- */

struct body_writer;

/* folder NULL: memory only, whatever the size (store_mem). */
struct body_writer *body_writer_new(const char *folder, const struct msgid *id);
/* Never blocks. True: over a limit, call body_writer_flush() on a disk worker
 * before adding much more (what was added is kept either way). */
bool body_writer_add(struct body_writer *writer, struct str bytes);
/* How much stays in memory, BODY_INLINE_MAX unless said: less when memory is needed. */
void body_writer_keep(struct body_writer *writer, size_t most);
size_t body_writer_memory(const struct body_writer *writer); /* bytes it takes now, room included */
/* Blocking: move what is in memory to the side file. */
enum err body_writer_flush(struct body_writer *writer, struct fault *fault);
uint64_t body_writer_size(const struct body_writer *writer);
bool body_writer_has_file(const struct body_writer *writer); /* sealing will block */
bool body_writer_is_open(const struct body_writer *writer);  /* a file is there, freeing blocks */
/* Blocking when there is a file: written, synced, its folder synced. */
enum err body_writer_seal(struct body_writer *writer, struct body **out_body, struct fault *fault);
/* Drops what was written when it was not sealed, its file too. Blocks for those. */
void body_writer_free(struct body_writer **writer);
/* What is in memory is dropped at once; only freeing may follow. */
void body_writer_give_up(struct body_writer *writer);
/* The same as body_writer_free(), for loops: a file goes on a disk worker of the pool. */
void body_writer_free_later(struct body_writer **writer, struct pool *pool);

#endif
