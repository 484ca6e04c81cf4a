/*
 * tracelog.h - kept hops: append-only segments beside the store.
 *
 * Written by the hop hub's consumer thread (a tap), read by anyone, also by
 * another process while the daemon writes. Not in the store's transactions:
 * the last second may be lost on power failure, the mail never. Each segment
 * has an index of its handles (message id, Message-ID, recipient, the next
 * hop's queue id), so that a look-up reads few pages; oldest segments are dropped by
 * age and by total bytes. A torn tail is cut at open.
 */
#ifndef WAYPOST_QUEUE_TRACELOG_H
#define WAYPOST_QUEUE_TRACELOG_H

#include "relay/base/hop.h"

struct tracelog;
struct tracelog_options {
    const char *folder;
    uint64_t max_bytes; /* all segments together */
    uint64_t max_age_s;
};

enum err tracelog_open(const struct tracelog_options *options, struct tracelog **out_log,
                       struct fault *fault);
void tracelog_close(struct tracelog **log);
void tracelog_set(struct tracelog *log, uint64_t max_bytes,
                  uint64_t max_age_s);                                   /* any thread (reload) */
void tracelog_hop(void *log, const struct hop *hop, struct str encoded); /* a hop_tap_fn */
void tracelog_idle(void *log);                       /* a hop_idle_fn: write out */
uint64_t tracelog_bytes(const struct tracelog *log); /* any thread */
uint64_t tracelog_lost(const struct tracelog *log);  /* hops that could not be written */

/* Every hop that concerns the handle, oldest first: the hops of each message
 * id that the handle leads to (a recipient may lead to many: newest `max_messages`).
 * HANDLE: a message id, a Message-ID with or without angle brackets, an
 * address, a remote queue id, or a prefix of at least 8 letters of a message
 * id. Blocking; any thread or process. */
typedef bool tracelog_fn(void *arg, const struct hop *hop); /* false stops */
enum err tracelog_find(const char *folder, struct str handle, size_t max_messages, tracelog_fn *fn,
                       void *arg, struct fault *fault);
/* The same, of messages only that `user` handed in (as their arrival's hop has it): the
 * newest `max_messages` of those, however many of others' are newer. */
enum err tracelog_find_own(const char *folder, struct str user, struct str handle,
                           size_t max_messages, tracelog_fn *fn, void *arg, struct fault *fault);

#endif
