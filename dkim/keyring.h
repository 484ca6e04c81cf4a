/*
 * keyring.h - the DKIM keys we sign with, by domain.
 *
 * Built once from the configuration, immutable, shared by all threads; a
 * reload builds a new one. Loading checks what would only show later: file
 * mode, key type and size, that a signature can be made.
 */
#ifndef WAYPOST_DKIM_KEYRING_H
#define WAYPOST_DKIM_KEYRING_H

#include "relay/base/canon.h"
#include "relay/base/err.h"
#include "relay/base/str.h"

struct keyring;

struct keyring_key {
    const char *domain;  /* d=; "*" makes it the fallback's key: then `sign_as` is d= */
    const char *sign_as; /* NULL: same as domain */
    const char *selector;
    const char *file; /* PEM, PKCS#8 or PKCS#1; RSA >= 1024 bits or Ed25519 */
    enum canon canon;
};

/* The fault names the file and the reason: missing, unreadable, readable by
 * others (mode), not a private key, RSA under 1024 bits, unknown type. */
enum err keyring_new(const struct keyring_key *keys, size_t count, struct keyring **out_keyring,
                     struct fault *fault);
struct keyring *keyring_ref(struct keyring *keyring);
void keyring_unref(struct keyring **keyring);
size_t keyring_count(const struct keyring *keyring);

/* Keys for this From domain (A-labels): exact, else a parent domain's (sub.example.com is
 * signed by example.com), else the fallback. 0: none. */
size_t keyring_match(const struct keyring *keyring, struct str from_domain);

#endif
