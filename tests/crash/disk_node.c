/*
 * disk_node.c - files and folders of the model: content, entries, changes.
 */
#include "tests/crash/disk_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void disk_die(const char *what, const char *detail)
{
    fprintf(stderr, "the model of the disk cannot do this: %s %s\n", what, detail);
    exit(2);
}

void *disk_grow(void *items, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return items;
    *cap = *cap ? *cap * 2 : 16;
    items = realloc(items, *cap * size);
    if (!items)
        disk_die("no memory", "");
    return items;
}

/* ---- entries ----------------------------------------------------------------------------- */

struct entry *entry_find(struct entries *entries, const char *name)
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

void entry_add(struct entries *entries, const char *name, struct node *node)
{
    entry_remove(entries, name);
    entries->items = disk_grow(entries->items, entries->count, &entries->cap, sizeof(struct entry));
    entries->items[entries->count++] = (struct entry){ strdup(name), node };
}

void entry_change(struct entries *entries, const struct change *change)
{
    if (change->kind == CHANGE_REMOVE)
        entry_remove(entries, change->name);
    if (change->kind == CHANGE_RENAME)
        entry_remove(entries, change->old);
    if (change->kind == CHANGE_ADD || change->kind == CHANGE_RENAME)
        entry_add(entries, change->name, change->node);
}

void entries_clear(struct entries *entries)
{
    while (entries->count > 0)
        free(entries->items[--entries->count].name);
    free(entries->items);
    *entries = (struct entries){ 0 };
}

/* ---- nodes and their changes ------------------------------------------------------- */

struct node *node_new(bool is_folder)
{
    struct node *node = calloc(1, sizeof(*node));

    if (!node)
        disk_die("no memory", "");
    node->is_folder = is_folder;
    return node;
}

struct node *node_at(const char *path, bool is_folder)
{
    const char *slash = strrchr(path, '/');
    struct node *node = node_new(is_folder);

    node->is_data = !is_folder && slash && strcmp(slash, "/data.mdb") == 0;
    node->is_body = !is_folder && strstr(path, "/bodies/") != NULL;
    return node;
}

size_t change_sectors(const struct change *change)
{
    return change->len ? (change->at + change->len - 1) / DISK_SECTOR - change->at / DISK_SECTOR + 1
                       : 0;
}

void change_sector(const struct change *change, size_t i, size_t *out_from, size_t *out_to)
{
    uint64_t first = change->at / DISK_SECTOR + i;
    uint64_t from = first * DISK_SECTOR, to = from + DISK_SECTOR;

    *out_from = from > change->at ? (size_t)(from - change->at) : 0;
    *out_to = to < change->at + change->len ? (size_t)(to - change->at) : change->len;
}

void node_resize(struct node *node, size_t size)
{
    if (size > node->cap) {
        size_t cap = node->cap ? node->cap : 65536;
        while (cap < size)
            cap *= 2;
        node->bytes = realloc(node->bytes, cap);
        if (!node->bytes)
            disk_die("no memory", "");
        node->cap = cap;
    }
    if (size > node->size)
        memset(node->bytes + node->size, 0, size - node->size);
    node->size = size;
}

struct change *node_change(struct node *node, enum change_kind kind,
                           const struct log_record *record)
{
    node->changes = disk_grow(node->changes, node->count, &node->room, sizeof(struct change));
    struct change *change = &node->changes[node->count++];
    *change = (struct change){ .kind = kind, .record = record };
    return change;
}

void change_clear(struct change *change)
{
    free(change->is_sure);
    free(change->name);
    free(change->old);
}

void node_forget(struct node *node)
{
    for (size_t i = 0; i < node->count; i++)
        change_clear(&node->changes[i]);
    free(node->changes);
    free(node->bytes);
    node->changes = NULL;
    node->bytes = NULL;
    node->count = node->room = node->size = node->cap = 0;
}
