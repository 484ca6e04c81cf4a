/*
 * net_fixture.h - a loop, a listener on loopback and two ends of a connection
 * that write down what happens to them. For stream_test and tls_test.
 */
#ifndef WAYPOST_TESTS_NET_FIXTURE_H
#define WAYPOST_TESTS_NET_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/buf.h"
#include "relay/net/stream.h"

#define EVENTS (STREAM_ERROR + 1)
#define NET_AMPLE_MS 100000 /* a deadline that does not come, however slow the machine */

struct net;

struct end {
    struct net *net;
    struct stream *stream;
    unsigned count[EVENTS]; /* by enum stream_event */
    struct buf got;         /* everything received, unless keeps_bytes */
    bool keeps_bytes;       /* leave them in the stream */
    struct fault fault;
    void (*react)(struct end *end, enum stream_event event); /* after writing it down */
};

struct net {
    struct loop *loop;
    struct listener *listener, *extra;
    struct end client, server;
    void (*accepted)(struct end *server); /* a connection has come */
    struct timer guard, timer;
    bool is_over;
    int step; /* for the test's own use */
};

static inline void net_finish(struct net *net)
{
    if (net->is_over)
        return;
    net->is_over = true;
    stream_close(&net->client.stream);
    stream_close(&net->server.stream);
    listener_close(&net->listener);
    listener_close(&net->extra);
    loop_timer_stop(net->loop, &net->guard);
    loop_timer_stop(net->loop, &net->timer);
    loop_stop(net->loop);
}

static inline void net_guard(void *arg)
{
    (void)arg;
    fail_msg("the test hangs");
}

static inline void end_event(void *arg, struct stream *stream, enum stream_event event)
{
    struct end *end = arg;

    assert_ptr_equal(end->stream, stream);
    end->count[event]++;
    if (event == STREAM_DATA && !end->keeps_bytes) {
        buf_str(&end->got, stream_in(stream));
        stream_consume(stream, stream_in(stream).len);
    }
    if (event == STREAM_ERROR)
        end->fault = *stream_fault(stream);
    if (end->react)
        end->react(end, event);
}

static inline void net_accept(void *arg, struct stream *stream)
{
    struct net *net = arg;

    if (net->server.stream) {
        stream_abort(&stream);
        return;
    }
    net->server.stream = stream;
    stream_own(stream, end_event, &net->server);
    if (net->accepted)
        net->accepted(&net->server);
}

static inline void net_start(struct net *net, const struct listener_options *options)
{
    struct fault fault = { 0 };

    *net = (struct net){ 0 };
    net->client.net = net->server.net = net;
    buf_init(&net->client.got, (size_t)64 << 20);
    buf_init(&net->server.got, (size_t)64 << 20);
    assert_int_equal(loop_new(&(struct loop_options){ .count = 1 }, &net->loop, &fault), 0);
    if (listener_new(net->loop, options, net_accept, net, &net->listener, &fault))
        fail_msg("%s", fault.text);
    loop_timer_start(net->loop, &net->guard, 200000, net_guard, NULL);
}

static inline void net_start_tcp(struct net *net)
{
    struct listener_options options = { .fd = -1 };

    endpoint_parse(STR("127.0.0.1:0"), 0, &options.at, NULL);
    net_start(net, &options);
}

static inline enum err net_connect(struct net *net, const struct endpoint *to,
                                   const struct endpoint *source, uint64_t in_ms,
                                   struct fault *fault)
{
    return stream_connect(net->loop, to, source, loop_now_ms(net->loop) + in_ms, end_event,
                          &net->client, &net->client.stream, fault);
}

static inline void net_call(struct net *net)
{
    struct fault fault = { 0 };

    if (net_connect(net, listener_at(net->listener), NULL, NET_AMPLE_MS, &fault))
        fail_msg("%s", fault.text);
}

static inline void net_run(struct net *net)
{
    loop_run(net->loop);
    assert_true(net->is_over);
}

static inline void net_end(struct net *net)
{
    net_finish(net);
    loop_free(&net->loop);
    buf_clear(&net->client.got);
    buf_clear(&net->server.got);
}

static inline void assert_str(struct str got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.at, want, got.len);
}

#endif
