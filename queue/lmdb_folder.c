/*
 * lmdb_folder.c - a queue that is synced is lost all the same when the entry of
 * its folder is not.
 *
 * On a first start the relay makes its data folder and the queue in it. Nothing
 * but a sync of the folder above makes such an entry durable. It is done at every
 * start: the process that made the folder may have been killed before it came to it.
 */
#include "queue/lmdb_folder.h"

#include "relay/base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define LEVELS 3 /* the queue's, the data folder, the one that holds it */

static enum err sync_folder(const char *path, bool must, struct fault *fault)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    /* A folder that the relay's user may not read is one that it did not write to. */
    if (fd < 0 && errno == EACCES && !must)
        return ERR_OK;
    enum err rc = ERR_OK;
    if (fd < 0 || fsync(fd) != 0)
        rc = fault_errno(fault, errno, "cannot sync the folder %s", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* In place: the folder above. False at the top. */
static bool go_up(char *path)
{
    char *slash = strrchr(path, '/');

    while (slash && slash[1] == '\0' && slash > path) {
        *slash = '\0';
        slash = strrchr(path, '/');
    }
    if (!slash || (slash == path && slash[1] == '\0'))
        return false;
    slash[slash == path] = '\0';
    return true;
}

enum err folder_sync_up(const char *folder, struct fault *fault)
{
    char *path = str_dup(str_of(folder));
    enum err rc = sync_folder(path, true, fault);

    for (int i = 1; i < LEVELS && !rc && go_up(path); i++)
        rc = sync_folder(path, false, fault);
    free(path);
    return rc;
}
