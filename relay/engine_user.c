/*
 * engine_user.c - giving up root.
 */
#include "relay/engine_impl.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder that is not there yet is made for the user. */
static enum err give_folder(struct str folder, const struct passwd *pw, struct fault *fault)
{
    char path[4096];
    struct stat st;

    str_copy(path, sizeof(path), folder);
    if (stat(path, &st) == 0)
        return ERR_OK;
    if (mkdir(path, 0750) != 0)
        return fault_errno(fault, errno, "cannot make the folder %s", path);
    if (chown(path, pw->pw_uid, pw->pw_gid) != 0)
        return fault_errno(fault, errno, "cannot give the folder %s to user %s", path, pw->pw_name);
    return ERR_OK;
}

/* Everybody may add to it, nobody see what is in it. In vain is no reason not to start:
 * the relay tells that it has none. */
static void give_drop_folder(const struct conf *conf, const struct passwd *pw)
{
    char path[4096];
    struct stat st;

    str_copy(path, sizeof(path), conf->sendmail.drop);
    if (!path[0] || stat(path, &st) == 0 || mkdir(path, 0700) != 0)
        return;
    if (chown(path, pw->pw_uid, pw->pw_gid) == 0)
        (void)chmod(path, 03733); /* last: chown takes the upper bits away */
}

static struct str folder_of(struct str path)
{
    while (path.len > 1 && path.at[path.len - 1] != '/')
        path.len--;
    return str_head(path, path.len > 1 ? path.len - 1 : path.len);
}

enum err engine_become_user(const struct conf *conf, struct fault *fault)
{
    char name[64];
    struct passwd *pw;
    enum err rc;

    if (geteuid() != 0 || conf->user.len == 0)
        return ERR_OK;
    str_copy(name, sizeof(name), conf->user);
    pw = getpwnam(name);
    if (!pw)
        return fault_set(fault, ERR_NOT_FOUND,
                         "user \"%s\" does not exist (make it, or set user = \"...\")", name);
    rc = give_folder(conf->data, pw, fault);
    if (!rc)
        rc = give_folder(folder_of(conf->api.socket), pw, fault);
    give_drop_folder(conf, pw);
    if (rc)
        return rc;
    if (initgroups(name, pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0)
        return fault_errno(fault, errno, "cannot become user %s", name);
    /* A change of user clears this; core dumps of a relay hold mail: leave it to the operator. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return ERR_OK;
}
