/*
 * received.h - the trace field we put on top (RFC 5321 4.4, RFC 3848, RFC 6531 4.3).
 *
 * What the client said about itself stands in it only in a form that cannot be
 * taken for syntax. Pure.
 */
#ifndef WAYPOST_MAIL_RECEIVED_H
#define WAYPOST_MAIL_RECEIVED_H

#include "relay/mail/fixup.h"

void received_print(const struct fixup_options *options, const struct envelope *envelope,
                    struct buf *out);

#endif
