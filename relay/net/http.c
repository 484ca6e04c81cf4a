/*
 * http.c - one HTTP request over libcurl, loaded when it is needed.
 */
#include "relay/net/http.h"

#include "relay/base/clock.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_MS 30000
#define CONNECT_MS 10000

/* The functions we use, by the types curl.h gives them. */
#define CURL_FUNCTIONS(X)                                                                          \
    X(global_init)                                                                                 \
    X(easy_init)                                                                                   \
    X(easy_perform)                                                                                \
    X(easy_getinfo)                                                                                \
    X(easy_cleanup)                                                                                \
    X(easy_strerror)                                                                               \
    X(slist_append)                                                                                \
    X(slist_free_all)

/* curl.h wraps these two in type-checking macros; we mean the functions. */
#undef curl_easy_setopt
#undef curl_easy_getinfo

static struct {
    bool is_there;
    char why[200];
#define X(name) __typeof__(&curl_##name) name;
    CURL_FUNCTIONS(X)
#undef X
    __typeof__(&curl_easy_setopt) easy_setopt;
} curl;

static bool find(void *library, const char *name, void *out_function)
{
    void *function = dlsym(library, name);

    memcpy(out_function, &function, sizeof(function));
    return function != NULL;
}

static void load(void)
{
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);

    if (!library) {
        const char *why = dlerror();
        snprintf(curl.why, sizeof(curl.why), "%s", why ? why : "libcurl.so.4 cannot be loaded");
        return;
    }
    bool ok = find(library, "curl_easy_setopt", &curl.easy_setopt);
#define X(name) ok = find(library, "curl_" #name, &curl.name) && ok;
    CURL_FUNCTIONS(X)
#undef X
    curl.is_there = ok && curl.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    if (!curl.is_there)
        snprintf(curl.why, sizeof(curl.why), "libcurl.so.4 is not the one we know");
}

/* ---- one call ---- */

struct call {
    const struct http_request *request;
    struct http_response *response;
    CURL *easy;
    struct curl_slist *fields;
    char words[CURL_ERROR_SIZE];
    bool broken_off;
    curl_off_t body_bytes;
    uint64_t heard_ms; /* when they became so many */
};

static bool is_for_chunk(const struct call *call)
{
    long status = 0;

    curl.easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    return call->request->chunk && status >= 200 && status < 300;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct call *call = arg;
    size_t len = size * count;
    struct str piece = str_make(bytes, len);

    if (!is_for_chunk(call))
        return buf_str(&call->response->body, piece) ? len : 0;
    if (call->request->chunk(call->request->arg, piece))
        return len;
    call->broken_off = true;
    return 0;
}

static int on_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now)
{
    struct call *call = arg;
    uint64_t now_ms = clock_mono_ms();

    (void)total, (void)up_total, (void)up_now;
    if (now != call->body_bytes)
        call->heard_ms = now_ms;
    call->body_bytes = now;
    return !call->request->wait(call->request->wait_arg, (uint32_t)(now_ms - call->heard_ms));
}

static void add_field(struct call *call, const char *name, const char *value)
{
    size_t size = strlen(name) + strlen(value) + 3;
    char *field = mem_alloc(size);

    snprintf(field, size, "%s: %s", name, value);
    struct curl_slist *longer = curl.slist_append(call->fields, field);
    if (longer)
        call->fields = longer;
    explicit_bzero(field, size); /* it may be the token */
    free(field);
}

static void add_fields(struct call *call)
{
    const struct http_request *request = call->request;
    char bearer[600];

    if (request->token) {
        snprintf(bearer, sizeof(bearer), "Bearer %s", request->token);
        add_field(call, "Authorization", bearer);
        explicit_bzero(bearer, sizeof(bearer));
    }
    if (request->body.len)
        add_field(call, "Content-Type",
                  request->content_type ? request->content_type : "application/json");
    add_field(call, "Expect", ""); /* no waiting for 100 Continue */
    curl.easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->fields);
}

static void set_place(struct call *call, char *url, size_t size)
{
    const struct http_request *request = call->request;

    snprintf(url, size, "http://%s%s", request->host ? request->host : "localhost", request->path);
    curl.easy_setopt(call->easy, CURLOPT_URL, url);
    if (request->socket)
        curl.easy_setopt(call->easy, CURLOPT_UNIX_SOCKET_PATH, request->socket);
    /* The relay is meant, not what http_proxy in the environment names. */
    curl.easy_setopt(call->easy, CURLOPT_PROXY, "");
    curl.easy_setopt(call->easy, CURLOPT_PROTOCOLS_STR, "http");
    curl.easy_setopt(call->easy, CURLOPT_PATH_AS_IS, 1L);
}

