/*
 * disk.c - files, folders, and what was done to them since they were synced.
 */
#include "tests/crash/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum change_kind { CHANGE_WRITE, CHANGE_SIZE, CHANGE_ADD, CHANGE_REMOVE, CHANGE_RENAME };

struct node;

struct change {
    enum change_kind kind;
    const struct log_record *record;
    uint64_t at;
    const char *data; /* in the log */
    size_t len;
    bool *is_sure;    /* WRITE: sectors that an O_DSYNC write took along, or NULL */
    char *name, *old; /* ADD, REMOVE, RENAME */
    struct node *node;
};

struct entry {
    char *name;
    struct node *node;
};

struct entries {
    struct entry *items;
    size_t count, cap;
};

struct node {
    bool is_folder, is_data, is_body;
    char *bytes; /* sure content */
    size_t size, cap;
    struct entries sure, seen; /* of a folder: on the disk; as the process sees it */
    struct change *changes;    /* since, in order */
    size_t count, room;
};

struct disk {
    char *root;
    enum lie lie;
    struct node *top;
    struct node **handles;
    size_t handle_count, handle_cap;
    size_t handle_base; /* handles of the processes before */
};

/* ---- small things --------------------------------------------------------------------- */

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "the model of the disk cannot do this: %s %s\n", what, detail);
    exit(2);
}

static void *grow(void *items, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return items;
    *cap = *cap ? *cap * 2 : 16;
    items = realloc(items, *cap * size);
    if (!items)
        die("no memory", "");
    return items;
}

static char *copy_of(const char *text, size_t len)
{
    char *copy = strndup(text, len);

    if (!copy)
        die("no memory", "");
    return copy;
}

uint64_t dice_next(struct dice *dice)
{
    uint64_t z = dice->state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t dice_below(struct dice *dice, uint64_t n) { return n ? dice_next(dice) % n : 0; }
bool dice_chance(struct dice *dice, unsigned percent) { return dice_below(dice, 100) < percent; }

const char *fate_word(enum fate fate)
{
    static const char *const words[FATE_COUNT] = {
        "lost", "kept", "some", "torn", "mixed", "late"
    };

    return words[fate];
}

const char *lie_word(enum lie lie)
{
    static const char *const words[LIE_COUNT] = { "none",      "data-sync",   "meta-sync",
                                                  "body-sync", "folder-sync", "early" };

    return words[lie];
}

/* ---- entries ----------------------------------------------------------------------------- */

static struct entry *entry_find(struct entries *entries, const char *name)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (strcmp(entries->items[i].name, name) == 0)
            return &entries->items[i];
    }
    return NULL;
}

static void entry_remove(struct entries *entries, const char *name)
{
    struct entry *entry = entry_find(entries, name);

    if (!entry)
        return;
    free(entry->name);
    *entry = entries->items[--entries->count];
}

static void entry_add(struct entries *entries, const char *name, struct node *node)
{
    entry_remove(entries, name);
    entries->items = grow(entries->items, entries->count, &entries->cap, sizeof(struct entry));
    entries->items[entries->count++] = (struct entry){ copy_of(name, strlen(name)), node };
}

static void entry_change(struct entries *entries, const struct change *change)
{
    if (change->kind == CHANGE_REMOVE)
        entry_remove(entries, change->name);
    if (change->kind == CHANGE_RENAME)
        entry_remove(entries, change->old);
    if (change->kind == CHANGE_ADD || change->kind == CHANGE_RENAME)
        entry_add(entries, change->name, change->node);
}

static void entries_clear(struct entries *entries)
{
    while (entries->count > 0)
        free(entries->items[--entries->count].name);
    free(entries->items);
    *entries = (struct entries){ 0 };
}

/* ---- paths --------------------------------------------------------------------------------- */

/* The node of a path below the root; *out_folder and *out_name say where it is or would be. */
static struct node *walk(struct disk *disk, const char *path, struct node **out_folder, char *name)
{
    struct node *node = disk->top, *folder = NULL;
    const char *rest = path + strlen(disk->root);

