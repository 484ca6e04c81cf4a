/*
 * disk_image.c - one state that the disk may be in, written out as files.
 */
#include "tests/crash/disk_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    size_t count = change_sectors(change);

    for (size_t i = 0; i < count; i++) {
        size_t from, to;
        if (change->is_sure && change->is_sure[i])
            continue;
        if (keep == KEEP_NOT || (keep == KEEP_TORN && !dice_chance(image->dice, image->percent)))
            continue;
        change_sector(change, i, &from, &to);
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
        disk_die(path, strerror(errno));
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
