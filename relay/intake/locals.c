/*
 * locals.c - the alias table in force, and when to read its file again.
 */
#include "relay/intake/locals.h"

#include "relay/mail/addr.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS 1000
#define ALARM_MS (10ULL * 60 * 1000)

/* What tells a changed file from the same one. */
struct stamp {
    uint64_t device, inode;
    int64_t size, changed_ns;
    bool is_there;
};

struct locals {
    atomic_uint refs;
    struct arena arena;
    struct locals_options options;
    atomic_uint_fast64_t look_at_ms, alarm_at_ms;
    pthread_mutex_t lock;      /* of what follows */
    struct alias_table *table; /* NULL: no file */
    struct alias_table
        *judged;          /* what the file said last, in force or not: its files are watched */
    struct stamp *stamps; /* of judged's files */
    size_t stamp_count;
};

/* ---- its life ---- */

static struct str copy(struct locals *locals, struct str text)
{
    return arena_str(&locals->arena, text);
}

struct locals *locals_new(const struct locals_options *options)
{
    struct locals *locals = mem_alloc(sizeof(*locals));
    struct str *domains;

    atomic_init(&locals->refs, 1);
    atomic_init(&locals->look_at_ms, 0);
    atomic_init(&locals->alarm_at_ms, 0);
    pthread_mutex_init(&locals->lock, NULL);
    arena_init(&locals->arena);
    domains = arena_alloc(&locals->arena, (options->domain_count + 1) * sizeof(*domains));
    for (size_t i = 0; i < options->domain_count; i++)
        domains[i] = copy(locals, options->domains[i]);
    locals->options = (struct locals_options){
        .file = copy(locals, options->file),
        .root = copy(locals, options->root),
        .names = { .mailname = copy(locals, options->names.mailname),
                   .machine = copy(locals, options->names.machine) },
        .domains = domains,
        .domain_count = options->domain_count,
        .forward = options->forward,
    };
    return locals;
}

struct locals *locals_ref(struct locals *locals)
{
    atomic_fetch_add(&locals->refs, 1);
    return locals;
}

void locals_unref(struct locals **locals_at)
{
    struct locals *locals = *locals_at;

    *locals_at = NULL;
    if (!locals || atomic_fetch_sub(&locals->refs, 1) != 1)
        return;
    alias_unref(&locals->table);
    alias_unref(&locals->judged);
    free(locals->stamps);
    pthread_mutex_destroy(&locals->lock);
    arena_clear(&locals->arena);
    free(locals);
}

/* ---- files ---- */

static struct stamp stamp_of(struct str file)
{
    struct stamp stamp = { .is_there = false };
    char path[4096];
    struct stat st;

    str_copy(path, sizeof(path), file);
    if (stat(path, &st) != 0)
        return stamp;
    stamp.is_there = true;
    stamp.device = st.st_dev;
    stamp.inode = st.st_ino;
    stamp.size = st.st_size;
    stamp.changed_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
    return stamp;
}

static bool stamp_eq(const struct stamp *a, const struct stamp *b)
{
    return a->is_there == b->is_there && a->device == b->device && a->inode == b->inode &&
           a->size == b->size && a->changed_ns == b->changed_ns;
}

static enum err read_all(int fd, const char *path, struct buf *out, struct fault *fault)
{
    char window[16384];
    ssize_t got;

    while ((got = read(fd, window, sizeof(window))) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fault_errno(fault, errno, "cannot read %s", path);
        if (!buf_append(out, window, (size_t)got))
            return fault_set(fault, ERR_LIMIT, "%s is larger than %zu MB", path, out->max >> 20);
    }
    return ERR_OK;
}

static enum err read_file(struct str file, struct buf *out, struct fault *fault)
{
    char path[4096];
    struct stat st;
    enum err rc;