    name[0] = '\0';
    while (*rest == '/') {
        size_t len = strcspn(++rest, "/");
        if (len == 0)
            break;
        if (!node || len > 255)
            die("a path that leads nowhere:", path);
        folder = node;
        memcpy(name, rest, len);
        name[len] = '\0';
        struct entry *entry = entry_find(&folder->seen, name);
        node = entry ? entry->node : NULL;
        rest += len;
    }
    *out_folder = folder;
    return node;
}

static struct change *change_add(struct node *node, enum change_kind kind,
                                 const struct log_record *record)
{
    node->changes = grow(node->changes, node->count, &node->room, sizeof(struct change));
    struct change *change = &node->changes[node->count++];
    *change = (struct change){ .kind = kind, .record = record };
    return change;
}

static void change_entry(struct node *folder, enum change_kind kind, const char *name,
                         const char *old, struct node *node, const struct log_record *record)
{
    struct change *change = change_add(folder, kind, record);

    change->name = copy_of(name, strlen(name));
    change->old = old ? copy_of(old, strlen(old)) : NULL;
    change->node = node;
    entry_change(&folder->seen, change);
}

static struct node *node_new(bool is_folder)
{
    struct node *node = calloc(1, sizeof(*node));

    if (!node)
        die("no memory", "");
    node->is_folder = is_folder;
    return node;
}

struct disk *disk_new(const char *root, enum lie lie)
{
    struct disk *disk = calloc(1, sizeof(*disk));

    if (!disk)
        die("no memory", "");
    disk->root = copy_of(root, strlen(root));
    disk->lie = lie;
    disk->top = node_new(true); /* is there already, and so is its own entry */
    return disk;
}

/* ---- what the calls do -------------------------------------------------------------------- */

static const char *data_of(const struct log_record *record) { return (const char *)(record + 1); }

static char *text_of(const struct log_record *record)
{
    return copy_of(data_of(record), record->len);
}

static struct node *by_handle(struct disk *disk, const struct log_record *record)
{
    size_t index = disk->handle_base + record->handle;

    if (record->handle == 0 || index >= disk->handle_count || !disk->handles[index])
        die("a handle that was never opened", "");
    return disk->handles[index];
}

static void set_handle(struct disk *disk, uint32_t handle, struct node *node)
{
    size_t index = disk->handle_base + handle;

    while (disk->handle_count <= index) {
        disk->handles =
            grow(disk->handles, disk->handle_count, &disk->handle_cap, sizeof(struct node *));
        disk->handles[disk->handle_count++] = NULL;
    }
    disk->handles[index] = node;
}

static void do_open(struct disk *disk, const struct log_record *record)
{
    char name[256], *path = text_of(record);
    struct node *folder, *node = walk(disk, path, &folder, name);

    if (!node && !(record->open_flags & O_CREAT))
        die("opened, but nobody made it:", path);
    if (!node) {
        node = node_new(false);
        node->is_data = strcmp(name, "data.mdb") == 0;
        node->is_body = strstr(path, "/bodies/") != NULL;
        change_entry(folder, CHANGE_ADD, name, NULL, node, record);
    } else if (record->open_flags & O_TRUNC) {
        change_add(node, CHANGE_SIZE, record);
    }
    set_handle(disk, record->handle, node);
    free(path);
}

static void do_write(struct disk *disk, const struct log_record *record)
{
    struct change *change = change_add(by_handle(disk, record), CHANGE_WRITE, record);

    change->at = record->at;
    change->data = data_of(record);
    change->len = record->len;
}

static void do_truncate(struct disk *disk, const struct log_record *record)
{
    char name[256], *path = text_of(record);
    struct node *folder;
    struct node *node = record->handle ? by_handle(disk, record) : walk(disk, path, &folder, name);

    if (!node)
        die("truncated, but nobody made it:", path);
    change_add(node, CHANGE_SIZE, record)->at = record->at;
    free(path);
}

