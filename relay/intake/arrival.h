/*
 * arrival.h - one message on its way in; shared by intake's own files only.
 *
 * receiving -> making (pool) -> storing -> gone. `busy` says whether a job or a
 * store request holds pointers into it: then an abort only cuts the caller off.
 */
#ifndef WAYPOST_INTAKE_ARRIVAL_H
#define WAYPOST_INTAKE_ARRIVAL_H

#include "relay/base/container.h"
#include "relay/intake/intake.h"
#include "relay/mail/addr.h"
#include "relay/mail/fixup.h"

#include <stdlib.h>

struct intake {
    struct loop *loop;
    struct intake_options options; /* hostname and routes are the caller's */
    unsigned era;                  /* how often the options changed */
    size_t busy;
    size_t held; /* bytes that messages arriving take */
    bool is_crowded;
};

struct arrival {
    struct intake *intake;
    struct message *message;
    struct arena arena; /* facts, and what fixup found */
    struct arrival_facts facts;
    struct keyring *keyring; /* a reference, as of the beginning */
    struct locals *locals;   /* the same; NULL: none */
    const char *folder;      /* the store's; workers read no options */
    unsigned era;            /* of the routes that gave its lanes */
    int64_t began_us;

    /* receiving */
    struct header_scan scan;
    struct buf head_raw;
    bool first_line_judged, head_done;
    struct body_writer *writer;
    size_t held;    /* bytes it takes in memory while it is received */
    struct job job; /* flush, then make */
    bool busy;
    bool aborted;
    arrival_room_fn *room;
    void *room_arg;
    struct reply refusal; /* code 0: none so far */

    /* finding out where local names lead */
    struct local_result *led;    /* one for each recipient; `found` NULL: not a local one */
    size_t *led_slots, led_mask; /* recipients by address, index + 1: each name once */
    size_t led_at, led_in_all;   /* how far it is; what they lead to */
    bool is_led;
    uint64_t follow_ms; /* when, by the loop's clock */
    enum locals_news news;
    struct str news_words;

    /* making */
    struct arrival_end end;
    struct fixup_facts found;
    struct buf head;
    struct buf signatures;
    struct buf signer_words;
    unsigned signature_count;
    bool wants_signature;
    bool was_converted;
    struct fault fault;
    int64_t making_us, made_us;

    /* handing over */
    struct store_accept accept;
    arrival_done_fn *done;
    arrival_made_fn *made;
    void *done_arg;
    struct deferred deferred;
};

/* arrival_head.c: mend and judge the header, lanes, From rights. False: refusal is set. */
bool arrival_mend(struct arrival *arrival);
void arrival_set_lanes(struct arrival *arrival);

/* arrival_local.c: recipients of this machine's own become those that they lead to. */
void arrival_qualify_sender(struct arrival *arrival);
bool arrival_has_locals(const struct arrival *arrival);
bool arrival_follow(struct arrival *arrival);   /* blocks: on a worker. False: there are more */
void arrival_take_led(struct arrival *arrival); /* on the loop: the new recipients, and hops */

/* arrival_hold.c: memory. All on the loop, and none while a worker has the arrival. */
void arrival_hold(struct arrival *arrival);   /* counts what it takes now, its buffers' room too */
void arrival_unhold(struct arrival *arrival); /* it goes */
void arrival_keep_little(struct arrival *arrival); /* of its body, when many arrive */
void arrival_spare(struct arrival *arrival);       /* may refuse it */

/* arrival_make.c: seal, convert, sign; runs on a worker. refusal is set when it fails. */
void arrival_make(struct arrival *arrival);
bool arrival_needs_worker(const struct arrival *arrival);
bool arrival_seal(struct arrival *arrival); /* blocks only when there is a side file */

/* arrival_hop.c: what the loop tells about it */
void arrival_tell_received(const struct arrival *arrival);
void arrival_tell_made(const struct arrival *arrival);
void arrival_tell_queued(const struct arrival *arrival);

void arrival_refuse(struct arrival *arrival, unsigned code, struct status status, const char *text);
void arrival_refuse_store(struct arrival *arrival, enum err err);

#endif
