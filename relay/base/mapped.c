/*
 * mapped.c - the list of what is mapped, and the handler that reads it.
 *
 * The handler runs in the thread that touched the page, in the middle of anything: it
 * takes no lock and no memory. Entries stay in the list for ever and are used again, and
 * the one that it looks for is in use by its own thread, so it cannot change meanwhile.
 * It needs no stack of its own: a stack that is full is a SIGSEGV.
 */
#include "relay/base/mapped.h"

#include "relay/base/str.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#define PATH_SHOWN 400
#define LINE_ROOM 800 /* in one piece into a pipe */
#define PATIENCE_MS 1000

struct mapped {
    struct mapped *next;
    _Atomic uintptr_t at; /* 0: free to be used again */
    atomic_size_t len;
    size_t line_len;
    char line[LINE_ROOM]; /* the last words, made before they are needed */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of those who note and forget */
static struct mapped *_Atomic all;
static struct sigaction before;
static atomic_flag is_ending = ATOMIC_FLAG_INIT;

/* ---- the list ---- */

/* With the lock held. */
static struct mapped *free_entry(void)
{
    struct mapped *entry = atomic_load(&all);

    while (entry && atomic_load(&entry->at))
        entry = entry->next;
    if (entry)
        return entry;
    entry = mem_alloc(sizeof(*entry));
    entry->next = atomic_load(&all);
    atomic_store(&all, entry);
    return entry;
}

struct mapped *mapped_note(const void *at, size_t len, const char *path, bool is_written)
{
    pthread_mutex_lock(&lock);
    struct mapped *entry = free_entry();
    int written = snprintf(
        entry->line, sizeof(entry->line),
        "waypost: ended, because %.*s cannot be %s: the disk fails, its file system was shut, or "
        "the file was cut. Mail that was acknowledged is on the disk, not in memory: this end "
        "loses none. See the kernel's log, mend the disk, then start waypost again\n",
        PATH_SHOWN, path, is_written ? "read or written" : "read");
    entry->line_len = written > 0 ? (size_t)written : 0;
    atomic_store(&entry->len, len);
    atomic_store(&entry->at, (uintptr_t)at);
    pthread_mutex_unlock(&lock);
    return entry;
}

void mapped_forget(struct mapped **mapped)
{
    struct mapped *entry = *mapped;

    *mapped = NULL;
    if (!entry)
        return;
    pthread_mutex_lock(&lock);
    atomic_store(&entry->at, 0);
    pthread_mutex_unlock(&lock);
}

/* ---- the handler ---- */

static const struct mapped *find(const void *address)
{
    uintptr_t wanted = (uintptr_t)address;

    for (const struct mapped *entry = atomic_load(&all); entry; entry = entry->next) {
        uintptr_t at = atomic_load(&entry->at);
        if (at && wanted >= at && wanted - at < atomic_load(&entry->len))
            return entry;
    }
    return NULL;
}

/* Nobody may read standard error: the end does not wait for that. */
static void end(const struct mapped *entry)
{
    struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };

    while (atomic_flag_test_and_set(&is_ending))
        (void)pause(); /* another thread was first */
    if (poll(&out, 1, PATIENCE_MS) == 1 && write(STDERR_FILENO, entry->line, entry->line_len) < 0)
        _exit(EX_IOERR);
    _exit(EX_IOERR);
}

static void on_sigbus(int signum, siginfo_t *info, void *context)
{
    const struct mapped *entry = info->si_code == BUS_ADRERR ? find(info->si_addr) : NULL;

    (void)context;
    if (entry)
        end(entry);
    /* As if this handler had never been: the same instruction faults again. */
    sigaction(SIGBUS, &before, NULL);
    if (info->si_code <= 0) /* a process sent it: no instruction will */
        (void)raise(signum);
}

void mapped_guard(void)
{
    struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

    sigfillset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before);
}
