/*
 * locals_forward.c - the .forward file of a user of this machine.
 *
 * Read with the relay's own rights, and only when nobody but the user (or root)
 * can have written it: whoever may write it reads the user's mail.
 */
#include "relay/intake/locals.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORWARD_MAX ((size_t)64 * 1024)
#define ENTRY_USUAL 2048
#define ENTRY_MAX ((size_t)64 * 1024) /* of the user database */

/* NULL why: nothing to say about it. */
static int open_forward(const char *path, uid_t uid, struct arena *arena, const char **out_why)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
    bool is_link = fd < 0 && errno == ELOOP;

    *out_why = NULL;
    if (is_link)
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            *out_why = arena_printf(arena, "%s could not be looked at: %s", path, strerror(errno));
        return -1;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        *out_why = arena_printf(arena, "%s is not a regular file", path);
    /* A link, also a hard one, could lead to a file of root's that is none of the user's
     * business. */
    else if (st.st_uid != uid && (st.st_uid != 0 || is_link || st.st_nlink != 1))
        *out_why = arena_printf(arena, "%s belongs to somebody else", path);
    else if (st.st_mode & (S_IWGRP | S_IWOTH))
        *out_why = arena_printf(arena, "%s can be written by others (mode %04o, chmod go-w it)",
                                path, (unsigned)st.st_mode & 07777);
    else if (st.st_size > (off_t)FORWARD_MAX)
        *out_why = arena_printf(arena, "%s is too large", path);
    else
        return fd;
    close(fd);
    return -1;
}

struct refusal {
    struct arena *arena;
    const char *first;
};

static void on_tell(void *arg, enum alias_severity severity, struct str file, unsigned line,
                    const char *what)
{
    struct refusal *refusal = arg;

    (void)severity;
    if (!refusal->first)
        refusal->first = arena_printf(refusal->arena, STR_FMT ":%u: %s", STR_ARG(file), line, what);
}

static struct str read_text(int fd, char text[FORWARD_MAX])
{
    size_t len = 0;
    ssize_t got;

    while (len < FORWARD_MAX && (got = read(fd, text + len, FORWARD_MAX - len)) > 0)
        len += (size_t)got;
    return str_make(text, len);
}

/* The path of a user's file, NULL: there is no such user, or no home. */
static const char *path_of(struct str name, struct arena *arena, uid_t *out_uid)
{
    struct passwd entry, *found = NULL;
    char usual[ENTRY_USUAL], *room = NULL, *login = str_dup(name);
    const char *path = NULL;

    int rc = getpwnam_r(login, &entry, usual, sizeof(usual), &found);
    if (rc == ERANGE) {
        room = mem_alloc(ENTRY_MAX);
        rc = getpwnam_r(login, &entry, room, ENTRY_MAX, &found);
    }
    if (rc == 0 && found && entry.pw_dir && entry.pw_dir[0] == '/') {
        *out_uid = entry.pw_uid;
        path = arena_printf(arena, "%s/.forward", entry.pw_dir);
    }
    free(login);
    free(room);
    return path;
}

bool locals_forward(void *arg, struct str name, struct arena *arena,
                    const struct alias_target **out_targets, size_t *out_count, struct str *out_why)
{
    struct refusal refusal = { .arena = arena };
    struct alias_reader reader = { .tell = on_tell, .arg = &refusal };
    const char *why = NULL;
    uid_t uid = 0;

    (void)arg;
    const char *path = path_of(name, arena, &uid);
    if (!path)
        return false;
    int fd = open_forward(path, uid, arena, &why);
    if (fd < 0) {
        *out_why = str_of(why);
        return false;
    }
    char *text = mem_alloc(FORWARD_MAX);
    (void)alias_parse_forward(str_of(path), read_text(fd, text), &reader, arena, out_targets,
                              out_count);
    free(text);
    close(fd);
    *out_why = str_of(refusal.first);
    return *out_count > 0;
}
