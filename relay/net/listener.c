/*
 * listener.c - connections in.
 *
 * Not uv_listen: it cannot be paused, and when descriptors run out it accepts
 * and drops what waits. Here the kernel's backlog keeps them: the listener
 * stops for RETRY_MS and tries again, so clients see a slow greeting instead
 * of a closed door.
 */
#include "relay/net/proxy.h"
#include "relay/net/sockaddr.h"
#include "relay/net/stream_impl.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 32 /* sessions that run must not wait for a crowd at the door */
#define RETRY_MS 100
#define PROXY_MS 10000
#define TELL_MS 60000 /* between two alarms about the same trouble */

struct listener {
    uv_poll_t poll;
    struct loop *loop;
    int fd;
    bool is_paused;
    bool is_starved;  /* no descriptor or memory for who waits at the door */
    uint64_t told_ms; /* when that was told last */
    bool unlink_path; /* we made the socket file */
    struct timer retry;
    struct endpoint at;
    bool proxy;
    struct network *proxy_from;
    size_t proxy_from_count;
    struct greeter *greeters;
    listener_fn *fn;
    void *arg;
};

/* A connection that still owes its PROXY header. */
struct greeter {
    struct listener *listener;
    struct stream *stream;
    struct greeter *next, **link;
};

static void offer(struct listener *listener, struct stream *stream)
{
    listener->fn(listener->arg, stream);
    if (!stream->fn && stream->state == STREAM_OPEN)
        stream_destroy(stream);
}

/* ---- PROXY protocol ---- */

static void greeter_free(struct greeter *greeter)
{
    *greeter->link = greeter->next;
    if (greeter->next)
        greeter->next->link = greeter->link;
    free(greeter);
}

/* True when the header is complete; false: wait for more, or it was refused. */
static bool take_header(struct stream *stream, bool *out_refused)
{
    struct proxy_facts facts;
    struct str in = stream_in(stream);
    size_t len = PROXY_FIXED;

    if (in.len < PROXY_FIXED)
        return false;
    *out_refused = proxy_length(in, &len, NULL) != ERR_OK;
    stream->read_limit = len;
    if (*out_refused || in.len < len)
        return false;
    *out_refused = proxy_parse(in, &facts, NULL) != ERR_OK;
    if (*out_refused)
        return false;
    if (!facts.is_local) {
        stream->peer = facts.client;
        stream->local = facts.server;
    }
    return true;
}

static void on_greeter(void *arg, struct stream *stream, enum stream_event event)
{
    struct greeter *greeter = arg;
    struct listener *listener = greeter->listener;
    bool refused = event != STREAM_DATA;

    if (!refused && take_header(stream, &refused)) {
        greeter_free(greeter);
        stream_consume(stream, stream->in.len);
        stream->read_limit = 0;
        stream_deadline(stream, UINT64_MAX);
        stream->fn = NULL;
        offer(listener, stream);
    } else if (refused) {
        greeter_free(greeter);
        stream_destroy(stream);
    } else {
        stream_kick(stream); /* the limit has grown: read on */
    }
}

static void greet(struct listener *listener, struct stream *stream)
{
    struct greeter *greeter = mem_alloc(sizeof(*greeter));

    *greeter = (struct greeter){ .listener = listener, .stream = stream };
    greeter->next = listener->greeters;
    greeter->link = &listener->greeters;
    if (greeter->next)
        greeter->next->link = &greeter->next;
    listener->greeters = greeter;
    stream->read_limit = PROXY_FIXED;
    stream_deadline(stream, loop_now_ms(listener->loop) + PROXY_MS);
    stream_own(stream, on_greeter, greeter);
}

static bool owes_header(const struct listener *listener, const struct stream *stream)
{
    for (size_t i = 0; listener->proxy && i < listener->proxy_from_count; i++) {
        if (network_has(&listener->proxy_from[i], &stream->peer))
            return true;
    }
    return false;
}

/* ---- accepting ---- */

static void learn_uid(struct stream *stream, int fd)
{
    struct ucred who;
    socklen_t len = sizeof(who);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0) {
        stream->has_uid = true;
        stream->uid = who.uid;
    }
}

static struct stream *stream_of_fd(struct listener *listener, int fd,
                                   const union sockaddr_any *peer, socklen_t len)
{
    struct stream *stream = stream_make(listener->loop);
    int rc;

    if (listener->at.family == ENDPOINT_UNIX) {
        uv_pipe_init(loop_uv(listener->loop), &stream->uv.pipe, 0);
        rc = uv_pipe_open(&stream->uv.pipe, fd);
        learn_uid(stream, fd);
    } else {
        uv_tcp_init(loop_uv(listener->loop), &stream->uv.tcp);
        rc = uv_tcp_open(&stream->uv.tcp, fd);
    }
    stream->uv.handle.data = stream;
    stream->state = STREAM_OPEN;
    endpoint_of_sockaddr(peer, len, &stream->peer);
    if (rc == 0)
        return stream;
    close(fd);
    stream_destroy(stream);
    return NULL;
}

static void on_retry(void *arg);
static void on_acceptable(uv_poll_t *poll, int status, int events);

static void update_polling(struct listener *listener)
{
    bool wanted = !listener->is_paused && !timer_is_running(&listener->retry);

    if (wanted)
        uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
    else
        uv_poll_stop(&listener->poll);
}

static void on_retry(void *arg) { update_polling(arg); }

