/*
 * disk.c - what each recorded call does to the model.
 */
#include "tests/crash/disk_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *copy_of(const char *text, size_t len)
{
    char *copy = strndup(text, len);

    if (!copy)
        disk_die("no memory", "");
    return copy;
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
            disk_die("a path that leads nowhere:", path);
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

static void change_entry(struct node *folder, enum change_kind kind, const char *name,
                         const char *old, struct node *node, const struct log_record *record)
{
    struct change *change = node_change(folder, kind, record);

    change->name = copy_of(name, strlen(name));
    change->old = old ? copy_of(old, strlen(old)) : NULL;
    change->node = node;
    entry_change(&folder->seen, change);
}

struct disk *disk_new(const char *root, enum lie lie)
{
    struct disk *disk = calloc(1, sizeof(*disk));

    if (!disk)
        disk_die("no memory", "");
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
        disk_die("a handle that was never opened", "");
    return disk->handles[index];
}

static void set_handle(struct disk *disk, uint32_t handle, struct node *node)
{
    size_t index = disk->handle_base + handle;

    while (disk->handle_count <= index) {
        disk->handles =
            disk_grow(disk->handles, disk->handle_count, &disk->handle_cap, sizeof(struct node *));
        disk->handles[disk->handle_count++] = NULL;
    }
    disk->handles[index] = node;
}

static void do_open(struct disk *disk, const struct log_record *record)
{
    char name[256], *path = text_of(record);
    struct node *folder, *node = walk(disk, path, &folder, name);

    if (!node && !(record->open_flags & O_CREAT))
        disk_die("opened, but nobody made it:", path);
    if (!node) {
        node = node_at(path, false);
        change_entry(folder, CHANGE_ADD, name, NULL, node, record);
    } else if (record->open_flags & O_TRUNC) {
        node_change(node, CHANGE_SIZE, record);
    }
    set_handle(disk, record->handle, node);
    free(path);
}

static void do_write(struct disk *disk, const struct log_record *record)
{
    struct change *change = node_change(by_handle(disk, record), CHANGE_WRITE, record);

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
        disk_die("truncated, but nobody made it:", path);
    node_change(node, CHANGE_SIZE, record)->at = record->at;
    free(path);
}

static void do_make_folder(struct disk *disk, const struct log_record *record)
{
    char name[256], *path = text_of(record);
    struct node *folder;

    if (walk(disk, path, &folder, name) || !folder)
        disk_die("a folder made twice:", path);
    change_entry(folder, CHANGE_ADD, name, NULL, node_new(true), record);
    free(path);
}

static void do_remove(struct disk *disk, const struct log_record *record)
{
    char name[256], *path = text_of(record);
    struct node *folder, *node;

    if (record->handle) {
        struct entry *entry = entry_find(&by_handle(disk, record)->seen, path);
        folder = by_handle(disk, record);
        node = entry ? entry->node : NULL;
        snprintf(name, sizeof(name), "%s", path);
    } else {
        node = walk(disk, path, &folder, name);
    }
    if (!node || !folder)
        disk_die("removed, but nobody made it:", path);
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
        disk_die("a rename from folder to folder:", path);
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
        disk_die("a call it does not know:", text_of(record));
        return;
    case LOG_SYNC:
    case LOG_SYNC_ALL:
    case LOG_RANGE: /* not the file's size, not its entry, not the drive's cache: nothing is sure */
    case LOG_SAID:
    case LOG_HEARD:
        return;
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

static void sync_all(struct disk *disk, struct node *node, const struct log_record *record)
{
    if (is_honest(disk, node))
        sync_node(node, record);
    for (size_t i = 0; i < node->seen.count; i++)
        sync_all(disk, node->seen.items[i].node, record);
}

void disk_end(struct disk *disk, const struct log_record *record)
{
    if (record->op == LOG_SYNC_ALL) {
        sync_all(disk, disk->top, record);
    } else if (record->op == LOG_SYNC) {
        struct node *node = by_handle(disk, record);
        if (is_honest(disk, node))
            sync_node(node, record);
    } else if (record->op == LOG_WRITE && (record->flags & LOG_SYNCED) &&
               disk->lie != LIE_META_SYNC) {
        sync_range(by_handle(disk, record), record);
    }
}
