/*
 * addr.h - addresses: SMTP paths (RFC 5321 4.1.2, RFC 6531) and the mailboxes
 * of header fields (RFC 5322 3.4).
 *
 * Strict where an envelope is decided, tolerant only where a header is merely
 * read. Pure; views point into the input.
 */
#ifndef WAYPOST_MAIL_ADDR_H
#define WAYPOST_MAIL_ADDR_H

#include "relay/base/arena.h"
#include "relay/base/buf.h"
#include "relay/base/err.h"

#define ADDR_LOCAL_MAX 64
#define ADDR_DOMAIN_MAX 255
#define ADDR_MAX 320 /* local + "@" + domain; we refuse longer ones */

/* local@domain. The null reverse-path has both empty. `local` is as written,
 * quotes included; `domain` as written, or "[192.0.2.1]" / "[IPv6:...]". */
struct addr {
    struct str local;
    struct str domain;
    bool is_literal; /* domain is an address literal */
    bool is_utf8;    /* needs SMTPUTF8: bytes over 127 in local or domain */
};

enum {
    ADDR_ALLOW_NULL = 1 << 0, /* "<>" */
    ADDR_ALLOW_UTF8 = 1 << 1, /* RFC 6531 */
    ADDR_ALLOW_BARE = 1 << 2, /* local part without a domain ("<postmaster>", "root") */
    ADDR_ALLOW_LONG = 1 << 3, /* no limit on the local part: a header field, not a path */
};

/* A path in angle brackets at the start of `in`, source route dropped (RFC 5321
 * appendix C). *out_used: bytes of the path, brackets included. The fault says
 * what is wrong with it in words fit for a 501/553 reply. */
enum err addr_path(struct str in, unsigned flags, struct addr *out_addr, size_t *out_used,
                   struct fault *fault);

/* The whole of `in` is local@domain without brackets. */
enum err addr_parse(struct str in, unsigned flags, struct addr *out_addr, struct fault *fault);

bool addr_is_null(const struct addr *addr);
bool addr_is_domain(struct str domain, unsigned flags); /* a host or domain name, or a literal */

/* The form we store, compare and send: quotes around a local part that needs
 * none removed, domain in lower case as A-labels (IDNA2008; only the domain:
 * a UTF-8 local part stays). */
enum err addr_canonical(const struct addr *addr, struct buf *out, struct fault *fault);
enum err addr_domain_ascii(struct str domain, char out[ADDR_DOMAIN_MAX + 1], struct fault *fault);

/* Does `addr` (canonical text) match a pattern: "a@example.com", "example.com"
 * or "@example.com" (the domain), ".example.com" (any subdomain), "*", or
 * "local@" (any domain)? Domains and local parts compare without case. */
bool addr_matches(struct str addr, struct str pattern);

struct str addr_domain_of(struct str addr); /* behind the last @; empty when there is none */
struct str addr_local_of(struct str addr);

/* ---- mailboxes in header fields ---- */

struct addr_mailbox {
    struct str name; /* display name as written, maybe empty */
    struct str spec; /* addr-spec as written, comments and folding removed (in the arena) */
};

typedef bool addr_mailbox_fn(void *arg, const struct addr_mailbox *mailbox); /* false stops */

/* Every mailbox of an address list (groups opened up). ERR_INVALID when the
 * list does not parse: mailboxes before the bad place have been reported. */
enum err addr_list(struct str value, struct arena *arena, addr_mailbox_fn *fn, void *arg,
                   struct fault *fault);

#endif
