/*
 * lmdb_store.h - the inside of the LMDB backend, shared by its files only.
 *
 * Threads: the writer thread alone makes write transactions and owns
 * everything in `struct lmdb` that is marked [w]. What is marked [l] is the
 * index in memory, under `lock`; no disk is touched while it is held. The rest
 * never changes after open.
 */
#ifndef WAYPOST_QUEUE_LMDB_STORE_H
#define WAYPOST_QUEUE_LMDB_STORE_H

#include "queue/record.h"
#include "queue/store_backend.h"
#include "queue/store_rules.h"
#include "relay/base/arena.h"
#include "relay/base/container.h"
#include "relay/base/hash.h"

#include <lmdb.h>
#include <stdatomic.h>

#define LMDB_CHUNK 4080 /* one page: a larger value needs a run of free pages to be found */
#define LMDB_DUE_KEY_MAX (LANE_MAX + 1 + 1 + 8 + MSGID_BYTES)
#define LMDB_PAGE 256       /* messages changed, counted or recovered in one transaction */
#define LMDB_PAGE_IDLE 1024 /* while no accept or settle waits for it */
#define LMDB_RETRY_S 60     /* until a claim looks again at what it could not read */

/* ---- the index in memory (lmdb_index.c) ---------------------------------- */

/* LOOSE -> WINDOW <-> LEASED -> gone;  WINDOW -> gone, when it is indexed.
 * READING -> LEASED, MENDING or gone. */
enum part_state {
    PART_LOOSE,   /* in no queue: being committed, or on its way to another state */
    PART_WINDOW,  /* waits in its lane's window, no index entry */
    PART_READING, /* found in the index; a claim reads what of it is due */
    PART_LEASED,  /* claimed */
    PART_MENDING, /* the writer is looking at a bad index entry or record */
};

/* A lane that found recipients which another lane's part still has. */
struct blocked {
    struct blocked *next;
    char lane[];
};

/* What memory knows of one message: its parts, one for each of its lanes. */
struct kin {
    struct msgid id;
    struct part *first;
    struct part *readers;    /* those that are READING */
    struct loaded *loaded;   /* what one of them read; NULL: nothing */
    struct kin *prev, *next; /* with `loaded`: in order of last use */
    bool was_moved;          /* a part may have recipients that belong to another lane now */
    UT_hash_handle hh;
};

/* The recipients of one message in one lane, while memory knows of them. */
struct part {
    struct msgid id; /* with the lane: what it is found by */
    struct lane *lane;
    struct kin *kin;
    struct message *message; /* while it is not indexed */
    enum part_state state;
    bool indexed;  /* has index entries: memory may forget it */
    bool retry;    /* an operator asked while it was leased */
    bool is_stale; /* READING: what it reads may be changed already */
    unsigned bucket;
    int64_t due_at;
    int64_t made_ms;   /* monotonic: when its lease or window time began */
    uint32_t *indexes; /* the recipients; READING: whose lease ended meanwhile */
    size_t count;
    size_t bytes;                             /* counted in window_bytes */
    struct blocked *blocked;                  /* lanes that wait for this part to go */
    struct part *prev_same_id, *next_same_id; /* other lanes of the message */
    struct part *prev, *next;                 /* WINDOW: in its bucket; READING: of its kin */
    struct part *older, *newer;               /* not indexed: in order of acceptance */
    UT_hash_handle hh;
};

struct part_queue {
    struct part *first, *last;
    size_t count;
};

struct lane {
    char *name;
    size_t name_len;
    uint64_t queued, held;     /* recipients; complete once the scan is */
    struct part_queue *window; /* STORE_BUCKETS of them, or NULL: nothing fresh */
    size_t window_count;
    size_t parts, leased; /* in memory */
    unsigned turn;        /* the bucket a claim looks at first */
    bool index_turn;      /* a claim of one takes it from the index */
    int64_t index_due;    /* nothing in the index is due earlier; 0: nothing is there */
    int64_t added_due;    /* the earliest that was added while a cold claim ran; 0: none */
    int64_t told;         /* what the watcher or a claimer knows; 0: nothing is queued */
    struct cold *cold;    /* a cold claim is running; others wait behind it */
    UT_hash_handle hh;
};

