/*
 * auth.c - from a password to a verdict: cache, hash, delay.
 *
 * A check is asked for on a loop and answered there, by a timer. In between it
 * may wait for a hashing, which runs in the pool and may have several checks
 * waiting (a client that opens ten connections with one password costs one
 * hash). The worker that has hashed tells each of them by letter. A check that
 * is cancelled while a letter is owed lives on, mute, until it comes.
 */
#include "relay/ingress/auth.h"

#include "relay/base/container.h"
#include "relay/ingress/auth_memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

/* Of the places that the pool's class has, one network can have half. */
#define PER_NETWORK 32

struct hashing {
    struct job job;
    struct hashing *next; /* in auth->running */
    struct auth *auth;
    struct auth_key key, network;
    struct users *users; /* a reference: judged by these */
    uint64_t began_ms;
    char *user, *password;
    size_t user_len, password_len;
    struct auth_check *waiting;
};

struct auth {
    pthread_mutex_t lock;
    struct users *users;
    struct hashing *running;
    struct auth_memory memory;
};

struct auth_check {
    struct letter letter;
    struct auth_check *next; /* of one hashing */
    struct auth *auth;
    struct loop *loop;
    struct timer timer;
    struct auth_key client; /* network and user; unless there is nothing to forgive */
    bool has_client;
    bool is_hashing; /* a letter is owed */
    atomic_bool is_cancelled;
    enum auth_verdict verdict;
    auth_fn *fn;
    void *arg;
};

struct auth *auth_new(struct users *users)
{
    struct auth *auth = mem_alloc(sizeof(*auth));

    if (getrandom(auth->memory.secret, sizeof(auth->memory.secret), 0) !=
        (ssize_t)sizeof(auth->memory.secret))
        abort(); /* a known secret would make the cache a list of password hashes */
    pthread_mutex_init(&auth->lock, NULL);
    auth->users = users ? users_ref(users) : NULL;
    return auth;
}

void auth_free(struct auth **auth_at)
{
    struct auth *auth = *auth_at;

    *auth_at = NULL;
    if (!auth)
        return;
    users_unref(&auth->users);
    pthread_mutex_destroy(&auth->lock);
    explicit_bzero(auth, sizeof(*auth));
    free(auth);
}

void auth_set_users(struct auth *auth, struct users *users)
{
    struct users *before;

    pthread_mutex_lock(&auth->lock);
    before = auth->users;
    auth->users = users ? users_ref(users) : NULL;
    auth_memory_forget_good(&auth->memory);
    pthread_mutex_unlock(&auth->lock);
    users_unref(&before);
}

static struct users *users_now(struct auth *auth) /* under the lock */
{
    return auth->users ? users_ref(auth->users) : NULL;
}

struct users *auth_users(struct auth *auth)
{
    struct users *users;

    pthread_mutex_lock(&auth->lock);
    users = users_now(auth);
    pthread_mutex_unlock(&auth->lock);
    return users;
}

/* ---- answering, on the check's loop ---- */

static void answer(void *arg)
{
    struct auth_check *check = arg;
    enum auth_verdict verdict = check->verdict;
    auth_fn *fn = check->fn;
    void *fn_arg = check->arg;

    free(check);
    fn(fn_arg, verdict);
}

static void answer_soon(struct auth_check *check, enum auth_verdict verdict)
{
    struct auth *auth = check->auth;
    uint64_t delay_ms = 0;

    check->verdict = verdict;
    pthread_mutex_lock(&auth->lock);
    switch (verdict) {
    case AUTH_OK:
        if (check->has_client)
            auth_memory_forgive(&auth->memory, &check->client);
        break;
    case AUTH_WRONG:
        delay_ms = auth_memory_add_bad(&auth->memory, &check->client, loop_now_ms(check->loop));
        break;
    case AUTH_LATER:
        break;
    }
    pthread_mutex_unlock(&auth->lock);
    loop_timer_start(check->loop, &check->timer, delay_ms, answer, check);
}

static void told(struct letter *letter)
{
    struct auth_check *check = container_of(letter, struct auth_check, letter);

    check->is_hashing = false;
    if (atomic_load(&check->is_cancelled))
        free(check);
    else
        answer_soon(check, check->verdict);
}

