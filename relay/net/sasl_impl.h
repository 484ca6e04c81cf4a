/*
 * sasl_impl.h - what both sides of sasl share; private to this layer.
 */
#ifndef WAYPOST_NET_SASL_IMPL_H
#define WAYPOST_NET_SASL_IMPL_H

#include "relay/net/sasl.h"

#include <gsasl.h>

#define SASL_TEXT_MAX ((size_t)16 * 1024) /* base64 of one step; RFC 4954 asks for 12288 */

/* One for the process, made when first needed; never changed after that. */
Gsasl *sasl_library(void);
const char *sasl_word(enum mechanism mechanism);

/* One step with base64 on both sides; an empty answer appends nothing. */
int sasl_step(Gsasl_session *session, struct str in, struct buf *out);
/* Text into a property; false when it holds a NUL. */
bool sasl_set(Gsasl_session *session, Gsasl_property property, struct str text);
bool sasl_set_base64(Gsasl_session *session, Gsasl_property property, struct str raw);
/* Ends the session; what is secret in it is wiped first. */
void sasl_finish(Gsasl_session **session);

/* ---- the server side ---- */

enum sasl_place { /* START -> USER -> PASSWORD -> END;  PLAIN: START -> END */
                  SASL_AT_START,
                  SASL_AT_USER,     /* LOGIN: the user name comes next */
                  SASL_AT_PASSWORD, /* LOGIN: the password */
                  SASL_AT_LAST,     /* our proof has gone out, the client has to nod */
                  SASL_AT_END,
};

struct sasl_server {
    enum mechanism mechanism;
    enum sasl_place place;
    Gsasl_session *session; /* SCRAM, CRAM-MD5 */
    sasl_lookup_fn *lookup;
    void *arg;
    char *hostname;
    struct str binding;                 /* a copy */
    bool was_asked;                     /* lookup was done */
    struct str user, authzid, password; /* copies, with a NUL behind */
};

/* Make the process's one callback ours (sasl_secret.c). */
void sasl_answer_questions(void);

#endif