static void do_make_folder(struct disk *disk, const struct log_record *record)
{
    char name[256], *path = text_of(record);
    struct node *folder;

    if (walk(disk, path, &folder, name) || !folder)
        die("a folder made twice:", path);
    change_entry(folder, CHANGE_ADD, name, NULL, node_new(true), record);
    free(path);
}

static void do_remove(struct disk *disk, const struct log_record *record)
{
    char name[256], *path = text_of(record);
    struct node *folder, *node = walk(disk, path, &folder, name);

    if (!node || !folder)
        die("removed, but nobody made it:", path);
    change_entry(folder, CHANGE_REMOVE, name, NULL, node, record);
    free(path);
}

static void do_rename(struct disk *disk, const struct log_record *record)
{
    char from[256], to[256], *old = text_of(record);
    char *path = copy_of(data_of(record) + record->len, record->len2);
    struct node *folder, *other, *node = walk(disk, old, &folder, from);

    walk(disk, path, &other, to);
    if (!node || other != folder)
        die("a rename from folder to folder:", path);
    change_entry(folder, CHANGE_RENAME, to, from, node, record);
    free(old);
    free(path);
}

void disk_begin(struct disk *disk, const struct log_record *record)
{
    switch ((enum log_op)record->op) {
    case LOG_START:
        disk->handle_base = disk->handle_count;
        return;
    case LOG_OPEN:
        do_open(disk, record);
        return;
    case LOG_WRITE:
        do_write(disk, record);
        return;
    case LOG_TRUNCATE:
        do_truncate(disk, record);
        return;
    case LOG_MKDIR:
        do_make_folder(disk, record);
        return;
    case LOG_RMDIR:
    case LOG_UNLINK:
        do_remove(disk, record);
        return;
    case LOG_RENAME:
        do_rename(disk, record);
        return;
    case LOG_STRANGE:
        die("a call it does not know:", text_of(record));
        return;
    case LOG_SYNC:
    case LOG_SAID:
    case LOG_HEARD:
        return;
    }
}

/* ---- what a sync makes sure ------------------------------------------------------------------ */

static size_t sectors_of(const struct change *change)
{
    return change->len ? (change->at + change->len - 1) / DISK_SECTOR - change->at / DISK_SECTOR + 1
                       : 0;
}

/* Sector number `i` of a write, as a range of its data. */
static void sector_range(const struct change *change, size_t i, size_t *out_from, size_t *out_to)
{
    uint64_t first = change->at / DISK_SECTOR + i;
    uint64_t from = first * DISK_SECTOR, to = from + DISK_SECTOR;

    *out_from = from > change->at ? (size_t)(from - change->at) : 0;
    *out_to = to < change->at + change->len ? (size_t)(to - change->at) : change->len;
}

static void node_resize(struct node *node, size_t size)
{
    if (size > node->cap) {
        size_t cap = node->cap ? node->cap : 65536;
        while (cap < size)
            cap *= 2;
        node->bytes = realloc(node->bytes, cap);
        if (!node->bytes)
            die("no memory", "");
        node->cap = cap;
    }
    if (size > node->size)
        memset(node->bytes + node->size, 0, size - node->size);
    node->size = size;
}

static void make_sure_sectors(struct node *node, struct change *change, uint64_t from, uint64_t to)
{
    size_t count = sectors_of(change);

    for (size_t i = 0; i < count; i++) {
        uint64_t sector = (change->at / DISK_SECTOR + i) * DISK_SECTOR;
        size_t a, b;
        if (sector < from || sector >= to || (change->is_sure && change->is_sure[i]))
            continue;
        sector_range(change, i, &a, &b);
        if (change->at + b > node->size)
            node_resize(node, (size_t)(change->at + b));
        memcpy(node->bytes + change->at + a, change->data + a, b - a);
        if (!change->is_sure)
            change->is_sure = calloc(count, 1);
        if (!change->is_sure)
            die("no memory", "");
        change->is_sure[i] = true;
    }
}

