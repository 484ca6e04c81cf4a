/*
 * memwatch.c - limits from the control group files, use from /proc.
 */
#include "relay/base/memwatch.h"

#include "relay/base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define V2_ROOT "/sys/fs/cgroup"
#define V1_ROOT "/sys/fs/cgroup/memory"
#define NO_LIMIT ((uint64_t)1 << 60) /* v1 writes a number near 2^63 for none */

/* False: not there, or empty. The text ends with a NUL. */
static bool read_small(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, out, size - 1);

    if (fd >= 0)
        close(fd);
    if (got <= 0)
        return false;
    out[got] = '\0';
    return true;
}

static void lower(uint64_t *least, uint64_t limit)
{
    if (limit > 0 && limit < NO_LIMIT && (*least == 0 || limit < *least))
        *least = limit;
}

/* The group's own file and those of the groups above it. A container may see its
 * own group as the root, whatever the path says: then only the last one is there. */
static void climb(const char *root, const char *group, const char *file, uint64_t *least)
{
    char path[4096], text[64];
    size_t len = strlen(group);

    for (;;) {
        int n = snprintf(path, sizeof(path), "%s%.*s/%s", root, (int)len, group, file);
        if (n > 0 && (size_t)n < sizeof(path) && read_small(path, text, sizeof(text)))
            lower(least, strtoull(text, NULL, 10)); /* "max" reads as 0 */
        if (len == 0)
            return;
        while (len > 0 && group[len - 1] != '/')
            len--;
        if (len > 0)
            len--;
    }
}

uint64_t memwatch_limit(void)
{
    char text[8192], *rest = text;
    uint64_t least = 0;

    if (!read_small("/proc/self/cgroup", text, sizeof(text)))
        return 0;
    /* "0::/a/b" is v2; "4:memory:/a/b" is v1. */
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *names = strchr(line, ':');
        char *group = names ? strchr(names + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        if (strcmp(names + 1, "") == 0)
            climb(V2_ROOT, group, "memory.max", &least);
        else if (strcmp(names + 1, "memory") == 0)
            climb(V1_ROOT, group, "memory.limit_in_bytes", &least);
    }
    return least;
}

uint64_t memwatch_anonymous(void)
{
    uint64_t size, resident, of_files;
    char text[256];

    if (!read_small("/proc/self/statm", text, sizeof(text)) ||
        sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &size, &resident, &of_files) != 3 ||
        resident < of_files)
        return 0;
    return (resident - of_files) * (uint64_t)sysconf(_SC_PAGESIZE);
}

unsigned memwatch_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    if (!folder)
        return 0;
    for (struct dirent *one; (one = readdir(folder)) != NULL;)
        count += one->d_name[0] != '.';
    closedir(folder);
    return count - 1; /* the folder's own */
}