static void set_patience(struct call *call)
{
    const struct http_request *request = call->request;
    uint32_t quiet_ms = request->timeout_ms ? request->timeout_ms : TIMEOUT_MS;

    curl.easy_setopt(call->easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(quiet_ms < CONNECT_MS ? quiet_ms : CONNECT_MS));
    curl.easy_setopt(call->easy, CURLOPT_LOW_SPEED_LIMIT, 1L); /* a long list may take long */
    curl.easy_setopt(call->easy, CURLOPT_LOW_SPEED_TIME, ((long)quiet_ms + 999) / 1000);
    if (!request->wait)
        return;
    call->heard_ms = clock_mono_ms();
    curl.easy_setopt(call->easy, CURLOPT_NOPROGRESS, 0L);
    curl.easy_setopt(call->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl.easy_setopt(call->easy, CURLOPT_XFERINFODATA, call);
}

static void set_options(struct call *call)
{
    const struct http_request *request = call->request;

    curl.easy_setopt(call->easy, CURLOPT_CUSTOMREQUEST, request->method);
    curl.easy_setopt(call->easy, CURLOPT_NOSIGNAL, 1L);
    curl.easy_setopt(call->easy, CURLOPT_ERRORBUFFER, call->words);
    curl.easy_setopt(call->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl.easy_setopt(call->easy, CURLOPT_WRITEDATA, call);
    if (strcmp(request->method, "HEAD") == 0)
        curl.easy_setopt(call->easy, CURLOPT_NOBODY, 1L);
    if (request->body.len) {
        curl.easy_setopt(call->easy, CURLOPT_POSTFIELDS, request->body.at);
        curl.easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    }
}

static enum err no_place(const struct call *call, struct fault *fault)
{
    return fault_set(fault, ERR_BUSY, "%s takes no more callers just now: try again later",
                     call->request->socket);
}

static enum err cannot_connect(const struct call *call, struct fault *fault)
{
    const struct http_request *request = call->request;
    const char *place = request->socket ? request->socket : request->host;
    long why = 0;

    curl.easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &why);
    if (why)
        return fault_errno(fault, (int)why, "cannot connect to %s", place);
    if (request->socket) /* hung up, or its line is full: the library keeps no word of it */
        return no_place(call, fault);
    return fault_set(fault, ERR_UNREACHABLE, "cannot connect to %s: %s", place, call->words);
}

static enum err judge(const struct call *call, CURLcode code, struct fault *fault)
{
    switch ((int)code) { /* curl's list, not ours */
    case CURLE_OK:
        return ERR_OK;
    case CURLE_COULDNT_CONNECT:
        return cannot_connect(call, fault);
    case CURLE_WRITE_ERROR:
        if (call->broken_off)
            return fault_set(fault, ERR_CANCELLED, "broken off");
        return fault_set(fault, ERR_LIMIT, "the answer is longer than %zu MiB",
                         HTTP_BODY_MAX >> 20);
    case CURLE_ABORTED_BY_CALLBACK:
        return fault_set(fault, ERR_TIMEOUT, "no answer");
    case CURLE_OPERATION_TIMEDOUT:
        return fault_set(fault, ERR_TIMEOUT, "no answer: %s", call->words);
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
        if (call->request->socket && strcmp(call->request->method, "GET") == 0)
            return no_place(call, fault);
        return fault_set(fault, ERR_CLOSED, "the connection broke: %s", call->words);
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
        return fault_set(fault, ERR_CLOSED, "the connection broke: %s", call->words);
    default:
        return fault_set(fault, ERR_IO, "HTTP failed: %s",
                         call->words[0] ? call->words : curl.easy_strerror(code));
    }
}

static void learn(struct call *call)
{
    long status = 0;
    char *type = NULL;

    curl.easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    curl.easy_getinfo(call->easy, CURLINFO_CONTENT_TYPE, &type);
    call->response->status = (unsigned)status;
    str_copy(call->response->content_type, sizeof(call->response->content_type), str_of(type));
}

enum err http_call(const struct http_request *request, struct http_response *response,
                   struct fault *fault)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct call call = { .request = request, .response = response };

    *response = (struct http_response){ 0 };
    buf_init(&response->body, HTTP_BODY_MAX);
    pthread_once(&once, load);
    if (!curl.is_there)
        return fault_set(fault, ERR_UNSUPPORTED, "%s", curl.why);
    call.easy = curl.easy_init();
    if (!call.easy)
        return fault_set(fault, ERR_IO, "libcurl cannot start");
    size_t size = strlen(request->path) + (request->host ? strlen(request->host) : 0) + 32;
    char *url = mem_alloc(size);
    set_place(&call, url, size);
    set_options(&call);
    set_patience(&call);
    add_fields(&call);
    CURLcode code = curl.easy_perform(call.easy);
    if (code == CURLE_OK)
        learn(&call);
    enum err err = judge(&call, code, fault);
    curl.slist_free_all(call.fields);
    curl.easy_cleanup(call.easy);
    free(url);
    return err;
}

void http_response_clear(struct http_response *response) { buf_clear(&response->body); }

void http_escape(struct buf *out, struct str value)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] && strchr(plain, value.at[i]))
            buf_char(out, value.at[i]);
        else
            buf_printf(out, "%%%02X", (unsigned char)value.at[i]);
    }
}
