/*
 * message.c - counting references to an accepted message.
 */
#include "queue/message.h"

#include <stdlib.h>

struct message *message_new(void)
{
    struct message *message = mem_alloc(sizeof(*message));

    atomic_init(&message->refs, 1);
    envelope_init(&message->envelope);
    return message;
}

struct message *message_ref(struct message *message)
{
    atomic_fetch_add_explicit(&message->refs, 1, memory_order_relaxed);
    return message;
}

void message_unref(struct message **message)
{
    struct message *m = *message;

    *message = NULL;
    /* Release what this thread did with it, acquire what the others did, before it goes. */
    if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    envelope_clear(&m->envelope);
    body_unref(&m->body);
    free(m->head);
    free(m);
}

void message_drop_content(struct message *message)
{
    if (atomic_load_explicit(&message->refs, memory_order_acquire) != 1)
        return;
    body_unref(&message->body);
    free(message->head);
    message->head = NULL;
    message->head_len = 0;
}
