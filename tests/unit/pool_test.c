/*
 * pool_test.c - jobs run elsewhere, come back as letters, and classes keep apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gate.h"

#include "relay/base/clock.h"
#include "relay/base/container.h"
#include "relay/base/pool.h"
#include "relay/base/str.h"

#include <stdlib.h>

struct work {
    struct job job;
    unsigned number, square;
};

static struct mailbox replies;
static unsigned done_count;

static void square(struct job *job)
{
    struct work *work = (struct work *)(void *)job;

    work->square = work->number * work->number;
}

static void check_square(struct job *job)
{
    struct work *work = (struct work *)(void *)job;

    assert_int_equal(work->square, work->number * work->number);
    done_count++;
}

static void drain_until(unsigned count)
{
    while (done_count < count) {
        struct letter *letter = mailbox_wait(&replies, 100000);
        assert_non_null(letter);
        while (letter) {
            struct letter *next = letter->next;
            letter->open(letter);
            letter = next;
        }
    }
}

static void many_jobs_come_back(void **state)
{
    enum { COUNT = 600 };
    struct pool *pool = pool_new(2, false);
    struct work *works = mem_alloc(COUNT * sizeof(*works));

    (void)state;
    done_count = 0;
    mailbox_init(&replies, NULL, NULL);
    for (unsigned i = 0; i < COUNT; i++) {
        works[i] = (struct work){ .number = i };
        works[i].job = (struct job){ .run = square, .done = check_square, .reply_to = &replies };
        enum pool_class kind = i % 2 ? POOL_SIGN : POOL_DISK;
        assert_int_equal(pool_post(pool, kind, &works[i].job), ERR_OK);
    }
    drain_until(COUNT);
    assert_int_equal(pool_waiting(pool, POOL_SIGN), 0);
    pool_free(&pool);
    assert_null(pool);
    mailbox_clear(&replies);
    free(works);
}

static void count_done(struct job *job)
{
    (void)job;
    done_count++;
}

static void a_full_line_refuses_and_starves_no_other_class(void **state)
{
    enum { MOST = 64 };
    static struct work works[MOST + 3];
    struct work other = { .number = 3 };
    struct pool *pool = pool_new(1, false);
    unsigned taken = 0;

    (void)state;
    done_count = 0;
    atomic_store(&gate, false);
    mailbox_init(&replies, NULL, NULL);
    for (unsigned i = 0; i < MOST + 3; i++) {
        works[i].job =
            (struct job){ .run = wait_at_gate, .done = count_done, .reply_to = &replies };
        if (pool_post(pool, POOL_HASH, &works[i].job) == ERR_OK)
            taken++;
    }
    assert_in_range(taken, MOST, MOST + 1); /* one more when the thread had begun its first */
    other.job = (struct job){ .run = square, .done = check_square, .reply_to = &replies };
    assert_int_equal(pool_post(pool, POOL_SIGN, &other.job), ERR_OK);
    drain_until(1);
    atomic_store(&gate, true);
    drain_until(1 + taken);
    pool_free(&pool);
    mailbox_clear(&replies);
}

struct late {
    struct job job;
    struct pool *pool;
    uint64_t waited_us;
};

static void look_how_long(struct job *job)
{
    struct late *late = container_of(job, struct late, job);

    late->waited_us = pool_waited_us(late->pool, POOL_SIGN);
}

static void it_tells_how_long_the_last_had_to_wait(void **state)
{
    struct pool *pool = pool_new(1, false);
    struct job first = { .run = wait_at_gate, .done = count_done, .reply_to = &replies };
    struct late second = {
        .job = { .run = look_how_long, .done = count_done, .reply_to = &replies }, .pool = pool
    };

    (void)state;
    done_count = 0;
    atomic_store(&gate, false);
    mailbox_init(&replies, NULL, NULL);
    assert_int_equal(pool_waited_us(pool, POOL_SIGN), 0);
    assert_int_equal(pool_post(pool, POOL_SIGN, &first), ERR_OK);
    while (pool_waited_us(pool, POOL_SIGN) == 0) /* until it has begun */
        sched_yield();
    assert_int_equal(pool_waited_us(pool, POOL_DISK), 0);
    assert_int_equal(pool_post(pool, POOL_SIGN, &second.job), ERR_OK);
    for (uint64_t began_ns = clock_mono_ns(); clock_mono_ns() - began_ns < 2000000;)
        sched_yield();
    atomic_store(&gate, true);
    drain_until(2);
    assert_true(second.waited_us >= 2000);
    assert_int_equal(pool_waited_us(pool, POOL_SIGN), 0); /* nothing is there now */
    pool_free(&pool);
    mailbox_clear(&replies);
}

static void free_waits_for_what_was_posted(void **state)
{
    static struct work works[50];
    struct pool *pool = pool_new(2, false);

    (void)state;
    done_count = 0;
    mailbox_init(&replies, NULL, NULL);
    for (unsigned i = 0; i < 50; i++) {
        works[i].number = i;
        works[i].job = (struct job){ .run = square, .done = check_square, .reply_to = &replies };
        assert_int_equal(pool_post(pool, POOL_DISK, &works[i].job), ERR_OK);
    }
    pool_free(&pool);
    assert_int_equal(mailbox_drain(&replies), 50);
    mailbox_clear(&replies);
}

struct lonely {
    struct job job;
    atomic_uint *runs;
};

static void run_and_go(struct job *job)
{
    struct lonely *lonely = container_of(job, struct lonely, job);

    atomic_fetch_add(lonely->runs, 1);
    free(lonely);
}

static void a_job_that_nobody_waits_for_frees_itself(void **state)
{
    atomic_uint runs = 0;

    (void)state;
    for (int threads_off = 0; threads_off < 2; threads_off++) {
        struct pool *pool = pool_new(2, threads_off);
        for (int i = 0; i < 50; i++) {
            struct lonely *lonely = mem_alloc(sizeof(*lonely));
            lonely->job.run = run_and_go;
            lonely->runs = &runs;
            assert_int_equal(pool_post(pool, POOL_DISK, &lonely->job), ERR_OK);
        }
        pool_free(&pool);
        assert_int_equal(atomic_load(&runs), 50 * (threads_off + 1));
    }
}

static void without_threads_the_answer_still_comes_by_letter(void **state)
{
    struct pool *pool = pool_new(2, true);
    struct work work = { .number = 4 };

    (void)state;
    done_count = 0;
    mailbox_init(&replies, NULL, NULL);
    work.job = (struct job){ .run = square, .done = check_square, .reply_to = &replies };
    assert_int_equal(pool_post(pool, POOL_HASH, &work.job), ERR_OK);
    assert_int_equal(work.square, 16);
    assert_int_equal(done_count, 0);
    assert_int_equal(mailbox_drain(&replies), 1);
    assert_int_equal(done_count, 1);
    pool_free(&pool);
    mailbox_clear(&replies);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_jobs_come_back),
        cmocka_unit_test(a_full_line_refuses_and_starves_no_other_class),
        cmocka_unit_test(it_tells_how_long_the_last_had_to_wait),
        cmocka_unit_test(free_waits_for_what_was_posted),
        cmocka_unit_test(a_job_that_nobody_waits_for_frees_itself),
        cmocka_unit_test(without_threads_the_answer_still_comes_by_letter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
