/*
 * engine_impl.h - the running relay; shared by engine's own files only.
 *
 * `struct engine` belongs to loop 0's thread except for what says otherwise.
 * Each engine_loop belongs to its own thread and is reached by letters.
 */
#ifndef WAYPOST_ENGINE_IMPL_H
#define WAYPOST_ENGINE_IMPL_H

#include "queue/tracelog.h"
#include "relay/api/api.h"
#include "relay/base/container.h"
#include "relay/base/log.h"
#include "relay/base/stuck.h"
#include "relay/engine.h"
#include "relay/engine_chore.h"
#include "relay/ingress/dropbox.h"
#include "relay/ingress/session.h"
#include "relay/setup.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define ENGINE_LOOPS_MAX 256 /* as the workers option allows */

/* A bound descriptor, kept over reloads: only root could bind a low port again. */
struct engine_socket {
    struct engine_socket *next;
    struct str address;       /* of the listen section; owned */
    bool is_passed;           /* by the service manager, whose the path is then */
    int fd[ENGINE_LOOPS_MAX]; /* one a loop (SO_REUSEPORT), or copies of one for all */
};

struct engine_listener {
    struct engine_listener *next;
    struct str name, address; /* owned */
    struct engine_loop *own;
    struct listener *listener;
    bool has_proxy;
    struct service *service;
};

/* Clients without TLS: loop 0's, but for the count. */
struct engine_spread {
    unsigned open; /* loops that take them */
    atomic_uint_fast64_t accepted;
    uint64_t looked_ms, busy_ns;
};

/* Of the certificate that runs out first. */
enum certificate_state {
    CERTIFICATE_FINE,
    CERTIFICATE_SOON, /* within 14 days */
    CERTIFICATE_NEAR, /* within 3 days */
    CERTIFICATE_EXPIRED,
};

struct engine_certificate {
    struct timer timer;
    enum certificate_state told; /* the last one that was said */
    bool is_reading;             /* a worker looks at the files */
    bool is_stale;               /* others lie on the disk than are in force */
};

struct engine_loop {
    struct engine *engine;
    struct loop *loop;
    struct hop_ring *ring;
    pthread_t thread;
    bool has_thread;
    struct setup *setup;     /* a reference: what is in force here */
    struct retired *retired; /* older ones that deliveries still use */
    struct timer retire_timer;
    struct resolver *resolver;
    struct intake *intake;
    struct sched *sched;
    struct sessions *sessions;
    struct engine_listener *listeners;
    bool is_draining, sessions_empty, sched_idle, is_done;
    unsigned looks_missed;         /* loop 0's */
    atomic_uint_fast64_t asked_ms; /* what hangs; 0: it has answered, in `stuck` */
    struct stuck stuck;
};

struct engine {
    struct engine_options options;
    struct setup *setup;  /* a reference: what is in force */
    pthread_mutex_t lock; /* `setup` for store threads, while a reload puts another there */
    struct hops *hops;
    struct log *log;
    struct tracelog *tracelog;
    struct pool *pool;
    struct store *store;
    struct auth *auth;
    struct caps *caps;
    struct engine_spread spread;
    struct report_pace reports;
    struct api *api;
    struct engine_drop *drops; /* loop 0's */
    struct telling *tellings;  /* of which some reports are stored, and others wait for room */
    unsigned drops_alive;      /* of which something is under way, or may be */
    char *trace_folder, *api_socket, *api_address, *api_token_file;
    struct engine_socket *sockets;
    struct engine_loop loops[ENGINE_LOOPS_MAX];
    unsigned loop_count;
    struct fault no_sendmail;        /* why sendmail(1) has no socket; err 0: it has */
    unsigned loops_deaf, loops_done; /* while stopping */
    bool is_stopping, is_aborting;
    struct timer drain_timer;
    struct timer watch_timer;
    atomic_bool watch_is_on;
    atomic_bool watch_is_calm; /* the pause it makes is for mail, not for clients */
    uint64_t memory_limit;     /* 0: none */
    uint64_t memory_taken;     /* anonymous, at the last look */
    uint64_t memory_rest;      /* the same, when we had the least to do */
    uint64_t memory_over_ms;   /* when it was too much, the last time */
    uint64_t trim_at_ms, trim_every_ms;
    bool memory_short;
    uint64_t clock_jumps, memory_shortages;
    struct stuck stuck; /* the oldest of all */
    uint64_t stuck_look_ms, stuck_said_ms;
    struct engine_certificate certificate;
    struct timer alive_timer;
    unsigned alive_at;         /* the loop that was asked last */
    atomic_bool alive_is_owed; /* and has not answered */
    int64_t started_us;
    uint64_t reloads, reloads_failed;
    struct reload *reload;   /* one under way */
    unsigned loops_applying; /* that have not followed it yet */
    bool reload_again;
    struct chore move, wake, expand, forward;
    bool mail_to_move;  /* once all loops follow it */
    bool move_in_doubt; /* mail is where the rules in force would not have it */
};

/* engine_socket.c: binding, before privileges are given up */
/* A file that is being written, or empty, is no wish to be deaf. */
enum err engine_can_listen(const struct conf *conf, struct fault *fault);
enum err engine_bind(struct engine *engine, const struct setup_listen *listen, struct fault *fault);
/* The socket for sendmail(1), if it is wanted. A relay that cannot have it is a relay all
 * the same, and sendmail has its drop folder: so this only warns. */
