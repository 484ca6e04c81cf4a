/*
 * dropbox_mark.c - whose a drop folder is.
 *
 * A caller that cannot read the configuration knows the default folder only, and
 * uses it when a relay has left its mark there (relay/cli/sendmail_drop.c). The mark
 * names the relay's data folder: of several relays on a machine the one it names
 * takes what lies there.
 */
#include "relay/ingress/dropbox_impl.h"

#include "conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK_MAX 4096

static bool says(int folder, struct str data)
{
    char text[MARK_MAX];
    struct stat st;
    ssize_t got = -1;
    int fd = openat(folder, CONF_DROP_MARK, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) &&
        (st.st_uid == geteuid() || st.st_uid == 0))
        got = read(fd, text, sizeof(text));
    if (fd >= 0)
        close(fd);
    return got > 0 && str_eq(str_trim(str_make(text, (size_t)got)), data);
}

bool dropbox_is_marked(const char *path, struct str data)
{
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool is_ours = folder >= 0 && says(folder, data);

    if (folder >= 0)
        close(folder);
    return is_ours;
}

/* Another relay's, or a user's joke, which may be a folder with something in it. */
static void clear_name(int folder)
{
    char aside[64];

    if (unlinkat(folder, CONF_DROP_MARK, 0) == 0 || errno == ENOENT)
        return;
    dropbox_aside_name("corrupt-mark", aside, sizeof(aside));
    (void)renameat(folder, CONF_DROP_MARK, folder, aside);
}

enum err dropbox_mark(int folder, struct str data, struct fault *fault)
{
    enum err rc = ERR_OK;
    int fd;

    if (says(folder, data))
        return ERR_OK;
    clear_name(folder);
    fd = openat(folder, CONF_DROP_MARK, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0 || dprintf(fd, STR_FMT "\n", STR_ARG(data)) < 0 || fchmod(fd, 0644) || fsync(fd))
        rc = fault_errno(fault, errno, "cannot write " CONF_DROP_MARK " into the drop folder");
    if (fd >= 0)
        close(fd);
    (void)fsync(folder);
    return rc;
}
