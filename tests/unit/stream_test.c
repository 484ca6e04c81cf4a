/*
 * stream_test.c - streams and listeners over loopback, with the real loop.
 */
#include "net_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void say(struct end *end, const char *text) { stream_write(end->stream, str_of(text)); }

/* A socket of the test's own: the kernel completes the connection by itself. */
static int raw_connect(const struct endpoint *to)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(to->port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return fd;
}

/* ---- talking ---- */

static void greet(struct end *server)
{
    say(server, "220 ");
    say(server, "hi");
    say(server, "\r\n");
}

static void quit_when_greeted(struct end *client, enum stream_event event)
{
    if (event == STREAM_DATA)
        stream_close(&client->stream);
}

static void finish_at_eof(struct end *end, enum stream_event event)
{
    if (event == STREAM_EOF)
        net_finish(end->net);
}

static void writes_of_one_turn_arrive_together(void **state)
{
    struct net net;

    (void)state;
    net_start_tcp(&net);
    net.accepted = greet;
    net.client.react = quit_when_greeted;
    net.server.react = finish_at_eof;
    net_call(&net);
    net_run(&net);
    assert_str(buf_view(&net.client.got), "220 hi\r\n");
    assert_int_equal(net.client.count[STREAM_CONNECTED], 1);
    assert_int_equal(net.client.count[STREAM_DATA], 1);
    assert_int_equal(net.server.count[STREAM_DRAINED], 1);
    assert_int_equal(net.server.count[STREAM_EOF], 1);
    net_end(&net);
}

static char peer_seen[ENDPOINT_TEXT];

static void note_peer(struct end *server)
{
    endpoint_print_ip(stream_peer(server->stream), peer_seen, sizeof(peer_seen));
    assert_int_equal(stream_local(server->stream)->port, listener_at(server->net->listener)->port);
    say(server, "x");
}

static void check_local_and_finish(struct end *client, enum stream_event event)
{
    char text[ENDPOINT_TEXT];

    if (event != STREAM_DATA)
        return;
    endpoint_print_ip(stream_local(client->stream), text, sizeof(text));
    assert_string_equal(text, "127.0.0.2");
    net_finish(client->net);
}

static void a_source_address_is_used(void **state)
{
    struct net net;
    struct endpoint source;

    (void)state;
    net_start_tcp(&net);
    net.accepted = note_peer;
    net.client.react = check_local_and_finish;
    assert_true(endpoint_ip(STR("127.0.0.2"), &source));
    assert_int_equal(net_connect(&net, listener_at(net.listener), &source, NET_AMPLE_MS, NULL), 0);
    net_run(&net);
    assert_string_equal(peer_seen, "127.0.0.2");
    net_end(&net);
}

static void a_source_address_of_somebody_else_is_refused_at_once(void **state)
{
    static const struct {
        const char *source;
        enum err err;
    } rows[] = { { "192.0.2.1", ERR_NOT_FOUND }, { "::1", ERR_UNREACHABLE } };
    struct net net;
    struct endpoint source;
    struct fault fault;

    (void)state;
    net_start_tcp(&net);
    for (size_t i = 0; i < 2; i++) {
        assert_true(endpoint_ip(str_of(rows[i].source), &source));
        assert_int_equal(
            net_connect(&net, listener_at(net.listener), &source, NET_AMPLE_MS, &fault),
            rows[i].err);
        assert_non_null(strstr(fault.text, rows[i].source));
    }
    net_end(&net);
}

static void finish_at_error(struct end *end, enum stream_event event)
{
    if (event == STREAM_ERROR)
        net_finish(end->net);
}

static void a_closed_port_refuses(void **state)
{
    struct net net;
    struct endpoint to;

    (void)state;
    net_start_tcp(&net);
    to = *listener_at(net.listener);
    listener_close(&net.listener);
    net.client.react = finish_at_error;
    /* The descriptor is closed by the next turn; the connection is made after it. */
    uint64_t began = loop_now_ms(net.loop);
    assert_int_equal(net_connect(&net, &to, NULL, NET_AMPLE_MS, NULL), 0);
    say(&net.client, "written while connecting, then dropped");
    net_run(&net);
    assert_true(net.client.fault.err == ERR_REFUSED || net.client.fault.err == ERR_CLOSED);
    assert_int_equal(net.client.count[STREAM_ERROR], 1);
    assert_true(loop_now_ms(net.loop) - began < NET_AMPLE_MS);
    net_end(&net);
}

