/*
 * intake.h - the one way a message becomes durable.
 *
 * Content arrives in pieces; intake keeps header and body apart, mends the
 * header (mail/fixup), re-encodes what must be (mail/convert), signs (dkim),
 * computes each recipient's lane, and gives the message to the store. Private
 * keys, conversion and files are worked on by the pool, never on the loop.
 *
 * One `struct intake` per loop. DSNs of our own take the same way, except that
 * the settling transaction stores them (arrival_end_unstored).
 */
#ifndef WAYPOST_INTAKE_INTAKE_H
#define WAYPOST_INTAKE_INTAKE_H

#include "dkim/keyring.h"
#include "queue/store.h"
#include "relay/intake/locals.h"
#include "relay/mail/lane.h"
#include "relay/mail/reply.h"
#include "relay/net/loop.h"

struct intake;
struct arrival;

struct intake_options {
    struct store *store;
    struct keyring *keyring; /* NULL: nothing is signed */
    struct str hostname;
    const struct lane_route *routes; /* views: must outlive the intake or its next intake_set */
    size_t route_count;
    size_t header_max;
    size_t held_max; /* bytes that messages arriving may take in memory together before their
                        bodies go to the disk early; 0: any */
    /* Where memory has a limit: from three quarters of it on bodies go at once, in small
     * pieces, and beyond it those with a long header are refused with 452; 0: any. */
    size_t held_most;
    unsigned hops_max;
    bool received_user;    /* name the authenticated user in Received */
    struct locals *locals; /* NULL: no address is the machine's own */
    /* The alias file was read again, with a new table in force; on the loop. May be NULL. */
    void (*aliases_changed)(void *arg);
    void *aliases_arg;
};

struct intake *intake_new(struct loop *loop, const struct intake_options *options);
/* A reload: arrivals under way keep what they began with as far as it matters. */
void intake_set(struct intake *intake, const struct intake_options *options);
void intake_free(struct intake **intake);        /* no arrival may be under way */
size_t intake_busy(const struct intake *intake); /* arrivals under way */

/* A reverse-path of this machine's own without a domain is completed, and marked so. */
void intake_qualify_sender(struct intake *intake, struct envelope *envelope);

struct arrival_facts {
    struct str with;           /* "ESMTPSA" ... (RFC 3848) */
    struct str tls;            /* for Received; empty: none */
    struct str client_address; /* for Received: "192.0.2.1" or "IPv6:..." */
    struct str submitter;      /* a user of this machine, for Received: "joe, uid 1000" */
    const struct msgid *id;    /* the id to give it; one that the store has already is there
                                  and counts as stored. NULL: a new one */
    uint64_t session;          /* for hops */
    int64_t written_us;        /* when it was given to us, for a missing Date; 0: now */
    uint64_t announced;        /* octets, as the client said before; 0: it did not */
    bool is_submission;        /* add missing fields */
    /* From this machine or a trusted network: addresses without a domain are taken
     * and completed, in the envelope and in the header. */
    bool is_local_origin;
    /* May this From mailbox be used? NULL: any may. Called inside arrival_end(). */
    bool (*from_ok)(void *arg, struct str address, struct reply *out_refusal);
    void *from_arg;
};

/* `envelope` is copied; its id is given here (arrival_id). Everything in facts is copied. */
struct arrival *arrival_begin(struct intake *intake, const struct envelope *envelope,
                              const struct arrival_facts *facts);
const struct msgid *arrival_id(const struct arrival *arrival);

/* False: enough for now, stop feeding until `room` is called (once) from the loop. */
typedef void arrival_room_fn(void *arg);
bool arrival_feed(struct arrival *arrival, struct str piece, arrival_room_fn *room, void *arg);

struct arrival_end {
    bool has_8bit, has_long_line, lacks_final_crlf; /* what the codec saw */
};
/* The answer for the client: 250 2.0.0 with the id once it is durable, else a
 * 4xx or 5xx that says why. Called once, from the loop, not before this call
 * returned. The arrival is gone by then. */
typedef void arrival_done_fn(void *arg, const struct reply *reply);
void arrival_end(struct arrival *arrival, const struct arrival_end *end, arrival_done_fn *done,
                 void *arg);

/* The same, but not stored: the message is handed over (a reference), or NULL
 * with the reply that says why. */
typedef void arrival_made_fn(void *arg, struct message *message, const struct reply *reply);
void arrival_end_unstored(struct arrival *arrival, const struct arrival_end *end,
                          arrival_made_fn *made, void *arg);

/* The client is gone or gave up. After arrival_end(): the message may still
 * become durable (the client cannot know either way); only the function is not called. */
void arrival_abort(struct arrival **arrival);

#endif