/* ---- hashing, on a worker ---- */

static void hashing_free(struct hashing *hashing)
{
    explicit_bzero(hashing->password, hashing->password_len);
    free(hashing->password);
    free(hashing->user);
    users_unref(&hashing->users);
    free(hashing);
}

/* Under the lock: nobody joins any more. */
static void leave_list(struct hashing *hashing)
{
    struct hashing **at = &hashing->auth->running;

    while (*at != hashing)
        at = &(*at)->next;
    *at = hashing->next;
}

/* Under the lock. False: the users have changed meanwhile, ask the new ones. */
static bool finish(struct hashing *hashing, bool ok)
{
    struct auth *auth = hashing->auth;

    if (auth->users != hashing->users)
        return false;
    leave_list(hashing);
    if (ok)
        auth_memory_add_good(&auth->memory, &hashing->key, hashing->began_ms);
    return true;
}

static void tell_all(struct hashing *hashing, enum auth_verdict verdict)
{
    while (hashing->waiting) {
        struct auth_check *check = hashing->waiting;
        struct mailbox *mailbox = loop_mailbox(check->loop);
        hashing->waiting = check->next;
        check->verdict = verdict;
        mailbox_post(mailbox, &check->letter); /* from here the check is its loop's */
    }
}

static bool judge(const struct hashing *hashing)
{
    struct str name = str_make(hashing->user, hashing->user_len);
    const struct user *user = hashing->users ? users_find(hashing->users, name) : NULL;

    return users_password_ok(user, str_make(hashing->password, hashing->password_len));
}

/* Everybody has hung up: nobody is worth a hash. */
static bool is_pointless(struct hashing *hashing)
{
    struct auth *auth = hashing->auth;
    bool pointless = true;

    pthread_mutex_lock(&auth->lock);
    for (const struct auth_check *check = hashing->waiting; check; check = check->next)
        pointless = pointless && atomic_load(&check->is_cancelled);
    if (pointless)
        leave_list(hashing);
    pthread_mutex_unlock(&auth->lock);
    return pointless;
}

static void hashing_run(struct job *job)
{
    struct hashing *hashing = container_of(job, struct hashing, job);
    struct auth *auth = hashing->auth;
    struct users *before = NULL;
    bool is_final, ok;

    if (is_pointless(hashing)) {
        tell_all(hashing, AUTH_LATER);
        return;
    }
    do {
        ok = judge(hashing);
        pthread_mutex_lock(&auth->lock);
        is_final = finish(hashing, ok);
        if (!is_final) {
            before = hashing->users;
            hashing->users = users_now(auth);
        }
        pthread_mutex_unlock(&auth->lock);
        users_unref(&before);
    } while (!is_final);
    tell_all(hashing, ok ? AUTH_OK : AUTH_WRONG);
}

static void hashing_done(struct job *job) { hashing_free(container_of(job, struct hashing, job)); }

/* ---- asking ---- */

static struct auth_check *check_new(struct auth *auth, struct loop *loop, auth_fn *fn, void *arg)
{
    struct auth_check *check = mem_alloc(sizeof(*check));

    check->letter.open = told;
    check->auth = auth;
    check->loop = loop;
    check->fn = fn;
    check->arg = arg;
    return check;
}

static void check_client(struct auth_check *check, const struct endpoint *client, struct str user)
{
    check->client = auth_key_client(&check->auth->memory, client, user);
    check->has_client = true;
}

static struct hashing *hashing_new(struct auth *auth, struct loop *loop, const struct auth_key *key,
                                   const struct endpoint *client, struct str user,
                                   struct str password)
{
    struct hashing *hashing = mem_alloc(sizeof(*hashing));

    hashing->job.run = hashing_run;
    hashing->job.done = hashing_done;
    hashing->job.reply_to = loop_mailbox(loop);
    hashing->auth = auth;
    hashing->key = *key;
    hashing->network = auth_key_client(&auth->memory, client, STR_EMPTY);
    hashing->began_ms = loop_now_ms(loop);
    hashing->user = str_dup(user);
    hashing->user_len = user.len;
    hashing->password = str_dup(password);
    hashing->password_len = password.len;
    return hashing;
}

/* Under the lock. */
static struct hashing *find_same(const struct auth *auth, const struct auth_key *key)
{
    struct hashing *hashing = auth->running;

