/*
 * policy.c - the words of TLS policy levels, what each demands, and the one
 * line that says what a handshake proved.
 */
#include "relay/mail/policy.h"

#include <stdio.h>

static const char *const level_words[] = {
#define X(name, word) [POLICY_##name] = word,
    POLICY_LEVEL_MAP(X)
#undef X
};

#define LEVEL_COUNT (sizeof(level_words) / sizeof(level_words[0]))

const char *policy_word(enum policy_level level)
{
    return (size_t)level < LEVEL_COUNT ? level_words[level] : "unknown";
}

bool policy_parse(struct str word, enum policy_level *out_level)
{
    for (size_t i = 0; i < LEVEL_COUNT; i++) {
        if (!str_ieq(word, str_of(level_words[i])))
            continue;
        *out_level = (enum policy_level)i;
        return true;
    }
    return false;
}

bool policy_needs_tls(enum policy_level level)
{
    switch (level) {
    case POLICY_NONE:
    case POLICY_OPPORTUNISTIC:
        return false;
    case POLICY_REQUIRED:
    case POLICY_VERIFIED:
    case POLICY_IMPLICIT:
    case POLICY_DANE:
        return true;
    }
    return true; /* a value out of range is never read as permission to go in clear */
}

bool policy_needs_identity(enum policy_level level)
{
    switch (level) {
    case POLICY_NONE:
    case POLICY_OPPORTUNISTIC:
    case POLICY_REQUIRED:
        return false;
    case POLICY_VERIFIED:
    case POLICY_IMPLICIT:
    case POLICY_DANE:
        return true;
    }
    return true;
}

static const char *proof_word(const struct tls_facts *facts)
{
    if (facts->dane_ok)
        return " dane";
    if (facts->chain_ok && facts->name_ok)
        return " verified";
    return facts->problem[0] ? " unverified" : "";
}

size_t tls_facts_line(const struct tls_facts *facts, char *out, size_t size)
{
    int n;

    if (size == 0)
        return 0;
    if (!facts->encrypted) {
        out[0] = '\0';
        return 0;
    }
    n = snprintf(out, size, "%s %s%s", facts->version, facts->cipher, proof_word(facts));
    if (n < 0)
        n = 0;
    return (size_t)n < size ? (size_t)n : size - 1;
}