struct corrupt_id {
    struct msgid id;
    UT_hash_handle hh;
};

/* ---- what every commit also writes ([w], lmdb_env.c) ----------------------- */

/* What the count after a start has found, and what became of it since; not written. */
struct lmdb_counted {
    uint64_t bytes, queued, held;
};

struct lmdb_state {
    int64_t fresh_low_ms; /* every open message with an older id has its index entries */
    uint64_t queued_bytes;
    uint64_t messages;
    uint64_t queued, held; /* recipients */
    uint64_t routes;       /* all lanes are as these would have them; 0: maybe not */
    struct lmdb_counted counted;
};

/* ---- one write transaction ([w], lmdb_batch.c) ------------------------------ */

struct effect { /* on a lane, once the transaction is durable */
    struct str lane;
    int64_t queued, held; /* differences */
    int64_t due_at;       /* an index entry was made; 0: none */
    struct mailbox *near; /* of the last accept for it; NULL: none */
};

/* A message that was changed otherwise than by the end of a lease. */
struct changed {
    struct msgid id;
    const bool *recipients; /* which of them, in the batch's arena; NULL: that is not asked */
    size_t count;
};

struct batch {
    MDB_txn *txn;
    bool append; /* ids of the accepts are above every stored one */
    int64_t oldest_s;
    struct arena arena;
    struct lmdb_state state; /* as it will be */
    int64_t now_s;
    uint64_t new_bytes;   /* of accepts */
    size_t ops;           /* accepts and settlements */
    struct mailbox *near; /* of the accept that is being applied */
    struct effect *effects;
    size_t effect_count, effect_cap;
    struct part **fresh; /* enter their windows */
    size_t fresh_count, fresh_cap;
    struct part **spilled; /* have index entries now */
    size_t spilled_count, spilled_cap;
    struct part **ended; /* leases that end, parts that were mended */
    size_t ended_count, ended_cap;
    struct changed *changed;
    size_t changed_count, changed_cap;
    uint64_t leased;     /* out: changed recipients that are being attempted nevertheless */
    struct body **files; /* side files to remove */
    size_t file_count, file_cap;
};

struct writer_accept {
    struct message *message;
    struct store_accept *request; /* NULL: a DSN */
    enum err err;
};

/* Messages with a local name that led nowhere, in order of their ids (lmdb_waiting.c). */
struct waiting {
    struct msgid *ids;
    size_t count, cap;
    bool is_partial;    /* there were too many: none is kept until all are looked for */
    bool is_rebuilding; /* that is under way */
};

/* What tests set otherwise. */
struct lmdb_tuning {
    unsigned die_at;    /* _exit(77) at this point; 0: never */
    uint64_t spill_ms;  /* mail leaves its window after this long */
    size_t at_open;     /* messages an open indexes before it returns; 0: 4096 */
    uint64_t gather_ms; /* what a commit waits for company while any is due; 0: see writer */
};

/* Where LMDB's files lie in memory; nowhere: not known (lmdb_maps.c). */
struct lmdb_maps {
    void *lock_at;
    size_t lock_len;
    struct mapped *data, *lock;
};

struct lmdb {
    struct store store;
    char *folder, *bodies, *db;
    MDB_env *env;              /* NULL: given up, to be opened anew */
    struct lmdb_maps maps;     /* [w] changes them with env */
    pthread_rwlock_t env_lock; /* other threads look under it; [w] changes env under it */
    uint64_t last_txn;         /* [w] the last commit that succeeded */
    MDB_dbi dbi_main, dbi_msg, dbi_content, dbi_due;
    int lock_fd;
    bool read_only;
    struct pool *pool;
    struct hop_ring *ring;
    int64_t (*wall_us)(void);
    size_t window_max;
    uint64_t quota_bytes, reserve_bytes, ballast_bytes, map_bytes;

