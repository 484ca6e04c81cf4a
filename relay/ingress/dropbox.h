/*
 * dropbox.h - mail that sendmail(1) left in a folder while nobody took it.
 *
 * The folder (mode 3733, relay/cli/sendmail_drop.c says why) is looked through at
 * start and whenever a file appears in it (inotify; an empty folder costs no
 * wake-up). A file is a dialogue with one message in it: it goes through the
 * server machine and intake like any client's, and is removed once the message is
 * durable. Who sent it is who owns the file.
 *
 * No file is lost and none is taken twice: the message's id is made of the
 * file's random name and the time that the kernel put on it, so that a file which
 * is found again after a crash is known to the store. (Twice all the same when
 * the message was even delivered, all within the moment between the accepting and
 * the removal, and the machine died in it: at least once is what mail promises.)
 * What the relay does not take, or for some recipients not, its sender is told by a
 * delivery report, which is durable before the file is removed. What does not make
 * sense is reported too, and then moved aside, as corrupt-NAME, with one alarm. A file
 * that cannot be removed is in the way of all that come later, with an alarm, because a
 * look would find it again; a folder where nothing can be is not used, and neither is
 * one that another relay takes from, until that stops. When
 * the store has no room it waits. A user's heap does not hold up the others: files
 * are taken in turns between users, and of one user so many at a time.
 *
 * Loop 0's. Files are opened, read and removed by disk workers.
 */
#ifndef WAYPOST_INGRESS_DROPBOX_H
#define WAYPOST_INGRESS_DROPBOX_H

#include "relay/intake/intake.h"
#include "relay/net/loop.h"

struct dropbox;

typedef void dropbox_reported_fn(void *arg, enum err err);

struct dropbox_options {
    struct loop *loop;
    struct store *store;
    struct intake *intake;
    struct str folder; /* empty: none */
    bool is_former;    /* callers do not know it any more: it is not made */
    struct str mark;   /* our data folder, to be left in it as a mark; empty: none */
    struct str hostname;
    uint64_t message_size;  /* the largest message */
    unsigned user_messages; /* of one user at a time */
    uint64_t user_bytes;
    /* Store a delivery report about `refused`, whose recipients have all failed, to its
     * sender, as the message `id`; one that is stored already will do. Calls back once,
     * later, from the loop: ERR_AGAIN: not now; another: none can be made. */
    void (*report)(void *arg, struct message *refused, const struct msgid *id,
                   dropbox_reported_fn *fn, void *fn_arg);
    void (*gone)(void *arg); /* after dropbox_stop(): nothing of it is under way any more */
    void *arg;
};

/* The folder is made when it is missing and can be made. Text is copied. */
struct dropbox *dropbox_new(const struct dropbox_options *options);
/* All but the folder may be another; one that could not be used is tried again. */
void dropbox_set(struct dropbox *dropbox, const struct dropbox_options *options);
/* No new file is begun; those under way are given up and stay where they are, but for
 * those that may be durable by now: they would be taken once more. It frees itself
 * when the last is done, and calls `gone`, perhaps at once. */
void dropbox_stop(struct dropbox **dropbox);

/* Blocking, any thread. */
enum dropbox_content { DROPBOX_EMPTY, DROPBOX_HAS_MAIL, DROPBOX_CLOSED /* to us */ };
enum dropbox_content dropbox_look_in(const char *folder);
bool dropbox_is_marked(const char *folder, struct str mark); /* with this mark */

#endif
