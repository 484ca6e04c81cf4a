/*
 * body.c - a sealed body: bytes in memory, or a file that is opened anew for
 * each read.
 *
 * No descriptor is kept: 64 of them must be enough for the whole relay, and a
 * slow peer may take half an hour over one body.
 */
#include "queue/body.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct body {
    atomic_uint refs;
    uint64_t size;
    char *bytes; /* inline: the content */
    char *path;  /* side file: where it is; `file` points into it */
    const char *file;
};

static struct body *body_new(uint64_t size)
{
    struct body *body = mem_alloc(sizeof(*body));

    atomic_init(&body->refs, 1);
    body->size = size;
    return body;
}

struct body *body_of_bytes(struct str bytes) { return body_of_buffer(str_dup(bytes), bytes.len); }

struct body *body_of_buffer(char *malloced, size_t len)
{
    struct body *body = body_new(len);

    body->bytes = malloced ? malloced : mem_alloc(1);
    return body;
}

struct body *body_of_file(const char *folder, struct str file, uint64_t size)
{
    struct body *body = body_new(size);
    size_t room = strlen(folder) + file.len + 2;

    body->path = mem_alloc(room);
    snprintf(body->path, room, "%s/" STR_FMT, folder, STR_ARG(file));
    body->file = body->path + strlen(folder) + 1;
    return body;
}

struct body *body_ref(struct body *body)
{
    atomic_fetch_add_explicit(&body->refs, 1, memory_order_relaxed);
    return body;
}

void body_unref(struct body **body)
{
    struct body *b = *body;

    *body = NULL;
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(b->bytes);
    free(b->path);
    free(b);
}

uint64_t body_size(const struct body *body) { return body->size; }

bool body_is_inline(const struct body *body, struct str *out_view)
{
    if (body->path)
        return false;
    *out_view = str_make(body->bytes, (size_t)body->size);
    return true;
}

const char *body_file(const struct body *body) { return body->file; }

void body_remove(const struct body *body)
{
    if (body->path)
        unlink(body->path);
}

void body_discard(struct body **body)
{
    if (*body)
        body_remove(*body);
    body_unref(body);
}

static enum err read_fully(int fd, const struct body *body, uint64_t offset, char *out, size_t want,
                           struct fault *fault)
{
    size_t got = 0;

    while (got < want) {
        ssize_t n = pread(fd, out + got, want - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fault_errno(fault, errno, "cannot read the message body %s", body->path);
        if (n == 0)
            return fault_set(fault, ERR_CORRUPT,
                             "the message body %s is cut short: %" PRIu64 " bytes of %" PRIu64,
                             body->path, offset + got, body->size);
        got += (size_t)n;
    }
    return ERR_OK;
}

static enum err read_file(const struct body *body, uint64_t offset, char *out, size_t want,
                          struct fault *fault)
{
    int fd = open(body->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return fault_errno(fault, errno, "cannot open the message body %s", body->path);
    enum err rc = read_fully(fd, body, offset, out, want, fault);
    close(fd);
    return rc;
}

enum err body_read(struct body *body, uint64_t offset, void *out, size_t size, size_t *out_len,
                   struct fault *fault)
{
    size_t want = size;

    if (offset >= body->size)
        want = 0;
    else if (body->size - offset < size)
        want = (size_t)(body->size - offset);
    if (want && body->path) {
        enum err rc = read_file(body, offset, out, want, fault);
        if (rc)
            return rc;
    } else if (want) {
        memcpy(out, body->bytes + offset, want);
    }
    *out_len = want;
    return ERR_OK;
}
