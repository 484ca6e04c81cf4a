/*
 * tracelog.c - the writing side of the trace log, on the hop consumer's thread.
 *
 * Hops gather in a buffer and are written when it is full or the rings are
 * empty, synced at most once a second. A write that fails (disk full) loses
 * hops, counts them, and leaves the file ending in a whole record.
 */
#include "queue/tracelog.h"

#include "queue/tracelog_segment.h"
#include "relay/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((uint64_t)1024 * 1024)
#define BUFFER ((size_t)64 * 1024)
#define SYNC_MS 1000

struct segment {
    uint64_t number;
    uint64_t bytes; /* log and index */
    int64_t last_us;
};

struct tracelog {
    char *folder;
    atomic_uint_fast64_t max_bytes, max_age_s, bytes, lost;
    struct segment *sealed; /* oldest first */
    size_t sealed_count, sealed_cap;
    int fd;                /* -1: could not be opened; tried again with the next hops */
    uint64_t number, size; /* of the one being written */
    int64_t first_us;      /* of its oldest hop; 0: empty */
    int64_t newest_us;     /* of all */
    struct segment_index index;
    struct buf buffer;
    size_t buffered; /* hops in it */
    uint64_t synced_ms;
    bool is_dirty;
};

static uint64_t segment_bytes(struct tracelog *log)
{
    uint64_t size = atomic_load(&log->max_bytes) / 32;

    return size < MIB / 16 ? MIB / 16 : size > 8 * MIB ? 8 * MIB : size;
}

/* ---- segments -------------------------------------------------------------------------------- */

static void add_sealed(struct tracelog *log, uint64_t number, uint64_t bytes, int64_t last_us)
{
    if (log->sealed_count == log->sealed_cap) {
        log->sealed_cap = log->sealed_cap ? log->sealed_cap * 2 : 64;
        log->sealed = mem_realloc(log->sealed, log->sealed_cap * sizeof(log->sealed[0]));
    }
    log->sealed[log->sealed_count++] = (struct segment){ number, bytes, last_us };
    atomic_fetch_add(&log->bytes, bytes);
}

static void drop_oldest(struct tracelog *log)
{
    char path[4200];

    segment_path(path, sizeof(path), log->folder, log->sealed[0].number, "trace");
    unlink(path);
    segment_path(path, sizeof(path), log->folder, log->sealed[0].number, "index");
    unlink(path);
    atomic_fetch_sub(&log->bytes, log->sealed[0].bytes);
    memmove(log->sealed, log->sealed + 1, --log->sealed_count * sizeof(log->sealed[0]));
}

static void drop_old(struct tracelog *log, int64_t now_us)
{
    int64_t age_us = (int64_t)(atomic_load(&log->max_age_s) * 1000000);

    while (log->sealed_count > 0 && (atomic_load(&log->bytes) > atomic_load(&log->max_bytes) ||
                                     log->sealed[0].last_us < now_us - age_us))
        drop_oldest(log);
}

static enum err open_segment(struct tracelog *log, struct fault *fault)
{
    char path[4200], header[SEGMENT_HEADER];

    segment_path(path, sizeof(path), log->folder, log->number, "trace");
    log->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log->fd < 0)
        return fault_errno(fault, errno, "cannot open the trace %s", path);
    if (log->size > 0)
        return ERR_OK;
    segment_header(header);
    if (pwrite(log->fd, header, sizeof(header), 0) != (ssize_t)sizeof(header)) {
        enum err rc = fault_errno(fault, errno, "cannot write the trace %s", path);
        close(log->fd);
        log->fd = -1;
        return rc;
    }
    log->size = SEGMENT_HEADER;
    atomic_fetch_add(&log->bytes, SEGMENT_HEADER);
    return ERR_OK;
}

static bool write_all(int fd, const char *bytes, size_t len, uint64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return true;
}

/* Under another name first: a reader sees a whole index or none. One that could
 * not be written is no loss: readers go through the segment instead. */