    struct lmdb_tuning tuning;
    atomic_uint points;   /* passed by the fault counter */
    atomic_size_t slices; /* of records, read: for tests */

    /* writer */
    pthread_t thread;
    bool has_thread;
    struct mailbox in;
    atomic_size_t waiting, jobs;
    bool stopping;                                 /* [w] */
    struct store_request *backlog, **backlog_last; /* [w] linked through letter.next */
    struct store_change *changes, **changes_last;  /* [w] */
    struct msgid change_after;                     /* [w] where the first change is */
    struct msgid change_last;                      /* [w] where it ends */
    struct waiting waiting_names;                  /* [w] */
    struct lmdb_state state;                       /* [w] as committed */
    struct batch batch;                            /* [w] */
    struct writer_accept *accepts;                 /* [w] */
    size_t accept_count, accept_cap;
    struct buf scratch;                          /* [w] */
    struct opened *opened, *opened_spare;        /* [w] kept by id; for the next record */
    size_t opened_bytes;                         /* [w] of those that are kept */
    struct msgid recover_at, recover_last;       /* [w] indexed up to here; and to do */
    bool is_recovering;                          /* [w] writes under lock, read by both */
    size_t spilled_bytes;                        /* [w] since memory was given back */
    uint64_t recover_ms;                         /* [w] not before: the last page failed */
    struct msgid scan_at;                        /* [w] counted up to here */
    size_t scanned;                              /* [w] records */
    bool scan_missed;                            /* [w] some of them, damaged */
    uint64_t opened_ms;                          /* when */
    bool scan_done;                              /* [w] writes under lock, read by both */
    uint64_t scan_ms;                            /* [w] not before: the last page failed */
    enum err scan_err;                           /* [w] what it failed with, told at */
    uint64_t scan_told_ms;                       /* [w] */
    uint64_t checked_ms, spilled_ms, readers_ms; /* [w] when last */
    uint64_t used_since;                         /* [w] bytes accepted since statvfs */
    bool has_ballast;                            /* [w] */
    bool is_broken;                              /* [w] a commit failed, and not for space */

    pthread_mutex_t lock;
    struct lane *lanes;           /* [l] */
    struct kin *kins;             /* [l] by id */
    struct kin *sharing;          /* [l] those with `loaded`; the last was used last */
    size_t sharing_bytes;         /* [l] */
    struct part *parts;           /* [l] by id and lane */
    bool is_moving;               /* [l] lanes of recipients are being changed */
    struct part *oldest, *newest; /* [l] not indexed, in order of acceptance */
    size_t window_bytes;          /* [l] */
    struct corrupt_id *corrupt;   /* [l] */
    store_ready_fn *ready;        /* [l] */
    void *ready_arg;              /* [l] */
    struct store_health health;   /* [l] */
    uint64_t asked_ms;            /* [l] health asked for a new look */
    bool recheck_posted;          /* [l] */
    struct letter recheck, stop;
};

static inline struct lmdb *lmdb_of(struct store *store) { return (struct lmdb *)(void *)store; }

/* Where the fault counter may kill the process. */
void lmdb_point(struct lmdb *l);
enum err lmdb_open(const struct store_options *options, const struct lmdb_tuning *tuning,
                   struct store **out_store, struct fault *fault);

/* ---- lmdb_env.c ---- */
enum err lmdb_env_open(struct lmdb *l, struct fault *fault);
void lmdb_env_close(struct lmdb *l);
enum err lmdb_open_env(struct lmdb *l, const char *path, struct fault *fault);
int lmdb_open_dbis(struct lmdb *l, MDB_txn *txn, unsigned flags);

