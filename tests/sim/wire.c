/*
 * wire.c - a line of parcels, one of them delivered per call.
 */
#include "tests/sim/wire.h"

#include <stdlib.h>

static void parcel_free(struct parcel *parcel)
{
    free(parcel->bytes);
    free(parcel);
}

static void deliver(void *arg);

static void arm(struct wire *wire)
{
    uint64_t now = loop_now_ms(wire->loop);

    if (!wire->first)
        return;
    if (wire->first->due_ms <= now)
        loop_defer(wire->loop, &wire->deferred, deliver, wire);
    else
        loop_timer_start(wire->loop, &wire->timer, wire->first->due_ms - now, deliver, wire);
}

static void deliver(void *arg)
{
    struct wire *wire = arg;
    struct parcel *parcel = wire->first;

    wire->first = parcel->next;
    if (!wire->first)
        wire->last = &wire->first;
    arm(wire);
    wire->fn(wire->arg, parcel); /* may be the end of the wire */
    parcel_free(parcel);
}

void wire_init(struct wire *wire, struct loop *loop, wire_fn *fn, void *arg)
{
    *wire = (struct wire){ .loop = loop, .fn = fn, .arg = arg };
    wire->last = &wire->first;
}

void wire_clear(struct wire *wire)
{
    loop_timer_stop(wire->loop, &wire->timer);
    loop_undefer(wire->loop, &wire->deferred);
    while (wire->first) {
        struct parcel *parcel = wire->first;
        wire->first = parcel->next;
        parcel_free(parcel);
    }
    wire->last = &wire->first;
}

struct parcel *wire_send(struct wire *wire, enum parcel_kind kind, uint64_t delay_ms)
{
    struct parcel *parcel = mem_alloc(sizeof(*parcel));
    bool is_first = !wire->first;

    parcel->kind = kind;
    parcel->due_ms = loop_now_ms(wire->loop) + delay_ms;
    if (parcel->due_ms < wire->last_due_ms)
        parcel->due_ms = wire->last_due_ms;
    wire->last_due_ms = parcel->due_ms;
    *wire->last = parcel;
    wire->last = &parcel->next;
    if (is_first)
        arm(wire);
    return parcel;
}

void wire_send_bytes(struct wire *wire, struct str bytes, uint64_t delay_ms)
{
    struct parcel *parcel = wire_send(wire, PARCEL_BYTES, delay_ms);

    parcel->bytes = str_dup(bytes);
    parcel->len = bytes.len;
}
