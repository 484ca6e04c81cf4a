/*
 * loop_test.c - the real loop: timers, deferred calls, letters from threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/net/loop.h"

#include "relay/base/str.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static struct loop *new_loop(unsigned index, unsigned count)
{
    struct loop *loop = NULL;
    struct loop_options options = { .index = index, .count = count };

    assert_int_equal(loop_new(&options, &loop, NULL), 0);
    return loop;
}

/* ---- timers ---- */

struct ring {
    struct loop *loop;
    struct timer a, b, c;
    char order[8];
    unsigned count;
};

static void note(struct ring *ring, char letter) { ring->order[ring->count++] = letter; }

static void fire_a(void *arg)
{
    struct ring *ring = arg;

    note(ring, 'a');
    loop_timer_stop(ring->loop, &ring->b); /* would have been next */
}

static void fire_b(void *arg) { note(arg, 'b'); }

static void fire_c(void *arg)
{
    struct ring *ring = arg;

    note(ring, 'c');
    if (ring->count < 4)
        loop_timer_start(ring->loop, &ring->c, 1, fire_c, ring);
    else
        loop_stop(ring->loop);
}

static void timers_fire_in_order_and_may_be_moved(void **state)
{
    struct ring ring = { .loop = new_loop(0, 1) };

    (void)state;
    loop_timer_start(ring.loop, &ring.c, 30, fire_c, &ring);
    loop_timer_start(ring.loop, &ring.b, 10, fire_b, &ring);
    loop_timer_start(ring.loop, &ring.a, 50, fire_a, &ring);
    loop_timer_start(ring.loop, &ring.a, 5, fire_a, &ring);
    uint64_t began = loop_now_ms(ring.loop);
    loop_run(ring.loop);
    assert_string_equal(ring.order, "accc");
    assert_true(loop_now_ms(ring.loop) - began >= 30);
    loop_free(&ring.loop);
    assert_null(ring.loop);
}

static void a_loop_runs_until_its_timers_are_gone(void **state)
{
    struct ring ring = { .loop = new_loop(0, 1) };

    (void)state;
    loop_timer_start(ring.loop, &ring.b, 20, fire_b, &ring);
    loop_stop(ring.loop);
    loop_run(ring.loop);
    assert_string_equal(ring.order, "b");
    loop_free(&ring.loop);
}

/* ---- deferred calls ---- */

struct later {
    struct loop *loop;
    struct deferred a, b;
    struct timer timer;
    unsigned ran;
    bool inside;
};

static void second(void *arg)
{
    struct later *later = arg;

    assert_false(later->inside);
    later->ran++;
    loop_stop(later->loop);
}

static void first(void *arg)
{
    struct later *later = arg;

    assert_false(later->inside);
    later->ran++;
    loop_defer(later->loop, &later->b, second, later);
}

static void from_timer(void *arg)
{
    struct later *later = arg;

    later->inside = true;
    loop_defer(later->loop, &later->b, second, later);
    loop_defer(later->loop, &later->a, first, later);
    loop_defer(later->loop, &later->a, first, later); /* once is enough */
    loop_undefer(later->loop, &later->b);
    loop_undefer(later->loop, &later->b);
    later->inside = false;
}

static void deferred_calls_come_after_the_present_one(void **state)
{
    struct later later = { .loop = new_loop(0, 1) };

    (void)state;
    loop_timer_start(later.loop, &later.timer, 1, from_timer, &later);
    loop_run(later.loop);
    assert_int_equal(later.ran, 2);
    loop_free(&later.loop);
}

static void without_anything_else_deferred_calls_still_run(void **state)
{
    struct later later = { .loop = new_loop(0, 1) };

    (void)state;
    loop_stop(later.loop);
    loop_defer(later.loop, &later.a, first, &later);
    loop_run(later.loop);
    assert_int_equal(later.ran, 2);
    loop_free(&later.loop);
}

/* ---- letters ---- */

#define THREADS 4
#define LETTERS 5000

struct note {
    struct letter letter;
    struct post *post;
};

struct post {
    struct loop *loop;
    unsigned opened;
};

static void open_note(struct letter *letter)
{
    struct note *n = (struct note *)letter;
    struct post *post = n->post;

    free(n);
    if (++post->opened == THREADS * LETTERS)
        loop_stop(post->loop);
}

