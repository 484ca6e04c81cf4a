/*
 * message.h - an accepted message in memory: envelope, head, body.
 *
 * Counted atomically and immutable once given to the store. `head` is the
 * whole header block as it is sent, signatures and Received on top, empty line
 * at its end; `body` follows it directly.
 */
#ifndef WAYPOST_QUEUE_MESSAGE_H
#define WAYPOST_QUEUE_MESSAGE_H

#include "queue/body.h"
#include "relay/mail/envelope.h"

#include <stdatomic.h>

struct message {
    atomic_uint refs;
    struct envelope envelope; /* recipients as they were when accepted or loaded */
    char *head;               /* malloc'd */
    size_t head_len;
    struct body *body;
    unsigned own_signatures; /* DKIM-Signature fields at the top of head that are ours */
};

struct message *message_new(void);                    /* refs 1, envelope initialised */
struct message *message_ref(struct message *message); /* any thread */
void message_unref(struct message **message);         /* any thread */
/* The holder of the only reference needs the envelope alone from here on: head and
 * body are given up. Others hold it too: nothing happens. */
void message_drop_content(struct message *message);

#endif
