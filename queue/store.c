/*
 * store.c - the front of every backend: requests checked in, counted, answered.
 */
#include "queue/store_backend.h"
#include "relay/base/container.h"

#include <stdlib.h>

void store_init(struct store *store, const struct store_backend *backend)
{
    store->backend = backend;
    store->outstanding = 0;
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->idle, NULL);
}

void store_clear(struct store *store)
{
    pthread_cond_destroy(&store->idle);
    pthread_mutex_destroy(&store->lock);
}

static void begin(struct store *store, struct store_request *request, enum store_op op)
{
    request->store = store;
    request->op = op;
    request->err = ERR_OK;
    request->fault.err = ERR_OK;
    request->fault.text[0] = '\0';
    pthread_mutex_lock(&store->lock);
    store->outstanding++;
    pthread_mutex_unlock(&store->lock);
}

static void open_answer(struct letter *letter)
{
    struct store_request *request = container_of(letter, struct store_request, letter);

    request->done(request);
}

/* Posting under the lock: whoever then sees a count of 0 finds every answer in
 * its mailbox, and a close that waits for 0 cannot overtake the last post. */
void store_answer(struct store_request *request, enum err err)
{
    struct store *store = request->store;

    request->err = err;
    request->letter.open = open_answer;
    pthread_mutex_lock(&store->lock);
    mailbox_post(request->reply_to, &request->letter);
    if (--store->outstanding == 0)
        pthread_cond_broadcast(&store->idle);
    pthread_mutex_unlock(&store->lock);
}

void store_accept(struct store *store, struct store_accept *request)
{
    begin(store, &request->request, STORE_OP_ACCEPT);
    store->backend->accept(store, request);
}

void store_claim(struct store *store, struct store_claim *request)
{
    begin(store, &request->request, STORE_OP_READ);
    request->claims = NULL;
    request->more = false;
    request->next_due = 0;
    store->backend->claim(store, request);
}

void store_settle(struct store *store, struct store_settle *request)
{
    begin(store, &request->request, STORE_OP_SETTLE);
    store->backend->settle(store, request);
}

void store_change(struct store *store, struct store_change *request)
{
    begin(store, &request->request, STORE_OP_CHANGE);
    request->recipients = request->messages = 0;
    store->backend->change(store, request);
}

void store_list(struct store *store, struct store_list *request)
{
    begin(store, &request->request, STORE_OP_READ);
    request->envelopes = NULL;
    request->is_corrupt = NULL;
    request->count = request->recipients = 0;
    request->more = false;
    store->backend->list(store, request);
}

void store_get(struct store *store, struct store_get *request)
{
    begin(store, &request->request, STORE_OP_READ);
    request->message = NULL;
    store->backend->get(store, request);
}

void store_lanes(struct store *store, struct store_lanes *request)
{
    begin(store, &request->request, STORE_OP_READ);
    request->lanes = NULL;
    request->count = 0;
    request->more = false;
    store->backend->lanes(store, request);
}

struct claim *claim_new(struct message *message, struct str lane, uint32_t *indexes, size_t count,
                        int64_t due_at)
{
    struct claim *claim = mem_alloc(sizeof(*claim));

    claim->message = message;
    claim->lane = str_dup(lane);
    claim->indexes = indexes;
    claim->count = count;
    claim->due_at = due_at;
    return claim;
}

void claim_free(struct claim **claim)
{
    struct claim *c = *claim;

    *claim = NULL;
    if (!c)
        return;
    message_unref(&c->message);
    free(c->lane);
    free(c->indexes);
    free(c);
}

void store_unclaim(struct store *store, struct claim **claims)
{
    store->backend->unclaim(store, *claims);
    while (*claims) {
        struct claim *claim = *claims;
        *claims = claim->next;
        claim_free(&claim);
    }
}

void store_list_clear(struct store_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        envelope_clear(&list->envelopes[i]);
    free(list->envelopes);
    free(list->is_corrupt);
    list->envelopes = NULL;
    list->is_corrupt = NULL;
    list->count = 0;
}

void store_lanes_clear(struct store_lanes *lanes)
{
    for (size_t i = 0; i < lanes->count; i++)
        free(lanes->lanes[i].lane);
    free(lanes->lanes);
    lanes->lanes = NULL;
    lanes->count = 0;
}

void store_watch(struct store *store, store_ready_fn *fn, void *arg)
{
    store->backend->watch(store, fn, arg);
}

void store_health(struct store *store, struct store_health *out_health)
{
    store->backend->health(store, out_health);
}

size_t store_outstanding(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    size_t count = store->outstanding;
    pthread_mutex_unlock(&store->lock);
    return count;
}

const char *store_folder(struct store *store) { return store->backend->folder(store); }

void store_close(struct store **store)
{
    struct store *s = *store;

    *store = NULL;
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    while (s->outstanding > 0)
        pthread_cond_wait(&s->idle, &s->lock);
    pthread_mutex_unlock(&s->lock);
    s->backend->close(s);
}
