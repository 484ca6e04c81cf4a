/*
 * dropbox.c - the folder watched, and its files begun in turn.
 */
#include "relay/ingress/dropbox_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_MODE 03733
#define AGAIN_MS 60000               /* after something had to wait */
#define TAKEN_AGAIN_MS 10000         /* for a folder that another relay has */
#define TEMPORARY_AGAIN_MS 86400000U /* to remove what a dead writer left */

static void look(struct dropbox *dropbox);

void dropbox_say(struct dropbox *dropbox, enum hop_weight weight, struct str text, struct str fault)
{
    int64_t now = loop_wall_us(dropbox->options.loop);
    struct hop hop = { .began_us = now,
                       .ended_us = now,
                       .weight = weight,
                       .stage = weight == HOP_ALARM ? STAGE_ALARM : STAGE_SERVICE,
                       .result = RESULT_LATER,
                       .scope = SCOPE_US,
                       .text = text,
                       .fault = fault };

    hop_emit(loop_ring(dropbox->options.loop), &hop);
}

/* ---- what comes back from elsewhere ---- */

static void free_options(struct dropbox_options *options)
{
    free((char *)(uintptr_t)options->folder.at);
    free((char *)(uintptr_t)options->hostname.at);
    free((char *)(uintptr_t)options->mark.at);
}

void dropbox_busy(struct dropbox *dropbox) { dropbox->busy++; }

bool dropbox_back(struct dropbox *dropbox)
{
    dropbox->busy--;
    return !dropbox->is_stopped;
}

void dropbox_may_go(struct dropbox *dropbox)
{
    if (!dropbox->is_stopped || dropbox->busy > 0 || dropbox->under_way > 0)
        return;
    dropbox->options.gone(dropbox->options.arg);
    free_options(&dropbox->options);
    free(dropbox);
}

/* ---- looking ---- */

static void look_free(struct dropbox_look **look_at)
{
    struct dropbox_look *one = *look_at;

    *look_at = NULL;
    if (!one)
        return;
    close(one->folder);
    free(one->files);
    free(one);
}

static void look_later(void *arg) { look(arg); }

/* Everything found was begun and is over: wait for the next, or for what has to wait. */
static void rest(struct dropbox *dropbox)
{
    bool waits = dropbox->has_waited || dropbox->look->is_more;
    bool has_temporary = dropbox->look->has_temporary;

    look_free(&dropbox->look);
    dropbox->has_waited = false;
    if (dropbox->look_again)
        look(dropbox);
    else if (waits || has_temporary)
        loop_timer_start(dropbox->options.loop, &dropbox->timer,
                         waits ? AGAIN_MS : TEMPORARY_AGAIN_MS, look_later, dropbox);
}

static void begin_more(struct dropbox *dropbox)
{
    while (dropbox->under_way < DROPBOX_AT_ONCE && dropbox->next < dropbox->look->count) {
        dropbox->under_way++;
        dropped_begin(dropbox, &dropbox->look->files[dropbox->next++]);
    }
    if (dropbox->under_way == 0)
        rest(dropbox);
}

void dropbox_is_done(struct dropbox *dropbox, bool was_taken)
{
    dropbox->under_way--;
    if (dropbox->is_stopped) {
        dropbox_may_go(dropbox);
        return;
    }
    if (was_taken)
        dropbox->is_told = false;
    else
        dropbox->has_waited = true;
    begin_more(dropbox);
}

static void looked(struct job *job)
{
    struct dropbox_look *one = container_of(job, struct dropbox_look, job);
    struct dropbox *dropbox = one->dropbox;

    if (!dropbox_back(dropbox)) {
        look_free(&dropbox->look);
        dropbox_may_go(dropbox);
        return;
    }
    dropbox->is_looking = false;
    dropbox->next = 0;
    begin_more(dropbox);
}

static void look(struct dropbox *dropbox)
{
    struct dropbox_look *one;

    dropbox->look_again = dropbox->look != NULL;
    if (dropbox->look || dropbox->folder < 0)
        return;
    loop_timer_stop(dropbox->options.loop, &dropbox->timer);
    one = mem_alloc(sizeof(*one));
    one->dropbox = dropbox;
    one->folder = fcntl(dropbox->folder, F_DUPFD_CLOEXEC, 0);
    one->user_messages = dropbox->options.user_messages;
    one->user_bytes = dropbox->options.user_bytes;
    one->job = (struct job){ .run = dropbox_look_run,
                             .done = looked,
                             .reply_to = loop_mailbox(dropbox->options.loop) };
    dropbox->look = one;
    dropbox->is_looking = true;
    dropbox_busy(dropbox);
    (void)pool_post(loop_pool(dropbox->options.loop), POOL_DISK, &one->job); /* no bound */
}

/* ---- the folder ---- */

static void on_notify(void *arg)
{
    struct dropbox *dropbox = arg;
    char events[4096];

    while (read(dropbox->notify, events, sizeof(events)) > 0)
        continue;
    look(dropbox);
}

static void make_folder(const char *path)
{
    mode_t mask = umask(0);

    if (mkdir(path, FOLDER_MODE) == 0)
        (void)chmod(path, FOLDER_MODE); /* mkdir may leave the upper bits out */
    umask(mask);
}