void engine_bind_sendmail(struct engine *engine, const struct conf *conf);
bool engine_has_socket(const struct engine *engine, struct str address);
/* A copy for a loop's listener, which closes it. On that loop's thread: while a loop
 * starts or follows a reload nobody changes the sockets. */
enum err engine_socket_copy(struct engine *engine, const struct setup_listen *listen, unsigned loop,
                            int *out_fd, struct fault *fault);
void engine_sockets_free(struct engine *engine);
/* Close sockets of listen sections that the configuration no longer has. */
void engine_sockets_prune(struct engine *engine, const struct conf *conf);

/* engine_user.c */
enum err engine_become_user(const struct conf *conf, struct fault *fault);

/* engine_fit.c */
void engine_raise_descriptors(void); /* before giving up root, which may have more */
unsigned engine_fit_loops(const struct conf *conf);
/* Caps on sessions and connections that our descriptors are enough for. The setup is
 * not in force yet. */
void engine_fit_caps(struct engine *engine, struct setup *setup);

/* engine_loop.c */
enum err engine_loop_start(struct engine_loop *own,
                           struct fault *fault); /* on any thread, before it runs */
enum err engine_loop_apply(struct engine_loop *own, struct setup *setup, struct fault *fault);
void engine_loop_drain(struct engine_loop *own);
void engine_loop_look_done(struct engine_loop *own); /* draining, and perhaps at its end now */
void engine_loop_abort(struct engine_loop *own);
void engine_loop_free(struct engine_loop *own);

/* Run fn on a loop's thread, by letter; from any thread. */
typedef void engine_loop_fn(struct engine_loop *own, void *arg);
void engine_tell(struct engine_loop *own, engine_loop_fn *fn, void *arg);
/* engine_spread.c: on loop `own`, a client came; after a start or reload of its listeners */
void engine_spread_accepted(struct engine_loop *own, const struct engine_listener *listener);
void engine_spread_reset(struct engine_loop *own);
/* From loop `own` to the others: a smarthost lane has more than it can claim. */
void engine_pass_due(void *own, const char *lane, int64_t due_at);

/* engine_reload.c */
void engine_reload(struct engine *engine);
/* What works, but not for long or not for all, by alarm. */
void engine_say_problems(struct engine *engine);
void engine_reload_free(struct engine *engine); /* the one under way, if any */

/* engine_move.c: what waits moves to the lanes that the rules in force give (engine->move),
 * and is tried where a next hop is reached another way than before (engine->wake) */
extern const struct chore_kind engine_move_kind, engine_wake_kind;
/* A start: both may have changed while we were not running. */
void engine_move_begin(struct engine *engine);
/* A reload: what there will be to do for mail that waits... */
void engine_move_compare(struct engine *engine, const struct setup *before,
                         const struct setup *now);
void engine_move_followed(struct engine *engine); /* ...once all loops follow it */
/* From loop `own`: mail is due in a lane whose route is gone. */
void engine_lane_lost(void *own);

/* engine_expand.c: local names that are held because they led nowhere, tried again */
extern const struct chore_kind engine_expand_kind;

/* engine_certificate.c; on loop 0's thread */
void engine_certificate_in_force(struct engine *engine); /* at the start, after a reload */
void engine_certificate_look(struct engine *engine);     /* the time may be another */
void engine_certificate_stop(struct engine *engine);

/* engine_stuck.c: what hangs; looks twice a minute, however often it is called */
void engine_stuck_look(struct engine *engine);

/* engine_watch.c: the machine under us */
extern const struct chore_kind engine_forward_kind; /* the clock was set back */
void engine_watch_wake(struct engine *engine);      /* any thread: somebody is here, or mail */
void engine_watch_client(struct engine *engine);    /* any thread: a session has begun */
void engine_watch_stop(struct engine *engine);
/* For mail on its way in, and for mail just taken: bytes each. */
size_t engine_memory_share(const struct engine *engine);

/* engine_resolve.c */
void engine_resolve(void *arg, struct str sender, struct str recipient, api_resolved_fn *fn,
                    void *fn_arg);

/* engine_dropbox.c; on loop 0's thread, or nothing happens */
void engine_dropbox_start(struct engine *engine);
void engine_dropbox_apply(struct engine_loop *own, const struct setup *setup);
void engine_dropbox_stop(struct engine_loop *own);

/* engine_dropbox_report.c; as dropbox_options says. Stopped, those that wait for room end. */
void engine_dropbox_report_stop(struct engine *engine);
void engine_dropbox_report(void *arg, struct message *refused, const struct msgid *id,
                           dropbox_reported_fn *fn, void *fn_arg);

/* engine_control.c: what the API asks of the whole */
void engine_gather(void *arg, bool with_lanes, api_state_fn *fn, void *fn_arg);
void engine_flush(void *arg, struct str lane);
void engine_reroute(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                    char out_lane[LANE_MAX]);

/* engine_rest.c: code, constants and heap that only starting used */
void engine_rest(void);
void engine_heap(void); /* before there are threads: how the heap is to be kept */

/* engine_alive.c: telling the service manager that we live */
void engine_alive_start(struct engine *engine);
void engine_alive_stop(struct engine *engine);

/* engine.c */
void engine_stop(struct engine *engine);         /* drain; a second call ends now */
void engine_loop_is_done(struct engine *engine); /* loop 0 */
void engine_say(struct engine *engine, enum stage stage, enum hop_weight weight, struct str text,
                struct str fault);

#endif
