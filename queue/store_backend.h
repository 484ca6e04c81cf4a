/*
 * store_backend.h - what a backend of the store provides; internal to queue/.
 *
 * The front (store.c) checks requests in, counts them and calls one of these;
 * the backend answers each request once, with store_answer(), never before its
 * own function returned to the front's caller: an answer is a letter.
 */
#ifndef WAYPOST_QUEUE_STORE_BACKEND_H
#define WAYPOST_QUEUE_STORE_BACKEND_H

#include "queue/store.h"

#include <pthread.h>

enum store_op { STORE_OP_ACCEPT, STORE_OP_SETTLE, STORE_OP_CHANGE, STORE_OP_READ };

struct store_backend {
    void (*accept)(struct store *store, struct store_accept *request);
    void (*claim)(struct store *store, struct store_claim *request);
    void (*settle)(struct store *store, struct store_settle *request);
    void (*change)(struct store *store, struct store_change *request);
    void (*list)(struct store *store, struct store_list *request);
    void (*get)(struct store *store, struct store_get *request);
    void (*lanes)(struct store *store, struct store_lanes *request);
    void (*unclaim)(struct store *store, struct claim *claims); /* does not free them */
    void (*watch)(struct store *store, store_ready_fn *fn, void *arg);
    void (*health)(struct store *store, struct store_health *out_health);
    const char *(*folder)(struct store *store);
    void (*close)(struct store *store); /* everything has been answered; frees the store */
};

/* First member of every backend's own struct. */
struct store {
    const struct store_backend *backend;
    pthread_mutex_t lock; /* of the count */
    pthread_cond_t idle;
    size_t outstanding;
};

void store_init(struct store *store, const struct store_backend *backend);
void store_clear(struct store *store);

/* Send the request back. The store must not touch it afterwards. */
void store_answer(struct store_request *request, enum err err);

/* A claim of these recipients; the message's reference and the indexes are taken. */
struct claim *claim_new(struct message *message, struct str lane, uint32_t *indexes, size_t count,
                        int64_t due_at);

#endif
