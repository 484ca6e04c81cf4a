/*
 * dropbox_impl.h - the drop folder; shared by its own files only.
 */
#ifndef WAYPOST_INGRESS_DROPBOX_IMPL_H
#define WAYPOST_INGRESS_DROPBOX_IMPL_H

#include "relay/base/container.h"
#include "relay/ingress/dropbox.h"
#include "relay/smtp/server.h"

#include <stdlib.h>

#define DROPPED_NAME 32           /* letters: 128 bits in hex */
#define DROPBOX_AT_ONCE 8         /* files under way */
#define DROPBOX_FOUND_MAX 10000   /* of one look */
#define DROPPED_WINDOW ((size_t)256 * 1024)

/* A file as a look found it. */
struct dropped_file {
    char name[DROPPED_NAME + 1];
    uint32_t uid;
    uint64_t size;
    int64_t dropped_us; /* its ctime: the kernel's, when it got its name */
    unsigned rank;      /* the how-manieth of its user */
};

/* One look through the folder, by a worker. */
struct dropbox_look {
    struct job job;
    struct dropbox *dropbox;
    int folder; /* a copy of the descriptor */
    unsigned user_messages;
    uint64_t user_bytes;
    struct dropped_file *files; /* in the order of their turns */
    size_t count;
    bool is_more;       /* others have to wait */
    bool has_temporary; /* somebody is writing, or died doing so */
};

struct dropbox {
    struct dropbox_options options; /* text is its own */
    int folder;                     /* -1: there is none */
    int notify;
    struct loop_watch *watch;
    struct timer timer;
    struct dropbox_look *look; /* one under way, or being worked through */
    size_t next;               /* in look->files */
    bool is_looking, look_again;
    bool is_told;    /* that something is in the way; once until it goes again */
    bool has_waited; /* a file stayed for later: look again in a while */
    bool is_stopped;
    struct dropped *dropped; /* under way */
    size_t under_way;
    size_t busy; /* jobs and requests that come back */
};

/* dropbox_look.c */
void dropbox_look_run(struct job *job);

/* dropped.c: one file; dropbox_is_done() when it is over. */
void dropped_begin(struct dropbox *dropbox, const struct dropped_file *file);
void dropped_abort_all(struct dropbox *dropbox);

/* dropbox.c */
void dropbox_is_done(struct dropbox *dropbox, bool was_taken);
void dropbox_busy(struct dropbox *dropbox);
bool dropbox_back(struct dropbox *dropbox); /* false: it was stopped, and may be gone */
void dropbox_say(struct dropbox *dropbox, enum hop_weight weight, struct str text,
                 struct str fault);

#endif
