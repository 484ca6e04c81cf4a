/*
 * store.h - what makes messages durable. It speaks of mail, not of keys.
 *
 * Always asynchronous: a request is embedded by its caller, posted, and comes
 * back as a letter in `reply_to` once it is done, never before the posting
 * call returned. Until then the store owns it and what it points to. Any
 * thread may post. A request's `err` and `fault` say how it went.
 *
 * Durability: an accept or settle that came back with ERR_OK is on disk,
 * synced. One that came back with an error changed nothing.
 *
 * Leases: a claimed (message, lane) is leased in memory until it is settled or
 * unclaimed; nobody else can claim it. After a crash everything unsettled is
 * due again: delivery is at least once. A settle that came back with an error
 * leaves the lease: settle again, or unclaim. While a message is leased an
 * operator may hold, drop or reroute it: the record changes at once, and the
 * verdict is merged into it (delivered and failed win over hold; a message that
 * was dropped meanwhile takes its verdict and its DSN with it). Once that is
 * answered nobody claims the recipients as they were before; who has them by then
 * is counted in its `leased`.
 *
 * A refused accept's side file is removed by the store, unless the refusal was
 * ERR_EXISTS.
 *
 * Which recipients are due: QUEUED, due_at <= now, not leased. Mail sits in its
 * lane's window in memory (no index entry, head and body at hand) or has an
 * index entry on disk; callers cannot tell.
 *
 * Fairness inside a lane: claims go round robin over senders, so that one
 * sender's newsletter does not hold up another's message.
 */
#ifndef WAYPOST_QUEUE_STORE_H
#define WAYPOST_QUEUE_STORE_H

#include "queue/message.h"
#include "relay/base/hop.h"
#include "relay/base/mailbox.h"
#include "relay/base/pool.h"
#include "relay/mail/lane.h"

struct store;

/* Some thousand messages: more than is ever in flight, and the rest of a backlog is on
 * disk anyway. */
#define STORE_WINDOW_BYTES ((size_t)16 << 20)

struct store_options {
    const char *folder;   /* made when missing; store_mem: NULL */
    uint64_t quota_bytes; /* how much may be queued; 0: half of what is free at open */
    uint64_t
        reserve_bytes; /* kept free on the disk; 0: 1/64 of the disk, at most 256 MiB, at least 1 MiB */
    uint64_t map_bytes; /* 0: 1 TiB */
    size_t
        window_bytes; /* memory for fresh mail that is still to be claimed; 0: STORE_WINDOW_BYTES */
    bool read_only;   /* the daemon is down: list, get only */
    struct pool *pool; /* disk class */
    struct hop_ring
        *ring; /* for the writer thread's own hops (quarantine, disk full); may be NULL */
    /* NULL: clock_wall_us; the simulation passes its own. Called on store threads too. */
    int64_t (*wall_us)(void);
};

/* ---- what callers ask for ---- */

struct store_request {
    struct letter letter; /* used by the store; its `open` calls `done` */
    struct mailbox *reply_to;
    void (*done)(struct store_request *request); /* on reply_to's thread */
    unsigned op;                                 /* used by the store */
    struct store *store;                         /* used by the store */
    enum err err;
    struct fault fault;
};

struct store_accept {
    struct store_request request;
    struct message *message; /* the store takes a reference of its own while it needs one */
};

/* Some due recipients of one message, in one lane. */
struct claim {
    struct claim *next;
    struct message *message; /* a reference; the caller gives it up with claim_free */
    char *lane;
    uint32_t *indexes; /* into message->envelope.recipients */
    size_t count;
    int64_t due_at; /* the earliest of theirs */
};

/* A look at mail that is due and not sent, because its place is down: only what is
 * old enough that something must be done about it. Nothing is written for it, and
 * what is not old is not read. */
struct claim_look {
    bool is_on;
    int64_t expired_before; /* arrived before (wall s), time on hold not counted */
    int64_t late_before;    /* the same, and not warned yet; 0: nobody is warned */
    struct claim_place {    /* in and out: where the look is; begin with zero */
        bool is_begun;
        unsigned bucket;
        int64_t due_at;
        struct msgid id;
    } place;
};

