/*
 * auth_memory.h - what auth remembers: verified credentials and failures, in
 * tables of fixed size (inside this module; the caller holds auth's mutex).
 *
 * Everything is kept under keyed hashes: neither a name nor a password can be
 * read from the tables, and nobody outside can aim at a place in them. A full
 * row forgets its oldest entry: for a credential that costs a hash, for a
 * failure it makes one answer faster.
 */
#ifndef WAYPOST_INGRESS_AUTH_MEMORY_H
#define WAYPOST_INGRESS_AUTH_MEMORY_H

#include "relay/base/str.h"
#include "relay/net/endpoint.h"

#define AUTH_ROWS 1024U
#define AUTH_WAYS 4U
#define AUTH_KEPT_MS (UINT64_C(5) * 60 * 1000)      /* a verified credential */
#define AUTH_FORGIVEN_MS (UINT64_C(15) * 60 * 1000) /* a failure with none after it */
#define AUTH_DELAY_FIRST_MS 1000U
#define AUTH_DELAY_MAX_MS 30000U

struct auth_key {
    uint8_t octets[32];
};

struct auth_good {
    struct auth_key key;
    uint64_t until_ms; /* 0: free */
};

struct auth_bad {
    struct auth_key key;
    uint64_t last_ms;
    unsigned failures; /* 0: free */
};

struct auth_memory {
    uint8_t secret[32];
    struct auth_good good[AUTH_ROWS][AUTH_WAYS];
    struct auth_bad bad[AUTH_ROWS][AUTH_WAYS];
    unsigned bad_count; /* places that are taken */
};

bool auth_key_same(const struct auth_key *a, const struct auth_key *b);

/* Any thread, no mutex: the secret never changes. */
struct auth_key auth_key_credential(const struct auth_memory *memory, struct str user,
                                    struct str password);
/* By /24, /64 and local socket; with an empty user: the network itself. */
struct auth_key auth_key_client(const struct auth_memory *memory, const struct endpoint *client,
                                struct str user);

bool auth_memory_is_good(const struct auth_memory *memory, const struct auth_key *key,
                         uint64_t now_ms);
void auth_memory_add_good(struct auth_memory *memory, const struct auth_key *key, uint64_t now_ms);
void auth_memory_forget_good(struct auth_memory *memory);

/* Counts a failure; how late the answer is to be: 1, 2, 4 ... 30 s. */
uint64_t auth_memory_add_bad(struct auth_memory *memory, const struct auth_key *key,
                             uint64_t now_ms);
void auth_memory_forgive(struct auth_memory *memory, const struct auth_key *key);

#endif
