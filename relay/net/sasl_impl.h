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

#endif
