/*
 * signed.h - what foreign signatures in a message forbid to change.
 *
 * Reads the h= and c= tags of DKIM-Signature and ARC-Message-Signature fields
 * (RFC 6376 3.5, RFC 8617 4.1.2) and the S/MIME and PGP content types. It
 * verifies nothing. Pure.
 */
#ifndef WAYPOST_MAIL_SIGNED_H
#define WAYPOST_MAIL_SIGNED_H

#include "relay/mail/header.h"

enum signed_by {
    SIGNED_ANY,
    SIGNED_SIMPLE, /* only signatures with simple header canonicalization */
};

/* Does a signature in the block cover fields of that name? */
bool signed_field(struct str block, struct str name, enum signed_by by, struct arena *arena);

/* Content-Type value: multipart/signed, or S/MIME signed-data. */
bool signed_mime(struct str content_type, struct arena *arena);

#endif
