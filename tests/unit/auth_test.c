/*
 * auth_test.c - verdicts on passwords: cached, joined, late when wrong, never
 * late when right. Real loop, real pool, real hashes; what is timed is the
 * delay that was asked for, not the machine.
 */
#include "gate.h"
#include "relay/base/container.h"
#include "relay/ingress/auth.h"
#include "relay/ingress/auth_memory.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- what auth remembers, without a loop ---- */

static struct endpoint at(const char *ip)
{
    struct endpoint endpoint = { .family = ENDPOINT_UNIX };

    if (strcmp(ip, "local") != 0)
        assert_true(endpoint_ip(str_of(ip), &endpoint));
    return endpoint;
}

static void delays_grow_and_are_forgiven(void **state)
{
    static const uint64_t want_ms[] = { 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000 };
    struct auth_memory *memory = mem_alloc(sizeof(*memory));
    struct endpoint client = at("192.0.2.1");
    struct auth_key key = auth_key_client(memory, &client, STR("anna"));
    uint64_t now_ms = 5000;

    (void)state;
    for (size_t i = 0; i < sizeof(want_ms) / sizeof(want_ms[0]); i++)
        assert_int_equal(auth_memory_add_bad(memory, &key, now_ms++), want_ms[i]);
    now_ms += AUTH_FORGIVEN_MS - 10;
    assert_int_equal(auth_memory_add_bad(memory, &key, now_ms), 30000);
    now_ms += AUTH_FORGIVEN_MS;
    assert_int_equal(auth_memory_add_bad(memory, &key, now_ms), 1000);
    assert_int_equal(auth_memory_add_bad(memory, &key, now_ms), 2000);
    auth_memory_forgive(memory, &key);
    assert_int_equal(auth_memory_add_bad(memory, &key, now_ms), 1000);
    free(memory);
}

static void delays_are_per_network_and_user(void **state)
{
    static const struct {
        const char *name, *ip, *other_ip, *user, *other_user;
        bool same;
    } rows[] = {
        { "the same /24", "192.0.2.1", "192.0.2.200", "a", "a", true },
        { "another /24", "192.0.2.1", "192.0.3.1", "a", "a", false },
        { "another user", "192.0.2.1", "192.0.2.1", "a", "b", false },
        { "the same /64", "2001:db8::1", "2001:db8::2:1", "a", "a", true },
        { "another /64", "2001:db8::1", "2001:db8:0:1::1", "a", "a", false },
        { "v4-mapped", "192.0.2.1", "::ffff:192.0.2.9", "a", "a", true },
        { "local callers", "local", "local", "a", "a", true },
        { "local is no address", "local", "0.0.0.0", "a", "a", false },
    };
    struct auth_memory *memory = mem_alloc(sizeof(*memory));

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct endpoint one = at(rows[i].ip), two = at(rows[i].other_ip);
        struct auth_key a = auth_key_client(memory, &one, str_of(rows[i].user));
        struct auth_key b = auth_key_client(memory, &two, str_of(rows[i].other_user));
        if (auth_key_same(&a, &b) != rows[i].same)
            fail_msg("%s", rows[i].name);
    }
    free(memory);
}

static void credentials_are_kept_for_minutes(void **state)
{
    struct auth_memory *memory = mem_alloc(sizeof(*memory));
    struct auth_key key = auth_key_credential(memory, STR("anna"), STR("secret"));
    struct auth_key shifted = auth_key_credential(memory, STR("annas"), STR("ecret"));

    (void)state;
    assert_false(auth_key_same(&key, &shifted));
    assert_false(auth_memory_is_good(memory, &key, 1));
    auth_memory_add_good(memory, &key, 1000);
    assert_true(auth_memory_is_good(memory, &key, 1000 + AUTH_KEPT_MS - 1));
    assert_false(auth_memory_is_good(memory, &key, 1000 + AUTH_KEPT_MS));
    assert_false(auth_memory_is_good(memory, &shifted, 1001));
    auth_memory_forget_good(memory);
    assert_false(auth_memory_is_good(memory, &key, 1001));
    free(memory);
}

