/*
 * disk_load.c - a model that begins with what a folder holds: all of it is sure.
 */
#include "tests/crash/disk_impl.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void load_file(struct node *node, const char *path, size_t size)
{
    FILE *file = fopen(path, "r");

    node_resize(node, size);
    if (!file || (size && fread(node->bytes, 1, size, file) != size))
        disk_die("cannot read", path);
    fclose(file);
}

static void load_folder(struct node *folder, const char *path)
{
    DIR *dir = opendir(path);

    if (!dir)
        disk_die("cannot read", path);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char inside[4500];
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inside, sizeof(inside), "%s/%s", path, entry->d_name);
        if (lstat(inside, &st) != 0)
            disk_die("cannot read", inside);
        struct node *node = node_at(inside, S_ISDIR(st.st_mode));
        if (node->is_folder)
            load_folder(node, inside);
        else
            load_file(node, inside, (size_t)st.st_size);
        entry_add(&folder->sure, entry->d_name, node);
        entry_add(&folder->seen, entry->d_name, node);
    }
    closedir(dir);
}

void disk_load(struct disk *disk) { load_folder(disk->top, disk->root); }
