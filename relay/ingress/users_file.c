/*
 * users_file.c - keeping the users file: read with suspicion, changed by
 * writing a new one beside it and renaming.
 *
 * Two `waypost user` at once wait for each other on a lock of the folder: the
 * file itself is replaced, so a lock on it would be a lock on something gone.
 */
#include "relay/ingress/users_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading ---- */

static enum err judge_mode(const char *file, const struct stat *st, struct fault *fault)
{
    if (!S_ISREG(st->st_mode))
        return fault_set(fault, ERR_INVALID, "%s: not a file", file);
    if (st->st_mode & (S_IRWXO | S_IWGRP))
        return fault_set(fault, ERR_DENIED,
                         "%s: mode %04o lets others at the passwords (chmod 0640 it)", file,
                         (unsigned)st->st_mode & 07777);
    return ERR_OK;
}

static enum err slurp(int fd, const char *file, struct buf *out, struct fault *fault)
{
    for (;;) {
        char *room = buf_reserve(out, 65536);
        if (!room)
            return fault_set(fault, ERR_LIMIT, "%s: too large", file);
        ssize_t n = read(fd, room, 65536);
        if (n == 0)
            return ERR_OK;
        if (n < 0 && errno != EINTR)
            return fault_errno(fault, errno, "%s", file);
        if (n > 0)
            buf_commit(out, (size_t)n);
    }
}

enum err users_file_read(const char *file, struct buf *out, struct users_stat *out_stat,
                         struct fault *fault)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    struct stat st;
    enum err rc;

    if (fd < 0)
        return fault_errno(fault, errno, "%s", file);
    rc = fstat(fd, &st) == 0 ? judge_mode(file, &st, fault) : fault_errno(fault, errno, "%s", file);
    if (!rc)
        rc = slurp(fd, file, out, fault);
    close(fd);
    if (!rc && out_stat)
        *out_stat = (struct users_stat){ st.st_mode & 07777, st.st_uid, st.st_gid };
    return rc;
}

/* ---- writing ---- */

/* A change under way. */
struct edit {
    const char *file;
    char *folder, *temporary;
    int folder_fd;
    struct buf before, after;
    struct users_stat stat;
    struct arena arena;
};

static char *folder_of(const char *file)
{
    const char *slash = strrchr(file, '/');

    if (!slash)
        return str_dup(STR("."));
    return str_dup(slash == file ? STR("/") : str_make(file, (size_t)(slash - file)));
}

static enum err lock_folder(struct edit *edit, struct fault *fault)
{
    edit->folder_fd = open(edit->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (edit->folder_fd < 0)
        return fault_errno(fault, errno, "%s", edit->folder);
    while (flock(edit->folder_fd, LOCK_EX) != 0)
        if (errno != EINTR)
            return fault_errno(fault, errno, "cannot lock %s", edit->folder);
    return ERR_OK;
}

/* A file that is not there yet. */
static enum err new_file(struct edit *edit, long group, struct fault *fault)
{
    struct stat st;

    if (fstat(edit->folder_fd, &st) != 0)
        return fault_errno(fault, errno, "%s", edit->folder);
    edit->stat = (struct users_stat){ 0640, geteuid(), st.st_gid };
    if (geteuid() == 0 && group >= 0)
        edit->stat.gid = (unsigned)group;
    return ERR_OK;
}

/* new_for: NULL when the file must be there. */
static enum err edit_begin(struct edit *edit, const char *file, const struct user_change *new_for,
                           struct fault *fault)
{
    enum err rc;

    *edit = (struct edit){ .file = file, .folder = folder_of(file), .folder_fd = -1 };
    arena_init(&edit->arena);
    buf_init(&edit->before, USERS_FILE_MAX);
    buf_init(&edit->after, USERS_FILE_MAX);
    rc = lock_folder(edit, fault);
    if (rc)
        return rc;
    rc = users_file_read(file, &edit->before, &edit->stat, fault);
    return rc == ERR_NOT_FOUND && new_for ? new_file(edit, new_for->group, fault) : rc;
}

static void edit_end(struct edit *edit)
{
    if (edit->before.start)
        explicit_bzero(edit->before.start, edit->before.cap);
    if (edit->after.start)
        explicit_bzero(edit->after.start, edit->after.cap);
    buf_clear(&edit->before);
    buf_clear(&edit->after);
    arena_clear(&edit->arena);
    if (edit->folder_fd >= 0)
        close(edit->folder_fd);
    free(edit->folder);
    free(edit->temporary);
}

static enum err write_new(struct edit *edit, int fd, struct fault *fault)
{
    struct str text = buf_view(&edit->after);

    while (text.len > 0) {
        ssize_t n = write(fd, text.at, text.len);
        if (n < 0 && errno != EINTR)
            return fault_errno(fault, errno, "%s", edit->temporary);
        if (n > 0)
            text = str_from(text, (size_t)n);
    }
    /* Ours alone (0600) until owner and group are right. Only root may give a file away; a
     * group we are not in stays ours. */
    if (fchown(fd, edit->stat.uid, edit->stat.gid) != 0 && geteuid() == 0)
        return fault_errno(fault, errno, "cannot set the owner of %s", edit->temporary);
    if (fchmod(fd, edit->stat.mode) != 0 || fsync(fd) != 0)
        return fault_errno(fault, errno, "%s", edit->temporary);
    return ERR_OK;
}

static enum err edit_commit(struct edit *edit, struct fault *fault)
{
    size_t size = strlen(edit->file) + 16;
    enum err rc;
    int fd;