struct store_claim {
    struct store_request request;
    const char *lane;
    size_t max; /* messages; what a look finds in memory comes on top */
    int64_t now_s;
    struct claim_look look;
    struct claim *claims; /* out: list, maybe empty */
    bool more;            /* out: others are due now too; the look is not at its end */
    int64_t next_due;     /* out: when the next becomes due (wall s), 0: nothing is queued there */
};

/* What became of one recipient of a claim. */
struct verdict {
    uint32_t index;             /* into the claim's message's recipients */
    enum recipient_state state; /* DELIVERED, FAILED or QUEUED (try again at due_at) */
    bool attempted;             /* counts as an attempt */
    bool warned;                /* a delay warning goes with it */
    int64_t due_at;
    enum stage stage;
    enum class kind;
    struct str status, host, said, cause, fix; /* views, valid until done */
};

struct settlement {
    struct claim *claim;      /* stays the caller's; its lease ends when done */
    struct verdict *verdicts; /* one for each of the claim's recipients */
    size_t verdict_count;
    struct message **dsns; /* accepted in the same transaction, all or none */
    size_t dsn_count;
};

struct store_settle {
    struct store_request request;
    struct settlement *settlements;
    size_t count;
};

/* Which entries: empty or zero fields match everything. */
struct store_filter {
    struct msgid id;      /* nil: any */
    struct str lane;      /* lane_matches, and it waits there when any state will do */
    struct str sender;    /* addr_matches pattern; "<>": the null one */
    struct str recipient; /* addr_matches pattern */
    struct str user;
    int64_t older_than; /* arrived before (wall s) */
    int64_t newer_than; /* arrived after */
    bool any_state;     /* false: `state` counts */
    enum recipient_state state;
    bool deferred_only;          /* attempted at least once and queued */
    const struct str *of_routes; /* in a lane of one of these */
    size_t of_route_count;
};

enum store_change_kind {
    STORE_HOLD,
    STORE_RELEASE, /* due now */
    STORE_RETRY,   /* due now; leased ones once they are settled as `later` */
    STORE_DROP,    /* no DSN */
    STORE_REROUTE, /* lane_of() says where it belongs now; due there now, unless leased */
    /* Local names that were held because they led nowhere (stage EXPAND): become the
     * recipients that they lead to now, due now. Those that still lead nowhere stay. */
    STORE_READDRESS,
};
struct store_address {
    struct str address, lane;
};
/* A next hop that a route has now; `print` is the same for as long as the hop is. */
struct store_hop {
    struct str route;
    uint64_t print;
};
/* Applied in pages, other requests in between. An error may leave the first pages
 * changed; what was changed is counted. A corrupt record can be dropped by its id. */
struct store_change {
    struct store_request request;
    enum store_change_kind kind;
    struct store_filter filter; /* recipients that match and can be changed so */
    /* REROUTE: writes the lane for this sender and recipient; called on a store thread */
    void (*reroute)(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                    char out_lane[LANE_MAX]);
    /* READDRESS: where this recipient leads now, in the arena; 0: nowhere. On a store thread. */
    size_t (*readdress)(void *arg, const struct envelope *envelope,
                        const struct recipient *recipient, struct arena *arena,
                        const struct store_address **out_addresses);
    void *arg;
    /* RETRY of what waits for a next hop that is another than the store was told the last
     * time, before a restart or after; of one that it was told nothing of, nothing. From then
     * on it knows these and no others: written with the last of what is made due, never
     * before. It sets filter.of_routes, to `changed`: the caller's, with room for hop_count. */
    const struct store_hop *hops;
    struct str *changed;
    size_t hop_count;
    /* REROUTE of everything: a name for these routes. When all was moved by the same
     * before, and nothing by others since, nothing is read. 0: has no name. */
    uint64_t routes;
    bool routes_in_doubt; /* some mail is not where they would have it: all is read */
    struct msgid *ids;    /* out: the first of them, as many as fit into the caller's array */
    size_t ids_max;       /* 0: nobody asks */
    uint64_t recipients;  /* out: how many were changed */
    uint64_t leased;      /* out: those of them that are being attempted; the attempt goes on */
    uint64_t messages;    /* out */
    uint64_t examined;    /* out: records that were read to find them */
};

