/*
 * recording.c - reads a log and puts its moments in order.
 */
#include "tests/crash/recording.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *map_file(const char *path, size_t *out_len)
{
    struct stat st;
    int fd = open(path, O_RDONLY);

    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0)
        return NULL;
    void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    *out_len = (size_t)st.st_size;
    return at == MAP_FAILED ? NULL : at;
}

static bool read_log(struct recording *recording, const char *path)
{
    size_t len = 0, at = 0;
    const char *bytes = map_file(path, &len);

    while (bytes && at + sizeof(struct log_record) <= len) {
        const struct log_record *record = (const void *)(bytes + at);
        if (record->magic != LOG_MAGIC)
            return false;
        if (recording->count == recording->cap) {
            recording->cap = recording->cap ? recording->cap * 2 : 4096;
            recording->records =
                realloc(recording->records, recording->cap * sizeof(recording->records[0]));
        }
        recording->records[recording->count++] = record;
        at += log_padded(sizeof(*record) + record->len + record->len2);
    }
    return bytes && at == len && recording->count > 0;
}

static int moment_order(const void *a, const void *b)
{
    const struct moment *x = a, *y = b;

    return (x->at > y->at) - (x->at < y->at);
}

static int number_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static bool is_commit(const struct log_record *record)
{
    return record->op == LOG_WRITE && (record->flags & LOG_SYNCED);
}

/* Where what must be there changes: a sync ends, a promise leaves. */
static bool is_edge(const struct log_record *record)
{
    return record->op == LOG_SYNC || record->op == LOG_SYNC_ALL || record->op == LOG_SAID ||
           is_commit(record);
}

static void add_edge(struct recording *recording, uint64_t at, uint64_t after)
{
    if (at > after)
        recording->edges[recording->edge_count++] = at;
}

static void order_moments(struct recording *recording, uint64_t after)
{
    recording->moments = calloc(recording->count * 2, sizeof(struct moment));
    recording->edges = calloc(recording->count * 2, sizeof(uint64_t));
    for (size_t i = 0; i < recording->count; i++) {
        const struct log_record *record = recording->records[i];
        recording->moments[recording->moment_count++] = (struct moment){ record->begin, record };
        recording->moments[recording->moment_count++] = (struct moment){ record->end, record };
        if (!is_edge(record))
            continue;
        add_edge(recording, record->begin, after);
        add_edge(recording, record->end, after);
    }
    qsort(recording->moments, recording->moment_count, sizeof(struct moment), moment_order);
    qsort(recording->edges, recording->edge_count, sizeof(uint64_t), number_order);
}

bool recording_read(struct recording *recording, const char *path, uint64_t after)
{
    if (!read_log(recording, path))
        return false;
    order_moments(recording, after);
    return true;
}

size_t recording_commits(const struct recording *recording)
{
    size_t count = 0;

    for (size_t i = 0; i < recording->count; i++)
        count += is_commit(recording->records[i]);
    return count;
}

size_t recording_ranges(const struct recording *recording)
{
    size_t count = 0;

    for (size_t i = 0; i < recording->count; i++)
        count += recording->records[i]->op == LOG_RANGE;
    return count;
}

void recording_play(const struct recording *recording, struct disk *disk, size_t *next,
                    uint64_t cut)
{
    for (; *next < recording->moment_count && recording->moments[*next].at < cut; ++*next) {
        const struct moment *moment = &recording->moments[*next];
        if (moment->at == moment->record->begin)
            disk_begin(disk, moment->record);
        else
            disk_end(disk, moment->record);
    }
}
