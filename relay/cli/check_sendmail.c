/*
 * check_sendmail.c - can every user of the machine hand in mail, also while the
 * relay is down? Asked as the user that runs the relay.
 */
#include "relay/cli/check_machine.h"

#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_MODE 03733

struct checking {
    const struct conf *conf;
    struct check_report *report;
    struct check_place top;
};

static const char *folder_of(struct checking *c, struct str path)
{
    const char *slash = memrchr(path.at, '/', path.len);
    size_t len = slash ? (size_t)(slash - path.at) : 0;

    if (!slash)
        return ".";
    return arena_cstr(&c->report->arena, str_head(path, len ? len : 1));
}

static void check_mode(struct checking *c, const char *path, const struct stat *st)
{
    struct arena *arena = &c->report->arena;

    if (!S_ISDIR(st->st_mode))
        check_report_add(c->report, CONF_ERROR, c->top, "name a folder",
                         "%s: sendmail drop is not a folder", path);
    else if (st->st_uid != geteuid())
        check_report_add(c->report, CONF_WARNING, c->top, "chown it to the relay's user",
                         "%s: the drop folder is not the relay's: what lies in it is not taken",
                         path);
    else if ((st->st_mode & 07777) != FOLDER_MODE)
        check_report_add(c->report, CONF_WARNING, c->top,
                         arena_printf(arena, "chmod %04o %s", FOLDER_MODE, path),
                         "%s: the drop folder has mode %04o", path,
                         (unsigned)(st->st_mode & 07777));
}

static void check_drop(struct checking *c, bool root_makes_it)
{
    const char *path = arena_cstr(&c->report->arena, c->conf->sendmail.drop);
    const char *parent = folder_of(c, c->conf->sendmail.drop);
    struct stat st;

    if (!*path)
        return;
    if (stat(path, &st) == 0)
        check_mode(c, path, &st);
    else if (!root_makes_it && access(parent, W_OK | X_OK) != 0)
        check_report_add(c->report, CONF_WARNING, c->top,
                         arena_printf(&c->report->arena, "install -d -m %04o -o USER -g GROUP %s",
                                      FOLDER_MODE, path),
                         "%s: there is no drop folder: while the relay is down sendmail fails",
                         path);
}

static void check_reach(struct checking *c, struct str socket_path, const char *what)
{
    const char *folder = folder_of(c, socket_path);
    struct stat st;

    if (socket_path.len == 0 || stat(folder, &st) != 0 || (st.st_mode & S_IXOTH))
        return;
    check_report_add(c->report, CONF_WARNING, c->top,
                     arena_printf(&c->report->arena, "chmod o+x %s", folder),
                     "%s: other users cannot reach %s in this folder", folder, what);
}

static bool others_may_read(struct checking *c)
{
    struct stat st;

    return stat(c->top.file, &st) != 0 ||
           ((st.st_mode & S_IROTH) &&
            (stat(folder_of(c, c->conf->file), &st) != 0 || (st.st_mode & S_IXOTH)));
}

/* Where there is none the usual one is not used either: nobody listens there, or has left
 * a mark in it. */
static bool is_known(struct str path, struct str usual)
{
    return path.len == 0 || str_eq(path, usual);
}

/* sendmail(1) reads the paths with its caller's rights. */
static void check_known(struct checking *c)
{
    bool is_usual = is_known(c->conf->sendmail.socket, STR(CONF_SUBMIT_DEFAULT)) &&
                    is_known(c->conf->sendmail.drop, STR(CONF_DROP_DEFAULT));

    if (is_usual || others_may_read(c))
        return;
    check_report_add(
        c->report, CONF_WARNING, c->top,
        "let everybody read it, with secrets in files of their own, or leave sendmail's "
        "socket and drop as they are",
        "%s: other users cannot read which socket and drop folder sendmail is to use, "
        "and know the default ones only",
        c->top.file);
}

void check_sendmail(const struct conf *conf, bool root_makes_it, struct check_report *report)
{
    struct checking c = { .conf = conf, .report = report };

    c.top.file = arena_cstr(&report->arena, conf->file);
    check_known(&c);
    check_drop(&c, root_makes_it);
    check_reach(&c, conf->sendmail.socket, "sendmail's socket");
}
