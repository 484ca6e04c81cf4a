/*
 * qualify.h - names without a domain in the header of this machine's own mail.
 *
 * "From: root (Cron Daemon)" and "To: joe, ann@example.com" are complete inside
 * a machine and nowhere else: smarthosts refuse them. Each bare name gets the
 * mail name, as do localhost and the machine's bare name; everything else keeps
 * every byte. Pure.
 */
#ifndef WAYPOST_MAIL_QUALIFY_H
#define WAYPOST_MAIL_QUALIFY_H

#include "relay/base/arena.h"
#include "relay/base/buf.h"
#include "relay/mail/local.h"

/* Is this a field whose addresses are to be completed? */
bool qualify_is_field(struct str name);

/* The value of an address field with its names completed, appended to `out`.
 * False, and nothing appended: there is nothing to complete, or it cannot be read. */
bool qualify_value(struct str value, const struct local_names *names, struct buf *out);

/* A whole block. A field that a foreign signature names stays as it is. From that
 * is words and no address ("Cron Daemon") becomes `from_fallback`, its text stays in
 * X-Original-From. Returns `block` itself when nothing changes, else a new block
 * in the arena; *out_changed counts fields. */
struct str qualify_block(struct str block, const struct local_names *names,
                         struct str from_fallback, struct arena *arena, unsigned *out_changed);

#endif
