/*
 * body_later.c - giving up bodies without waiting for the disk.
 *
 * Unlinking a large file takes a disk as long as writing a small one. Nobody waits
 * for it: when the process ends first, the next start finds a file without a
 * record and removes it.
 */
#include "queue/body.h"
#include "relay/base/container.h"

#include <stdlib.h>

struct farewell {
    struct job job;
    struct body *body; /* one of the two */
    struct body_writer *writer;
};

static void farewell_run(struct job *job)
{
    struct farewell *farewell = container_of(job, struct farewell, job);

    body_discard(&farewell->body);
    body_writer_free(&farewell->writer);
    free(farewell);
}

static void post(struct pool *pool, struct body *body, struct body_writer *writer)
{
    struct farewell *farewell = mem_alloc(sizeof(*farewell));

    farewell->job.run = farewell_run;
    farewell->body = body;
    farewell->writer = writer;
    /* The disk class has no bound on its line: posting cannot fail. */
    (void)pool_post(pool, POOL_DISK, &farewell->job);
}

void body_discard_later(struct body **body, struct pool *pool)
{
    if (!*body || !body_file(*body)) {
        body_discard(body);
        return;
    }
    post(pool, *body, NULL);
    *body = NULL;
}

void body_writer_free_later(struct body_writer **writer, struct pool *pool)
{
    if (!*writer || !body_writer_is_open(*writer)) {
        body_writer_free(writer);
        return;
    }
    body_writer_give_up(*writer); /* a disk that hangs keeps many of them waiting */
    post(pool, NULL, *writer);
    *writer = NULL;
}
