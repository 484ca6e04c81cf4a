/*
 * wire.h - one direction of a connection: what was sent arrives later, in order.
 */
#ifndef WAYPOST_SIM_WIRE_H
#define WAYPOST_SIM_WIRE_H

#include "relay/mail/policy.h"
#include "relay/net/loop.h"

enum parcel_kind {
    PARCEL_OPEN, /* the connection is there */
    PARCEL_BYTES,
    PARCEL_TLS,   /* client: hello; server: the handshake is done, `facts` */
    PARCEL_SENT,  /* our own: what was written has left */
    PARCEL_AGAIN, /* our own: unread bytes are to be told once more */
    PARCEL_CLOSE, /* in order */
    PARCEL_BREAK, /* dead, `err` and `words` say why */
};

struct parcel {
    struct parcel *next;
    enum parcel_kind kind;
    uint64_t due_ms;
    char *bytes;
    size_t len;
    enum err err;
    const char *words; /* a constant */
    struct tls_facts facts;
};

/* Owns nothing any more when it is called; may clear the wire. */
typedef void wire_fn(void *arg, const struct parcel *parcel);

struct wire {
    struct loop *loop;
    struct parcel *first, **last;
    uint64_t last_due_ms;
    struct timer timer;
    struct deferred deferred;
    wire_fn *fn;
    void *arg;
};

void wire_init(struct wire *wire, struct loop *loop, wire_fn *fn, void *arg);
void wire_clear(struct wire *wire); /* what is under way is lost */
/* A parcel that arrives after `delay_ms`, and after all before it. Fill in the rest. */
struct parcel *wire_send(struct wire *wire, enum parcel_kind kind, uint64_t delay_ms);
void wire_send_bytes(struct wire *wire, struct str bytes, uint64_t delay_ms);

#endif