/* However many come, the table stays as it is and the newest is known. */
static void tables_are_bounded(void **state)
{
    struct auth_memory *memory = mem_alloc(sizeof(*memory));
    char name[16];

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(name, sizeof(name), "%u", i);
        struct auth_key key = auth_key_credential(memory, str_of(name), STR("x"));
        auth_memory_add_good(memory, &key, 1000 + i);
        assert_true(auth_memory_is_good(memory, &key, 1001 + i));
        assert_int_equal(auth_memory_add_bad(memory, &key, 1000 + i), 1000);
    }
    free(memory);
}

/* ---- a whole auth on a loop ---- */

struct asked {
    struct world *world;
    struct auth_check *check;
    enum auth_verdict verdict;
    unsigned calls;
    uint64_t began_ms, took_ms;
};

struct world {
    char file[64];
    struct pool *pool;
    struct loop *loop;
    struct auth *auth;
    struct users *users;
    unsigned open;
    void (*then)(struct world *world);
    struct timer guard;
};

static const char *const password = "correct horse";

static struct users *users_with(struct world *world, const char *secret)
{
    struct user_change change = { .name = STR("anna"), .password = str_of(secret), .group = -1 };
    struct users *users = NULL;
    struct fault fault;

    unlink(world->file);
    if (users_add(world->file, &change, &fault) || users_load(world->file, &users, &fault))
        fail_msg("%s", fault.text);
    return users;
}

static void hangs(void *arg)
{
    (void)arg;
    fail_msg("the test hangs");
}

static int setup(void **state)
{
    struct world *world = mem_alloc(sizeof(*world));
    struct loop_options options = { .count = 1 };
    struct fault fault;

    snprintf(world->file, sizeof(world->file), "/tmp/auth_test.%d", (int)getpid());
    world->pool = pool_new(1, false);
    options.pool = world->pool;
    assert_int_equal(loop_new(&options, &world->loop, &fault), ERR_OK);
    world->users = users_with(world, password);
    world->auth = auth_new(world->users);
    loop_timer_start(world->loop, &world->guard, 200000, hangs, NULL);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    loop_timer_stop(world->loop, &world->guard);
    pool_free(&world->pool);
    loop_free(&world->loop);
    auth_free(&world->auth);
    users_unref(&world->users);
    unlink(world->file);
    free(world);
    return 0;
}

static void verdict(void *arg, enum auth_verdict verdict)
{
    struct asked *asked = arg;
    struct world *world = asked->world;

    asked->check = NULL;
    asked->calls++;
    asked->verdict = verdict;
    asked->took_ms = loop_now_ms(world->loop) - asked->began_ms;
    if (--world->open > 0)
        return;
    if (world->then) {
        void (*then)(struct world *) = world->then;
        world->then = NULL;
        then(world);
    }
    if (world->open == 0) {
        loop_timer_stop(world->loop, &world->guard);
        loop_stop(world->loop);
    }
}

static void ask(struct world *world, struct asked *asked, const char *ip, const char *user,
                const char *secret)
{
    struct endpoint client = at(ip);

    *asked = (struct asked){ .world = world, .began_ms = loop_now_ms(world->loop) };
    world->open++;
    auth_password(world->auth, world->loop, &client, str_of(user), str_of(secret), verdict, asked,
                  &asked->check);
    assert_int_equal(asked->calls, 0); /* never before this returned */
    assert_non_null(asked->check);
}

static struct asked asked[64];

