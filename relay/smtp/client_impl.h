/*
 * client_impl.h - the inside of the client machine, for its own files only.
 *
 * client.c        bytes, clock, events and the end of a session
 * client_send.c   what we say: commands, the transaction, the content
 * client_read.c   replies, line by line, paired with what was said
 * client_reply.c  what is made of each reply: one row and one function per command said
 */
#ifndef WAYPOST_SMTP_CLIENT_IMPL_H
#define WAYPOST_SMTP_CLIENT_IMPL_H

#include "relay/smtp/client.h"
#include "relay/smtp/line.h"

/* What was said and is not answered yet; replies come in the same order. */
enum client_wait {
    CLIENT_WAIT_BANNER,
    CLIENT_WAIT_EHLO,
    CLIENT_WAIT_HELO,
    CLIENT_WAIT_STARTTLS,
    CLIENT_WAIT_AUTH,
    CLIENT_WAIT_MAIL,
    CLIENT_WAIT_RCPT,
    CLIENT_WAIT_DATA,
    CLIENT_WAIT_DOT,     /* the lone dot after a DATA that nobody wanted: not told */
    CLIENT_WAIT_CHUNK,   /* a BDAT that is not the last */
    CLIENT_WAIT_CONTENT, /* the dot, or BDAT LAST */
    CLIENT_WAIT_RSET,
    CLIENT_WAIT_CLEAR,  /* a RSET of our own: not told */
    CLIENT_WAIT_SILENT, /* whatever it says, the transaction it belongs to is over */
    CLIENT_WAIT_QUIT,
};

/* Equal neighbours are one run: no transaction needs more than a few. */
#define CLIENT_RUNS_MAX 16
struct client_run {
    enum client_wait kind;
    size_t count;
};

struct smtp_client {
    struct smtp_client_options options;
    char *helo; /* owned copy */
    struct buf in, out;
    struct buf chunk; /* content gathered for the next BDAT */
    size_t scanned;   /* see line_next */
    bool skipping;

    struct client_run runs[CLIENT_RUNS_MAX];
    size_t run_count;

    struct reply reply; /* of the last event, or growing */
    bool reply_grows;
    unsigned reply_lines;
    struct reply *refusal; /* why nobody was accepted; what EHLO said before HELO was tried;
                            * NULL: nothing was refused yet */

    struct ext_offer offer;
    bool is_esmtp, tls_active;
    bool awaits_tls; /* STARTTLS was accepted: no octet is ours until tls_started() */
    enum stage last_stage;

    /* the transaction */
    const struct smtp_client_transaction *transaction; /* NULL: none */
    const struct smtp_client_transaction *follower;    /* said behind its content; NULL: none */
    bool pipelined, by_bdat;
    bool mail_said, mail_accepted;
    size_t rcpt_answered, rcpt_accepted;
    bool needs_rset; /* the server still holds a transaction that we gave up */
    bool sending;    /* content is welcome */
    bool ended;      /* end-of-data is in the output, or was */
    struct line_stuff stuff;
    uint64_t octets_sent, end_mark; /* of the whole session; where end-of-data ends */

    /* events to come */
    bool tell_over, tell_go, tell_room, tell_fault, tell_quit;
    bool wants_room;
    bool eof;  /* the connection ended */
    bool dead; /* nothing is said or read any more */
    enum err fault;
    enum stage fault_stage;
    char words[320];
    const struct reply *fault_reply;

    uint64_t now_ms, since_ms;
    bool stamp; /* `since_ms` starts at the next call that knows the time */
};

/* ---- client.c ---- */
void smtp_client_fail(struct smtp_client *client, enum err err, const struct reply *reply,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));
const struct reply *smtp_client_refusal(const struct smtp_client *client); /* never NULL */
enum client_wait smtp_client_head(const struct smtp_client *client);

/* ---- client_send.c ---- */
void smtp_client_push(struct smtp_client *client, enum client_wait kind);
void smtp_client_helo(struct smtp_client *client);
void smtp_client_say_mail(struct smtp_client *client);
void smtp_client_say_rcpt(struct smtp_client *client, size_t index);
void smtp_client_say_data(struct smtp_client *client);
void smtp_client_lone_dot(struct smtp_client *client);
void smtp_client_open_content(struct smtp_client *client);

/* ---- client_reply.c ---- */
enum stage smtp_client_wait_stage(const struct smtp_client *client, enum client_wait kind);
/* What a whole reply means, now that `kind` was taken off the list; true when it made an event. */
bool smtp_client_judge(struct smtp_client *client, enum client_wait kind,
                       struct smtp_client_event *event);

/* ---- client_read.c ---- */
/* Reads what is there; true when it made an event. */
bool smtp_client_read(struct smtp_client *client, struct smtp_client_event *event);
/* There is input though nothing was asked, and now something is to be said: ends the session. */
void smtp_client_junk(struct smtp_client *client);

#endif