static void change_clear(struct change *change)
{
    free(change->is_sure);
    free(change->name);
    free(change->old);
}

static void node_forget(struct node *node)
{
    for (size_t i = 0; i < node->count; i++)
        change_clear(&node->changes[i]);
    free(node->changes);
    free(node->bytes);
    node->changes = NULL;
    node->bytes = NULL;
    node->count = node->room = node->size = node->cap = 0;
}

static bool is_wanted(const struct node *folder, const struct node *node)
{
    for (size_t i = 0; i < folder->sure.count; i++) {
        if (folder->sure.items[i].node == node)
            return true;
    }
    for (size_t i = 0; i < folder->seen.count; i++) {
        if (folder->seen.items[i].node == node)
            return true;
    }
    for (size_t i = 0; i < folder->count; i++) {
        if (folder->changes[i].node == node)
            return true;
    }
    return false;
}

static void make_sure(struct node *node, struct change *change)
{
    switch (change->kind) {
    case CHANGE_WRITE:
        make_sure_sectors(node, change, 0, UINT64_MAX);
        break;
    case CHANGE_SIZE:
        node_resize(node, (size_t)change->at);
        break;
    case CHANGE_ADD:
    case CHANGE_REMOVE:
    case CHANGE_RENAME:
        entry_change(&node->sure, change);
        break;
    }
}

/* What had returned before the sync began. */
static void sync_node(struct node *node, const struct log_record *sync)
{
    size_t kept = 0, gone_count = 0;
    struct node **gone = calloc(node->count + 1, sizeof(struct node *));

    for (size_t i = 0; i < node->count; i++) {
        struct change *change = &node->changes[i];
        if (change->record->end >= sync->begin) {
            node->changes[kept++] = *change;
            continue;
        }
        make_sure(node, change);
        if (change->kind == CHANGE_REMOVE)
            gone[gone_count++] = change->node;
        change_clear(change);
    }
    node->count = kept;
    for (size_t i = 0; i < gone_count; i++) {
        if (!is_wanted(node, gone[i]))
            node_forget(gone[i]);
    }
    free(gone);
}

#define PAGE 4096

/* An O_DSYNC write takes along what else was written to its pages, nothing more. */
static void sync_range(struct node *node, const struct log_record *write)
{
    uint64_t from = write->at / PAGE * PAGE;
    uint64_t to = (write->at + write->len + PAGE - 1) / PAGE * PAGE;

    for (size_t i = 0; i < node->count; i++) {
        struct change *change = &node->changes[i];
        if (change->kind == CHANGE_WRITE && change->record->end <= write->end)
            make_sure_sectors(node, change, from, to);
    }
}

static bool is_honest(const struct disk *disk, const struct node *node)
{
    if (disk->lie == LIE_DATA_SYNC)
        return !node->is_data;
    if (disk->lie == LIE_BODY_SYNC)
        return !node->is_body;
    return disk->lie != LIE_FOLDER_SYNC || !node->is_folder;
}

void disk_end(struct disk *disk, const struct log_record *record)
{
    if (record->op == LOG_SYNC) {
        struct node *node = by_handle(disk, record);
        if (is_honest(disk, node))
            sync_node(node, record);
    } else if (record->op == LOG_WRITE && (record->flags & LOG_SYNCED) &&
               disk->lie != LIE_META_SYNC) {
        sync_range(by_handle(disk, record), record);
    }
}

/* ---- an image ----------------------------------------------------------------------------------- */

struct image {
    enum fate fate;
    unsigned percent;
    struct dice *dice;
    size_t late; /* FATE_LATE: of this node's changes, the first that is there */
};

enum keep { KEEP_NOT, KEEP_ALL, KEEP_TORN };

static enum keep keep_change(struct image *image, size_t index, bool can_tear)
{
    bool keep = dice_chance(image->dice, image->percent);

