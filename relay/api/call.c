/*
 * call.c - one request: taken in, handed to its route, answered now or later.
 *
 * A route either answers before it returns or has asked somebody (store, disk
 * worker, engine) whose completion will; the connection is suspended until
 * then. The client may be gone by the time the completion comes: call_back()
 * says so.
 */
#include "relay/api/api_impl.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BODY_MAX ((size_t)64 * 1024)
#define URI_MAX ((size_t)32 * 1024)

static char refused; /* in place of a call: the answer is out, nothing more is to be done */

/* ---- life ---- */

static struct call *call_new(struct door *door, struct MHD_Connection *connection)
{
    struct call *call = mem_alloc(sizeof(*call));
    struct api *api = door->api;

    call->api = api;
    call->door = door;
    call->connection = connection;
    arena_init(&call->arena);
    buf_init(&call->body, API_ANSWER_MAX);
    call->next = api->calls;
    call->link = &api->calls;
    if (call->next)
        call->next->link = &call->next;
    api->calls = call;
    return call;
}

static void call_free(struct call *call)
{
    if (call->api) {
        *call->link = call->next;
        if (call->next)
            call->next->link = call->link;
    }
    if (call->response)
        MHD_destroy_response(call->response);
    if (call->free_work)
        call->free_work(call->work);
    buf_clear(&call->body);
    arena_clear(&call->arena);
    free(call);
}

void call_completed(void *door, struct MHD_Connection *connection, void **at,
                    enum MHD_RequestTerminationCode why)
{
    struct call *call = *at == &refused ? NULL : *at;

    (void)door;
    (void)connection;
    (void)why;
    *at = NULL;
    if (!call)
        return;
    call->connection = NULL;
    atomic_store(&call->is_cancelled, true);
    if (call->pending == 0)
        call_free(call);
}

void call_out_engine(struct call *call) { call->pending++; }

bool call_back_engine(struct call *call)
{
    call->pending--;
    if (call->connection)
        return true;
    if (call->pending == 0)
        call_free(call);
    return false;
}

void call_out(struct call *call)
{
    call->api->pending++;
    call_out_engine(call);
}

bool call_back(struct call *call)
{
    call->api->pending--;
    return call_back_engine(call);
}

/* ---- answering ---- */

void call_resume(struct call *call)
{
    if (!call->is_suspended)
        return;
    call->is_suspended = false;
    MHD_resume_connection(call->connection);
    /* Without a thread of its own the library tells nobody of this. */
    door_look(call->door);
}

static void finish(struct call *call, unsigned code, const char *type)
{
    call->is_answered = true;
    call->code = code;
    call->type = type;
    call_resume(call);
}

static void put_error(struct call *call, struct str words)
{
    buf_reset(&call->body);
    buf_cstr(&call->body, "{\"error\": ");
    buf_json(&call->body, words);
    buf_cstr(&call->body, "}\n");
}

void call_answer(struct call *call, unsigned code, const char *type)
{
    if (call->is_answered)
        return;
    if (call->body.overflowed) {
        put_error(call, STR("the answer is too large: ask for less"));
        code = MHD_HTTP_INTERNAL_SERVER_ERROR;
        type = API_TYPE_JSON;
    }
    finish(call, code, type);
}

void call_error(struct call *call, unsigned code, const char *format, ...)
{
    struct buf text;
    va_list args;

    if (call->is_answered)
        return;
    buf_init(&text, 1024);
    va_start(args, format);
    buf_vprintf(&text, format, args);
    va_end(args);
    put_error(call, buf_view(&text));
    buf_clear(&text);
    finish(call, code, API_TYPE_JSON);
}