/* ---- lmdb_maps.c: the only way into LMDB and out of it ---- */
int lmdb_map(struct lmdb *l, const char *folder, unsigned flags); /* opens env; 0, or as LMDB */
void lmdb_unmap(struct lmdb *l); /* closes env, if there is one; nobody is in a transaction */
int lmdb_begin(struct lmdb *l, unsigned flags, MDB_txn **out_txn); /* EIO: the disk is gone */
int lmdb_renew(struct lmdb *l, MDB_txn *txn);
void lmdb_check_readers(struct lmdb *l); /* those of processes that were killed pin pages */

/* ---- lmdb_look.c ---- */
/* A look from another thread than the writer's; with 0 it has to be ended. */
int lmdb_look_begin(struct lmdb *l, MDB_txn **out_txn);
void lmdb_look_end(struct lmdb *l, MDB_txn *txn);
uint64_t lmdb_last_txn(const struct lmdb *l);
enum err lmdb_reopen(struct lmdb *l, struct fault *fault); /* [w] */

enum err lmdb_fault(struct fault *fault, int rc, const char *words);
enum err lmdb_state_save(struct lmdb *l, MDB_txn *txn, const struct lmdb_state *state,
                         struct fault *fault);

/* ---- lmdb_record.c: messages in a transaction ---- */
struct due_key {
    struct str lane;
    int64_t due_at;
};
size_t lmdb_due_key(char out[LMDB_DUE_KEY_MAX], struct str lane, unsigned bucket, int64_t due_at,
                    const struct msgid *id);
bool lmdb_due_parse(struct str key, struct str *out_lane, unsigned *out_bucket, int64_t *out_due,
                    struct msgid *out_id);
/* Distinct (lane, due) of the queued recipients, sorted; in the arena. */
struct due_key *lmdb_due_keys(const struct envelope *envelope, struct arena *arena,
                              size_t *out_count);
struct due_key *lmdb_due_keys_among(const struct envelope *envelope, const uint32_t *indexes,
                                    size_t index_count, struct arena *arena, size_t *out_count);
void lmdb_due_sort(struct due_key *keys, size_t count);
bool lmdb_due_has(const struct due_key *keys, size_t count, struct due_key key);
/* Loads into an initialised envelope; the bytes are copied into its arena. */
enum err lmdb_last_id(struct lmdb *l, struct msgid *out_id, struct fault *fault); /* nil: empty */
enum err lmdb_load(struct lmdb *l, MDB_txn *txn, const struct msgid *id, struct envelope *envelope,
                   struct record_content *content, struct fault *fault);
/* Record and content as a message. */
enum err lmdb_load_message(struct lmdb *l, MDB_txn *txn, const struct msgid *id, bool with_content,
                           struct message **out_message, struct fault *fault);
enum err lmdb_put_message(struct lmdb *l, struct batch *batch, const struct message *message,
                          struct fault *fault);
enum err lmdb_put_slice(struct lmdb *l, struct batch *batch, const struct envelope *envelope,
                        const struct record_content *content, size_t slice, unsigned flags,
                        struct fault *fault);
enum err lmdb_del_message(struct lmdb *l, struct batch *batch, const struct envelope *envelope,
                          const struct record_content *content, struct fault *fault);
/* Without knowing what it holds (corrupt): everything under the id. */
enum err lmdb_del_raw(struct lmdb *l, struct batch *batch, const struct msgid *id,
                      struct fault *fault);
enum err lmdb_put_due(struct lmdb *l, MDB_txn *txn, const struct envelope *envelope,
                      struct due_key key, struct fault *fault);
enum err lmdb_del_due(struct lmdb *l, MDB_txn *txn, const struct envelope *envelope,
                      struct due_key key, struct fault *fault);

/* ---- lmdb_lane_order.c ---- */
void lane_sort(const struct envelope *envelope, uint32_t *indexes, size_t count);
/* Those of the lane among sorted ones. */
const uint32_t *lane_run_of(const struct envelope *envelope, const uint32_t *sorted, size_t count,
                            struct str lane, size_t *out_count);

/* ---- lmdb_waiting.c: the writer's ---- */

