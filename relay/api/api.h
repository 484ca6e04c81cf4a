/*
 * api.h - control and observation over HTTP, on a unix socket and, when named, TCP.
 *
 * libmicrohttpd on loop 0: its epoll descriptor is watched by the loop, store
 * and trace requests complete later (suspended connections), nothing blocks.
 * On the unix socket the kernel says who asks: root, the relay's user and members of
 * its group may ask anything, other users about mail they handed in. TCP needs the bearer token.
 *
 *   GET  /healthz                     200 "ok", 503 with the reason
 *   GET  /metrics                     Prometheus text
 *   GET  /v1/queue?filters&after&max  a page of messages, JSON
 *   GET  /v1/queue/ID                 one message, envelope and recipients; ?content=1: the raw message
 *   POST /v1/queue/ACTION?filters     hold, release, retry, drop, reroute: {"messages":n,"recipients":n}
 *   POST /v1/flush?lane=              wake sleeping places, retry what waits there
 *   GET  /v1/lanes                    lanes with mail: state, dest, next due, trouble
 *   GET  /v1/trace?handle=&max=       hops, one JSON object a line
 *   GET  /v1/resolve?recipient=&sender=  where mail for an address goes
 *   GET  /v1/info                     version, start, what is going on in numbers
 *   POST /v1/reload
 *
 * Filters: see filter.h. Dropping without a filter needs all=1. An error is
 * {"error": "..."} with its status code. Each route is one row in routes.c.
 *
 * A connection takes one request, which must be there within 5 s. 64 fit into each
 * of the two doors at a time; others wait until one of them is answered.
 */
#ifndef WAYPOST_API_API_H
#define WAYPOST_API_API_H

#include "queue/store.h"
#include "relay/net/loop.h"

struct api;

/* One lane as its loop sees it; copied, text malloc'd in the gatherer's arena. */
struct api_lane {
    struct str lane, dest, host, state, trouble;
    unsigned connections, window;
    int64_t next_due, wake_at;
    uint64_t delivered, later, failed;
};

/* What engine gathers over all loops for one request. */
struct api_state {
    struct arena *arena;
    struct api_lane *lanes;
    size_t lane_count;
    unsigned connections_out, lanes_known, lanes_sleeping;
    uint64_t attempts, delivered, later, failed;
    uint64_t dns_asked, dns_cached, dns_sent, dns_timed_out;
    unsigned sessions;
    uint64_t log_lost, trace_bytes, trace_lost;
    int64_t started_us;
    int64_t certificate_expires_at; /* 0: none */
    bool certificate_is_stale;      /* another lies on the disk: a reload would bring it */
    uint64_t reloads, reloads_failed;
    uint64_t reports_put_off;
    uint64_t stuck_s; /* the oldest thing that hangs; 0: nothing does */
    struct str stuck; /* which */
    uint64_t clock_jumps, memory_shortages, memory_limit, memory_anonymous;
    uint64_t descriptors, descriptors_max;
};
typedef void api_state_fn(void *arg, const struct api_state *state); /* on loop 0, later */

/* Where mail for an address goes: one call for each address that aliases lead to. */
struct api_resolved {
    struct str address; /* empty: nowhere, `words` say why */
    struct str words;   /* which aliases led there */
    struct str lane;
    struct str relays; /* of the route, ", " between; empty: the MX hosts of the domain */
};
typedef void api_resolved_fn(void *arg, const struct api_resolved *resolved);

struct api_control {
    void *arg;
    /* Both addresses canonical, maybe without a domain. On loop 0; fn is called before
     * it returns, with texts that live until then. May be NULL. */
    void (*resolve)(void *arg, struct str sender, struct str recipient, api_resolved_fn *fn,
                    void *fn_arg);
    void (*gather)(void *arg, bool with_lanes, api_state_fn *fn, void *fn_arg);
    void (*flush)(void *arg, struct str lane); /* empty: all */
    void (*reload)(void *arg);
    /* for STORE_REROUTE; called on store threads */
    void (*reroute)(void *arg, const struct envelope *envelope, const struct recipient *recipient,
                    char out_lane[LANE_MAX]);
};

struct api_options {
    struct loop *loop;
    struct store *store;
    struct hops *hops;
    const char *trace_folder;
    const char *socket;     /* path; its folder is made when missing */
    const char *address;    /* NULL: no TCP */
    const char *token_file; /* for TCP: its first line; NULL with address: refused at start */
    unsigned request_ms;    /* from accept() to the end of a request; 0: 5 s */
    struct api_control control;
};

enum err api_new(const struct api_options *options, struct api **out_api, struct fault *fault);
void api_free(struct api **api); /* requests under way are answered 503 */

/* The token in this file, or what is wrong with it; yours. */
enum err api_read_token(const char *path, char **out_token, struct fault *fault);

#endif
