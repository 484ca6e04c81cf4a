/*
 * dsn.h - delivery status notifications (RFC 3461, 3462/6522, 3464, 6533).
 *
 * Builds the text of one report about some recipients of one message: a first
 * part that a person understands, the machine part, and the message's head or
 * the whole message. Pure: the caller settles and stores it. How much one report
 * may hold is the caller's: what there is to tell may take several.
 */
#ifndef WAYPOST_MAIL_DSN_H
#define WAYPOST_MAIL_DSN_H

#include "relay/base/buf.h"
#include "relay/base/err.h"
#include "relay/mail/addr.h"
#include "relay/mail/envelope.h"

enum dsn_action { DSN_FAILED, DSN_DELAYED, DSN_DELIVERED, DSN_RELAYED, DSN_EXPIRED };
/* EXPIRED prints as failed; the words for people differ. */

struct dsn_recipient {
    const struct recipient *recipient; /* with the last attempt's facts filled in */
    enum dsn_action action;
    int64_t will_retry_until; /* wall seconds, DELAYED only */
};

struct dsn_options {
    struct str hostname; /* Reporting-MTA, From domain */
    struct str boundary; /* unique: the new message's id */
    int64_t wall_us;
    size_t full_max_bytes; /* return the whole message up to this, else its head (64 KiB) */
    /* One of several reports of the same moment: recipients that those before it tell
     * of, and those of all of them. total 0: it is the only one. */
    size_t before, total;
    bool is_brief; /* addresses, actions and statuses alone: when no more has room */
};

/* Is a report owed for this recipient and action? NOTIFY, null reverse-path. */
bool dsn_is_owed(const struct envelope *envelope, const struct recipient *recipient,
                 enum dsn_action action);

/* Head (with empty line) and body apart, CRLF; appended to the bufs. The head is
 * ASCII unless the reverse-path is not; the body has 8-bit bytes only when the
 * original or a recipient's address has (then its types are those of RFC 6533). The
 * whole message goes back when the caller has it, RET does not say HDRS, it is not
 * over full_max_bytes, and a failure is reported; else only its head, of which a very
 * large one is cut short. ERR_LIMIT: it does not fit into the bufs, and what is in
 * them now is no report. */
enum err dsn_build(const struct dsn_options *options, const struct envelope *original,
                   struct str original_head, struct str original_body, bool has_whole_body,
                   const struct dsn_recipient *recipients, size_t count, struct buf *out_head,
                   struct buf *out_body);

#endif