static void *write_letters(void *arg)
{
    struct post *post = arg;

    for (unsigned i = 0; i < LETTERS; i++) {
        struct note *n = mem_alloc(sizeof(*n));
        n->letter.open = open_note;
        n->post = post;
        mailbox_post(loop_mailbox(post->loop), &n->letter);
    }
    return NULL;
}

static void letters_from_threads_all_arrive(void **state)
{
    struct post post = { .loop = new_loop(0, 1) };
    pthread_t threads[THREADS];

    (void)state;
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, write_letters, &post);
    loop_run(post.loop);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(post.opened, THREADS * LETTERS);
    loop_free(&post.loop);
}

static void letters_left_over_are_opened_when_it_is_freed(void **state)
{
    struct post post = { .loop = new_loop(0, 1), .opened = 0 };
    struct note *n = mem_alloc(sizeof(*n));

    (void)state;
    n->letter.open = open_note;
    n->post = &post;
    loop_stop(post.loop);
    loop_run(post.loop);
    mailbox_post(loop_mailbox(post.loop), &n->letter);
    loop_free(&post.loop);
    assert_int_equal(post.opened, 1);
}

/* ---- the rest ---- */

static void numbers_and_ids_are_unique_over_loops(void **state)
{
    struct loop *a = new_loop(0, 2), *b = new_loop(1, 2);
    uint64_t last_a = 0, last_b = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        uint64_t x = loop_number(a), y = loop_number(b);
        assert_int_not_equal(x % 2, y % 2);
        assert_true(x > last_a && y > last_b && x > 0);
        last_a = x;
        last_b = y;
    }
    struct msgid x = loop_msgid(a), y = loop_msgid(a);
    assert_true(msgid_cmp(&x, &y) < 0);
    assert_true(loop_wall_s(a) > 1700000000);
    assert_int_equal(loop_index(b), 1);
    assert_int_equal(loop_count(b), 2);
    loop_free(&a);
    loop_free(&b);
}

static int caught;

static void on_signal(void *arg, int signum)
{
    caught = signum;
    loop_stop(arg);
}

static void raise_it(void *arg)
{
    (void)arg;
    kill(getpid(), SIGUSR1);
}

static void signals_arrive_on_the_loop(void **state)
{
    struct later later = { .loop = new_loop(0, 1) };

    (void)state;
    assert_int_equal(loop_on_signal(later.loop, SIGUSR1, on_signal, later.loop), 0);
    loop_timer_start(later.loop, &later.timer, 1, raise_it, NULL);
    loop_run(later.loop);
    assert_int_equal(caught, SIGUSR1);
    loop_free(&later.loop);
}

struct watched {
    struct loop *loop;
    struct loop_watch *watch;
    int fd;
    char got[8];
};

static void readable(void *arg)
{
    struct watched *watched = arg;

    assert_int_equal(read(watched->fd, watched->got, sizeof(watched->got)), 5);
    loop_unwatch(&watched->watch);
    loop_stop(watched->loop);
}

static void foreign_descriptors_are_watched(void **state)
{
    struct watched watched = { .loop = new_loop(0, 1) };
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    watched.fd = ends[0];
    assert_int_equal(loop_watch_fd(watched.loop, ends[0], readable, &watched, &watched.watch), 0);
    assert_int_equal(write(ends[1], "hello", 5), 5);
    loop_run(watched.loop);
    assert_memory_equal(watched.got, "hello", 5);
    assert_null(watched.watch);
    loop_free(&watched.loop);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order_and_may_be_moved),
        cmocka_unit_test(a_loop_runs_until_its_timers_are_gone),
        cmocka_unit_test(deferred_calls_come_after_the_present_one),
        cmocka_unit_test(without_anything_else_deferred_calls_still_run),
        cmocka_unit_test(letters_from_threads_all_arrive),
        cmocka_unit_test(letters_left_over_are_opened_when_it_is_freed),
        cmocka_unit_test(numbers_and_ids_are_unique_over_loops),
        cmocka_unit_test(signals_arrive_on_the_loop),
        cmocka_unit_test(foreign_descriptors_are_watched),
    };

    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
