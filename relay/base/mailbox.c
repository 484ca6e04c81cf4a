/*
 * mailbox.c - a locked list of letters and a wake function.
 */
#include "relay/base/mailbox.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

void mailbox_init(struct mailbox *mailbox, mailbox_wake_fn *wake, void *wake_arg)
{
    pthread_condattr_t attr;

    *mailbox = (struct mailbox){ .wake = wake, .wake_arg = wake_arg };
    mailbox->last = &mailbox->first;
    pthread_mutex_init(&mailbox->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&mailbox->filled, &attr);
    pthread_condattr_destroy(&attr);
}

void mailbox_clear(struct mailbox *mailbox)
{
    assert(!mailbox->first);
    pthread_cond_destroy(&mailbox->filled);
    pthread_mutex_destroy(&mailbox->lock);
}

/* The wake function runs under the lock: once the receiver has the letter, no
 * poster is still busy with the mailbox, and the receiver may destroy it. */
static void post(struct mailbox *mailbox, struct letter *letter, bool is_urgent)
{
    letter->next = NULL;
    pthread_mutex_lock(&mailbox->lock);
    bool was_empty = !mailbox->first;
    *mailbox->last = letter;
    mailbox->last = &letter->next;
    if (was_empty && mailbox->wake)
        mailbox->wake(mailbox->wake_arg);
    mailbox->is_urgent |= is_urgent;
    /* Also when it was not empty: several threads may wait for one letter each. */
    if (is_urgent || !mailbox->is_gathering)
        pthread_cond_signal(&mailbox->filled);
    pthread_mutex_unlock(&mailbox->lock);
}

void mailbox_post(struct mailbox *mailbox, struct letter *letter) { post(mailbox, letter, true); }
void mailbox_post_lying(struct mailbox *mailbox, struct letter *letter)
{
    post(mailbox, letter, false);
}

static struct letter *take_all(struct mailbox *mailbox)
{
    struct letter *first = mailbox->first;

    mailbox->is_urgent = false;
    mailbox->first = NULL;
    mailbox->last = &mailbox->first;
    return first;
}

static struct letter *take_one(struct mailbox *mailbox)
{
    struct letter *letter = mailbox->first;

    if (!letter)
        return NULL;
    mailbox->first = letter->next;
    if (!mailbox->first) {
        mailbox->last = &mailbox->first;
        mailbox->is_urgent = false;
    }
    letter->next = NULL;
    return letter;
}

size_t mailbox_drain(struct mailbox *mailbox)
{
    size_t opened = 0;

    for (;;) {
        pthread_mutex_lock(&mailbox->lock);
        struct letter *letter = take_all(mailbox);
        pthread_mutex_unlock(&mailbox->lock);
        if (!letter)
            return opened;
        while (letter) {
            struct letter *next = letter->next;
            letter->next = NULL;
            letter->open(letter);
            letter = next;
            opened++;
        }
    }
}

static struct timespec deadline_in(uint64_t ms)
{
    struct timespec t = { 0 };

    clock_gettime(CLOCK_MONOTONIC, &t);
    if (ms > INT32_MAX) /* 24 days: a caller that needs more waits again */
        ms = INT32_MAX;
    t.tv_sec += (time_t)(ms / 1000);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* With the lock held, until there is a letter, time is up, or it is closed. */
static void wait_filled(struct mailbox *mailbox, uint64_t timeout_ms)
{
    bool for_ever = timeout_ms == UINT64_MAX;
    struct timespec deadline = deadline_in(timeout_ms);
    int rc = 0;

    while (!mailbox->first && !mailbox->closed && rc != ETIMEDOUT) {
        if (for_ever)
            pthread_cond_wait(&mailbox->filled, &mailbox->lock);
        else
            rc = pthread_cond_timedwait(&mailbox->filled, &mailbox->lock, &deadline);
    }
}

struct letter *mailbox_wait(struct mailbox *mailbox, uint64_t timeout_ms)
{
    pthread_mutex_lock(&mailbox->lock);
    wait_filled(mailbox, timeout_ms);
    struct letter *letters = take_all(mailbox);
    pthread_mutex_unlock(&mailbox->lock);
    return letters;
}

struct letter *mailbox_gather(struct mailbox *mailbox, uint64_t timeout_ms)
{
    struct timespec deadline = deadline_in(timeout_ms);
    int rc = 0;

    pthread_mutex_lock(&mailbox->lock);
    mailbox->is_gathering = true;
    while (!mailbox->is_urgent && !mailbox->closed && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&mailbox->filled, &mailbox->lock, &deadline);
    mailbox->is_gathering = false;
    struct letter *letters = take_all(mailbox);
    pthread_mutex_unlock(&mailbox->lock);
    return letters;
}

struct letter *mailbox_wait_one(struct mailbox *mailbox, uint64_t timeout_ms)
{
    pthread_mutex_lock(&mailbox->lock);
    wait_filled(mailbox, timeout_ms);
    struct letter *letter = take_one(mailbox);
    pthread_mutex_unlock(&mailbox->lock);
    return letter;
}

void mailbox_close(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    mailbox->closed = true;
    if (mailbox->wake)
        mailbox->wake(mailbox->wake_arg);
    pthread_cond_broadcast(&mailbox->filled);
    pthread_mutex_unlock(&mailbox->lock);
}
