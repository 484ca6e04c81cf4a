/*
 * dropped_read.c - what workers do with a dropped file: open it, read it, and at
 * the end remove it, or move it aside.
 */
#include "relay/ingress/dropbox_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_SLACK ((uint64_t)64 << 20) /* dots, recipients: the message itself is judged later */
#define FIRST_LINE "waypost-drop 1 "
#define AGAIN_MS 5000 /* to remove what could not be */

static void ended(struct job *job);

/* ---- ends ---- */

/* Its owner took it back, or put a folder in its place: then it is gone too. */
static void remove_run(struct job *job)
{
    struct dropped *dropped = container_of(job, struct dropped, job);

    if (unlinkat(dropped->folder, dropped->file.name, 0) == 0)
        (void)fsync(dropped->folder); /* or it could be back after a power failure */
    else if (errno != ENOENT && errno != EISDIR)
        fault_errno(&dropped->cannot_end, errno, "cannot remove %s", dropped->file.name);
}

static void leave_run(struct job *job) { (void)job; }

/* A user may have put something of the plain name there. */
static void set_aside_run(struct job *job)
{
    struct dropped *dropped = container_of(job, struct dropped, job);
    const char *name = dropped->file.name;
    char plain[DROPPED_NAME + 16], aside[DROPPED_NAME + 48];

    (void)snprintf(plain, sizeof(plain), "corrupt-%s", name);
    if (renameat2(dropped->folder, name, dropped->folder, plain, RENAME_NOREPLACE) == 0)
        return;
    dropbox_aside_name(plain, aside, sizeof(aside));
    if (renameat(dropped->folder, name, dropped->folder, aside) && errno != ENOENT)
        fault_errno(&dropped->cannot_end, errno, "cannot move %s aside", name);
}

static void end_again(void *arg)
{
    struct dropped *dropped = arg;

    dropped_work(dropped, dropped->job.run, ended);
}

/* The next look would take it once more: so none comes before it is gone. */
static void try_again(struct dropped *dropped)
{
    struct dropbox *dropbox = dropped->dropbox;

    if (!dropbox->is_stuck_told)
        dropbox_say(dropbox, HOP_ALARM,
                    STR("dropped mail was taken and its file cannot be removed: it is tried "
                        "again, and the relay's next start would send it once more"),
                    str_of(dropped->cannot_end.text));
    dropbox->is_stuck_told = true;
    dropped->cannot_end.err = ERR_OK;
    loop_timer_start(dropbox->options.loop, &dropped->again, AGAIN_MS, end_again, dropped);
}

static void ended(struct job *job)
{
    struct dropped *dropped = container_of(job, struct dropped, job);

    if (!dropped_is_back(dropped))
        return;
    if (dropped->cannot_end.err && !dropped->dropbox->is_stopped) {
        try_again(dropped);
        return;
    }
    dropped->dropbox->is_stuck_told = false;
    dropped_is_done(dropped);
}

void dropped_remove(struct dropped *dropped) { dropped_work(dropped, remove_run, ended); }

void dropped_leave(struct dropped *dropped) { dropped_work(dropped, leave_run, ended); }

void dropped_set_aside(struct dropped *dropped) { dropped_work(dropped, set_aside_run, ended); }

/* ---- reading ---- */

static void read_run(struct job *job)
{
    struct dropped *dropped = container_of(job, struct dropped, job);
    ssize_t got;

    do
        got = read(dropped->fd, dropped->window, DROPPED_WINDOW);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        fault_errno(&dropped->fault, errno, "cannot read it");
    dropped->window_len = got > 0 ? (size_t)got : 0;
    dropped->window_at = 0;
    dropped->is_eof = got <= 0;
}

static void has_read(struct job *job)
{
    struct dropped *dropped = container_of(job, struct dropped, job);

    dropped->waits = false;
    if (!dropped_is_back(dropped))
        return;
    if (dropped->is_eof) {
        if (!dropped->fault.err)
            fault_set(&dropped->fault, ERR_CORRUPT, "the file has no whole message");
        dropped_finish(dropped, ERR_CORRUPT);
        return;
    }
    dropped_pump(dropped);
}

