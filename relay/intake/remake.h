/*
 * remake.h - changing and signing a whole message, off the loop.
 *
 * Used when a message comes in (over-long lines re-encoded, signed) and when a
 * next hop without 8BITMIME needs a 7-bit copy, signed again. All changes of
 * bytes come before the signature, none after. Blocking: worker threads only.
 */
#ifndef WAYPOST_INTAKE_REMAKE_H
#define WAYPOST_INTAKE_REMAKE_H

#include "dkim/keyring.h"
#include "queue/body.h"
#include "relay/base/buf.h"

/* Re-encode what CONVERT_* asks for (mail/convert.h). ERR_OK with *out_body
 * NULL: nothing had to change. ERR_DENIED: it must change and may not.
 * `folder`, `id`: for the new body's writer. */
enum err remake_convert(struct str head, struct body *body, unsigned want, unsigned own_signatures,
                        const char *folder, const struct msgid *id, struct buf *out_head,
                        struct body **out_body, struct fault *fault);

/* Appends our DKIM-Signature fields to `out_fields`, and which keys made them
 * to `out_words`. No matching key: nothing is appended. ERR_INVALID: it cannot be signed. */
enum err remake_sign(struct keyring *keyring, struct str from_domain, struct str head,
                     struct body *body, struct buf *out_fields, unsigned *out_count,
                     struct buf *out_words, struct fault *fault);

#endif
