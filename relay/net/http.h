/*
 * http.h - one HTTP request, waited for: the command line talks to the relay.
 *
 * Blocking, so never on a loop. Over a unix socket or TCP, through libcurl,
 * which is loaded by the first call: its libraries take 5 ms to start, and
 * most commands (sendmail above all) do not need it.
 */
#ifndef WAYPOST_NET_HTTP_H
#define WAYPOST_NET_HTTP_H

#include "relay/base/buf.h"
#include "relay/base/err.h"

/* A piece of the answer's body as it arrives; false: enough, break off. */
typedef bool http_chunk_fn(void *arg, struct str bytes);

/* About once a second while nothing comes: silent for so long; false: give up. */
typedef bool http_wait_fn(void *arg, uint32_t silent_ms);

struct http_request {
    const char *method; /* "GET", "POST", ... */
    const char *socket; /* path of a unix socket; NULL: TCP, to `host` */
    const char *host;   /* "127.0.0.1:8025"; with a socket only for the Host field, may be NULL */
    const char *path;   /* "/v1/queue?max=100": as it goes on the wire */
    const char *token;  /* bearer token, or NULL */
    const char *content_type; /* of `body`; NULL: application/json */
    struct str body;          /* empty: none */
    uint32_t timeout_ms;      /* without a byte; 0: 30 s */
    http_chunk_fn *chunk;     /* takes the body of a 2xx answer; NULL: it is gathered */
    void *arg;
    http_wait_fn *wait; /* NULL: only timeout_ms ends the wait */
    void *wait_arg;
};

#define HTTP_BODY_MAX ((size_t)64 << 20) /* a longer gathered body is ERR_LIMIT */

struct http_response {
    unsigned status;
    char content_type[64];
    struct buf body; /* gathered; also the body of an answer that is not 2xx */
};

/* ERR_OK: there is an answer, whatever its status. Clear the response after use
 * in any case. ERR_REFUSED and ERR_NOT_FOUND: nobody listens there. ERR_BUSY: a
 * socket hung up without a word, on a GET or before anything was asked: it may be asked
 * again. ERR_CANCELLED: `chunk` broke off. ERR_TIMEOUT: `wait` gave up, or the time is
 * over. */
enum err http_call(const struct http_request *request, struct http_response *response,
                   struct fault *fault);
void http_response_clear(struct http_response *response);

/* Percent-encode a value for a query string. */
void http_escape(struct buf *out, struct str value);

#endif
