/*
 * ext.h - the SMTP extensions we know: one row each, for both machines.
 *
 * keyword, bit, RFC. What the server offers and what the client found offered
 * are sets of these bits; arguments (SIZE's limit, AUTH's mechanisms) travel
 * beside the set.
 */
#ifndef WAYPOST_SMTP_EXT_H
#define WAYPOST_SMTP_EXT_H

#include "relay/base/str.h"

#define EXT_MAP(X)                                                                                 \
    X(PIPELINING, "PIPELINING", 2920)                                                              \
    X(SIZE, "SIZE", 1870)                                                                          \
    X(STARTTLS, "STARTTLS", 3207)                                                                  \
    X(AUTH, "AUTH", 4954)                                                                          \
    X(ENHANCEDSTATUSCODES, "ENHANCEDSTATUSCODES", 2034)                                            \
    X(8BITMIME, "8BITMIME", 6152)                                                                  \
    X(DSN, "DSN", 3461)                                                                            \
    X(CHUNKING, "CHUNKING", 3030)                                                                  \
    X(SMTPUTF8, "SMTPUTF8", 6531)

enum ext_index {
#define X(name, keyword, rfc) EXT_INDEX_##name,
    EXT_MAP(X)
#undef X
        EXT_COUNT
};

enum ext {
#define X(name, keyword, rfc) EXT_##name = 1 << EXT_INDEX_##name,
    EXT_MAP(X)
#undef X
};

/* SASL mechanisms; in order of preference, best first */
#define MECHANISM_MAP(X)                                                                           \
    X(SCRAM_SHA_256_PLUS, "SCRAM-SHA-256-PLUS")                                                    \
    X(SCRAM_SHA_256, "SCRAM-SHA-256")                                                              \
    X(SCRAM_SHA_1, "SCRAM-SHA-1")                                                                  \
    X(CRAM_MD5, "CRAM-MD5")                                                                        \
    X(PLAIN, "PLAIN")                                                                              \
    X(LOGIN, "LOGIN")

enum mechanism_index {
#define X(name, word) MECHANISM_INDEX_##name,
    MECHANISM_MAP(X)
#undef X
        MECHANISM_COUNT
};
enum mechanism {
#define X(name, word) MECHANISM_##name = 1 << MECHANISM_INDEX_##name,
    MECHANISM_MAP(X)
#undef X
};

const char *ext_keyword(enum ext_index index);
const char *mechanism_word(enum mechanism_index index);
bool mechanism_parse(struct str word, enum mechanism *out_mechanism); /* one bit */

/* One EHLO reply line ("SIZE 52428800", "AUTH PLAIN LOGIN", "AUTH=LOGIN").
 * Unknown keywords change nothing. */
struct ext_offer {
    unsigned exts;       /* EXT_* */
    unsigned mechanisms; /* MECHANISM_* */
    uint64_t size_max;   /* 0: none stated */
};
void ext_offer_line(struct ext_offer *offer, struct str line);

#endif