static void a_network_that_is_not_there_comes_as_an_event(void **state)
{
    struct net net;
    struct endpoint to;

    (void)state;
    net_start_tcp(&net);
    net.client.react = finish_at_error;
    endpoint_parse(STR("255.255.255.255:25"), 0, &to, NULL);
    assert_int_equal(net_connect(&net, &to, NULL, NET_AMPLE_MS, NULL), 0);
    assert_int_equal(net.client.count[STREAM_ERROR], 0);
    net_run(&net);
    assert_int_equal(net.client.count[STREAM_ERROR], 1);
    assert_int_equal(net.client.fault.err, ERR_UNREACHABLE);
    net_end(&net);
}

/* A listening socket whose backlog is full swallows further connections. */
static void an_attempt_without_answer_times_out(void **state)
{
    struct net net;
    int waiting[4];

    (void)state;
    net_start_tcp(&net);
    struct sockaddr_in in = { .sin_family = AF_INET };
    socklen_t len = sizeof(in);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int full = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(full, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(full, 0), 0);
    assert_int_equal(getsockname(full, (struct sockaddr *)&in, &len), 0);
    for (size_t i = 0; i < 4; i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(waiting[i], (struct sockaddr *)&in, sizeof(in));
    }
    struct endpoint to = { .family = ENDPOINT_IPV4,
                           .port = ntohs(in.sin_port),
                           .ip = { 127, 0, 0, 1 } };
    net.client.react = finish_at_error;
    assert_int_equal(net_connect(&net, &to, NULL, 50, NULL), 0);
    net_run(&net);
    assert_int_equal(net.client.fault.err, ERR_TIMEOUT);
    net_end(&net);
    for (size_t i = 0; i < 4; i++)
        close(waiting[i]);
    close(full);
}

static void finish_when_early(struct end *server, enum stream_event event)
{
    if (event == STREAM_DATA)
        net_finish(server->net);
}

static void what_is_written_while_connecting_is_sent(void **state)
{
    struct net net;

    (void)state;
    net_start_tcp(&net);
    net.server.react = finish_when_early;
    net_call(&net);
    say(&net.client, "early bird");
    assert_int_equal(stream_pending(net.client.stream), 10);
    net_run(&net);
    assert_str(buf_view(&net.server.got), "early bird");
    net_end(&net);
}

/* ---- many bytes ---- */

#define BULK ((size_t)8 << 20)

static char bulk_byte(size_t i) { return (char)(i * 2654435761u >> 13); }

static void resume_server(void *arg)
{
    struct net *net = arg;

    if (net->server.stream)
        stream_resume(net->server.stream);
}

/* Echoes, and every now and then has to think. */
static void echo_server(struct end *server, enum stream_event event)
{
    struct net *net = server->net;

    if (event != STREAM_DATA)
        return;
    assert_true(stream_in(server->stream).len <= STREAM_IN_MAX + 16384);
    stream_write(server->stream, stream_in(server->stream));
    stream_consume(server->stream, stream_in(server->stream).len);
    if (++net->step % 20 == 0) {
        stream_pause(server->stream);
        loop_timer_start(net->loop, &net->timer, 1, resume_server, net);
    }
}

static size_t bulk_sent;

static void send_more(struct end *client)
{
    char piece[40000];
    size_t len = BULK - bulk_sent < sizeof(piece) ? BULK - bulk_sent : sizeof(piece);

    for (size_t i = 0; i < len; i++)
        piece[i] = bulk_byte(bulk_sent + i);
    stream_write(client->stream, str_make(piece, len));
    bulk_sent += len;
}

static void bulk_client(struct end *client, enum stream_event event)
{
    if ((event == STREAM_CONNECTED || event == STREAM_DRAINED) && bulk_sent < BULK)
        send_more(client);
    if (client->got.len == BULK)
        net_finish(client->net);
}

