/*
 * canon.h - the canonical forms of a DKIM signature (RFC 6376 section 3.4).
 *
 * Values only: the configuration says which, dkim/signer signs in it. A relaxed
 * form bears blanks that are changed on the way, a simple one bears no change.
 * The head is relaxed in all of them: hosts on the way fold fields again, and
 * what Debian's libopendkim signs with Ed25519 over a simple head verifies
 * nowhere, not even with itself.
 */
#ifndef WAYPOST_BASE_CANON_H
#define WAYPOST_BASE_CANON_H

/* word, as in c=: head and body */
#define CANON_MAP(X)                                                                               \
    X(RELAXED, "relaxed/relaxed")                                                                  \
    X(SIMPLE_BODY, "relaxed/simple")

enum canon {
#define X(name, word) CANON_##name,
    CANON_MAP(X)
#undef X
};

#endif