    while (hashing && !auth_key_same(&hashing->key, key))
        hashing = hashing->next;
    return hashing;
}

static unsigned count_network(const struct auth *auth, const struct auth_key *network)
{
    unsigned count = 0;

    for (const struct hashing *at = auth->running; at; at = at->next)
        count += auth_key_same(&at->network, network);
    return count;
}

static void wait_for(struct auth_check *check, struct hashing *hashing)
{
    check->is_hashing = true;
    check->next = hashing->waiting;
    hashing->waiting = check;
}

enum begun { BEGUN_KNOWN, BEGUN_JOINED, BEGUN_TO_RUN, BEGUN_BUSY };

/* Under the lock. */
static enum begun begin(struct auth *auth, struct auth_check *check, struct hashing *hashing)
{
    struct hashing *same = find_same(auth, &hashing->key);

    if (auth_memory_is_good(&auth->memory, &hashing->key, hashing->began_ms))
        return BEGUN_KNOWN;
    if (same) {
        wait_for(check, same);
        return BEGUN_JOINED;
    }
    if (count_network(auth, &hashing->network) >= PER_NETWORK)
        return BEGUN_BUSY;
    hashing->users = users_now(auth);
    wait_for(check, hashing);
    hashing->next = auth->running;
    auth->running = hashing;
    return BEGUN_TO_RUN;
}

/* Others may have joined by now: a pool without room is their answer too. */
static void run(struct auth *auth, struct loop *loop, struct hashing *hashing)
{
    if (pool_post(loop_pool(loop), POOL_HASH, &hashing->job) == ERR_OK)
        return;
    pthread_mutex_lock(&auth->lock);
    leave_list(hashing);
    pthread_mutex_unlock(&auth->lock);
    tell_all(hashing, AUTH_LATER);
    hashing_free(hashing);
}

/* The way of nearly all logins. False: it is to be hashed. */
static bool is_known(struct auth *auth, struct auth_check *check, const struct auth_key *key,
                     bool *out_has_failures)
{
    bool good;

    pthread_mutex_lock(&auth->lock);
    good = auth_memory_is_good(&auth->memory, key, loop_now_ms(check->loop));
    *out_has_failures = auth->memory.bad_count > 0;
    pthread_mutex_unlock(&auth->lock);
    return good;
}

void auth_password(struct auth *auth, struct loop *loop, const struct endpoint *client,
                   struct str user, struct str password, auth_fn *fn, void *arg,
                   struct auth_check **out_check)
{
    struct auth_check *check = check_new(auth, loop, fn, arg);
    struct auth_key key = auth_key_credential(&auth->memory, user, password);
    struct hashing *hashing;
    enum begun begun;
    bool has_failures;
    bool known = is_known(auth, check, &key, &has_failures);

    *out_check = check;
    if (!known || has_failures)
        check_client(check, client, user);
    if (known) {
        answer_soon(check, AUTH_OK);
        return;
    }
    hashing = hashing_new(auth, loop, &key, client, user, password);
    pthread_mutex_lock(&auth->lock);
    begun = begin(auth, check, hashing);
    pthread_mutex_unlock(&auth->lock);
    switch (begun) {
    case BEGUN_TO_RUN:
        run(auth, loop, hashing);
        return;
    case BEGUN_JOINED:
        break;
    case BEGUN_KNOWN:
        answer_soon(check, AUTH_OK);
        break;
    case BEGUN_BUSY:
        answer_soon(check, AUTH_LATER);
        break;
    }
    hashing_free(hashing);
}

void auth_failed(struct auth *auth, struct loop *loop, const struct endpoint *client,
                 struct str user, auth_fn *fn, void *arg, struct auth_check **out_check)
{
    *out_check = check_new(auth, loop, fn, arg);
    check_client(*out_check, client, user);
    answer_soon(*out_check, AUTH_WRONG);
}

void auth_cancel(struct auth_check **check_at)
{
    struct auth_check *check = *check_at;

    *check_at = NULL;
    if (!check)
        return;
    if (check->is_hashing) {
        atomic_store(&check->is_cancelled, true);
        return;
    }
    loop_timer_stop(check->loop, &check->timer);
    free(check);
}
