/*
 * sched_impl.h - when what is sent where; shared by sched's own files.
 *
 * A lane with something due waits in one of five lines: READY (it has its turn
 * next), UNROUTED (too many look-ups run, or too many results wait for the store), STARVED (no connection is left in
 * all), BLOCKED (its dest gives out no slot now), THROTTLED (its dest has no
 * message token now). In its turn a lane hands claims to idle connections, opens
 * at most one connection and asks for claims. Nothing is claimed without a slot
 * to send it, so what is in memory is bounded by connections, not by lanes.
 */
#ifndef WAYPOST_EGRESS_SCHED_IMPL_H
#define WAYPOST_EGRESS_SCHED_IMPL_H

#include "relay/base/container.h"
#include "relay/base/hash.h"
#include "relay/egress/route_same.h"
#include "relay/egress/ruling.h"
#include "relay/egress/sched.h"

#include <stdlib.h>
#include <utlist.h>

#define SCHED_CLAIM_MAX 32       /* messages asked for at once */
#define SCHED_TURN_MESSAGES 20   /* over one connection while others wait for one */
#define SCHED_PLAN_MAX_S 300     /* a plan is used at most so long */
#define SCHED_LOOKUPS_MAX 256    /* routes looked up at once */
#define SCHED_UNSETTLED_MAX 1024 /* claims whose results wait for the store: then no more */
#define SCHED_REUSE_MS 5000      /* an idle connection is kept so long */
#define SCHED_QUICK_MS 3000      /* a message's way to the other side, when nothing hinders it */
#define SCHED_QUICK_MAX 256
#define SCHED_CLOCK_LOOK_MS 60000 /* the wall clock may be set: look at least so often */

struct sched_lane;
struct sched_work;

/* One dest and who waits for it. */
struct sched_dest {
    struct sched *sched;
    struct dest dest;
    char *name;                             /* the row's match, or the lane's place */
    bool is_row;                            /* stands in sched->dests, by name; shared by lanes */
    bool is_shared;                         /* its limits are divided over the loops */
    unsigned refs;                          /* lanes and works */
    struct sched_lane *blocked, *throttled; /* lines, first come first served */
    unsigned blocked_count;
    struct sched_work *idle; /* connections kept for reuse, oldest first */
    struct timer timer;      /* it wakes, or has a token again */
    int64_t down_since_s;    /* wall; 0: it is up */
    struct {                 /* of the last failure of the place, for those that were not tried */
        enum stage stage;
        char *host, *said;
    } words;
    bool sweep_wanted;    /* it fell asleep anew: its lanes' lifetimes are to be looked at */
    bool is_sweeping;     /* one lane at a time */
    unsigned sweeps_left; /* lanes */
    uint64_t alarm_at_ms; /* the last one; 0: none */
    const char *alarm_row;
    UT_hash_handle hh;
};

enum lane_line {
    LINE_NONE, /* nothing to do, or an answer or a connection calls it */
    LINE_READY,
    LINE_UNROUTED,
    LINE_STARVED,
    LINE_BLOCKED,
    LINE_THROTTLED,
};

struct sched_lane {
    struct sched *sched;
    char *name;
    struct str place;
    bool is_smarthost;
    UT_hash_handle hh;

    enum lane_line line;
    struct sched_lane *prev, *next; /* in that line */
    struct sched_dest *line_of;     /* BLOCKED, THROTTLED: whose line */
    bool may_pass;                  /* it has waited for a token and was called */
    bool is_passed;                 /* the other loops know what is due here */

    struct timer due_timer; /* in sched->waiting */
    int64_t due_at;         /* wall s: the earliest known in the store, not in hand; 0: none */

    struct route_plan *plan;
    uint64_t plan_until_ms;
    struct route_lookup *lookup;
    struct sched_dest *dest; /* NULL: not known yet */
    struct sched_dest *slot; /* one of its slots is taken for what is being claimed */
    bool has_token;          /* and a token of its rate */

    bool is_claiming;
    uint64_t claiming_since_ms;
    bool is_sweep;   /* the claim under way is for looking, not for sending */
    bool is_lost;    /* it has no route, and the claim only asks whether there is mail left */
    int64_t told_at; /* became due while a claim was under way; 0: nothing */

    struct claim *claims, **claims_last; /* in hand, to be sent */
    unsigned claim_count;
    uint64_t claim_bytes; /* of a message, as the last claim found them */
    struct claim *redo;   /* a kept connection was dead: at once over a new one */

