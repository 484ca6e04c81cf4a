/*
 * spread_test.c - how many loops take new clients, and that the kernel does as it is told.
 */
#include "relay/ingress/spread.h"
#include "relay/net/loop.h"
#include "relay/net/stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- how many ---- */

static void clients_go_to_as_few_loops_as_serve_them(void **state)
{
    static const struct {
        const char *what;
        struct spread_facts facts;
        unsigned open;
    } rows[] = {
        { "idle", { 2, 2, 3600000, 1, 1, 0 }, 2 },
        { "a crowd after a pause", { 2, 1, 501, 400, 5, 100 }, 2 },
        { "come and go, little to do", { 2, 2, 50, 170, 20, 40 }, 1 },
        { "still", { 2, 1, 50, 170, 20, 40 }, 1 },
        { "one loop is full", { 2, 1, 50, 300, 20, 48 }, 2 },
        { "nearly", { 2, 1, 50, 300, 20, 47 }, 1 },
        { "too much for one", { 2, 2, 50, 300, 20, 46 }, 2 },
        { "they stay", { 2, 1, 50, 19, 20, 20 }, 2 },
        { "they come and stay", { 4, 1, 100, 50, 200, 20 }, 4 },
        { "eight loops, work for three", { 8, 8, 100, 900, 40, 250 }, 3 },
        { "four full, eight there", { 8, 4, 100, 900, 40, 390 }, 5 },
        { "all full", { 8, 8, 100, 900, 40, 800 }, 8 },
        { "more than there are", { 4, 2, 100, 900, 40, 900 }, 4 },
        { "one loop", { 1, 1, 50, 100, 1, 50 }, 1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (spread_open(&rows[i].facts) != rows[i].open)
            fail_msg("%s: %u", rows[i].what, spread_open(&rows[i].facts));
}

/* ---- the kernel ---- */

enum { CLIENTS = 40 };

struct door {
    struct loop *loop;
    struct listener *listeners[2];
    unsigned came[2], all;
};

struct side {
    struct door *door;
    unsigned index;
};

static void on_client(void *arg, struct stream *stream)
{
    struct side *side = arg;

    (void)stream; /* nobody wants it: the listener closes it */
    side->door->came[side->index]++;
    if (++side->door->all < CLIENTS)
        return;
    listener_close(&side->door->listeners[0]);
    listener_close(&side->door->listeners[1]);
    loop_stop(side->door->loop);
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&at, sizeof(at)), 0);
    return fd;
}

/* Of CLIENTS clients, how many the second of two sockets got. */
static unsigned second_got(unsigned open)
{
    struct loop_options loop = { .count = 2 };
    struct door door = { 0 };
    struct side sides[2] = { { &door, 0 }, { &door, 1 } };
    struct listener_options options = { .fd = -1, .reuse_port = true };
    int clients[CLIENTS];

    assert_int_equal(loop_new(&loop, &door.loop, NULL), ERR_OK);
    assert_int_equal(endpoint_parse(STR("127.0.0.1:0"), 0, &options.at, NULL), ERR_OK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(
            listener_new(door.loop, &options, on_client, &sides[i], &door.listeners[i], NULL),
            ERR_OK);
        options.at.port = listener_at(door.listeners[0])->port;
    }
    listener_spread(door.listeners[1], open);
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = connect_to(options.at.port);
    loop_run(door.loop);
    for (unsigned i = 0; i < CLIENTS; i++)
        close(clients[i]);
    loop_free(&door.loop);
    assert_int_equal(door.came[0] + door.came[1], CLIENTS);
    return door.came[1];
}

static void the_first_sockets_take_them(void **state)
{
    (void)state;
    assert_int_equal(second_got(1), 0);
    assert_in_range(second_got(2), 2, CLIENTS - 2); /* by chance: less once in 10^9 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_go_to_as_few_loops_as_serve_them),
        cmocka_unit_test(the_first_sockets_take_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