    if (edit->after.overflowed)
        return fault_set(fault, ERR_LIMIT, "%s: would be too large", edit->file);
    edit->temporary = mem_alloc(size);
    (void)snprintf(edit->temporary, size, "%s.XXXXXX", edit->file);
    fd = mkostemp(edit->temporary, O_CLOEXEC);
    if (fd < 0)
        return fault_errno(fault, errno, "cannot write beside %s", edit->file);
    rc = write_new(edit, fd, fault);
    if (close(fd) != 0 && !rc)
        rc = fault_errno(fault, errno, "%s", edit->temporary);
    if (!rc && rename(edit->temporary, edit->file) != 0)
        rc = fault_errno(fault, errno, "cannot replace %s", edit->file);
    if (rc)
        (void)unlink(edit->temporary);
    else if (fsync(edit->folder_fd) != 0)
        rc = fault_errno(fault, errno, "%s", edit->folder);
    return rc;
}

/* ---- changes ---- */

/* Copies every line but the user's; *out_line is that one. */
static bool copy_others(struct edit *edit, struct str name, struct str *out_line)
{
    struct str text = buf_view(&edit->before), line;
    bool found = false;

    while (str_next(&text, '\n', &line)) {
        if (!found && !users_line_is_blank(line) && str_eq(users_line_name(line), name)) {
            *out_line = line;
            found = true;
            continue;
        }
        buf_str(&edit->after, line);
        buf_char(&edit->after, '\n');
    }
    return found;
}

static enum err append(struct edit *edit, const struct user *user, struct fault *fault)
{
    struct user again;
    struct buf line;
    enum err rc;

    buf_init(&line, USERS_LINE_MAX);
    users_line_print(user, &line);
    /* What we would not read again must not be written. */
    rc = line.overflowed ? fault_set(fault, ERR_LIMIT, "too many sender patterns")
                         : users_line_parse(buf_view(&line), &edit->arena, &again, fault);
    if (!rc) {
        buf_str(&edit->after, buf_view(&line));
        buf_char(&edit->after, '\n');
        rc = edit_commit(edit, fault);
    }
    if (line.start)
        explicit_bzero(line.start, line.cap);
    buf_clear(&line);
    return rc;
}

static enum err check_senders(const struct user_change *change, struct fault *fault)
{
    enum err rc = users_name_ok(change->name, fault);

    for (size_t i = 0; !rc && i < change->sender_count; i++)
        rc = users_pattern_ok(change->senders[i], fault);
    return rc;
}

enum err users_add(const char *file, const struct user_change *change, struct fault *fault)
{
    struct user user = {
        .name = change->name,
        .senders = change->senders,
        .sender_count = change->sender_count,
    };
    struct edit edit;
    struct str line;
    enum err rc = check_senders(change, fault);

    if (rc)
        return rc;
    rc = edit_begin(&edit, file, change, fault);
    if (!rc && copy_others(&edit, change->name, &line))
        rc = fault_set(fault, ERR_EXISTS, "%s: user \"" STR_FMT "\" is there already", file,
                       STR_ARG(change->name));
    if (!rc)
        rc = users_secret_make(change, &edit.arena, &user, fault);
    if (!rc)
        rc = append(&edit, &user, fault);
    edit_end(&edit);
    return rc;
}

static enum err find_user(struct edit *edit, struct str name, struct str *out_line,
                          struct fault *fault)
{
    if (copy_others(edit, name, out_line))
        return ERR_OK;
    return fault_set(fault, ERR_NOT_FOUND, "%s: there is no user \"" STR_FMT "\"", edit->file,
                     STR_ARG(name));
}

enum err users_passwd(const char *file, const struct user_change *change, struct fault *fault)
{
    struct user_change kept = *change;
    struct user user;
    struct edit edit;
    struct str line;
    enum err rc = edit_begin(&edit, file, NULL, fault);

    if (!rc)
        rc = find_user(&edit, change->name, &line, fault);
    if (!rc)
        rc = users_line_parse(line, &edit.arena, &user, fault);
    if (!rc) {
        kept.scram = change->scram || user.has_scram;
        kept.clear = change->clear || user.clear.len > 0;
        rc = users_secret_make(&kept, &edit.arena, &user, fault);
    }
    if (!rc)
        rc = append(&edit, &user, fault);
    edit_end(&edit);
    return rc;
}

enum err users_remove(const char *file, struct str name, struct fault *fault)
{
    struct edit edit;
    struct str line;
    enum err rc = edit_begin(&edit, file, NULL, fault);

    if (!rc)
        rc = find_user(&edit, name, &line, fault);
    if (!rc)
        rc = edit_commit(&edit, fault);
    edit_end(&edit);
    return rc;
}