    switch (image->fate) {
    case FATE_LOST:
        return KEEP_NOT;
    case FATE_KEPT:
        return KEEP_ALL;
    case FATE_LATE:
        return index >= image->late ? KEEP_ALL : KEEP_NOT;
    case FATE_SOME:
        return keep ? KEEP_ALL : KEEP_NOT;
    case FATE_TORN:
        return can_tear ? KEEP_TORN : keep ? KEEP_ALL : KEEP_NOT;
    case FATE_MIXED:
        if (can_tear && dice_chance(image->dice, 33))
            return KEEP_TORN;
        return keep ? KEEP_ALL : KEEP_NOT;
    case FATE_COUNT:
        break;
    }
    return KEEP_NOT;
}

static void image_write(struct image *image, struct node *copy, const struct change *change,
                        enum keep keep)
{
    size_t count = sectors_of(change);

    for (size_t i = 0; i < count; i++) {
        size_t from, to;
        if (change->is_sure && change->is_sure[i])
            continue;
        if (keep == KEEP_NOT || (keep == KEEP_TORN && !dice_chance(image->dice, image->percent)))
            continue;
        sector_range(change, i, &from, &to);
        if (change->at + to > copy->size)
            node_resize(copy, (size_t)(change->at + to));
        memcpy(copy->bytes + change->at + from, change->data + from, to - from);
    }
}

/* Content first, as if the file were as long as need be; then its size. */
static void image_file(struct image *image, const struct node *node, struct node *copy)
{
    size_t size = node->size;

    if (node->size > 0) {
        node_resize(copy, node->size);
        memcpy(copy->bytes, node->bytes, node->size);
    }
    for (size_t i = 0; i < node->count; i++) {
        const struct change *change = &node->changes[i];
        enum keep keep = keep_change(image, i, change->kind == CHANGE_WRITE);
        bool keep_size = keep == KEEP_TORN ? dice_chance(image->dice, 50) : keep == KEEP_ALL;
        if (change->kind == CHANGE_SIZE) {
            size = keep_size ? (size_t)change->at : size;
            if (keep_size && change->at < copy->size)
                node_resize(copy, (size_t)change->at);
            continue;
        }
        image_write(image, copy, change, keep);
        if (keep_size && change->at + change->len > size)
            size = (size_t)(change->at + change->len);
    }
    node_resize(copy, size);
}

static bool put_file(struct image *image, const struct node *node, const char *path)
{
    struct node copy = { 0 };
    bool ok = true;

    image_file(image, node, &copy);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        die(path, strerror(errno));
    for (size_t done = 0; done < copy.size && ok;) {
        ssize_t n = write(fd, copy.bytes + done, copy.size - done);
        ok = n > 0;
        done += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    free(copy.bytes);
    return ok;
}

static bool put_folder(struct image *image, const struct node *node, const char *path)
{
    struct entries entries = { 0 };
    bool ok = mkdir(path, 0700) == 0 || errno == EEXIST;

    image->late = (size_t)dice_below(image->dice, node->count + 1);
    for (size_t i = 0; i < node->sure.count; i++)
        entry_add(&entries, node->sure.items[i].name, node->sure.items[i].node);
    for (size_t i = 0; i < node->count; i++) {
        if (keep_change(image, i, false) != KEEP_NOT)
            entry_change(&entries, &node->changes[i]);
    }
    for (size_t i = 0; i < entries.count && ok; i++) {
        char inside[4200];
        struct node *child = entries.items[i].node;
        snprintf(inside, sizeof(inside), "%s/%s", path, entries.items[i].name);
        if (child->is_folder) {
            ok = put_folder(image, child, inside);
            continue;
        }
        image->late = (size_t)dice_below(image->dice, child->count + 1);
        ok = put_file(image, child, inside);
    }
    entries_clear(&entries);
    return ok;
}

bool disk_image(struct disk *disk, enum fate fate, unsigned percent, struct dice *dice,
                const char *folder)
{
    struct image image = { .fate = fate, .percent = percent, .dice = dice };

    return put_folder(&image, disk->top, folder);
}
