/*
 * ring.h - what keyring.c and signer.c share (inside this layer only).
 */
#ifndef WAYPOST_DKIM_RING_H
#define WAYPOST_DKIM_RING_H

#include "dkim/keyring.h"
#include "dkim/signer.h"
#include "relay/base/arena.h"

#include <openssl/evp.h>
#include <stdatomic.h>
#include <sys/types.h>

#include <opendkim/dkim.h>

struct ring_key {
    struct str domain;  /* lower case; "*": the fallback */
    struct str sign_as; /* lower case, NUL behind it */
    struct str selector;
    dkim_alg_t algorithm;
    dkim_canon_t body_form;
    EVP_PKEY *key;
    bool library_keeps; /* libopendkim never gives its reference back */
};

struct keyring {
    atomic_uint refs;
    struct arena arena;
    DKIM_LIB *library;
    struct ring_key *keys;
    size_t count;
};

enum err ring_library(DKIM_LIB **out_library, struct fault *fault);

#define RING_MATCH_MAX 8 /* signatures on one message */

size_t ring_match(const struct keyring *keyring, struct str from_domain,
                  const struct ring_key *out_keys[RING_MATCH_MAX]);

/* A signer over exactly these keys. */
struct signer *ring_signer(struct keyring *keyring, const struct ring_key *const *keys,
                           size_t count);

const char *ring_algorithm_word(const struct ring_key *key); /* "rsa-sha256" */

#endif