void dropped_read(struct dropped *dropped) { dropped_work(dropped, read_run, has_read); }

/* ---- opening ---- */

/* A file made in a setgid folder has its group. One that was moved there is perhaps
 * somebody else's, whose name its owner would lend the mail. */
static bool is_made_here(const struct dropped *dropped, const struct stat *st)
{
    struct stat folder;

    return !fstat(dropped->folder, &folder) &&
           (!(folder.st_mode & S_ISGID) || st->st_gid == folder.st_gid);
}

/* What a user put there may be anything: a link, a pipe, a device, a file of
 * another one's. Only a plain file with one name, his own, is mail. */
static enum err open_file(struct dropped *dropped)
{
    struct fault *fault = &dropped->fault;
    uint64_t most = dropped->size_max;
    struct stat st;

    dropped->fd = openat(dropped->folder, dropped->file.name,
                         O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (dropped->fd < 0)
        return fault_errno(fault, errno, "cannot open it");
    if (fstat(dropped->fd, &st))
        return fault_errno(fault, errno, "cannot look at it");
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != dropped->file.uid)
        return fault_set(fault, ERR_DENIED, "it is not a plain file with one name");
    if (!is_made_here(dropped, &st))
        return fault_set(fault, ERR_DENIED, "it was made elsewhere and moved here");
    if ((uint64_t)st.st_size > most + most / 2 + SIZE_SLACK)
        return fault_set(fault, ERR_LIMIT, "it is larger than limits message-size");
    return ERR_OK;
}

/* "waypost-drop 1 WHY CRLF" */
static enum err read_first_line(struct dropped *dropped)
{
    struct str in = str_make(dropped->window, dropped->window_len);
    size_t end = str_chr(in, '\n');

    if (!str_starts(in, STR(FIRST_LINE)) || end == in.len)
        return fault_set(&dropped->fault, ERR_CORRUPT, "it does not begin as a dropped message");
    struct str why = str_from(str_head(in, end), sizeof(FIRST_LINE) - 1);
    str_copy(dropped->why, sizeof(dropped->why), str_trim(why));
    dropped->window_at = end + 1;
    return ERR_OK;
}

static void open_run(struct job *job)
{
    struct dropped *dropped = container_of(job, struct dropped, job);

    if (open_file(dropped))
        return;
    dropped->window = mem_alloc(DROPPED_WINDOW);
    read_run(job);
    if (!dropped->fault.err)
        (void)read_first_line(dropped);
}

static void asked(struct store_request *request)
{
    struct store_get *get = container_of(request, struct store_get, request);
    struct dropped *dropped = container_of(get, struct dropped, get);

    if (!dropped_is_back(dropped))
        return;
    if (request->err && request->err != ERR_NOT_FOUND) {
        dropped->fault = request->fault;
        dropped_finish(dropped, ERR_AGAIN);
        return;
    }
    /* Taken before a crash, and not removed: perhaps a report is still owed. */
    dropped->is_stored = request->err == ERR_OK;
    dropped_feed_first(dropped);
}

static void opened(struct job *job)
{
    struct dropped *dropped = container_of(job, struct dropped, job);
    struct dropbox *dropbox = dropped->dropbox;

    if (!dropped_is_back(dropped))
        return;
    if (dropped->fault.err == ERR_NOT_FOUND) { /* its owner took it back */
        dropped_is_done(dropped);
        return;
    }
    if (dropped->fault.err) {
        dropped_finish(dropped, dropped->fault.err);
        return;
    }
    dropped->get.id = dropped->id;
    dropped->get.request.reply_to = loop_mailbox(dropbox->options.loop);
    dropped->get.request.done = asked;
    dropped_out(dropped);
    store_get(dropbox->options.store, &dropped->get);
}

void dropped_open(struct dropped *dropped) { dropped_work(dropped, open_run, opened); }
