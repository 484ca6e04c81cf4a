/*
 * disk_impl.h - the model's inside, shared by its files only.
 */
#ifndef WAYPOST_TESTS_CRASH_DISK_IMPL_H
#define WAYPOST_TESTS_CRASH_DISK_IMPL_H

#include "tests/crash/disk.h"

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

/* ---- disk_node.c ---- */
_Noreturn void disk_die(const char *what, const char *detail);
void *disk_grow(void *items, size_t count, size_t *cap, size_t size); /* room for one more */
struct entry *entry_find(struct entries *entries, const char *name);
void entry_add(struct entries *entries, const char *name, struct node *node);
void entry_change(struct entries *entries, const struct change *change);
void entries_clear(struct entries *entries);
struct node *node_new(bool is_folder);
struct node *node_at(const char *path, bool is_folder); /* what it is for is in its path */
void node_resize(struct node *node, size_t size);       /* zeros behind what was there */
void node_forget(struct node *node);
struct change *node_change(struct node *node, enum change_kind kind,
                           const struct log_record *record);
void change_clear(struct change *change);
size_t change_sectors(const struct change *change);
/* Sector number `i` of a write, as a range of its data. */
void change_sector(const struct change *change, size_t i, size_t *out_from, size_t *out_to);

/* ---- disk_sync.c ---- */
void sync_node(struct node *node, const struct log_record *sync);
void sync_range(struct node *node, const struct log_record *write);

#endif
