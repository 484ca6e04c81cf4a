/*
 * disk_sync.c - what a sync makes sure.
 */
#include "tests/crash/disk_impl.h"

#include <stdlib.h>
#include <string.h>

static void make_sure_sectors(struct node *node, struct change *change, uint64_t from, uint64_t to)
{
    size_t count = change_sectors(change);

    for (size_t i = 0; i < count; i++) {
        uint64_t sector = (change->at / DISK_SECTOR + i) * DISK_SECTOR;
        size_t a, b;
        if (sector < from || sector >= to || (change->is_sure && change->is_sure[i]))
            continue;
        change_sector(change, i, &a, &b);
        if (change->at + b > node->size)
            node_resize(node, (size_t)(change->at + b));
        memcpy(node->bytes + change->at + a, change->data + a, b - a);
        if (!change->is_sure)
            change->is_sure = calloc(count, 1);
        if (!change->is_sure)
            disk_die("no memory", "");
        change->is_sure[i] = true;
    }
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
void sync_node(struct node *node, const struct log_record *sync)
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
void sync_range(struct node *node, const struct log_record *write)
{
    uint64_t from = write->at / PAGE * PAGE;
    uint64_t to = (write->at + write->len + PAGE - 1) / PAGE * PAGE;

    for (size_t i = 0; i < node->count; i++) {
        struct change *change = &node->changes[i];
        if (change->kind == CHANGE_WRITE && change->record->end <= write->end)
            make_sure_sectors(node, change, from, to);
    }
}
