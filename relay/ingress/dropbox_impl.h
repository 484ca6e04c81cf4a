/*
 * dropbox_impl.h - the drop folder; shared by its own files only.
 */
#ifndef WAYPOST_INGRESS_DROPBOX_IMPL_H
#define WAYPOST_INGRESS_DROPBOX_IMPL_H

#include "relay/base/container.h"
#include "relay/ingress/dropbox.h"
#include "relay/smtp/server.h"

#include <stdlib.h>

#define DROPPED_NAME 32         /* letters: 128 bits in hex */
#define DROPBOX_AT_ONCE 8       /* files under way */
#define DROPBOX_FOUND_MAX 10000 /* of one look */
#define DROPPED_WINDOW ((size_t)256 * 1024)
#define DROPPED_KEPT_MAX ((size_t)128 * 1024) /* twice what a report returns whole */

#define REPORT_BITS 3 /* of an id's last byte: one or the other is changed in that of a report */

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
    bool is_packed;     /* what is over a user's share was left out already */
    bool is_more;       /* others have to wait */
    bool has_temporary; /* somebody is writing, or died doing so */
};

struct dropped;

struct dropbox {
    struct dropbox_options options; /* text is its own */
    int folder;                     /* -1: there is none */
    int notify;
    struct loop_watch *watch;
    struct timer timer;
    struct dropbox_look *look; /* one under way, or being worked through */
    size_t next;               /* in look->files */
    bool is_looking, look_again;
    bool is_anothers;   /* the folder: tried again until it is not */
    bool is_told;       /* that something is in the way; once until it goes again */
    bool is_stuck_told; /* that something cannot be removed */
    bool has_waited;    /* a file stayed for later: look again in a while */
    bool is_stopped;
    struct dropped *dropped; /* under way */
    size_t under_way;
    size_t busy; /* jobs and requests that come back */
};

/* ERR_OK: the report is durable, or none is owed. ERR_AGAIN: not now. */
typedef void dropped_told_fn(struct dropped *dropped, enum err err);

/* One file under way: opening -> reading <-> feeding -> deciding -> telling its sender when
 * it is refused -> removing | moving aside -> gone. One thing is under way at a time. */
struct dropped {
    struct dropped *next, **at;
    struct dropbox *dropbox;
    struct dropped_file file;
    struct msgid id;
    uint64_t size_max; /* of the message; workers read no options */
    int folder, fd;
    struct job job;
    char *window;
    size_t window_len, window_at;
    bool is_eof;
    struct store_get get;
    struct smtp_server *machine;
    struct envelope envelope;
    struct arrival *arrival;
    bool has_work;  /* a worker or the store has it */
    bool waits;     /* for that, for room in intake, or for intake's verdict */
    bool is_ended;  /* its verdict is on the way */
    bool is_over;   /* a verdict is there: nothing is fed any more */
    bool stays;     /* for later */
    bool is_stored; /* for those recipients that are good */
    bool is_aborted;
    bool is_pumping, pump_again;
    char why[320]; /* why it was not handed to us: the file says */
    struct fault fault;
    struct fault cannot_end; /* it is over, and still there */
    /* for a report, when it or some of its recipients are refused */
    struct reply refusal;    /* of the whole; code 0: none so far */
    struct message *refused; /* who gets nothing of it, and why; NULL: nobody yet */
    struct buf kept;         /* the beginning of the content */
    bool kept_is_all;
    struct timer again; /* the report, for which there was no room; the removal */
    bool is_damaged;    /* nothing that sendmail(1) writes: kept for the operator */
    struct msgid report_id;
    dropped_told_fn *told;
};

/* dropbox_mark.c */
enum err dropbox_mark(int folder, struct str mark, struct fault *fault);

/* dropbox_look.c */
void dropbox_look_run(struct job *job);
/* PREFIX-RANDOM: nobody can have put anything of that name there. */
void dropbox_aside_name(const char *prefix, char *out, size_t size);

/* dropped.c: one file; dropbox_is_done() when it is over. */
void dropped_begin(struct dropbox *dropbox, const struct dropped_file *file);
void dropped_abort_all(struct dropbox *dropbox);

void dropped_pump(struct dropped *dropped);
void dropped_feed_first(struct dropped *dropped);
/* Where every way out meets: err OK, AGAIN, or for good. */
void dropped_finish(struct dropped *dropped, enum err err);
void dropped_work(struct dropped *dropped, job_fn *run, job_fn *done);
/* Back from a worker or the store. False: nobody wants it any more. */
bool dropped_is_back(struct dropped *dropped);
void dropped_out(struct dropped *dropped); /* on its way to one of them */
void dropped_is_done(struct dropped *dropped);

int64_t dropped_since(const struct dropped *dropped); /* wall us */

/* dropped_report.c: telling whose mail is not taken */
void dropped_keep(struct dropped *dropped, struct str content);
void dropped_refuse(struct dropped *dropped, const struct recipient *recipient, enum class kind,
                    const struct reply *why);
void dropped_refuse_all(struct dropped *dropped, const struct reply *why);
/* About all who were refused since the last one. `told` may be called at once. */
void dropped_report(struct dropped *dropped, dropped_told_fn *told);

/* dropped_read.c: what workers do with the file */
void dropped_open(struct dropped *dropped);
void dropped_read(struct dropped *dropped);
void dropped_remove(struct dropped *dropped);
void dropped_set_aside(struct dropped *dropped);
void dropped_leave(struct dropped *dropped);

/* dropbox.c */
void dropbox_is_done(struct dropbox *dropbox, bool was_taken);
void dropbox_busy(struct dropbox *dropbox);
bool dropbox_back(struct dropbox *dropbox);   /* false: it was stopped */
void dropbox_may_go(struct dropbox *dropbox); /* if it was: this may have been the last */
void dropbox_say(struct dropbox *dropbox, enum hop_weight weight, struct str text,
                 struct str fault);

#endif
