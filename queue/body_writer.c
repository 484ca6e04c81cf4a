/*
 * body_writer.c - collecting a body while it arrives.
 *
 * A side file is synced, and its folder too, before body_writer_seal() returns:
 * the record that names it is written only after that.
 */
#include "queue/body.h"
#include "relay/base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A message that is re-encoded has two bodies for a while, both under its id. */
#define NAMES_PER_ID 1000 /* a copy for each host that lacks 8BITMIME, at once */
#define WRITE_STEP ((uint64_t)1024 * 1024)
#define GATHER                                                                                     \
    (BODY_WINDOW - (size_t)16 * 1024) /* between two writes to a file, and a piece more */

struct body_writer {
    char *folder; /* NULL: memory only */
    struct msgid id;
    struct buf memory; /* all of it, or what is not in the file yet */
    size_t keep;       /* in memory at most */
    uint64_t size;
    int fd;           /* -1: no file */
    uint64_t written; /* to the file */
    uint64_t started; /* of it, on its way to the disk */
    char file[MSGID_TEXT + 5];
    bool failed; /* the file is not whole: never seal it */
};

struct body_writer *body_writer_new(const char *folder, const struct msgid *id)
{
    struct body_writer *writer = mem_alloc(sizeof(*writer));

    writer->folder = folder ? str_dup(str_of(folder)) : NULL;
    writer->id = *id;
    writer->fd = -1;
    writer->keep = BODY_INLINE_MAX;
    buf_init(&writer->memory, SIZE_MAX); /* the caller holds the message size limit */
    return writer;
}

bool body_writer_add(struct body_writer *writer, struct str bytes)
{
    buf_str(&writer->memory, bytes);
    writer->size += bytes.len;
    return writer->folder && writer->memory.len > writer->keep;
}

void body_writer_keep(struct body_writer *writer, size_t most) { writer->keep = most; }

static char *path_of(const struct body_writer *writer)
{
    size_t room = strlen(writer->folder) + sizeof(writer->file) + 2;
    char *path = mem_alloc(room);

    snprintf(path, room, "%s/%s", writer->folder, writer->file);
    return path;
}

static enum err create_file(struct body_writer *writer, struct fault *fault)
{
    char id[MSGID_TEXT + 1];
    enum err rc = ERR_OK;

    msgid_print(&writer->id, id);
    for (int i = 0; writer->fd < 0 && !rc; i++) {
        snprintf(writer->file, sizeof(writer->file), i ? "%s.%d" : "%s", id, i);
        char *path = path_of(writer);
        writer->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (writer->fd < 0 && (errno != EEXIST || i + 1 == NAMES_PER_ID))
            rc = fault_errno(fault, errno, "cannot create the message body %s", path);
        free(path);
    }
    return rc;
}

/* A large file goes to the disk while it arrives, a step at a time and the step
 * before it first: the sync at its end has little left to write then, and what
 * others sync meanwhile, small mail's commits above all, does not queue behind it.
 * An error of the disk is told once, here or at that sync: so it counts here too. */
static enum err start_writing(struct body_writer *writer, struct fault *fault)
{
    uint64_t len = writer->written - writer->started;
    int rc = 0;

    if (len < WRITE_STEP)
        return ERR_OK;
    if (writer->started >= WRITE_STEP)
        rc = sync_file_range(writer->fd, (off64_t)(writer->started - WRITE_STEP), WRITE_STEP,
                             SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                 SYNC_FILE_RANGE_WAIT_AFTER);
    if (!rc)
        rc = sync_file_range(writer->fd, (off64_t)writer->started, (off64_t)len,
                             SYNC_FILE_RANGE_WRITE);
    writer->started = writer->written;
    if (!rc || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)
        return ERR_OK; /* a file system that cannot: then all of it waits for the sync */
    writer->failed = true;
    return fault_errno(fault, errno, "cannot write the message body %s/%s", writer->folder,
                       writer->file);
}

enum err body_writer_flush(struct body_writer *writer, struct fault *fault)
{
    enum err rc = ERR_OK;

    if (!writer->folder || writer->memory.len == 0)
        return ERR_OK;
    if (writer->fd < 0) {
        rc = create_file(writer, fault);
        if (rc)
            return rc;
    }
    while (writer->memory.len > 0) {
        ssize_t n = write(writer->fd, writer->memory.at, writer->memory.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            writer->failed = true;
            return fault_errno(fault, errno, "cannot write the message body %s/%s", writer->folder,
                               writer->file);
        }
        writer->written += (uint64_t)n;
        buf_consume(&writer->memory, (size_t)n);
    }
    rc = start_writing(writer, fault);
    if (rc)
        return rc;
    /* What it gathered before it had a file was more than it needs from now on. */
    if (writer->keep > GATHER)
        writer->keep = GATHER;
    /* Who was asked to keep little gives back the room too. */
    if (writer->memory.cap > 2 * BODY_WINDOW || writer->keep < GATHER)
        buf_clear(&writer->memory);
    return ERR_OK;
}

size_t body_writer_memory(const struct body_writer *writer) { return writer->memory.cap; }

uint64_t body_writer_size(const struct body_writer *writer) { return writer->size; }

bool body_writer_has_file(const struct body_writer *writer)
{
    return writer->fd >= 0 || (writer->folder && writer->memory.len > writer->keep);
}

bool body_writer_is_open(const struct body_writer *writer) { return writer->fd >= 0; }

static enum err sync_folder(const char *folder, struct fault *fault)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err rc = ERR_OK;

    if (fd < 0 || fsync(fd) != 0)
        rc = fault_errno(fault, errno, "cannot sync the folder %s", folder);
    if (fd >= 0)
        close(fd);
    return rc;
}

static enum err seal_file(struct body_writer *writer, struct body **out_body, struct fault *fault)
{
    enum err rc = body_writer_flush(writer, fault);

    if (rc)
        return rc;
    if (writer->failed)
        return fault_set(fault, ERR_IO, "the message body %s/%s is not whole", writer->folder,
                         writer->file);
    if (fdatasync(writer->fd) != 0) {
        writer->failed = true; /* a second sync may claim success for pages that are gone */
        return fault_errno(fault, errno, "cannot sync the message body %s/%s", writer->folder,
                           writer->file);
    }
    rc = sync_folder(writer->folder, fault);
    if (rc)
        return rc;
    *out_body = body_of_file(writer->folder, str_of(writer->file), writer->size);
    close(writer->fd);
    writer->fd = -1;
    return ERR_OK;
}

enum err body_writer_seal(struct body_writer *writer, struct body **out_body, struct fault *fault)
{
    if (body_writer_has_file(writer))
        return seal_file(writer, out_body, fault);
    size_t len = 0;
    char *bytes = buf_take(&writer->memory, &len);
    *out_body = body_of_buffer(bytes, len);
    return ERR_OK;
}

void body_writer_give_up(struct body_writer *writer)
{
    writer->failed = true;
    buf_clear(&writer->memory);
}

void body_writer_free(struct body_writer **writer)
{
    struct body_writer *w = *writer;

    *writer = NULL;
    if (!w)
        return;
    if (w->fd >= 0) {
        char *path = path_of(w);
        close(w->fd);
        unlink(path);
        free(path);
    }
    buf_clear(&w->memory);
    free(w->folder);
    free(w);
}