static void megabytes_echo_through_pauses(void **state)
{
    struct net net;

    (void)state;
    bulk_sent = 0;
    net_start_tcp(&net);
    net.server.keeps_bytes = true;
    net.server.react = echo_server;
    net.client.react = bulk_client;
    net_call(&net);
    net_run(&net);
    for (size_t i = 0; i < BULK; i++) {
        if (net.client.got.at[i] != bulk_byte(i))
            fail_msg("byte %zu differs", i);
    }
    net_end(&net);
}

static void write_a_megabyte(struct end *server)
{
    static char megabyte[1 << 20];

    stream_write(server->stream, str_make(megabyte, sizeof(megabyte)));
    stream_close(&server->stream);
}

static void close_sends_what_is_pending(void **state)
{
    struct net net;

    (void)state;
    net_start_tcp(&net);
    net.accepted = write_a_megabyte;
    net.client.react = finish_at_eof;
    net_call(&net);
    net_run(&net);
    assert_int_equal(net.client.got.len, 1 << 20);
    net_end(&net);
}

/* The owner does not consume: reading stops at STREAM_IN_MAX, and goes on when it does. */
static void take_everything(void *arg)
{
    struct net *net = arg;
    size_t len = net->server.stream ? stream_in(net->server.stream).len : 0;

    assert_true(len <= STREAM_IN_MAX);
    net->step += len == STREAM_IN_MAX;
    if (net->step < 10) { /* some turns with the rest of the megabyte at the door */
        loop_timer_start(net->loop, &net->timer, 10, take_everything, net);
        return;
    }
    net->server.keeps_bytes = false;
    end_event(&net->server, net->server.stream, STREAM_DATA);
}

static void megabyte_client(struct end *client, enum stream_event event)
{
    static char megabyte[1 << 20];

    if (event == STREAM_CONNECTED) {
        stream_write(client->stream, str_make(megabyte, sizeof(megabyte)));
        loop_timer_start(client->net->loop, &client->net->timer, 10, take_everything, client->net);
    }
    if (event == STREAM_DRAINED)
        stream_close(&client->stream);
}

static void unread_bytes_stop_the_reading(void **state)
{
    struct net net;

    (void)state;
    net_start_tcp(&net);
    net.server.keeps_bytes = true;
    net.server.react = finish_at_eof;
    net.client.react = megabyte_client;
    net_call(&net);
    net_run(&net);
    assert_int_equal(net.server.got.len, 1 << 20);
    net_end(&net);
}

/* ---- ends ---- */

static void answer_half_closed(struct end *server, enum stream_event event)
{
    if (event != STREAM_EOF)
        return;
    say(server, "221 bye\r\n");
    net_finish(server->net);
}

static void writing_works_after_the_peer_closed_its_half(void **state)
{
    struct net net;
    char text[32];

    (void)state;
    net_start_tcp(&net);
    net.server.react = answer_half_closed;
    int fd = raw_connect(listener_at(net.listener));
    assert_int_equal(write(fd, "QUIT\r\n", 6), 6);
    shutdown(fd, SHUT_WR);
    net_run(&net);
    assert_str(buf_view(&net.server.got), "QUIT\r\n");
    assert_int_equal(read(fd, text, sizeof(text)), 9);
    assert_int_equal(read(fd, text, sizeof(text)), 0);
    close(fd);
    net_end(&net);
}

static int resetting_fd;

