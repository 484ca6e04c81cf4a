/*
 * include.c - reading files: the configuration itself, what it includes, and
 * small secrets beside it.
 */
#include "conf/include.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#define INCLUDE_DEPTH_MAX 8 /* also what ends a file that includes itself */
#define FILE_MAX (1024UL * 1024)

static enum err read_whole(int fd, size_t size, const char *file, struct arena *arena,
                           struct str *out_text, struct fault *fault)
{
    char *text = arena_alloc(arena, size + 1);
    size_t len = 0;

    while (len < size) {
        ssize_t got = read(fd, text + len, size - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fault_errno(fault, errno, "cannot read %s", file);
        if (got == 0)
            break;
        len += (size_t)got;
    }
    *out_text = str_make(text, len);
    return ERR_OK;
}

enum err tree_slurp(const char *file, size_t max, struct arena *arena, struct str *out_text,
                    unsigned *out_mode, struct fault *fault)
{
    struct stat st;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    enum err err;

    if (fd < 0)
        return fault_errno(fault, errno, "cannot read %s", file);
    if (fstat(fd, &st) != 0)
        err = fault_errno(fault, errno, "cannot read %s", file);
    else if (!S_ISREG(st.st_mode))
        err = fault_set(fault, ERR_INVALID, "cannot read %s: not a regular file", file);
    else if ((uintmax_t)st.st_size > max)
        err = fault_set(fault, ERR_LIMIT, "cannot read %s: over %zu bytes", file, max);
    else
        err = read_whole(fd, (size_t)st.st_size, file, arena, out_text, fault);
    close(fd);
    if (!err)
        *out_mode = st.st_mode & 07777;
    return err;
}

static const char *beside(struct arena *arena, const char *file, const char *name)
{
    const char *slash = strrchr(file, '/');

    if (name[0] == '/' || !slash)
        return name;
    return arena_printf(arena, "%.*s/%s", (int)(slash - file), file, name);
}

static void include_one(struct tree *tree, struct place from, const char *file)
{
    struct fault fault;
    struct str text = STR_EMPTY;
    unsigned mode;

    if (tree_slurp(file, FILE_MAX, tree->arena, &text, &mode, &fault)) {
        report_error(tree->report, from, "check its name and mode", "%s", fault.text);
        return;
    }
    tree->depth++;
    tree_read(tree, arena_cstr(tree->arena, str_of(file)), text);
    tree->depth--;
}

void include_files(struct tree *tree, struct place from, const char *name)
{
    const char *pattern = beside(tree->arena, from.file, name);
    glob_t found;

    if (tree->depth >= INCLUDE_DEPTH_MAX) {
        report_error(tree->report, from, "a file must not include itself",
                     "files include each other too deeply");
        return;
    }
    /* A folder without files is fine, a file that is not there is a mistake. */
    if (glob(pattern, 0, NULL, &found) != 0) {
        if (!strpbrk(pattern, "*?["))
            include_one(tree, from, pattern);
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++)
        include_one(tree, from, found.gl_pathv[i]);
    globfree(&found);
}
