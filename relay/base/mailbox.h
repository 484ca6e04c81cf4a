/*
 * mailbox.h - letters between threads; the only way they talk.
 *
 * A letter is embedded in whatever is being sent. Once posted it belongs to
 * the receiver, who runs `open` on its own thread when it drains the mailbox.
 * Posting never blocks for long, never fails and may be done from any thread.
 *
 * `wake` is called, under the lock, when a letter arrives in an empty mailbox:
 * net/loop gives uv_async_send, a unit test drains by hand, a thread of ours
 * may wait on the mailbox itself.
 */
#ifndef WAYPOST_BASE_MAILBOX_H
#define WAYPOST_BASE_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct letter;
typedef void letter_open_fn(struct letter *letter); /* receiver's thread; owns the letter */
typedef void mailbox_wake_fn(void *arg);            /* any thread, must not block */

struct letter {
    struct letter *next;
    letter_open_fn *open;
};

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct letter *first, **last;
    mailbox_wake_fn *wake;
    void *wake_arg;
    bool closed;
    bool is_gathering; /* its thread is in mailbox_gather() */
    bool is_urgent;    /* a letter is there that ends it */
};

void mailbox_init(struct mailbox *mailbox, mailbox_wake_fn *wake, void *wake_arg);
void mailbox_clear(struct mailbox *mailbox); /* must be empty */

void mailbox_post(struct mailbox *mailbox, struct letter *letter);
/* The same for a letter that may lie a while: it does not end a mailbox_gather(). */
void mailbox_post_lying(struct mailbox *mailbox, struct letter *letter);

/* Open every letter that is there, in order, also those that arrive meanwhile
 * while opening; returns how many. Letters are unlinked before they are opened. */
size_t mailbox_drain(struct mailbox *mailbox);

/* For threads that have no loop: take the whole list at once, waiting until
 * there is something, timeout_ms passed (UINT64_MAX: for ever), or the mailbox
 * is closed. NULL on timeout or close. The list is linked by `next`, oldest first. */
struct letter *mailbox_wait(struct mailbox *mailbox, uint64_t timeout_ms);
/* What comes within timeout_ms, or until a letter comes that may not lie, or the mailbox
 * is closed; such a letter that is there already ends it at once. */
struct letter *mailbox_gather(struct mailbox *mailbox, uint64_t timeout_ms);
/* mailbox_wait for several threads that share one mailbox: each takes one letter. */
struct letter *mailbox_wait_one(struct mailbox *mailbox, uint64_t timeout_ms);
/* Wakes the waiters; what is there and what still comes can be taken, and a
 * wait on the empty mailbox gives NULL at once. */
void mailbox_close(struct mailbox *mailbox);

#endif