static uint64_t write_index(struct tracelog *log)
{
    char path[4200], temporary[4200];
    struct buf packed;
    bool ok = false;

    buf_init(&packed, SIZE_MAX);
    segment_index_pack(&log->index, &packed);
    segment_path(path, sizeof(path), log->folder, log->number, "index");
    segment_path(temporary, sizeof(temporary), log->folder, log->number, "new");
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        ok = write_all(fd, packed.at, packed.len, 0) && fdatasync(fd) == 0;
        close(fd);
        ok = ok && rename(temporary, path) == 0;
        if (!ok)
            unlink(temporary);
    }
    uint64_t bytes = ok ? packed.len : 0;
    buf_clear(&packed);
    return bytes;
}

static void seal(struct tracelog *log)
{
    fdatasync(log->fd); /* its index will say that it is whole */
    uint64_t index_bytes = write_index(log);
    close(log->fd);
    log->fd = -1;
    atomic_fetch_sub(&log->bytes, log->size);
    add_sealed(log, log->number, log->size + index_bytes, log->index.last_us);
    segment_index_clear(&log->index);
    log->number++;
    log->size = 0;
    log->first_us = 0;
    log->is_dirty = false;
}

static bool is_full(struct tracelog *log)
{
    int64_t age_us = (int64_t)(atomic_load(&log->max_age_s) * 1000000);

    if (log->size >= segment_bytes(log))
        return true;
    /* Or what it begins with would be kept as long as what it ends with. */
    return log->first_us && log->index.last_us - log->first_us > age_us / 8;
}

/* ---- opening ------------------------------------------------------------------------------------ */

/* The whole of a file; NULL: cannot be read. */
static char *read_file(const char *path, size_t *out_len)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *bytes = NULL;

    if (fd >= 0 && fstat(fd, &st) == 0) {
        size_t size = (size_t)st.st_size;
        bytes = mem_alloc(size + 1);
        ssize_t n = pread(fd, bytes, size, 0);
        *out_len = n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        close(fd);
    return bytes;
}

static bool find_sealed(struct tracelog *log, uint64_t number)
{
    char path[4200];
    struct segment_view view;
    struct stat st;
    size_t len = 0;

    segment_path(path, sizeof(path), log->folder, number, "index");
    char *bytes = read_file(path, &len);
    bool ok = bytes && segment_view(str_make(bytes, len), &view);
    int64_t last_us = ok ? view.last_us : 0;
    free(bytes);
    segment_path(path, sizeof(path), log->folder, number, "trace");
    if (!ok || stat(path, &st) != 0)
        return false;
    add_sealed(log, number, (uint64_t)st.st_size + len, last_us);
    return true;
}

/* One that was being written when the daemon ended: the torn tail is cut, and
 * it is the one to go on with, or gets its index now. */
static enum err resume(struct tracelog *log, uint64_t number, struct fault *fault)
{
    char path[4200];
    size_t len = 0;

    segment_path(path, sizeof(path), log->folder, number, "trace");
    char *bytes = read_file(path, &len);
    log->number = number;
    log->size = bytes ? segment_scan(str_make(bytes, len), &log->index) : 0;
    free(bytes);
    log->first_us = log->index.last_us; /* when it began is not known: as if now */
    if (truncate(path, (off_t)log->size) != 0)
        return fault_errno(fault, errno, "cannot cut the trace %s", path);
    atomic_fetch_add(&log->bytes, log->size);
    return open_segment(log, fault);
}

static enum err find_segments(struct tracelog *log, struct fault *fault)
{
    uint64_t *numbers = NULL;
    size_t count = 0;
    enum err rc = segment_list(log->folder, &numbers, &count, fault);

    for (size_t i = 0; i < count && !rc; i++) {
        log->number = numbers[i] + 1;
        if (find_sealed(log, numbers[i]))
            continue;
        rc = resume(log, numbers[i], fault);
        if (!rc && (i + 1 < count || is_full(log)))
            seal(log);
    }
    free(numbers);
    return rc;
}

enum err tracelog_open(const struct tracelog_options *options, struct tracelog **out_log,
                       struct fault *fault)
{
    struct tracelog *log = mem_alloc(sizeof(*log));
    enum err rc = ERR_OK;

