/*
 * plan.c - chooses cuts and fates, writes images.
 */
#include "tests/crash/plan.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- which images ------------------------------------------------------------------------- */

/* Just before an edge, just behind it, or somewhere before the next. */
static uint64_t choose_cut(const struct recording *recording, unsigned long images,
                           struct plan *plan)
{
    size_t at = (size_t)((double)plan->number * (double)recording->edge_count / (double)images);
    size_t width = recording->edge_count / images + 1;

    at += (size_t)dice_below(&plan->dice, width);
    if (at >= recording->edge_count)
        at = recording->edge_count - 1;
    uint64_t edge = recording->edges[at];
    uint64_t next = at + 1 < recording->edge_count ? recording->edges[at + 1] : edge + 1;
    switch (dice_below(&plan->dice, 3)) {
    case 0:
        return edge;
    case 1:
        return edge + 1;
    }
    return edge + dice_below(&plan->dice, next - edge + 1);
}

struct plan plan_make(const struct recording *recording, unsigned long images, unsigned long seed,
                      unsigned long number)
{
    static const unsigned percents[] = { 2, 20, 50, 80, 98 };
    struct plan plan = { .number = number, .dice = { seed * UINT64_C(1000003) + number } };

    (void)dice_next(&plan.dice);
    plan.cut = choose_cut(recording, images, &plan);
    plan.fate = (enum fate)dice_below(&plan.dice, FATE_COUNT);
    plan.percent = percents[dice_below(&plan.dice, 5)];
    return plan;
}

static int plan_order(const void *a, const void *b)
{
    const struct plan *x = a, *y = b;

    return (x->cut > y->cut) - (x->cut < y->cut);
}

struct plan *plan_all(const struct recording *recording, unsigned long images, unsigned long seed)
{
    struct plan *plans = calloc(images, sizeof(struct plan));

    if (!plans)
        abort();
    for (unsigned long i = 0; i < images; i++)
        plans[i] = plan_make(recording, images, seed, i);
    qsort(plans, images, sizeof(struct plan), plan_order);
    return plans;
}

/* ---- as files ------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

void plan_remove(const char *folder) { nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

/* The lock file is written through a map that is never synced: it may be
 * missing, empty, or hold anything. */
static void put_lock_file(struct plan *plan, const char *folder)
{
    char path[4200], bytes[8192];

    snprintf(path, sizeof(path), "%s/data/queue/db/lock.mdb", folder);
    if (dice_chance(&plan->dice, 50)) {
        unlink(path);
        return;
    }
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)dice_next(&plan->dice);
    int fd = open(path, O_WRONLY | O_TRUNC); /* not made where there is none */
    if (fd < 0)
        return;
    if (write(fd, bytes, sizeof(bytes)) < 0)
        perror(path);
    close(fd);
}

bool plan_image(struct disk *disk, struct plan plan, const char *folder)
{
    if (!disk_image(disk, plan.fate, plan.percent, &plan.dice, folder))
        return false;
    put_lock_file(&plan, folder);
    return true;
}
