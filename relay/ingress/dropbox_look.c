/*
 * dropbox_look.c - what lies in the drop folder, and whose turn it is.
 */
#include "relay/ingress/dropbox_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TEMPORARY_S 86400 /* nobody writes that long */

void dropbox_aside_name(const char *prefix, char *out, size_t size)
{
    unsigned long long random = 0;

    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        random = 0; /* then one may be in the way, as before */
    (void)snprintf(out, size, "%s-%016llx", prefix, random);
}

static bool is_name(const char *name)
{
    return strlen(name) == DROPPED_NAME && strspn(name, "0123456789abcdef") == DROPPED_NAME;
}

static int64_t ctime_us(const struct stat *st)
{
    return (int64_t)st->st_ctim.tv_sec * 1000000 + st->st_ctim.tv_nsec / 1000;
}

static void sweep_temporary(struct dropbox_look *look, const char *name)
{
    struct stat st;

    if (fstatat(look->folder, name, &st, AT_SYMLINK_NOFOLLOW))
        return;
    if (S_ISREG(st.st_mode) && st.st_ctim.tv_sec + TEMPORARY_S < time(NULL))
        (void)unlinkat(look->folder, name, 0);
    else
        look->has_temporary = true;
}

static int compare(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int by_user(const void *a, const void *b)
{
    const struct dropped_file *x = a, *y = b;

    return x->uid != y->uid ? compare(x->uid, y->uid) : compare(x->dropped_us, y->dropped_us);
}

static int by_turn(const void *a, const void *b)
{
    const struct dropped_file *x = a, *y = b;

    return x->rank != y->rank ? compare(x->rank, y->rank) : compare(x->dropped_us, y->dropped_us);
}

/* First files of all users, then second ones ... What is over a user's share waits. */
static void take_turns(struct dropbox_look *look)
{
    size_t kept = 0;
    unsigned rank = 0;
    uint64_t bytes = 0;

    qsort(look->files, look->count, sizeof(*look->files), by_user);
    for (size_t i = 0; i < look->count; i++) {
        struct dropped_file *file = &look->files[i];
        bool is_same = i > 0 && file->uid == look->files[i - 1].uid;
        rank = is_same ? rank + 1 : 0;
        bytes = is_same ? bytes + file->size : file->size;
        file->rank = rank;
        if (rank >= look->user_messages || (rank > 0 && bytes > look->user_bytes))
            file->rank = UINT32_MAX;
    }
    for (size_t i = 0; i < look->count; i++) {
        if (look->files[i].rank == UINT32_MAX)
            look->is_more = true;
        else
            look->files[kept++] = look->files[i];
    }
    look->count = kept;
    qsort(look->files, look->count, sizeof(*look->files), by_turn);
}

static void add(struct dropbox_look *look, const char *name)
{
    struct dropped_file *file;
    struct stat st;

    if (look->count == DROPBOX_FOUND_MAX && !look->is_packed) {
        take_turns(look); /* one user's heap makes room for the others */
        look->is_packed = look->count > DROPBOX_FOUND_MAX / 2;
    }
    if (look->count == DROPBOX_FOUND_MAX) {
        look->is_more = true;
        return;
    }
    if (fstatat(look->folder, name, &st, AT_SYMLINK_NOFOLLOW))
        return;
    file = &look->files[look->count++];
    *file = (struct dropped_file){ .uid = st.st_uid,
                                   .size = (uint64_t)st.st_size,
                                   .dropped_us = ctime_us(&st) };
    str_copy(file->name, sizeof(file->name), str_of(name));
}

static void read_folder(struct dropbox_look *look)
{
    int fd = openat(look->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;

    look->files = mem_alloc(DROPBOX_FOUND_MAX * sizeof(*look->files));
    while (dir && (entry = readdir(dir)) != NULL) {
        if (is_name(entry->d_name))
            add(look, entry->d_name);
        else if (strncmp(entry->d_name, "tmp-", 4) == 0)
            sweep_temporary(look, entry->d_name);
    }
    if (dir)
        (void)closedir(dir);
    else if (fd >= 0)
        close(fd);
}

void dropbox_look_run(struct job *job)
{
    struct dropbox_look *look = container_of(job, struct dropbox_look, job);

    read_folder(look);
    take_turns(look);
}

enum dropbox_content dropbox_look_in(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    bool found = false;

    if (!dir)
        return errno == ENOENT || errno == ENOTDIR ? DROPBOX_EMPTY : DROPBOX_CLOSED;
    while (!found && (entry = readdir(dir)) != NULL)
        found = is_name(entry->d_name);
    (void)closedir(dir);
    return found ? DROPBOX_HAS_MAIL : DROPBOX_EMPTY;
}