static void judged(void **state)
{
    struct world *world = *state;

    ask(world, &asked[0], "192.0.2.1", "anna", password);
    ask(world, &asked[1], "192.0.2.1", "anna", "wrong");
    ask(world, &asked[2], "192.0.2.1", "nobody", password);
    ask(world, &asked[3], "192.0.2.1", "", "");
    loop_run(world->loop);
    assert_int_equal(asked[0].verdict, AUTH_OK);
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(asked[i].calls, 1);
        assert_int_equal(asked[i].verdict, AUTH_WRONG);
        assert_true(asked[i].took_ms >= 1000);
    }
}

/* The right one comes at once, from a network that has guessed wrongly. */
static void right_from_delayed(struct world *world)
{
    ask(world, &asked[2], "192.0.2.7", "anna", password);
}

static void the_right_password_is_not_delayed(void **state)
{
    struct world *world = *state;

    ask(world, &asked[0], "192.0.2.1", "anna", "wrong");
    ask(world, &asked[1], "192.0.2.1", "anna", "wronger");
    world->then = right_from_delayed;
    loop_run(world->loop);
    assert_true(asked[1].took_ms + asked[0].took_ms >= 3000);
    assert_int_equal(asked[2].verdict, AUTH_OK);
    assert_true(asked[2].took_ms < 4000); /* what a third wrong one would have to wait */
}

/* ---- one hash for many ---- */

static void again(struct world *world)
{
    for (unsigned i = 10; i < 20; i++)
        ask(world, &asked[i], "198.51.100.1", "anna", password);
    assert_int_equal(pool_waiting(world->pool, POOL_HASH), 0); /* cached: nothing to hash */
}

static void many_logins_cost_one_hash(void **state)
{
    struct world *world = *state;

    for (unsigned i = 0; i < 10; i++)
        ask(world, &asked[i], "192.0.2.1", "anna", password);
    assert_in_range(pool_waiting(world->pool, POOL_HASH), 0, 1); /* joined */
    world->then = again;
    loop_run(world->loop);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(asked[i].calls, 1);
        assert_int_equal(asked[i].verdict, AUTH_OK);
    }
}

/* ---- a changed file ---- */

static struct users *changed;

static void ask_old_and_new(struct world *world)
{
    auth_set_users(world->auth, changed);
    ask(world, &asked[1], "192.0.2.1", "anna", password);
    ask(world, &asked[2], "192.0.2.1", "anna", "new one");
}

static void a_changed_password_counts_at_once(void **state)
{
    struct world *world = *state;

    changed = users_with(world, "new one");
    ask(world, &asked[0], "192.0.2.1", "anna", password);
    world->then = ask_old_and_new;
    loop_run(world->loop);
    assert_int_equal(asked[0].verdict, AUTH_OK);
    assert_int_equal(asked[1].verdict, AUTH_WRONG);
    assert_int_equal(asked[2].verdict, AUTH_OK);
    users_unref(&changed);
}

static void changed_while_hashing(void **state)
{
    struct world *world = *state;

    changed = users_with(world, "new one");
    ask(world, &asked[0], "192.0.2.1", "anna", password);
    auth_set_users(world->auth, changed);
    loop_run(world->loop);
    assert_int_equal(asked[0].verdict, AUTH_WRONG); /* judged by the new file */
    users_unref(&changed);
}

static void nobody_without_users(void **state)
{
    struct world *world = *state;

    auth_set_users(world->auth, NULL);
    assert_null(auth_users(world->auth));
    ask(world, &asked[0], "192.0.2.1", "anna", password);
    loop_run(world->loop);
    assert_int_equal(asked[0].verdict, AUTH_WRONG);
}

/* ---- too many, and those who leave ---- */