    /* Results on their way to the store: what is put off is known as queued again
     * only then, and the dest's trouble must not be forgotten meanwhile. */
    unsigned settling;

    struct sched_work *works; /* all connections, by lane_prev, lane_next */
    unsigned work_count;
    struct sched_work *idle; /* by idle_prev, idle_next; the last used first */
};

/* One delivery as the scheduler sees it. */
struct sched_work {
    struct sched_lane *lane;
    struct sched_dest *dest;
    struct delivery *delivery;
    const struct sched_settings *settings; /* it began with */
    bool is_idle;
    uint64_t given_ms;      /* when it got its present message */
    uint64_t busy_since_ms; /* the same, also for one that was sent behind another */
    unsigned turn;          /* messages since it was opened or nobody else waited */
    struct timer reuse_timer;
    struct sched_work *lane_prev, *lane_next;
    struct sched_work *idle_prev, *idle_next;
    struct sched_work *dest_prev, *dest_next; /* in dest->idle */
    struct sched_work *all_prev, *all_next;   /* in sched->idle or in sched->busy */
};

struct sched {
    struct sched_options options;
    const struct sched_settings *settings;
    char *hostname;           /* of the settings, with a NUL */
    struct sched_lane *lanes; /* by name */
    struct sched_dest *dests; /* of rows, by match */
    struct sched_lane *ready, *unrouted, *starved;
    unsigned lookups;
    struct timers waiting;  /* lanes by wall ms: one loop timer for all */
    struct timer timer;     /* for the earliest of them */
    int64_t timer_at_ms;    /* wall; 0: not running */
    struct timer run_timer; /* more turns than one run of the loop allows */
    struct deferred run;    /* a turn for each ready lane */
    struct sched_work *idle, *busy;
    uint64_t claim_bytes; /* of a message, as the last claim of any lane found them */
    uint64_t hand_bytes;  /* of what is in hand or asked for, all lanes */
    /* Lanes whose last message went quickly, by hash. An eighth of all connections is
     * theirs: slow hosts, however many, hold up only each other. */
    uint64_t quick[SCHED_QUICK_MAX];
    unsigned connections; /* open, or promised to a claim under way */
    unsigned claims_out;  /* store_claim requests under way */

    struct settling *settling; /* finished in this loop turn, oldest first */
    struct settling **settling_last;
    struct deferred flush;
    unsigned bounces;             /* reports being made */
    unsigned unsettled;           /* claims whose results are not stored yet */
    bool is_held_up;              /* too many of them: nothing is claimed until there are fewer */
    struct settle_batch *batches; /* with the store, or waiting to be tried again */
    bool settle_trouble;          /* told once */

    bool is_draining, is_aborting, is_idle_told;
    struct deferred idle_call;
    loop_fn *idle_fn;
    void *idle_arg;
    uint64_t attempts, delivered, later, failed; /* recipients */
};

/* ---- sched.c ---- */
void sched_run_soon(struct sched *sched);
void sched_check_idle(struct sched *sched); /* draining: is anything left? */
uint64_t sched_noise(const struct msgid *id);

/* ---- sched_lane.c ---- */
struct sched_lane *sched_lane_get(struct sched *sched, struct str name);
void lane_run(struct sched_lane *lane);   /* its turn; may free it */
void lane_ready(struct sched_lane *lane); /* unless it stands in another line */
/* Something is due at this time (wall s). */
void sched_lane_due(struct sched_lane *lane, int64_t due_at);
void lane_fill(struct sched_lane *lane); /* asks for more when its hand is nearly empty */
/* To the other loops, if they do not know yet: something is due and stays here for now. */
void lane_pass(struct sched_lane *lane);
void lane_plan_drop(struct sched_lane *lane);
void lane_maybe_free(struct sched_lane **lane);
void lane_arm(struct sched *sched); /* the timer of all waiting lanes */
void lane_free(struct sched_lane **lane);
/* After new settings: its way may be another one, or be there again. */
void lane_follow(struct sched_lane *lane, const struct sched_settings *before);
/* It was asked what is left in a lane without a route. */
void lane_lost(struct sched_lane *lane);