    if (str_copy(path, sizeof(path), file) < file.len)
        return fault_set(fault, ERR_INVALID, "the file's name is too long");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return fault_errno(fault, errno, "cannot read %s", path);
    if (fstat(fd, &st) != 0)
        rc = fault_errno(fault, errno, "cannot read %s", path);
    else if (!S_ISREG(st.st_mode))
        rc = fault_set(fault, ERR_INVALID, "cannot read %s: not a regular file", path);
    else
        rc = read_all(fd, path, out, fault);
    close(fd);
    return rc;
}

/* ---- reading the table ---- */

struct telling {
    alias_finding_fn *tell; /* NULL: nobody asks */
    void *arg;
};

static enum err on_read(void *arg, struct str file, struct buf *out, struct fault *fault)
{
    (void)arg;
    return read_file(file, out, fault);
}

static void on_tell(void *arg, enum alias_severity severity, struct str file, unsigned line,
                    const char *what)
{
    const struct telling *telling = arg;

    if (telling->tell)
        telling->tell(telling->arg, severity, file, line, what);
}

/* *out_table NULL: there is no file. */
static enum err read_table(const struct locals *locals, struct telling *telling,
                           struct alias_table **out_table)
{
    struct alias_reader reader = { .read = on_read, .tell = on_tell, .arg = telling };
    struct fault fault = { ERR_OK, "" };
    struct buf text;
    enum err rc;

    *out_table = NULL;
    if (locals->options.file.len == 0)
        return ERR_OK;
    buf_init(&text, ALIAS_TEXT_MAX);
    rc = read_file(locals->options.file, &text, &fault);
    if (!rc)
        rc = alias_parse(locals->options.file, buf_view(&text), &reader, out_table);
    else if (rc != ERR_NOT_FOUND)
        on_tell(telling, ALIAS_ERROR, locals->options.file, 0, fault.text);
    else
        rc = ERR_OK;
    buf_clear(&text);
    return rc;
}

/* The stamps are taken before the files are read: a change in between is seen later. */
static struct stamp *take_stamps(const struct locals *locals, const struct alias_table *table,
                                 size_t *out_count)
{
    size_t count = 1;
    struct stamp *stamps;

    while (table && alias_file(table, count).len)
        count++;
    stamps = mem_alloc(count * sizeof(*stamps));
    stamps[0] = stamp_of(locals->options.file);
    for (size_t i = 1; i < count; i++)
        stamps[i] = stamp_of(alias_file(table, i));
    *out_count = count;
    return stamps;
}

/* What was read last, and whether it counts. Takes the table. */
static void put_in_force(struct locals *locals, struct alias_table *table, struct stamp first,
                         bool counts)
{
    size_t count;
    struct stamp *stamps = take_stamps(locals, table, &count);

    stamps[0] = first;
    pthread_mutex_lock(&locals->lock);
    if (counts) {
        alias_unref(&locals->table);
        locals->table = table ? alias_ref(table) : NULL;
    }
    alias_unref(&locals->judged);
    locals->judged = table;
    free(locals->stamps);
    locals->stamps = stamps;
    locals->stamp_count = count;
    pthread_mutex_unlock(&locals->lock);
}

enum err locals_load(struct locals *locals, alias_finding_fn *tell, void *arg)
{
    struct telling telling = { tell, arg };
    struct stamp first = stamp_of(locals->options.file);
    struct alias_table *table;
    enum err rc = read_table(locals, &telling, &table);

    put_in_force(locals, table, first, true);
    return rc;
}

void locals_keep_table(struct locals *locals, struct locals *old)
{
    struct alias_table *table;

    pthread_mutex_lock(&old->lock);
    table = old->table ? alias_ref(old->table) : NULL;
    pthread_mutex_unlock(&old->lock);
    pthread_mutex_lock(&locals->lock);
    alias_unref(&locals->table);
    locals->table = table;
    pthread_mutex_unlock(&locals->lock);
}

/* ---- reading it again ---- */