void waiting_note(struct lmdb *l, const struct msgid *id);
void waiting_forget(struct lmdb *l, const struct msgid *id);
bool waiting_next(const struct lmdb *l, const struct msgid *after, struct msgid *out_id);
/* False: whoever wants them all has to look at every record. */
bool waiting_is_complete(const struct lmdb *l);
void waiting_begin(struct lmdb *l); /* of a look at all that wait, and its end */
void waiting_end(struct lmdb *l, enum err err);

/* ---- lmdb_index.c: all with the lock held ---- */
struct lane *index_lane(struct lmdb *l, struct str name, bool make);
void index_sweep(struct lmdb *l, struct lane *lane); /* frees it when nothing is there */
int64_t index_lane_due(const struct lane *lane);
void index_tell(struct lmdb *l, struct lane *lane, struct mailbox *near);
void index_add(struct lmdb *l, struct lane *lane, int64_t due_at); /* index entry; no tell */
struct kin *kin_find(struct lmdb *l, const struct msgid *id);
void kin_free(struct lmdb *l, struct kin *kin);
struct part *part_find(struct lmdb *l, const struct msgid *id, const struct lane *lane);
struct part *part_first(struct lmdb *l, const struct msgid *id);
struct part *part_new(struct lmdb *l, const struct msgid *id, struct lane *lane,
                      enum part_state state);
void part_free(struct lmdb *l, struct part *part);
void part_lease(struct part *part);  /* LOOSE -> LEASED, of its indexes */
void part_read(struct part *part);   /* LOOSE -> READING */
void part_unread(struct part *part); /* READING -> LOOSE */
bool part_has_room(struct lmdb *l, const struct lane *lane, unsigned bucket, size_t bytes);
void part_enter(struct lmdb *l, struct part *part, bool at_front); /* -> WINDOW */
void part_leave(struct lmdb *l, struct part *part);                /* WINDOW -> out of the queue */
void part_forget(struct lmdb *l, struct part *part);         /* it is indexed: the message can go */
void part_block(struct part *part, const struct lane *lane); /* to be told when it goes */
void part_unblock(struct lmdb *l, struct part *part);
/* Is this the key of a message behind `after`? Further slices of a record are not. */
bool lmdb_message_key(const MDB_val *key, const struct msgid *after, struct msgid *out_id);
/* The earliest of `low` and the ids of this part and all that were accepted after it. */
int64_t part_low(const struct part *part, int64_t low);
bool index_corrupt(struct lmdb *l, const struct msgid *id); /* false: known already */
void index_mended(struct lmdb *l, const struct msgid *id);

/* ---- lmdb_claim.c ---- */
void lmdb_claim(struct store *store, struct store_claim *request);
void lmdb_unclaim(struct store *store, struct claim *claims);

/* ---- lmdb_batch.c ---- */
void *batch_grow(void *items, size_t count, size_t *cap, size_t size); /* room for one more */
enum err batch_begin(struct lmdb *l, struct fault *fault);
enum err batch_commit(struct lmdb *l, struct fault *fault); /* aborts when it fails */
void batch_abort(struct lmdb *l);
void batch_count(struct lmdb *l, const struct envelope *envelope, int64_t by); /* recipients */
void batch_count_one(struct lmdb *l, const struct envelope *envelope, const struct recipient *r,
                     int64_t by);
void batch_cost(struct lmdb *l, const struct envelope *envelope, int64_t by); /* in the quota */
void batch_due(struct lmdb *l, struct str lane, int64_t due_at);              /* an index entry */
void batch_touch(struct lmdb *l, struct str lane); /* tell it at the end */
void batch_fresh(struct lmdb *l, struct part *part);
void batch_ended(struct lmdb *l, struct part *part);
/* With the recipients: those that are leased when memory follows are counted. */
void batch_changed(struct lmdb *l, const struct msgid *id, const bool *recipients, size_t count);
void batch_file(struct lmdb *l, const struct record_content *content);
/* The message's parts in memory get their index entries with this batch. */
void batch_spill(struct lmdb *l, struct part *part);
/* Without a transaction: what the scan counted. */
void batch_count_lane(struct lmdb *l, struct str lane, bool is_held);
void batch_apply_counts(struct lmdb *l);
/* The record cannot be read: no part of it is claimed any more. */
void batch_quarantine(struct lmdb *l, const struct msgid *id, const char *why);