/* ---- sched_claim.c ---- */
bool lane_is_due(const struct sched_lane *lane);
void lane_claim(struct sched_lane *lane, size_t max);
uint64_t sched_claim_cost(uint64_t size_bytes); /* of a message in memory */
void lane_look(struct sched_lane *lane, size_t max, const struct claim_look *look);
struct claim *lane_claim_next(struct sched_lane *lane); /* out of its hand; NULL: empty */
void lane_claim_return(struct sched_lane *lane, struct claim *claim); /* that one, untouched */
void lane_give_back(struct sched_lane *lane); /* what it has in hand, to the store */

/* ---- sched_dest.c ---- */
const struct route_settings *sched_route(const struct sched *sched, const struct sched_lane *lane);
unsigned sched_loops(const struct sched *sched); /* at least 1 */
void lane_dest_choose(struct sched_lane *lane);  /* by its place and plan */
/* Another place is behind the lane: what was learned of the old one counts no more. */
void lane_dest_forget(struct sched_lane *lane);
void dest_unref(struct sched_dest **dest);
void dest_limits_renew(struct sched_dest *dest); /* from the settings in force */
/* Into a line. The lane may be in none. */
void lane_block(struct sched_lane *lane, uint64_t retry_ms);
void lane_throttle(struct sched_lane *lane, uint64_t retry_ms);
void lane_starve(struct sched_lane *lane);
void lane_unroute(struct sched_lane *lane);
void lane_unline(struct sched_lane *lane);
void lane_let_go(struct sched_lane *lane); /* from whatever line to the ready ones */
/* A message token of the dest; those who wait for one come first. */
enum err lane_take_token(struct sched_lane *lane, struct sched_dest *dest, uint64_t *out_retry_ms);
/* Let go those for whom there is room now. */
void dest_let_go(struct sched_dest *dest);
void sched_let_go(struct sched *sched);
unsigned sched_room(const struct sched_lane *lane); /* connections that may be opened for it */
/* How long a message of this lane took. */
void lane_note_pace(struct sched_lane *lane, uint64_t took_ms, bool delivered);
/* Somebody else would use this lane's connection or slot. */
bool lane_is_envied(const struct sched_lane *lane, const struct sched_dest *dest);
/* What an attempt told; tells alarms, too. */
void dest_hear(struct sched_lane *lane, struct sched_dest *dest,
               const struct delivery_result *result, const struct msgid *id);

/* ---- sched_work.c ---- */
/* A slot of the lane's dest and of all connections: ERR_AGAIN: the lane stands
 * in a line. */
enum err lane_take_slot(struct sched_lane *lane);
void lane_drop_slot(struct sched_lane *lane);
void work_start(struct sched_lane *lane);    /* with a claim in hand; uses the slot up */
void work_hand_out(struct sched_lane *lane); /* claims in hand to idle connections */
void work_quit(struct sched_work *work);     /* an idle one */

/* ---- sched_settle.c ---- */
void settle_results(struct sched_lane *lane, struct claim *claim,
                    const struct delivery_result *results);
/* A claim of a lane whose place sleeps: not attempted, but looked at. Nothing is
 * written when nothing is to be said of it. */
void settle_outage(struct sched_lane *lane, struct claim *claim);
bool settle_is_busy(const struct sched *sched);
void settle_stuck(const struct sched *sched, struct stuck *stuck);
void settle_abort(struct sched *sched); /* what waits to be tried again is given up */

/* ---- sched_sweep.c ---- */
void sweep_begin(struct sched_dest *dest); /* when it is wanted, and nothing is under way */
void sweep_claimed(struct sched_lane *lane, struct claim *claims, const struct claim_look *more);

/* ---- sched_hop.c ---- */
void sched_tell_route(const struct sched_lane *lane, const struct claim *claim);
/* The code of a reply on one line; 0: these are our own words. */
uint16_t sched_code_of(struct str said);
/* Into the hop's reply, or its fault when nobody replied. */
void sched_set_said(struct hop *hop, struct str said);
void sched_tell_wait(const struct sched_lane *lane, const struct claim *claim, struct str why);
void sched_tell_alarm(const struct sched_lane *lane, const struct delivery_result *result);
/* A place was put to sleep, or stays so after a probe. */
void sched_tell_asleep(const struct sched_lane *lane, const struct sched_dest *dest,
                       const struct delivery_result *result, bool is_new);
void sched_tell_trouble(const struct sched *sched, enum stage stage, struct str lane,
                        struct str text, struct str fault);

#endif
