/*
 * loop_uv.h - what the rest of net needs of the real loop; private to this layer.
 */
#ifndef WAYPOST_NET_LOOP_UV_H
#define WAYPOST_NET_LOOP_UV_H

#include "relay/net/loop.h"

#include <uv.h>

/* One buffer per loop for whatever is being read: an idle stream owns none.
 * What is in it must be used up before the callback returns. */
#define LOOP_READ_BUFFER ((size_t)64 * 1024)
#define LOOP_READ_LITTLE ((size_t)4 * 1024)

uv_loop_t *loop_uv(struct loop *loop);
char *loop_read_buffer(struct loop *loop);
size_t loop_read_most(const struct loop *loop); /* of it, for one read of a stream */

bool loop_is_stopping(const struct loop *loop);

/* Called once by loop_stop(): for those who would otherwise linger. */
struct loop_end {
    struct loop_end *next, **link;
    loop_fn *fn;
    void *arg;
};
void loop_end_add(struct loop *loop, struct loop_end *end, loop_fn *fn, void *arg);
void loop_end_remove(struct loop_end *end); /* safe when not added */

/* The errno behind a libuv status as fault and enum err. */
enum err fault_uv(struct fault *fault, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