static bool has_changed(struct locals *locals)
{
    struct alias_table *judged;
    struct stamp *now;
    size_t count;
    bool same;

    pthread_mutex_lock(&locals->lock);
    judged = locals->judged ? alias_ref(locals->judged) : NULL;
    pthread_mutex_unlock(&locals->lock);
    now = take_stamps(locals, judged, &count);
    alias_unref(&judged);
    pthread_mutex_lock(&locals->lock);
    same = count == locals->stamp_count;
    for (size_t i = 0; same && i < count; i++)
        same = stamp_eq(&now[i], &locals->stamps[i]);
    pthread_mutex_unlock(&locals->lock);
    free(now);
    return !same;
}

struct words {
    struct buf text;
    enum alias_severity worst;
};

/* The first few of each kind that counts more. */
static void gather(void *arg, enum alias_severity severity, struct str file, unsigned line,
                   const char *what)
{
    struct words *words = arg;

    if (severity < words->worst) {
        buf_reset(&words->text);
        words->worst = severity;
    }
    if (severity == words->worst)
        buf_printf(&words->text, "%s" STR_FMT ":%u: %s", words->text.len ? "; " : "", STR_ARG(file),
                   line, what);
}

enum locals_news locals_refresh(struct locals *locals, uint64_t now_ms, struct arena *arena,
                                struct str *out_words)
{
    uint64_t look_at_ms = atomic_load(&locals->look_at_ms);
    struct words words = { .worst = ALIAS_WARNING };
    struct telling telling = { gather, &words };
    struct alias_table *table;

    *out_words = STR_EMPTY;
    /* Whoever moves the moment on looks; the others go by what is in force. */
    if (now_ms < look_at_ms ||
        !atomic_compare_exchange_strong(&locals->look_at_ms, &look_at_ms, now_ms + LOOK_MS))
        return LOCALS_SAME;
    if (locals->options.file.len == 0 || !has_changed(locals))
        return LOCALS_SAME;
    struct stamp first = stamp_of(locals->options.file);
    buf_init(&words.text, 900);
    enum err rc = read_table(locals, &telling, &table);
    put_in_force(locals, table, first, rc == ERR_OK);
    *out_words = arena_str(arena, buf_view(&words.text));
    buf_clear(&words.text);
    return rc ? LOCALS_REFUSED : LOCALS_CHANGED;
}

/* ---- asking ---- */

struct local_rules locals_rules(struct locals *locals, bool with_forward,
                                struct alias_table **out_table)
{
    const struct locals_options *options = &locals->options;

    pthread_mutex_lock(&locals->lock);
    *out_table = locals->table ? alias_ref(locals->table) : NULL;
    pthread_mutex_unlock(&locals->lock);
    return (struct local_rules){
        .mailname = options->names.mailname,
        .domains = options->domains,
        .domain_count = options->domain_count,
        .root = options->root,
        .table = *out_table,
        .forward = with_forward && options->forward ? locals_forward : NULL,
    };
}

bool locals_may_be_ours(const struct locals *locals, struct str address)
{
    const struct locals_options *options = &locals->options;
    struct str domain = addr_domain_of(address);

    if (domain.len == 0 || local_is_localhost(domain) || str_ieq(domain, options->names.mailname))
        return true;
    for (size_t i = 0; i < options->domain_count; i++)
        if (str_ieq(domain, options->domains[i]))
            return true;
    return false;
}

bool locals_is_ours(struct locals *locals, struct str address)
{
    struct alias_table *table;
    bool ours;

    if (!locals_may_be_ours(locals, address))
        return false;
    struct local_rules rules = locals_rules(locals, false, &table);
    ours = local_is_ours(&rules, address);
    alias_unref(&table);
    return ours;
}

struct local_names locals_names(const struct locals *locals) { return locals->options.names; }

bool locals_alarm_is_due(struct locals *locals, uint64_t now_ms)
{
    uint64_t alarm_at_ms = atomic_load(&locals->alarm_at_ms);

    return now_ms >= alarm_at_ms &&
           atomic_compare_exchange_strong(&locals->alarm_at_ms, &alarm_at_ms, now_ms + ALARM_MS);
}
