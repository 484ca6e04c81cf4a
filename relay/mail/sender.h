/*
 * sender.h - next hops that accept only senders they know (SES, Gmail, office
 * relays): another From and reverse-path on the way there.
 *
 * The message as stored keeps its own; the copy that goes by such a route gets
 * "From: Original Name <sender>", with the old field in X-Original-From and its
 * address in Reply-To where there was none. A Sender field that is not accepted
 * becomes X-Original-Sender. Only the first line of such a field may be folded, where its
 * new name would make it too long. Everything else keeps every byte. Pure.
 */
#ifndef WAYPOST_MAIL_SENDER_H
#define WAYPOST_MAIL_SENDER_H

#include "relay/base/arena.h"
#include "relay/base/buf.h"
#include "relay/base/err.h"

struct sender_rules {
    struct str sender;          /* canonical; empty: every sender is accepted */
    const struct str *accepted; /* patterns (addr_matches) of further ones */
    size_t accepted_count;
    bool null_ok; /* the null reverse-path is accepted */
};

/* All texts in the arena, which is initialised here. */
void sender_rules_copy(const struct sender_rules *rules, struct arena *arena,
                       struct sender_rules *out_copy);

bool sender_is_accepted(const struct sender_rules *rules, struct str address);

/* What to say at MAIL for this reverse-path (empty: the null one). */
struct str sender_path(const struct sender_rules *rules, struct str reverse_path);

/* Does the header say somebody who is not accepted, in From or Sender? */
bool sender_must_change(const struct sender_rules *rules, struct str head, struct arena *arena);

/* The head with accepted senders; the first `own_signatures` DKIM-Signature fields are
 * left out, they are to be made again. `is_report`: nobody should reply to it.
 * ERR_LIMIT: `out` is full. */
enum err sender_rewrite(const struct sender_rules *rules, struct str head, unsigned own_signatures,
                        bool is_report, struct arena *arena, struct buf *out, struct fault *fault);

#endif
