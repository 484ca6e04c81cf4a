/*
 * session_impl.h - one client's visit; shared by the session's own files only.
 *
 * `owes` says what the answer to the client waits for; while it is not
 * SESSION_OWES_NOTHING the machine gives no event and asks for no deadline.
 */
#ifndef WAYPOST_INGRESS_SESSION_IMPL_H
#define WAYPOST_INGRESS_SESSION_IMPL_H

#include "relay/base/container.h"
#include "relay/ingress/access.h"
#include "relay/ingress/session.h"

#include <stdio.h>
#include <stdlib.h>

enum session_owes {
    SESSION_OWES_NOTHING,
    SESSION_OWES_AUTH,    /* a verdict on credentials */
    SESSION_OWES_ROOM,    /* intake has taken all it wants for now */
    SESSION_OWES_MESSAGE, /* intake decides on the message */
    SESSION_OWES_TLS,     /* the handshake */
};

struct session {
    struct session *next, **at; /* in the list of its loop */
    struct service *service;
    struct stream *stream;
    struct smtp_server *machine;
    uint64_t number;
    int64_t began_us;
    enum session_owes owes, was_owing;
    unsigned owing_message; /* the how-manieth: another one waits anew */
    uint64_t owes_since_ms;
    bool is_counted;             /* in caps */
    bool is_pumping, pump_again; /* one pump at a time; callbacks ask for another turn */
    bool is_closing;             /* everything is said: gone once output is written */
    bool has_quit;               /* the client too has said all */
    bool tls_begun, tls_active, is_esmtp;
    bool is_eof; /* the client will send no more: finish what it asked, then leave */
    struct endpoint client;
    char client_text[ENDPOINT_TEXT];
    char helo[256];
    char tls_words[192];

    struct sasl_server *sasl;
    struct auth_check *auth_check;
    char login[256];     /* the name being tried, then the one that is logged in */
    char local_user[24]; /* unix socket: "uid:1000", the kernel's word; empty: not known */
    char local_name[72]; /* the same for people: "joe, uid 1000" */
    struct users *users; /* keeps access.user alive */
    struct access access;

    struct envelope envelope;
    uint64_t announced; /* SIZE= of its MAIL */
    struct arrival *arrival;
    unsigned messages, refusals;
};

/* session.c */
/* Who this is: logged in, or known by the kernel's word; empty: nobody in particular. */
struct str session_user(const struct session *session);
void session_pump(struct session *session);
void session_close(struct session *session, bool now);

/* session_auth.c */
void session_auth_begin(struct session *session, const struct smtp_server_event *event);
void session_auth_more(struct session *session, const struct smtp_server_event *event);
void session_auth_end(struct session *session); /* drop what is under way */

/* session_mail.c: MAIL, RCPT and content */
void session_mail(struct session *session, const struct smtp_server_event *event);
void session_rcpt(struct session *session, const struct smtp_server_event *event);
void session_data(struct session *session);
void session_content(struct session *session, struct str bytes);
void session_end(struct session *session, const struct smtp_server_event *event);
void session_reset(struct session *session);

/* session_hop.c */
struct hop session_hop(const struct session *session, enum stage stage);
void session_tell_refused(struct session *session, enum stage stage, const struct reply *reply,
                          struct str sender, struct str recipient);
void session_tell_login(struct session *session, bool ok, const struct reply *reply);
void session_tell_end(const struct session *session, struct str why);

/* session_list.c */
void sessions_add(struct sessions *sessions, struct session *session);
void sessions_remove(struct sessions *sessions, struct session *session);
bool sessions_are_draining(const struct sessions *sessions);

#endif