/* The sticky bit keeps users from each other's files, but not the folder's owner from any:
 * he could take mail away, hold it back for a better moment, give a file that was taken a
 * new name, so that it is taken again and again, or, without the setgid bit, lend a file
 * of somebody else's the name of a message. And it keeps everybody but the owner from
 * removing what was taken, which would be sent at every look. So the owner is we. */
static bool is_safe(const struct stat *st)
{
    return st->st_uid == geteuid() &&
           (!(st->st_mode & (S_IWGRP | S_IWOTH)) || (st->st_mode & S_ISVTX));
}

static void folder_close(struct dropbox *dropbox)
{
    loop_timer_stop(dropbox->options.loop, &dropbox->timer);
    loop_unwatch(&dropbox->watch);
    if (dropbox->notify >= 0)
        close(dropbox->notify);
    if (dropbox->folder >= 0)
        close(dropbox->folder);
    dropbox->notify = dropbox->folder = -1;
}

static void leave_mark(struct dropbox *dropbox)
{
    struct fault fault;

    if (dropbox->options.mark.len && dropbox_mark(dropbox->folder, dropbox->options.mark, &fault))
        dropbox_say(dropbox, HOP_WARNING,
                    STR("callers that cannot read the configuration do not use the drop folder"),
                    str_of(fault.text));
}

/* Two relays would both take what lies in it. Nobody else can open it to lock it. */
static enum err judge_folder(int folder, const char *path, struct fault *fault)
{
    struct stat st;

    if (folder < 0 || fstat(folder, &st))
        return fault_errno(fault, errno, "cannot use the drop folder %s", path);
    if (!is_safe(&st))
        return fault_set(fault, ERR_DENIED,
                         "the drop folder %s is not safe: it has to be ours, with mode 3733", path);
    if (faccessat(folder, ".", W_OK | X_OK, AT_EACCESS))
        return fault_errno(fault, errno, "nothing can be removed from the drop folder %s", path);
    if (flock(folder, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return fault_set(fault, ERR_BUSY, "another relay takes from the drop folder %s", path);
    return ERR_OK;
}

static void folder_open(struct dropbox *dropbox);

static void open_again(void *arg)
{
    folder_open(arg);
    look(arg);
}

static void not_opened(struct dropbox *dropbox, const struct fault *fault)
{
    bool is_known = fault->err == ERR_BUSY && dropbox->is_anothers;

    if (!is_known)
        dropbox_say(dropbox, HOP_WARNING,
                    STR("mail that sendmail(1) leaves while the relay is down is not taken"),
                    str_of(fault->text));
    folder_close(dropbox);
    dropbox->is_anothers = fault->err == ERR_BUSY;
    if (dropbox->is_anothers) /* that one may stop, or be what we were before a reload */
        loop_timer_start(dropbox->options.loop, &dropbox->timer, TAKEN_AGAIN_MS, open_again,
                         dropbox);
}

static void folder_open(struct dropbox *dropbox)
{
    const char *path = dropbox->options.folder.at;
    struct fault fault = { .err = ERR_OK };

    if (dropbox->options.folder.len == 0)
        return;
    if (!dropbox->options.is_former)
        make_folder(path);
    dropbox->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)judge_folder(dropbox->folder, path, &fault);
    if (!fault.err) {
        dropbox->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (dropbox->notify < 0 || inotify_add_watch(dropbox->notify, path, IN_MOVED_TO) < 0 ||
            loop_watch_fd(dropbox->options.loop, dropbox->notify, on_notify, dropbox,
                          &dropbox->watch))
            fault_errno(&fault, errno, "cannot watch the drop folder %s", path);
    }
    if (!fault.err) {
        dropbox->is_anothers = false;
        leave_mark(dropbox);
        return;
    }
    not_opened(dropbox, &fault);
}

/* ---- life ---- */

static void keep_options(struct dropbox *dropbox, const struct dropbox_options *options)
{
    dropbox->options = *options;
    dropbox->options.folder = str_of(str_dup(options->folder));
    dropbox->options.hostname = str_of(str_dup(options->hostname));
    dropbox->options.mark = str_of(str_dup(options->mark));
}

struct dropbox *dropbox_new(const struct dropbox_options *options)
{
    struct dropbox *dropbox = mem_alloc(sizeof(*dropbox));

    keep_options(dropbox, options);
    dropbox->folder = dropbox->notify = -1;
    folder_open(dropbox);
    look(dropbox);
    return dropbox;
}

void dropbox_set(struct dropbox *dropbox, const struct dropbox_options *options)
{
    struct dropbox_options before = dropbox->options;

    keep_options(dropbox, options);
    free_options(&before);
    if (dropbox->folder >= 0)
        return;
    folder_open(dropbox);
    look(dropbox);
}

void dropbox_stop(struct dropbox **dropbox_at)
{
    struct dropbox *dropbox = *dropbox_at;

    *dropbox_at = NULL;
    if (!dropbox)
        return;
    dropbox->is_stopped = true;
    folder_close(dropbox);
    if (!dropbox->is_looking)
        look_free(&dropbox->look);
    dropped_abort_all(dropbox);
    dropbox_may_go(dropbox);
}