static unsigned code_of(enum err err)
{
    if (err == ERR_INVALID || err == ERR_LIMIT)
        return MHD_HTTP_BAD_REQUEST;
    if (err == ERR_NOT_FOUND)
        return MHD_HTTP_NOT_FOUND;
    if (err == ERR_BUSY || err == ERR_AGAIN || err == ERR_CANCELLED)
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    if (err == ERR_FULL)
        return MHD_HTTP_INSUFFICIENT_STORAGE;
    return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

void call_fault(struct call *call, enum err err, const struct fault *fault)
{
    call_error(call, code_of(err), "%s", fault && fault->text[0] ? fault->text : err_text(err));
}

static enum MHD_Result send_answer(struct call *call)
{
    struct MHD_Response *response = call->response;
    enum MHD_Result rc;

    call->response = NULL;
    if (!response) {
        size_t len;
        char *bytes = buf_take(&call->body, &len);
        response = MHD_create_response_from_buffer(len, bytes, MHD_RESPMEM_MUST_FREE);
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, call->type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    /* One request a connection: who keeps one for later keeps others out. */
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (call->allow[0])
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, call->allow);
    if (call->code == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    rc = MHD_queue_response(call->connection, call->code, response);
    MHD_destroy_response(response); /* queued ones are counted */
    return rc;
}

/* ---- the token ---- */

/* The time it takes tells the length at most, never a byte. */
static bool same_secret(struct str a, struct str b)
{
    volatile unsigned char difference = a.len != b.len;

    for (size_t i = 0; i < a.len && b.len; i++)
        difference = (unsigned char)(difference | (a.at[i] ^ b.at[i % b.len]));
    return difference == 0;
}

static bool has_token(struct call *call)
{
    struct str given = str_of(MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND,
                                                          MHD_HTTP_HEADER_AUTHORIZATION));

    if (!str_istarts(given, STR("Bearer ")))
        return false;
    return same_secret(str_trim(str_from(given, 7)), str_of(call->api->token));
}

/* ---- what the library calls ---- */

static void start(struct call *call, const char *method, const char *url)
{
    call->is_started = true;
    if (call->api->is_closing)
        call_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "the relay is stopping");
    else if (call->door->needs_token && !has_token(call))
        call_error(call, MHD_HTTP_UNAUTHORIZED, "a bearer token is needed here");
    else if (call->body_bytes)
        call_error(call, MHD_HTTP_BAD_REQUEST,
                   "no request here takes a body: write filters into the query");
    else if (call_read_params(call)) {
        if (!call->door->needs_token)
            call_judge_peer(call);
        route_run(call, method, url);
    }
}

static size_t count_params(const char *uri)
{
    const char *at = strchr(uri, '?');
    size_t count = 0;

    for (; at; at = strchr(at + 1, '&'))
        count++;
    return count;
}

/* Past the library, which has no state for an answer yet. */
static void refuse_line(struct MHD_Connection *connection, const char *status, const char *words)
{
    char text[512];
    int fd = door_fd_of(connection);
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 %s\r\nContent-Type: " API_TYPE_JSON
                       "\r\nCache-Control: no-store\r\nConnection: close\r\n"
                       "Content-Length: %zu\r\n\r\n{\"error\": \"%s\"}\n",
                       status, strlen(words) + sizeof("{\"error\": \"\"}\n") - 1, words);

    (void)send(fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(fd, SHUT_WR); /* the door closes what is still open after its patience */
}

/* A query for whose parameters libmicrohttpd (0.9.75) has no memory left makes it forget its own
 * 431 and read nothing more, until the connection times out: so such lines never get that far. */
void *call_begins(void *door, const char *uri, struct MHD_Connection *connection)
{
    (void)door;
    if (strlen(uri) > URI_MAX)
        refuse_line(connection, "414 URI Too Long", "the request line is over 32 KiB");
    else if (count_params(uri) > API_PARAMS_MAX)
        refuse_line(connection, "400 Bad Request", API_PARAMS_WORDS);
    else
        return NULL;
    return &refused;
}

enum MHD_Result call_request(void *door, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_size, void **at)
{
    struct call *call = *at;

    (void)version;
    (void)upload;
    if (*at == &refused)
        return MHD_NO;
    if (!call) {
        *at = call_new(door, connection);
        return MHD_YES;
    }
    if (*upload_size) {
        call->body_bytes += *upload_size;
        *upload_size = 0;
        return call->body_bytes <= BODY_MAX ? MHD_YES : MHD_NO;
    }
    if (!call->is_started) {
        door_has_asked(door, connection);
        start(call, method, url);
    }
    if (call->is_answered)
        return send_answer(call);
    call->is_suspended = true;
    MHD_suspend_connection(connection);
    return MHD_YES;
}
