/*
 * policy.h - the verdict on how TLS must be done with a host, and why.
 *
 * Values only: egress/tlspolicy decides, net/tls carries it out, outcome and
 * hop tell it. Never weaker than the route asked for.
 */
#ifndef WAYPOST_MAIL_POLICY_H
#define WAYPOST_MAIL_POLICY_H

#include "relay/base/str.h"

/* word in the configuration, in order of strength */
#define POLICY_LEVEL_MAP(X)                                                                        \
    X(NONE, "none")                   /* never TLS */                                              \
    X(OPPORTUNISTIC, "opportunistic") /* when offered; falls back to clear once */                 \
    X(REQUIRED, "required")           /* encrypted, whoever it is */                               \
    X(VERIFIED, "verified")           /* STARTTLS, chain and name */                               \
    X(IMPLICIT, "implicit")           /* TLS at connect, chain and name */                         \
    X(DANE, "dane") /* TLSA decides when there are usable records, else as opportunistic */

enum policy_level {
#define X(name, word) POLICY_##name,
    POLICY_LEVEL_MAP(X)
#undef X
};

struct policy {
    enum policy_level level;
    const char
        *evidence; /* "route ses", "TLSA 3 1 1 (DNSSEC)", a constant or in the attempt's arena */
};

/* What a handshake proved. */
struct tls_facts {
    char version[16]; /* "TLSv1.3" */
    char cipher[64];
    bool encrypted;
    bool chain_ok; /* chains to a trusted root */
    bool name_ok;  /* the certificate names the host */
    bool dane_ok;  /* a TLSA record matched */
    bool resumed;
    char problem[160];  /* why chain or name is not ok; empty when fine */
    char subject[128];  /* first DNS name presented, or the common name */
    int64_t expires_at; /* wall seconds; 0: unknown */
};

const char *policy_word(enum policy_level level);
bool policy_parse(struct str word, enum policy_level *out_level);
/* Of a verdict: DANE there means that usable records were found (without them
 * the verdict is OPPORTUNISTIC). */
bool policy_needs_tls(enum policy_level level);      /* required and up */
bool policy_needs_identity(enum policy_level level); /* verified, implicit, dane */
/* "TLSv1.3 TLS_AES_256_GCM_SHA384 verified" for hops and Received; the last
 * word (verified, dane, unverified) is left out when nobody looked. Cut to
 * size; empty when not encrypted. */
size_t tls_facts_line(const struct tls_facts *facts, char *out, size_t size);

#endif