/* ---- lmdb_apply.c ---- */
enum err apply_accepts(struct lmdb *l, struct fault *fault);

/* ---- lmdb_settle.c ---- */
enum err apply_settle(struct lmdb *l, struct store_settle *request, struct fault *fault);
enum err apply_keys(struct lmdb *l, const struct envelope *envelope, const struct due_key *before,
                    size_t before_count, struct fault *fault);

/* ---- lmdb_pages.c: work in pages between the batches ---- */
bool pages_waiting(struct lmdb *l);
void pages_run(struct lmdb *l);
size_t pages_size(struct lmdb *l);      /* messages that may be worked on in one page now */
uint64_t pages_wait_ms(struct lmdb *l); /* until mail in memory should be written out */

/* ---- lmdb_scan.c ([w]) ---- */
uint64_t scan_wait_ms(const struct lmdb *l); /* 0: a page can be counted now */
void scan_page(struct lmdb *l);              /* fails: it is told and tried again later */
void scan_again(struct lmdb *l);             /* from the first record on, as after a start */

/* ---- lmdb_change.c ---- */
void change_page(struct lmdb *l);

/* ---- lmdb_hops.c: in the batch's transaction ---- */
/* Has the change routes whose next hop is another now? Then its filter names them. */
enum err hops_compare(struct lmdb *l, struct store_change *change, bool *out_changed,
                      struct fault *fault);
enum err hops_remember(struct lmdb *l, const struct store_change *change, bool *out_written,
                       struct fault *fault); /* written: unless they were known */

/* ---- lmdb_mend.c ---- */
void lmdb_mend(struct lmdb *l, struct part *part, struct due_key key); /* any thread */

/* ---- lmdb_list.c ---- */
void lmdb_list(struct store *store, struct store_list *request);

/* ---- lmdb_narrow.c ---- */
/* The ids, sorted, of all mail that a list with this filter may find behind `after`, and
 * maybe of some that it will not; malloc'd. False: the records have to be read for that. */
bool narrow_ids(struct lmdb *l, const struct store_list *list, struct msgid **out_ids,
                size_t *out_count);

/* ---- lmdb_read.c ---- */
void lmdb_get(struct store *store, struct store_get *request);
void lmdb_lanes(struct store *store, struct store_lanes *request);
/* Run on the disk class; `done` calls lmdb_job_done() and frees it. */
void lmdb_job(struct lmdb *l, struct job *job);
void lmdb_job_done(struct lmdb *l);

/* ---- lmdb_recover.c ---- */
enum err lmdb_recover(struct lmdb *l, struct fault *fault);
enum err recover_page(struct lmdb *l, size_t max, struct fault *fault); /* while is_recovering */

/* ---- lmdb_space.c ([w]) ---- */
enum err space_open(struct lmdb *l, const struct store_options *options, struct fault *fault);
void space_check(struct lmdb *l, bool now); /* looks at the disk, now or when it is time */
void space_judge(struct lmdb *l);           /* after a commit */
enum err space_admit(struct lmdb *l, uint64_t cost, struct fault *fault);
bool space_drop_ballast(struct lmdb *l); /* false: there was none */
void space_failed(struct lmdb *l, enum err err, const struct fault *fault);
void space_publish(struct lmdb *l);
/* An alarm, or an event, of the queue as a whole. */
void space_tell(struct lmdb *l, enum hop_weight weight, const char *what, const char *cause,
                const char *fix);

/* ---- lmdb_writer.c ---- */
enum err writer_start(struct lmdb *l, struct fault *fault);
void writer_stop(struct lmdb *l);
void writer_post(struct store *store, struct store_request *request);

#endif
