/*
 * lmdb_maps.c - the two files of LMDB as they lie in memory, and what a disk that fails
 * does through them.
 *
 * data.mdb is read through its map, and each transaction writes a few words into that of
 * lock.mdb. A page that the disk does not give, or that the file system does not let be
 * written, is a SIGBUS there, where a system call would say EIO. For lock.mdb the kernel can
 * be asked first: a transaction begins only when the page it will write is there for
 * writing, so that a queue whose file system was shut answers with an error, goes on
 * running, and writes again when it can. What is left is a disk that fails within a
 * transaction, a page of data.mdb that is not in memory, and kernels before 5.14, which
 * cannot be asked: then relay/base/mapped.h has the last word.
 *
 * LMDB does not tell where its maps are. Where the kernel does not either (there is no
 * /proc), nothing here is done.
 */
#include "queue/lmdb_store.h"

#include "relay/base/mapped.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define PAGE ((size_t)4096) /* of lock.mdb: what all transactions share, and 60 readers */

/* ---- where they are ---- */

/* "7f91adc00000-7f93adc00000 r--s 00000000 07:01 20    /var/lib/waypost/queue/db/data.mdb" */
static bool is_of(const char *line, const char *path, uintptr_t *out_begin, uintptr_t *out_end)
{
    const char *name = strchr(line, '/');
    size_t len = strlen(path);
    char *rest;

    if (!name || strncmp(name, path, len) != 0 || (name[len] != '\n' && name[len] != '\0'))
        return false;
    *out_begin = strtoul(line, &rest, 16);
    *out_end = *rest == '-' ? strtoul(rest + 1, NULL, 16) : 0;
    return *out_end > *out_begin;
}

static void *find_map(const char *path, size_t *out_len)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uintptr_t begin, end, first = 0, last = 0;
    char *line = NULL;
    size_t room = 0;

    while (maps && getline(&line, &room, maps) > 0) {
        if (!is_of(line, path, &begin, &end) || (first && begin != last))
            continue;
        first = first ? first : begin;
        last = end; /* the kernel may tell of one map in pieces */
    }
    free(line);
    if (maps)
        (void)fclose(maps);
    *out_len = last - first;
    return (void *)first; /* NOLINT(performance-no-int-to-ptr): the kernel writes it as a number */
}

static struct mapped *note(const char *folder, const char *name, bool is_written, void **out_at,
                           size_t *out_len)
{
    char path[PATH_MAX + 16];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    *out_at = find_map(path, out_len);
    return *out_at ? mapped_note(*out_at, *out_len, path, is_written) : NULL;
}

static void note_maps(struct lmdb *l, const char *folder)
{
    struct lmdb_maps *maps = &l->maps;
    char real[PATH_MAX]; /* as the kernel shows it */
    void *data_at;
    size_t data_len;

    if (!realpath(folder, real))
        return;
    maps->data = note(real, "data.mdb", false, &data_at, &data_len);
    maps->lock = note(real, "lock.mdb", true, &maps->lock_at, &maps->lock_len);
}

/* ---- the environment ---- */

int lmdb_map(struct lmdb *l, const char *folder, unsigned flags)
{
    int rc = mdb_env_open(l->env, folder, flags, 0600);

    if (!rc)
        note_maps(l, folder);
    return rc;
}

/* 0, or the error that a write into it would end us with. */
static int ask_for_lock_page(const struct lmdb *l)
{
    if (!l->maps.lock_at || madvise(l->maps.lock_at, PAGE, MADV_POPULATE_WRITE) == 0)
        return 0;
    return errno == EFAULT ? EIO : 0;
}

/* LMDB takes its readers off the table when it closes, which may be on no disk any more.
 * Nobody else is in a transaction: the table can be any. */
static void part_from_lock_file(const struct lmdb *l)
{
    if (ask_for_lock_page(l))
        (void)mmap(l->maps.lock_at, l->maps.lock_len, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

void lmdb_unmap(struct lmdb *l)
{
    if (!l->env)
        return;
    part_from_lock_file(l);
    mdb_env_close(l->env);
    mapped_forget(&l->maps.data);
    mapped_forget(&l->maps.lock);
    l->maps.lock_at = NULL;
    l->env = NULL;
}

/* ---- transactions ---- */

int lmdb_begin(struct lmdb *l, unsigned flags, MDB_txn **out_txn)
{
    int rc = l->env ? ask_for_lock_page(l) : MDB_PANIC;

    return rc ? rc : mdb_txn_begin(l->env, NULL, flags, out_txn);
}

int lmdb_renew(struct lmdb *l, MDB_txn *txn)
{
    int rc = ask_for_lock_page(l);

    return rc ? rc : mdb_txn_renew(txn);
}

void lmdb_check_readers(struct lmdb *l)
{
    int dead;

    if (l->env && !ask_for_lock_page(l))
        mdb_reader_check(l->env, &dead);
}
