/*
 * deliver_impl.h - one connection to a next hop; shared by deliver's own files.
 *
 * LOOKING -> CONNECTING -> GREETING -> FREE <-> SENDING -> QUITTING -> gone, and
 * from everywhere back to LOOKING with the next address, or to gone.
 */
#ifndef WAYPOST_EGRESS_DELIVER_IMPL_H
#define WAYPOST_EGRESS_DELIVER_IMPL_H

#include "relay/base/container.h"
#include "relay/egress/deliver.h"
#include "relay/net/sasl.h"
#include "relay/net/stream.h"

#include <stdio.h>
#include <stdlib.h>

enum delivery_state {
    DELIVERY_LOOKING,    /* the TLS policy of the host is looked up */
    DELIVERY_CONNECTING, /* TCP, and TLS when implicit */
    DELIVERY_GREETING,   /* banner, EHLO, STARTTLS, AUTH */
    DELIVERY_FREE,       /* the session is up and idle */
    DELIVERY_SENDING,    /* a transaction, or getting ready for it */
    DELIVERY_QUITTING,   /* QUIT was said */
    DELIVERY_GONE,       /* ended was called; freed when no job holds it */
};

/* What is known of one recipient of the present claim. */
struct delivery_slot {
    bool is_settled;  /* `result` is final */
    bool is_accepted; /* RCPT was accepted in the present transaction */
    bool is_again;    /* not now: the rest goes in another transaction */
    struct delivery_result result;
};

/* The claim behind the present one. */
struct delivery_follower {
    struct claim *claim;                 /* NULL: none */
    const struct recipient **recipients; /* of its transaction */
    bool is_said;                        /* its MAIL, RCPT and DATA are */
};

struct delivery {
    struct delivery_options options;
    struct route_plan *plan;
    char *lane, *hostname;
    struct sender_rules senders; /* a copy: jobs outlive the route's settings */
    struct arena senders_arena;
    enum delivery_state state;
    struct deferred deferred;      /* begin, or take up a given claim */
    struct deferred step_deferred; /* try the address of `step` */
    struct timer total_timer;
    uint64_t number; /* session number, for hops */
    unsigned sent;
    bool is_pumping, pump_again;
    unsigned jobs; /* work on the pool that holds us */

    /* the address being tried */
    size_t step;        /* into plan->steps */
    size_t policy_host; /* whose policy is at hand; SIZE_MAX: none */
    struct tlspolicy_lookup *policy_lookup;
    struct tlspolicy policy;
    struct stream *stream;
    struct smtp_client *client;
    bool is_visit;   /* came without a claim: up to where one would be sent */
    bool is_reused;  /* nothing was heard since the session was taken up again */
    bool clear_only; /* the opportunistic handshake failed: once in clear */
    bool tls_active, tls_begun;
    struct sasl_client *sasl;
    unsigned refused_mechanisms;
    enum mechanism mechanism;
    int64_t stage_began_us;
    char host_words[DNS_NAME + ENDPOINT_TEXT + 4];
    char peer[ENDPOINT_TEXT];
    char helo[DNS_NAME + 64];
    char tls_words[192];

    /* the present claim */
    struct claim *claim;
    struct delivery_slot *slots; /* claim->count */
    struct arena arena;          /* texts of the results */
    uint32_t attempt;
    bool host_reached;
    struct outcome last; /* of the host that failed before this one */
    struct delivery_result last_result;
    bool has_last;

    /* the present transaction */
    struct smtp_client_transaction transactions[2]; /* it and its follower, in turn */
    bool turn;
    struct delivery_follower follower;
    bool has_followed;                   /* it was said behind another's content */
    bool never_follow;                   /* this hop did not like that */
    const struct recipient **recipients; /* of the transaction */
    size_t *slot_of;                     /* transaction index -> slot */
    bool mail_refused, over_head_written, needs_rset;
    uint64_t body_at;
    /* One job at a time. It outlives the connection it was posted for, even the
     * claim: what it works on stays until it is home, and only then the next
     * host's transaction begins. */
    struct job job;
    bool job_is_out, send_waits;
    unsigned era, job_era;       /* connections so far; of the one it works for */
    struct message *job_message; /* held while a job reads it */
    char *window;
    size_t window_len;
    struct fault job_fault;
    /* a copy for a hop that cannot have the message as it is (deliver_copy.c) */
    bool has_copy;
    bool copy_is_7bit, copy_has_sender;
    bool copy_shares_body; /* copy_body is the message's own */
    bool want_7bit, want_sender;
    struct buf copy_head;
    struct body *copy_body;
    enum err copy_err;
};

/* deliver.c */
/* A kept connection that the peer has closed meanwhile says nothing against
 * the host: the same address is tried afresh. */
void delivery_reconnect(struct delivery *delivery);
/* Try the address of `step`, as soon as what runs now has returned. */
void delivery_next_address(struct delivery *delivery);
/* The present address will not do: says so, and tries the next one. */
void delivery_host_failed(struct delivery *delivery, const struct outcome_facts *facts);
void delivery_take_claim(struct delivery *delivery, struct claim *claim);
void delivery_claim_done(struct delivery *delivery);
void delivery_drop_stream(struct delivery *delivery);
void delivery_end(struct delivery *delivery, const struct outcome *trouble);
bool delivery_is_last_step(const struct delivery *delivery);
const struct route_host *delivery_route_host(const struct delivery *delivery);
void delivery_maybe_free(struct delivery *delivery);

/* deliver_talk.c */
void delivery_talk_begin(struct delivery *delivery);
void delivery_pump(struct delivery *delivery);
void delivery_stream_event(void *arg, struct stream *stream, enum stream_event event);

/* deliver_send.c */
void delivery_send(struct delivery *delivery); /* the present claim, or what is left of it */
void delivery_transaction_event(struct delivery *delivery, const struct smtp_client_event *event);
void delivery_send_clear(struct delivery *delivery);
/* The session ended after the host had refused: its words count, not the end.
 * False: it had not. */
bool delivery_was_refused(struct delivery *delivery);
/* All but the recipients. */
void delivery_transaction_fill(const struct delivery *delivery, const struct message *message,
                               struct smtp_client_transaction *out_transaction);
void delivery_transaction_began(struct delivery *delivery);
/* Settle every open slot with this. */
void delivery_settle_open(struct delivery *delivery, const struct outcome_facts *facts);

/* deliver_follow.c */
/* The end of the content has left: without a reply nobody knows if it was taken.
 * What still waits in the stream has not left. */
bool delivery_content_sent(const struct delivery *delivery);
/* The end of the content was said: what goes behind it? */
void delivery_follow(struct delivery *delivery);
/* The claim is done: on with its follower. False: there is none. */
bool delivery_follow_up(struct delivery *delivery);
void delivery_follow_undo(struct delivery *delivery);

/* deliver_copy.c */
bool delivery_copy_is_wanted(struct delivery *delivery);
void delivery_copy_run(struct job *job); /* on a worker; copy_err says how it went */
void delivery_copy_clear(struct delivery *delivery);

/* deliver_hop.c */
void delivery_tell_copy(struct delivery *delivery);
void delivery_tell(struct delivery *delivery, enum stage stage, const struct reply *reply,
                   const struct outcome *outcome, struct str fault);
void delivery_tell_recipient(struct delivery *delivery, enum stage stage, const struct reply *reply,
                             const struct outcome *outcome, const struct recipient *recipient);
/* `facts` judged, as a result whose texts live in the claim's arena. */
struct delivery_result delivery_judge(struct delivery *delivery, const struct outcome_facts *facts);

#endif
