/*
 * again.c - records a recovery and cuts it.
 */
#include "tests/crash/again.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FEW 4 /* indexed before the open returns, so that the rest goes in pages */

/* ---- the recovery ----------------------------------------------------------------------- */

int again_open(const char *folder, const char *at_open)
{
    char data[4200];

    snprintf(data, sizeof(data), "%s/data", folder);
    mkdir(data, 0700); /* as the relay would */
    return verify_recovery(data, strtoul(at_open, NULL, 10), folder) ? 0 : 1;
}

static void open_recorded(const struct again *again, const char *folder, const char *log,
                          bool is_few)
{
    char at_open[16];

    snprintf(at_open, sizeof(at_open), "%u", is_few ? FEW : 0U);
    setenv("LD_PRELOAD", again->recorder, 1);
    setenv("CRASH_ROOT", folder, 1);
    setenv("CRASH_LOG", log, 1);
    execl("/proc/self/exe", "crash_check", "--open", folder, at_open, (char *)NULL);
    perror("/proc/self/exe");
    _exit(2);
}

static bool record(const struct again *again, const char *folder, const char *log, bool is_few,
                   const char *label)
{
    int status = -1;

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        open_recorded(again, folder, log, is_few);
    if (pid > 0 && waitpid(pid, &status, 0) == pid && status == 0)
        return true;
    printf("%s: its recovery failed (status %x)\n", label, (unsigned)status);
    return false;
}

/* It stays mapped. */
static void forget_log(const char *log)
{
    char count[4300];

    snprintf(count, sizeof(count), "%s.count", log);
    unlink(log);
    unlink(count);
}

/* ---- the second cut -------------------------------------------------------------------- */

static bool check_one(const struct again *again, const struct plan *first,
                      const struct plan *second, struct disk *disk, const char *folder,
                      const char *label)
{
    char inner[5000], name[256];

    snprintf(name, sizeof(name), "%s, again %lu (cut %llu, %s %u%%)", label, second->number,
             (unsigned long long)second->cut, fate_word(second->fate), second->percent);
    bool ok = plan_image(disk, *second, folder);
    snprintf(inner, sizeof(inner), "%s/data", folder);
    if (mkdir(inner, 0700) == 0)
        again->count->no_store++;
    ok = ok && verify_image(inner, again->promises, first->cut, name, again->count);
    plan_remove(folder);
    if (!ok && again->keep) {
        snprintf(inner, sizeof(inner), "%s/seed-%lu-image-%lu-again-%lu", again->keep, again->seed,
                 first->number, second->number);
        if (!plan_image(disk, *second, inner))
            perror(inner);
    }
    return ok;
}

static bool cut_recovery(const struct again *again, const struct plan *first, struct disk *disk,
                         const struct recording *recording, const char *folder, const char *label)
{
    struct plan *plans = plan_all(recording, again->cuts, again->seed + first->number);
    size_t next = 0;
    bool ok = true;

    for (unsigned long i = 0; i < again->cuts; i++) {
        recording_play(recording, disk, &next, plans[i].cut);
        ok &= check_one(again, first, &plans[i], disk, folder, label);
    }
    free(plans);
    return ok;
}

bool again_check(const struct again *again, const struct plan *first, const char *folder,
                 const char *label)
{
    struct recording recording = { 0 };
    struct disk *disk = disk_new(folder, again->lie);
    char log[4200], second[4200];

    disk_load(disk);
    snprintf(log, sizeof(log), "%s.log", folder);
    snprintf(second, sizeof(second), "%s.again", folder);
    bool is_few = first->number % 2;
    bool ok = record(again, folder, log, is_few, label);
    if (ok && !recording_read(&recording, log, 0)) {
        printf("%s: its recovery left no recording\n", label);
        ok = false;
    }
    forget_log(log);
    size_t commits = recording_commits(&recording);
    again->count->recoveries++;
    again->count->commits += commits;
    again->count->paged += !is_few && commits > 1;
    again->count->idle += recording.edge_count == 0;
    if (ok && recording.edge_count > 0)
        ok = cut_recovery(again, first, disk, &recording, second, label);
    return ok;
}