static void reset_under_it(void *arg)
{
    struct net *net = arg;
    struct linger hard = { 1, 0 };

    setsockopt(resetting_fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(resetting_fd);
    say(&net->server, "more");
    say(&net->server, "and more");
}

static void arm_reset(struct end *server)
{
    assert_int_equal(write(resetting_fd, "421 go away\r\n", 13), 13);
    loop_timer_start(server->net->loop, &server->net->timer, 20, reset_under_it, server->net);
}

static void last_words_before_a_reset_are_heard(void **state)
{
    struct net net;

    (void)state;
    net_start_tcp(&net);
    net.accepted = arm_reset;
    net.server.react = finish_at_error;
    resetting_fd = raw_connect(listener_at(net.listener));
    net_run(&net);
    assert_str(buf_view(&net.server.got), "421 go away\r\n");
    assert_int_equal(net.server.fault.err, ERR_CLOSED);
    net_end(&net);
}

/* The client goes on sending: a plain close() would reset the connection and
 * might take the 554 with it. */
static void finish_now(void *arg) { net_finish(arg); }

static void refuse(struct end *server, enum stream_event event)
{
    if (event != STREAM_DATA)
        return;
    say(server, "554 no\r\n");
    stream_close(&server->stream);
    loop_timer_start(server->net->loop, &server->net->timer, 150, finish_now, server->net);
}

static void the_last_reply_survives_a_client_that_keeps_sending(void **state)
{
    struct net net;
    char bytes[8] = "";

    (void)state;
    net_start_tcp(&net);
    net.server.react = refuse;
    int fd = raw_connect(listener_at(net.listener));
    static char junk[200000];
    fcntl(fd, F_SETFL, O_NONBLOCK);
    assert_true(write(fd, junk, sizeof(junk)) > 0);
    net_run(&net);
    assert_int_equal(recv(fd, bytes, 8, 0), 8);
    assert_memory_equal(bytes, "554 no\r\n", 8);
    close(fd);
    net_end(&net);
}

static void deadline_soon(struct end *server)
{
    stream_deadline(server->stream, loop_now_ms(server->net->loop) + 10);
}

static void reply_to_timeout(struct end *server, enum stream_event event)
{
    if (event == STREAM_TIMEOUT) {
        say(server, "421 too slow\r\n");
        stream_close(&server->stream);
    }
}

static void a_deadline_is_an_event_and_the_stream_lives_on(void **state)
{
    struct net net;

    (void)state;
    net_start_tcp(&net);
    net.accepted = deadline_soon;
    net.server.react = reply_to_timeout;
    net.client.react = finish_at_eof;
    net_call(&net);
    net_run(&net);
    assert_str(buf_view(&net.client.got), "421 too slow\r\n");
    assert_int_equal(net.server.count[STREAM_TIMEOUT], 1);
    net_end(&net);
}

static void put_off(void *arg)
{
    struct net *net = arg;

    if (++net->step == 5) {
        net_finish(net);
        return;
    }
    stream_deadline(net->server.stream, loop_now_ms(net->loop) + 60);
    loop_timer_start(net->loop, &net->timer, 20, put_off, net);
}

static void start_putting_off(struct end *server) { put_off(server->net); }

static void a_deadline_put_off_does_not_fire(void **state)
{
    struct net net;

    (void)state;
    net_start_tcp(&net);
    net.accepted = start_putting_off;
    net_call(&net);
    net_run(&net);
    assert_int_equal(net.server.count[STREAM_TIMEOUT], 0);
    net_end(&net);
}

/* ---- closing inside every kind of event ---- */

static enum stream_event close_at;
static bool close_hard;

static void close_there(struct end *end, enum stream_event event)
{
    if (event != close_at)
        return;
    if (close_hard)
        stream_abort(&end->stream);
    else
        stream_close(&end->stream);
    assert_null(end->stream);
    loop_timer_start(end->net->loop, &end->net->timer, 5, finish_now, end->net);
}

static void chat(struct end *server)
{
    say(server, "220 hi\r\n");
    stream_deadline(server->stream, loop_now_ms(server->net->loop) + 5);
}

static void closing_inside_an_event_is_safe(void **state)
{
    static const struct {
        const char *name;
        enum stream_event at;
        bool hard, by_server;
    } rows[] = {
        { "close when connected", STREAM_CONNECTED, false, false },
        { "abort when connected", STREAM_CONNECTED, true, false },
        { "close at data", STREAM_DATA, false, false },
        { "abort at data", STREAM_DATA, true, false },
        { "close when drained", STREAM_DRAINED, false, true },
        { "abort when drained", STREAM_DRAINED, true, true },
        { "close at the deadline", STREAM_TIMEOUT, false, true },
        { "abort at the deadline", STREAM_TIMEOUT, true, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct net net;
        net_start_tcp(&net);
        close_at = rows[i].at;
        close_hard = rows[i].hard;
        net.accepted = chat;
        (rows[i].by_server ? &net.server : &net.client)->react = close_there;
        net_call(&net);
        net_run(&net);
        net_end(&net);
    }
}

static void close_before_anything_happened(void **state)
{
    struct net net;

    (void)state;
    net_start_tcp(&net);
    net_call(&net);
    stream_close(&net.client.stream);
    net_call(&net);
    stream_abort(&net.client.stream);
    loop_timer_start(net.loop, &net.timer, 5, finish_now, &net);
    net_run(&net);
    assert_int_equal(net.client.count[STREAM_CONNECTED], 0);
    net_end(&net);
}

/* A peer that reads nothing must not hold up a loop that stops. */
static void fill_and_finish(struct end *server)
{
    static char megabyte[1 << 20];

    for (int i = 0; i < 8; i++)
        stream_write(server->stream, str_make(megabyte, sizeof(megabyte)));
    net_finish(server->net);
}

static void stopping_cuts_lingering_short(void **state)
{
    struct net net;

    (void)state;
    net_start_tcp(&net);
    net.accepted = fill_and_finish;
    int fd = raw_connect(listener_at(net.listener));
    uint64_t began = loop_now_ms(net.loop);
    net_run(&net);
    assert_true(loop_now_ms(net.loop) - began < 9000); /* it would linger for 10 s */
    close(fd);
    net_end(&net);
}

/* ---- unix sockets ---- */

static void check_uid(struct end *server)
{
    uint32_t uid = 12345;

    assert_true(stream_peer_uid(server->stream, &uid));
    assert_int_equal(uid, getuid());
    assert_int_equal(stream_peer(server->stream)->family, ENDPOINT_UNIX);
    say(server, "hello");
}

static void finish_at_data(struct end *end, enum stream_event event)
{
    if (event == STREAM_DATA)
        net_finish(end->net);
}

static void unix_path(struct endpoint *at, const char *name)
{
    *at = (struct endpoint){ .family = ENDPOINT_UNIX };
    snprintf(at->path, sizeof(at->path), "/tmp/waypost-test-%d-%s", (int)getpid(), name);
    unlink(at->path);
}

static void a_unix_socket_tells_who_calls(void **state)
{
    struct net net;
    struct listener_options options = { .fd = -1, .unix_mode = 0660 };
    struct stat st;

    (void)state;
    unix_path(&options.at, "uid");
    net_start(&net, &options);
    assert_int_equal(stat(options.at.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    net.accepted = check_uid;
    net.client.react = finish_at_data;
    net_call(&net);
    net_run(&net);
    assert_str(buf_view(&net.client.got), "hello");
    net_end(&net);
    assert_int_equal(stat(options.at.path, &st), -1);
}

static void a_stale_unix_socket_is_replaced_a_live_one_is_not(void **state)
{
    struct listener_options options = { .fd = -1 };
    struct fault fault;
    int fd = -1, second = -1;

    (void)state;
    unix_path(&options.at, "stale");
    assert_int_equal(listener_bind(&options, &fd, &fault), 0);
    assert_int_equal(listener_bind(&options, &second, &fault), ERR_BUSY);
    assert_non_null(strstr(fault.text, "another process listens there"));
    close(fd); /* the file stays, nobody listens */
    assert_int_equal(listener_bind(&options, &fd, &fault), 0);
    close(fd);
    unlink(options.at.path);
    fd = open(options.at.path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_int_equal(listener_bind(&options, &second, &fault), ERR_BUSY);
    assert_non_null(strstr(fault.text, "not a socket"));
    unlink(options.at.path);
}

static void connecting_to_no_unix_socket_fails(void **state)
{
    struct net net;
    struct endpoint to;

    (void)state;
    net_start_tcp(&net);
    unix_path(&to, "none");
    net.client.react = finish_at_error;
    assert_int_equal(net_connect(&net, &to, NULL, NET_AMPLE_MS, NULL), 0);
    net_run(&net);
    assert_int_equal(net.client.fault.err, ERR_NOT_FOUND);
    net_end(&net);
}

/* ---- listening ---- */

static void the_wildcard_takes_both_families(void **state)
{
    static const char *const rows[] = { "127.0.0.1", "::1" };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct net net;
        struct listener_options options = { .fd = -1 };
        struct endpoint to;
        endpoint_parse(STR("*:0"), 0, &options.at, NULL);
        net_start(&net, &options);
        if (listener_at(net.listener)->family == ENDPOINT_IPV4 && i == 1) {
            net_end(&net); /* a machine without IPv6 */
            continue;
        }
        net.accepted = note_peer;
        net.client.react = finish_at_data;
        assert_true(endpoint_ip(str_of(rows[i]), &to));
        to.port = listener_at(net.listener)->port;
        assert_int_equal(net_connect(&net, &to, NULL, NET_AMPLE_MS, NULL), 0);
        net_run(&net);
        assert_string_equal(peer_seen, rows[i]);
        net_end(&net);
    }
}

static void a_port_in_use_is_told_in_words(void **state)
{
    struct net net;
    struct fault fault;
    int fd = -1;

    (void)state;
    net_start_tcp(&net);
    struct listener_options options = { .fd = -1, .at = *listener_at(net.listener) };
    assert_int_equal(listener_bind(&options, &fd, &fault), ERR_BUSY);
    assert_non_null(strstr(fault.text, "another process uses this port"));
    net_end(&net);
}

static void resume_listener(void *arg)
{
    struct net *net = arg;

    assert_null(net->server.stream);
    listener_resume(net->listener);
}

static void a_paused_listener_leaves_callers_in_the_backlog(void **state)
{
    struct net net;

    (void)state;
    net_start_tcp(&net);
    net.accepted = greet;
    net.client.react = finish_at_data;
    listener_pause(net.listener);
    net_call(&net);
    loop_timer_start(net.loop, &net.timer, 50, resume_listener, &net);
    net_run(&net);
    net_end(&net);
}

static int hoard[256];
static size_t hoarded;

static void give_back(void *arg)
{
    struct net *net = arg;

    assert_null(net->server.stream);
    while (hoarded)
        close(hoard[--hoarded]);
}

static void finish_when_accepted(struct end *server) { net_finish(server->net); }

static void without_descriptors_callers_wait(void **state)
{
    struct net net;
    struct rlimit before, low;

    (void)state;
    net_start_tcp(&net);
    net.accepted = finish_when_accepted;
    int fd = raw_connect(listener_at(net.listener));
    getrlimit(RLIMIT_NOFILE, &before);
    low = before;
    low.rlim_cur = (rlim_t)fd + 20;
    setrlimit(RLIMIT_NOFILE, &low);
    while (hoarded < 256 && (hoard[hoarded] = dup(fd)) >= 0)
        hoarded++;
    if (hoarded == 256) { /* valgrind keeps limits of its own */
        setrlimit(RLIMIT_NOFILE, &before);
        give_back(&net);
        close(fd);
        net_end(&net);
        skip();
    }
    assert_int_equal(errno, EMFILE);
    loop_timer_start(net.loop, &net.timer, 50, give_back, &net);
    net_run(&net);
    setrlimit(RLIMIT_NOFILE, &before);
    close(fd);
    net_end(&net);
}

static void nobody_owns(void *arg, struct stream *stream)
{
    struct net *net = arg;

    (void)stream;
    net->step++;
}

static void a_stream_nobody_owns_is_closed(void **state)
{
    struct net net;
    struct listener_options options = { .fd = -1 };

    (void)state;
    net_start_tcp(&net);
    endpoint_parse(STR("127.0.0.1:0"), 0, &options.at, NULL);
    assert_int_equal(listener_new(net.loop, &options, nobody_owns, &net, &net.extra, NULL), 0);
    net.client.react = finish_at_eof;
    assert_int_equal(net_connect(&net, listener_at(net.extra), NULL, NET_AMPLE_MS, NULL), 0);
    net_run(&net);
    assert_int_equal(net.step, 1);
    net_end(&net);
}

/* ---- many at once ---- */

#define MANY 300

static struct end crowd[MANY], guests[MANY];
static size_t crowd_done, guest_count;

static void guest_event(struct end *guest, enum stream_event event)
{
    if (event == STREAM_DATA)
        say(guest, "250 ok\r\n");
    if (event == STREAM_EOF)
        stream_close(&guest->stream);
}

static void crowd_event(struct end *end, enum stream_event event)
{
    if (event == STREAM_CONNECTED)
        say(end, "NOOP\r\n");
    if (event != STREAM_DATA)
        return;
    stream_close(&end->stream);
    if (++crowd_done == MANY)
        net_finish(end->net);
}

static void accept_guest(void *arg, struct stream *stream)
{
    struct end *guest = &guests[guest_count++];

    *guest = (struct end){ .net = arg, .stream = stream, .react = guest_event };
    buf_init(&guest->got, 1000);
    stream_own(stream, end_event, guest);
}

static void many_streams_talk_at_once(void **state)
{
    struct net net;
    struct listener_options options = { .fd = -1 };

    (void)state;
    net_start_tcp(&net);
    endpoint_parse(STR("127.0.0.1:0"), 0, &options.at, NULL);
    assert_int_equal(listener_new(net.loop, &options, accept_guest, &net, &net.extra, NULL), 0);
    for (size_t i = 0; i < MANY; i++) {
        crowd[i] = (struct end){ .net = &net, .react = crowd_event };
        buf_init(&crowd[i].got, 1000);
        assert_int_equal(stream_connect(net.loop, listener_at(net.extra), NULL,
                                        loop_now_ms(net.loop) + NET_AMPLE_MS, end_event, &crowd[i],
                                        &crowd[i].stream, NULL),
                         0);
    }
    net_run(&net);
    assert_int_equal(crowd_done, MANY);
    net_end(&net);
    for (size_t i = 0; i < MANY; i++) {
        buf_clear(&crowd[i].got);
        buf_clear(&guests[i].got);
    }
}

/* ---- PROXY protocol ---- */

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define TCP4 "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\x30\x39\x00\x19"

struct proxy_row {
    const char *name;
    const char *bytes;
    size_t len;
    const char *from;   /* network that may send a header */
    const char *client; /* NULL: refused */
    const char *in;     /* what the session then reads */
};

static void check_client(struct end *server)
{
    endpoint_print_ip(stream_peer(server->stream), peer_seen, sizeof(peer_seen));
}

static void finish_at_bytes(struct end *end, enum stream_event event)
{
    if (event == STREAM_DATA && memchr(end->got.at, '\n', end->got.len))
        net_finish(end->net);
}

static void run_proxy_row(const struct proxy_row *row, bool by_bytes)
{
    struct net net;
    struct network from;
    struct listener_options options = {
        .fd = -1, .proxy = true, .proxy_from = &from, .proxy_from_count = 1
    };

    assert_true(network_parse(str_of(row->from), &from));
    endpoint_parse(STR("127.0.0.1:0"), 0, &options.at, NULL);
    net_start(&net, &options);
    net.accepted = check_client;
    net.server.react = finish_at_bytes;
    int fd = raw_connect(listener_at(net.listener));
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
    for (size_t i = 0; i < row->len && by_bytes; i++)
        assert_int_equal(send(fd, row->bytes + i, 1, MSG_NOSIGNAL), 1);
    if (!by_bytes)
        assert_int_equal(write(fd, row->bytes, row->len), row->len);
    if (!row->client)
        loop_timer_start(net.loop, &net.timer, 50, finish_now, &net);
    peer_seen[0] = '\0';
    net_run(&net);
    if (strcmp(peer_seen, row->client ? row->client : "") != 0)
        fail_msg("%s: client is \"%s\"", row->name, peer_seen);
    if (row->client)
        assert_str(buf_view(&net.server.got), row->in);
    close(fd);
    net_end(&net);
}

#define ROW(name, bytes, from, client, in)                                                         \
    {                                                                                              \
        name, bytes, sizeof(bytes) - 1, from, client, in                                           \
    }

static void a_proxy_header_names_the_client(void **state)
{
    static const struct proxy_row rows[] = {
        ROW("TCP over IPv4", SIGNATURE TCP4 "EHLO\r\n", "127.0.0.0/8", "192.0.2.1", "EHLO\r\n"),
        ROW("a health check keeps the proxy's address",
            SIGNATURE "\x20\x00\x00\x00"
                      "EHLO\r\n",
            "127.0.0.0/8", "127.0.0.1", "EHLO\r\n"),
        ROW("no header where one is due", "EHLO a-client.example\r\n", "127.0.0.0/8", NULL, ""),
        ROW("an old header is no header", "PROXY TCP4 192.0.2.1 198.51.100.1 1 25\r\nEHLO\r\n",
            "127.0.0.0/8", NULL, ""),
        ROW("an address cut short",
            SIGNATURE "\x21\x11\x00\x04\x01\x02\x03\x04"
                      "EHLO\r\n",
            "127.0.0.0/8", NULL, ""),
        ROW("a client that is no proxy is taken at its word", "EHLO\r\n", "192.0.2.0/24",
            "127.0.0.1", "EHLO\r\n"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        run_proxy_row(&rows[i], false);
        run_proxy_row(&rows[i], true);
    }
}

static void closing_drops_those_who_owe_a_header(void **state)
{
    struct net net;
    struct network from;
    struct listener_options options = {
        .fd = -1, .proxy = true, .proxy_from = &from, .proxy_from_count = 1
    };

    (void)state;
    assert_true(network_parse(STR("127.0.0.1"), &from));
    endpoint_parse(STR("127.0.0.1:0"), 0, &options.at, NULL);
    net_start(&net, &options);
    int fd = raw_connect(listener_at(net.listener));
    loop_timer_start(net.loop, &net.timer, 20, finish_now, &net);
    net_run(&net);
    assert_null(net.server.stream);
    close(fd);
    net_end(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_of_one_turn_arrive_together),
        cmocka_unit_test(a_source_address_is_used),
        cmocka_unit_test(a_source_address_of_somebody_else_is_refused_at_once),
        cmocka_unit_test(a_closed_port_refuses),
        cmocka_unit_test(a_network_that_is_not_there_comes_as_an_event),
        cmocka_unit_test(an_attempt_without_answer_times_out),
        cmocka_unit_test(what_is_written_while_connecting_is_sent),
        cmocka_unit_test(megabytes_echo_through_pauses),
        cmocka_unit_test(close_sends_what_is_pending),
        cmocka_unit_test(unread_bytes_stop_the_reading),
        cmocka_unit_test(writing_works_after_the_peer_closed_its_half),
        cmocka_unit_test(last_words_before_a_reset_are_heard),
        cmocka_unit_test(the_last_reply_survives_a_client_that_keeps_sending),
        cmocka_unit_test(a_deadline_is_an_event_and_the_stream_lives_on),
        cmocka_unit_test(a_deadline_put_off_does_not_fire),
        cmocka_unit_test(closing_inside_an_event_is_safe),
        cmocka_unit_test(close_before_anything_happened),
        cmocka_unit_test(stopping_cuts_lingering_short),
        cmocka_unit_test(a_unix_socket_tells_who_calls),
        cmocka_unit_test(a_stale_unix_socket_is_replaced_a_live_one_is_not),
        cmocka_unit_test(connecting_to_no_unix_socket_fails),
        cmocka_unit_test(the_wildcard_takes_both_families),
        cmocka_unit_test(a_port_in_use_is_told_in_words),
        cmocka_unit_test(a_paused_listener_leaves_callers_in_the_backlog),
        cmocka_unit_test(without_descriptors_callers_wait),
        cmocka_unit_test(a_stream_nobody_owns_is_closed),
        cmocka_unit_test(many_streams_talk_at_once),
        cmocka_unit_test(a_proxy_header_names_the_client),
        cmocka_unit_test(closing_drops_those_who_owe_a_header),
    };

    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
