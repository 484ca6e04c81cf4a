/*
 * local.h - which addresses are the machine's own, and where they lead.
 *
 * Nothing is delivered here: a local name becomes the addresses that its alias,
 * its user's .forward, the catch-all or, at last, root's address name. The rules:
 *
 *   - a name without a domain is local, and so is every address at localhost,
 *     at the machine's own names (when they differ from mailname) and at the
 *     further domains of the configuration;
 *   - an address at mailname is local only when its local part has an alias,
 *     or is root, postmaster or mailer-daemon and root's mail has somewhere to
 *     go. The mailboxes of mailname usually live elsewhere.
 *
 * Pure and immutable; any thread.
 */
#ifndef WAYPOST_MAIL_LOCAL_H
#define WAYPOST_MAIL_LOCAL_H

#include "relay/mail/alias.h"

#define LOCAL_FOUND_MAX 1000 /* addresses that one name may lead to */

/* The .forward of a local user: its targets, in the arena. False: there is none
 * that counts. *out_why (else left alone) says what was not heeded, and why. Blocks. */
typedef bool local_forward_fn(void *arg, struct str name, struct arena *arena,
                              const struct alias_target **out_targets, size_t *out_count,
                              struct str *out_why);

struct local_rules {
    struct str mailname;       /* what completes names without a domain */
    const struct str *domains; /* wholly the machine's own: its names, further ones */
    size_t domain_count;
    struct str root;                 /* canonical; empty: not set */
    const struct alias_table *table; /* NULL: none */
    local_forward_fn *forward;       /* NULL: .forward is not looked at */
    void *forward_arg;
};

/* How addresses of the machine are written outside of it. */
struct local_names {
    struct str mailname; /* completes names without a domain; empty: nothing is completed */
    struct str machine;  /* gethostname(2) where it has no dot, "web1"; empty: it has one */
};

/* Is the address (canonical, or a bare local part) one of ours? */
bool local_is_ours(const struct local_rules *rules, struct str address);
/* localhost and localhost.localdomain: a domain of no use outside. */
bool local_is_localhost(struct str domain);
/* The same and the machine's bare name: programs write root@web1 into mail for outside. */
bool local_is_inner(const struct local_names *names, struct str domain);

struct local_found {
    struct str address; /* canonical, has a domain */
    struct str words;   /* for the trace: "root -> ops@example.com (aliases, /etc/aliases:12)" */
};
struct local_result {
    const struct local_found *found; /* in the arena */
    size_t count;                    /* 0: it leads nowhere, `why` says so */
    struct str why;
    struct str remark; /* worth a line in the trace; empty: nothing */
};

/* Where an address of ours leads. Everything in the result lives in the arena. */
void local_expand(const struct local_rules *rules, struct str address, struct arena *arena,
                  struct local_result *out_result);

/* The form that is shown outside: a name without a domain, or at an inner one, gets mailname. */
struct str local_qualify(const struct local_names *names, struct str address, struct arena *arena);

#endif