/* An alarm a minute, however often it comes and goes; the end is told for each. */
static void tell_starved(struct listener *listener, int why)
{
    uint64_t now = loop_now_ms(listener->loop);
    char fault[160];
    struct hop hop = {
        .began_us = loop_wall_us(listener->loop),
        .ended_us = loop_wall_us(listener->loop),
        .weight = why ? HOP_ALARM : HOP_EVENT,
        .stage = why ? STAGE_ALARM : STAGE_SERVICE,
        .result = why ? RESULT_LATER : RESULT_OK,
        .scope = SCOPE_US,
    };

    listener->is_starved = why != 0;
    if (why && listener->told_ms && now - listener->told_ms < TELL_MS)
        return;
    if (why) {
        listener->told_ms = now;
        (void)snprintf(fault, sizeof(fault), "no client can be accepted: %s", strerror(why));
        hop.fault = str_of(fault);
        hop.cause = STR("descriptors or memory are used up; clients wait at the door");
        hop.fix = STR("raise the limit of open files, or lower `limits sessions`");
    } else {
        hop.text = STR("clients are accepted again");
    }
    hop_emit(loop_ring(listener->loop), &hop);
}

/* False: no more for now. */
static bool accept_one(struct listener *listener)
{
    union sockaddr_any peer;
    socklen_t len = sizeof(peer);

    int fd = accept4(listener->fd, &peer.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
        if (!listener->is_starved)
            tell_starved(listener, errno);
        loop_timer_start(listener->loop, &listener->retry, RETRY_MS, on_retry, listener);
        update_polling(listener);
        return false;
    }
    if (fd >= 0 && listener->is_starved)
        tell_starved(listener, 0);
    if (fd < 0) /* EAGAIN; or a client that left already: the next turn goes on */
        return errno == ECONNABORTED || errno == EINTR;
    struct stream *stream = stream_of_fd(listener, fd, &peer, len);
    if (stream && owes_header(listener, stream))
        greet(listener, stream);
    else if (stream)
        offer(listener, stream);
    return true;
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    struct listener *listener = poll->data;

    (void)status;
    (void)events;
    for (unsigned n = 0; n < ACCEPTS_PER_TURN; n++) {
        /* The function may have paused or closed us. */
        if (!listener->fn || listener->is_paused || !accept_one(listener))
            return;
    }
}

/* ---- life ---- */

static void on_gone(uv_handle_t *handle)
{
    struct listener *listener = handle->data;

    close(listener->fd);
    free(listener->proxy_from);
    free(listener);
}

static void learn_at(struct listener *listener)
{
    union sockaddr_any address;
    socklen_t len = sizeof(address);

    if (getsockname(listener->fd, &address.any, &len) == 0)
        endpoint_of_sockaddr(&address, len, &listener->at);
}

static void copy_networks(struct listener *listener, const struct listener_options *options)
{
    size_t bytes = options->proxy_from_count * sizeof(options->proxy_from[0]);

    listener->proxy = options->proxy;
    listener->proxy_from_count = options->proxy_from_count;
    if (bytes) {
        listener->proxy_from = mem_alloc(bytes);
        memcpy(listener->proxy_from, options->proxy_from, bytes);
    }
}

enum err listener_new(struct loop *loop, const struct listener_options *options, listener_fn *fn,
                      void *arg, struct listener **out_listener, struct fault *fault)
{
    int fd = options->fd;

    enum err err = fd < 0 ? listener_bind(options, &fd, fault) : ERR_OK;
    if (err)
        return err;
    struct listener *listener = mem_alloc(sizeof(*listener));
    int rc = uv_poll_init(loop_uv(loop), &listener->poll, fd);
    if (rc) {
        free(listener);
        if (options->fd < 0)
            close(fd);
        return fault_uv(fault, rc, "cannot watch the listening socket");
    }
    listener->poll.data = listener;
    listener->loop = loop;
    listener->fd = fd;
    listener->fn = fn;
    listener->arg = arg;
    copy_networks(listener, options);
    learn_at(listener);
    if (listener->at.family != ENDPOINT_UNIX) /* connections inherit it */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    listener->unlink_path = options->fd < 0 && listener->at.family == ENDPOINT_UNIX;
    update_polling(listener);
    *out_listener = listener;
    return ERR_OK;
}

void listener_close(struct listener **listener_at)
{
    struct listener *listener = *listener_at;

    *listener_at = NULL;
    if (!listener)
        return;
    while (listener->greeters) {
        struct stream *stream = listener->greeters->stream;
        greeter_free(listener->greeters);
        stream_destroy(stream);
    }
    listener->fn = NULL;
    loop_timer_stop(listener->loop, &listener->retry);
    if (listener->unlink_path)
        unlink(listener->at.path);
    uv_close((uv_handle_t *)&listener->poll, on_gone);
}

void listener_pause(struct listener *listener)
{
    listener->is_paused = true;
    update_polling(listener);
}

void listener_resume(struct listener *listener)
{
    listener->is_paused = false;
    update_polling(listener);
}

void listener_spread(struct listener *listener, unsigned open)
{
    struct sock_filter code[] = {
        { .code = BPF_LD | BPF_W | BPF_ABS, .k = (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM) },
        { .code = BPF_ALU | BPF_MOD | BPF_K, .k = open },
        { .code = BPF_RET | BPF_A },
    };
    struct sock_fprog program = { .len = 3, .filter = code };

    (void)setsockopt(listener->fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program));
}

const struct endpoint *listener_at(const struct listener *listener) { return &listener->at; }