static void one_network_cannot_take_it_all(void **state)
{
    struct world *world = *state;
    struct job first = { .run = wait_at_gate };
    unsigned later = 0;
    char secret[16];

    atomic_store(&gate, false); /* no hash is done while these ask */
    assert_int_equal(pool_post(world->pool, POOL_HASH, &first), ERR_OK);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(secret, sizeof(secret), "guess %u", i);
        ask(world, &asked[i], "192.0.2.1", "anna", secret);
    }
    ask(world, &asked[40], "198.51.100.1", "anna", password);
    for (unsigned i = 0; i < 32; i++) { /* leave before the hashes are done: no long delays here */
        auth_cancel(&asked[i].check);
        world->open--;
    }
    atomic_store(&gate, true);
    loop_run(world->loop);
    for (unsigned i = 32; i < 40; i++)
        later += asked[i].verdict == AUTH_LATER;
    assert_int_equal(later, 8);
    assert_int_equal(asked[40].verdict, AUTH_OK);
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(asked[i].calls, 0);
}

static void cancelled(void **state)
{
    struct world *world = *state;
    struct endpoint client = at("192.0.2.1");

    ask(world, &asked[0], "192.0.2.1", "anna", "wrong"); /* while hashing */
    auth_cancel(&asked[0].check);
    assert_null(asked[0].check);
    auth_cancel(&asked[0].check);
    asked[1] = (struct asked){ .world = world };
    auth_failed(world->auth, world->loop, &client, STR("anna"), verdict, &asked[1],
                &asked[1].check); /* while delayed */
    auth_cancel(&asked[1].check);
    world->open = 0;
    ask(world, &asked[2], "192.0.2.1", "anna", password);
    loop_run(world->loop);
    assert_int_equal(asked[0].calls + asked[1].calls, 0);
    assert_int_equal(asked[2].verdict, AUTH_OK);
}

/* ---- several loops ---- */

struct worker {
    struct world world;
    pthread_t thread;
    struct asked asked[8];
    atomic_uint ok;
};

static void counted(void *arg, enum auth_verdict verdict)
{
    struct asked *one = arg;
    struct worker *worker = container_of(one->world, struct worker, world);

    assert_int_equal(verdict, AUTH_OK);
    atomic_fetch_add(&worker->ok, 1);
    if (--worker->world.open == 0)
        loop_stop(worker->world.loop);
}

static void *run_worker(void *arg)
{
    struct worker *worker = arg;
    struct endpoint client = at("192.0.2.1");

    for (unsigned i = 0; i < 8; i++) {
        struct asked *one = &worker->asked[i];
        one->world = &worker->world;
        worker->world.open++;
        auth_password(worker->world.auth, worker->world.loop, &client, STR("anna"),
                      str_of(password), counted, one, &one->check);
    }
    loop_run(worker->world.loop);
    return NULL;
}

static void loops_share_it(void **state)
{
    struct world *world = *state;
    struct loop_options options = { .count = 3, .pool = world->pool };
    struct worker workers[3] = { 0 };
    struct fault fault;

    for (unsigned i = 0; i < 3; i++) {
        workers[i].world.auth = world->auth;
        assert_int_equal(loop_new(&options, &workers[i].world.loop, &fault), ERR_OK);
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 20; i++) {
        struct users *same = auth_users(world->auth);
        auth_set_users(world->auth, same);
        users_unref(&same);
    }
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(atomic_load(&workers[i].ok), 8);
    }
    pool_free(&world->pool);
    for (unsigned i = 0; i < 3; i++)
        loop_free(&workers[i].world.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_grow_and_are_forgiven),
        cmocka_unit_test(delays_are_per_network_and_user),
        cmocka_unit_test(credentials_are_kept_for_minutes),
        cmocka_unit_test(tables_are_bounded),
        cmocka_unit_test_setup_teardown(judged, setup, teardown),
        cmocka_unit_test_setup_teardown(the_right_password_is_not_delayed, setup, teardown),
        cmocka_unit_test_setup_teardown(many_logins_cost_one_hash, setup, teardown),
        cmocka_unit_test_setup_teardown(a_changed_password_counts_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_while_hashing, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_without_users, setup, teardown),
        cmocka_unit_test_setup_teardown(one_network_cannot_take_it_all, setup, teardown),
        cmocka_unit_test_setup_teardown(cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(loops_share_it, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