/* A page of the queue, oldest first. Leased ones are listed too. */
#define STORE_LIST_RECIPIENTS 20000 /* a list ends behind the message that reaches it */
struct store_list {
    struct store_request request;
    struct store_filter filter;
    struct msgid after;         /* nil: from the start */
    size_t max;                 /* messages; fewer when they have so many recipients: see more */
    struct envelope *envelopes; /* out: array, malloc'd; free with store_list_clear */
    bool *is_corrupt;           /* out: per item; then only the id is valid */
    size_t count;
    size_t recipients; /* of all of them; for the store's own use */
    bool more;
};

struct store_get {
    struct store_request request;
    struct msgid id;
    bool with_content;       /* head and body too */
    struct message *message; /* out: a reference; ERR_NOT_FOUND in err */
};

/* Lanes that have mail, with what is known without reading it. */
struct lane_info {
    char *lane;
    uint64_t queued, held; /* recipients */
    int64_t next_due;      /* wall s; 0: nothing queued */
    int64_t oldest;        /* arrival, wall s, of the oldest entry known; 0: not known */
    bool leased;           /* some of it is being attempted */
};
struct store_lanes {
    struct store_request request;
    const char *after; /* NULL: from the start, by name */
    size_t max;
    struct lane_info *lanes; /* out: array; free with store_lanes_clear */
    size_t count;
    bool more;
};

/* ---- the calls ---- */

void store_accept(struct store *store, struct store_accept *request);
void store_claim(struct store *store, struct store_claim *request);
void store_settle(struct store *store, struct store_settle *request);
void store_change(struct store *store, struct store_change *request);
void store_list(struct store *store, struct store_list *request);
void store_get(struct store *store, struct store_get *request);
void store_lanes(struct store *store, struct store_lanes *request);

/* Give claims back untouched: due again at once. Memory only; any thread. */
void store_unclaim(struct store *store, struct claim **claims);
void claim_free(struct claim **claim); /* one claim, after it was settled */
void store_list_clear(struct store_list *list);
void store_lanes_clear(struct store_lanes *lanes);

/* Tell when a lane gets something due, or due earlier than before; also once
 * for every lane with queued mail during this call (what was found at open).
 * Called on a store thread or inside a call of yours, under the store's lock:
 * must not block, must not call the store. `near` is a hint: who is being answered
 * now that his message for this lane was accepted, so awake anyway; NULL: nobody. */
typedef void store_ready_fn(void *arg, const char *lane, int64_t due_at, struct mailbox *near);
void store_watch(struct store *store, store_ready_fn *fn, void *arg);

enum store_state { STORE_FINE, STORE_FULL_QUOTA, STORE_FULL_DISK, STORE_BROKEN };
struct store_health {
    enum store_state state; /* anything but FINE: answer 452 4.3.1 at MAIL */
    uint64_t queued_bytes, quota_bytes;
    uint64_t disk_free_bytes; /* and, when that is little, what is free inside our file */
    uint64_t messages;        /* in the queue */
    uint64_t recipients_queued, recipients_held;
    uint64_t corrupt;                           /* quarantined records */
    uint64_t files_removed;                     /* at open: side files that no record names */
    uint64_t commits, commit_ns_sum, batch_sum; /* since open */
    size_t waiting;                             /* requests the writer has not taken yet */
    int64_t oldest_s;                           /* arrival of the oldest message; 0: none */
};
/* Cheap: no I/O, any thread. Asking makes the store look at the disk again, on its
 * own thread and at most once a second: it recovers without new traffic. */
void store_health(struct store *store, struct store_health *out_health);
/* Requests posted and not yet answered, claims in memory being made included.
 * Exact: when it is 0, every answer is in its mailbox. */
size_t store_outstanding(struct store *store);

const char *store_folder(struct store *store); /* for body_writer_new; NULL: memory only */

/* ---- backends: one row each ---- */

/* Refuses (ERR_BUSY) when another process serves the same folder. */
enum err store_open_lmdb(const struct store_options *options, struct store **out_store,
                         struct fault *fault);
enum err store_open_mem(const struct store_options *options, struct store **out_store,
                        struct fault *fault);
/* Waits for what was posted; claims not settled are simply due again. */
void store_close(struct store **store);

#endif
