/*
 * api_impl.h - the HTTP side inside; shared by the files of this folder only.
 *
 * A call is one request from its first byte until it was answered and nothing
 * that was asked for on its behalf is on its way any more. Everything here
 * runs on loop 0. What other threads finish (store, disk jobs) comes back
 * through the API's own mailbox, so that api_free() can wait for exactly that.
 */
#ifndef WAYPOST_API_API_IMPL_H
#define WAYPOST_API_API_IMPL_H

#include "relay/api/api.h"
#include "relay/base/container.h"

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdlib.h>

#define API_PARAMS_MAX 32
#define API_PARAMS_WORDS "more than 32 parameters"
#define API_ANSWER_MAX ((size_t)64 << 20)
#define API_TYPE_JSON "application/json"
#define API_TYPE_LINES "application/x-ndjson"
#define API_TYPE_TEXT "text/plain; charset=utf-8"
#define API_TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"
#define API_TYPE_MAIL "message/rfc822"

/* Who is inside a door: one connection, from accept() to close(). */
struct visitor {
    struct visitor *prev, *next; /* while is_waited_for: in the door's list, by age */
    uint64_t since_ms;
    int fd;
    bool is_waited_for; /* its request is not complete yet */
    bool is_limited;    /* counts in api->limited_connections */
};

/* One listening socket: the unix one, or TCP. Each has places of its own, so who
 * fills the one keeps nobody out of the other. */
struct door {
    struct api *api;
    struct MHD_Daemon *daemon;
    struct loop_watch *watch;
    struct timer timer;
    bool needs_token;
    bool has_lost_one;    /* since the library last ran: it may have a place to give */
    unsigned connections; /* at most */
    struct visitor *waited_for;
};

/* Completions come here, and a letter to the loop's own mailbox says so. */
struct api_post {
    struct mailbox box;
    struct letter knock;
    struct mailbox *loop_box;
    atomic_bool knocked;
    struct api *api; /* NULL: it is gone, the knock under way frees this */
};

struct api {
    struct api_options options;
    struct api_post *post;
    struct door doors[2];
    unsigned door_count;
    struct call *calls;
    unsigned limited_connections;                 /* of users who may only ask about own mail */
    struct listing *limited_first, *limited_last; /* whose lists are made in turn */
    size_t pending;                               /* completions that will come to `post` */
    char *token;
    char *socket; /* unlinked at the end, when it is still ours */
    uint64_t socket_inode;
    bool is_closing;
};

struct route {
    const char *method, *path; /* a last part of ":" takes one part of the path */
    void (*run)(struct call *call);
    unsigned arg;
    bool for_anyone; /* every user of the machine, about own mail */
};

struct param {
    struct str key, value;
    bool is_used;
};

struct call {
    struct call *next, **link;
    struct api *api; /* NULL: it is gone */
    struct door *door;
    struct MHD_Connection *connection; /* NULL: it is gone */
    const struct route *route;
    struct arena arena;
    bool is_limited; /* somebody who may only ask about own mail: what `user` handed in */
    char user[24];   /* "uid:1000", as in the envelope */
    struct str part; /* what ":" took */
    struct param params[API_PARAMS_MAX];
    size_t param_count;
    size_t body_bytes;
    bool is_started, is_suspended, is_answered;
    unsigned pending; /* completions that still come for this call */
    atomic_bool is_cancelled;
    /* the answer */
    unsigned code;
    const char *type;
    char allow[32];
    struct buf body;
    struct MHD_Response *response; /* instead of `body` */
    void *work;                    /* the route's own, freed with the call by free_work */
    void (*free_work)(void *work);
};

/* ---- call.c ---- */

/* MHD_OPTION_URI_LOG_CALLBACK: the request line is there, nothing of it is parsed. */
void *call_begins(void *door, const char *uri, struct MHD_Connection *connection);
enum MHD_Result call_request(void *door, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_size, void **at);
void call_completed(void *door, struct MHD_Connection *connection, void **at,
                    enum MHD_RequestTerminationCode why);
void call_resume(struct call *call);

/* Answer, now or later; once. call_answer sends what is in call->body. */
void call_answer(struct call *call, unsigned code, const char *type);
void call_error(struct call *call, unsigned code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void call_fault(struct call *call, enum err err, const struct fault *fault);

/* Something that comes back through api->post is on its way / is back. When
 * call_back says false nobody waits any more and the call is gone: return. */
void call_out(struct call *call);
bool call_back(struct call *call);
/* The same for what comes back through engine (gather). */
void call_out_engine(struct call *call);
bool call_back_engine(struct call *call);

/* ---- call_param.c ---- */

bool call_read_params(struct call *call); /* false: too many (answered) */
bool call_param(struct call *call, const char *key, struct str *out_value);
/* A number from 1 to `most`, or `otherwise` when it is not given. */
bool call_number(struct call *call, const char *key, uint64_t otherwise, uint64_t most,
                 uint64_t *out_value);
bool call_filter(struct call *call, struct store_filter *out_filter); /* takes the rest */
bool call_no_more_params(struct call *call);
void call_json(struct call *call, unsigned code, void *json); /* json_t: stolen */

/* ---- call_peer.c ---- */

/* Who asks, by the kernel's word: root, the relay's own user and members of its group may
 * ask anything; call->is_limited says that it is somebody else. */
void call_judge_peer(struct call *call);
/* True: may ask only about own mail. *out_uid is left alone when nobody is known. */
bool peer_is_limited(int fd, uid_t *out_uid);
bool call_may_see(const struct call *call, struct str user); /* mail that `user` handed in */

/* ---- door.c ---- */

enum err door_open(struct api *api, int fd, bool needs_token, struct fault *fault);
void door_close(struct door *door); /* what was answered is sent first */
void door_look(struct door *door);  /* run the library in the next turn of the loop */
/* The request of this connection is complete: it may take its time from now on. */
void door_has_asked(struct door *door, struct MHD_Connection *connection);
int door_fd_of(struct MHD_Connection *connection); /* -1: none */

/* ---- routes.c ---- */

void route_run(struct call *call, const char *method, const char *path);

/* ---- api_socket.c ---- */

enum err api_listen_unix(struct api *api, const char *path, int *out_fd, struct fault *fault);
enum err api_listen_tcp(const char *address, int *out_fd, struct fault *fault);
void api_unlink_socket(struct api *api);

/* ---- the routes' own files ---- */

void api_healthz(struct call *call);
void api_metrics(struct call *call);
void api_info(struct call *call);
void api_reload(struct call *call);
void api_queue_list(struct call *call);
void api_queue_show(struct call *call);
void api_queue_content(struct call *call, const struct msgid *id);
void api_queue_change(struct call *call); /* route->arg: enum store_change_kind */
void api_flush(struct call *call);
void api_lanes(struct call *call);
void api_trace(struct call *call);
void api_resolve(struct call *call);

/* One row for each lane, by name, whatever the number of loops it runs on; returns the new count. */
size_t api_lanes_join(struct api_lane *lanes, size_t count);

#endif