    log->folder = str_dup(str_of(options->folder));
    log->fd = -1;
    log->number = 1;
    atomic_init(&log->max_bytes, options->max_bytes);
    atomic_init(&log->max_age_s, options->max_age_s);
    buf_init(&log->buffer, BUFFER + HOP_ENCODED_MAX + SEGMENT_FRAME);
    if (mkdir(log->folder, 0700) != 0 && errno != EEXIST)
        rc = fault_errno(fault, errno, "cannot create the trace folder %s", log->folder);
    if (!rc)
        rc = find_segments(log, fault);
    if (!rc && log->fd < 0)
        rc = open_segment(log, fault);
    if (rc) {
        tracelog_close(&log);
        return rc;
    }
    drop_old(log, clock_wall_us());
    *out_log = log;
    return ERR_OK;
}

/* ---- writing ------------------------------------------------------------------------------------ */

/* What did not get into the file must not be found through its index either. */
static void lose_buffer(struct tracelog *log)
{
    atomic_fetch_add(&log->lost, log->buffered);
    if (log->fd >= 0 && ftruncate(log->fd, (off_t)log->size) != 0 && errno != EINTR) {
        close(log->fd); /* a broken tail: the next segment starts clean */
        log->fd = -1;
    }
    struct segment_index *index = &log->index;
    while (index->id_count && index->ids[index->id_count - 1].offset >= log->size)
        index->id_count--;
    while (index->text_count && index->texts[index->text_count - 1].offset >= log->size)
        index->text_count--;
}

static void write_buffer(struct tracelog *log)
{
    if (log->buffer.len == 0)
        return;
    if (log->fd < 0)
        open_segment(log, NULL);
    if (log->fd >= 0 && write_all(log->fd, log->buffer.at, log->buffer.len, log->size)) {
        log->size += log->buffer.len;
        atomic_fetch_add(&log->bytes, log->buffer.len);
        log->is_dirty = true;
    } else {
        lose_buffer(log);
    }
    buf_reset(&log->buffer);
    log->buffered = 0;
    if (log->fd >= 0 && is_full(log))
        seal(log);
    drop_old(log, log->newest_us);
}

void tracelog_hop(void *arg, const struct hop *hop, struct str encoded)
{
    struct tracelog *log = arg;
    char frame[SEGMENT_FRAME];

    if (log->fd < 0 && open_segment(log, NULL) != ERR_OK) {
        atomic_fetch_add(&log->lost, 1);
        return;
    }
    if (!log->first_us)
        log->first_us = hop->ended_us;
    if (hop->ended_us > log->newest_us)
        log->newest_us = hop->ended_us;
    segment_index_add(&log->index, hop, (uint32_t)(log->size + log->buffer.len));
    segment_frame(frame, encoded);
    buf_append(&log->buffer, frame, sizeof(frame));
    buf_str(&log->buffer, encoded);
    log->buffered++;
    if (log->buffer.len >= BUFFER)
        write_buffer(log);
}

void tracelog_idle(void *arg)
{
    struct tracelog *log = arg;
    uint64_t now_ms = clock_mono_ms();

    write_buffer(log);
    if (log->fd < 0 || !log->is_dirty || now_ms - log->synced_ms < SYNC_MS)
        return;
    fdatasync(log->fd);
    log->synced_ms = now_ms;
    log->is_dirty = false;
}

void tracelog_set(struct tracelog *log, uint64_t max_bytes, uint64_t max_age_s)
{
    atomic_store(&log->max_bytes, max_bytes);
    atomic_store(&log->max_age_s, max_age_s);
}

uint64_t tracelog_bytes(const struct tracelog *log) { return atomic_load(&log->bytes); }

uint64_t tracelog_lost(const struct tracelog *log) { return atomic_load(&log->lost); }

void tracelog_close(struct tracelog **log)
{
    struct tracelog *l = *log;

    *log = NULL;
    if (!l)
        return;
    write_buffer(l);
    if (l->fd >= 0) {
        fdatasync(l->fd);
        close(l->fd);
    }
    segment_index_clear(&l->index);
    buf_clear(&l->buffer);
    free(l->sealed);
    free(l->folder);
    free(l);
}
