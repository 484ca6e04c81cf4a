/*
 * auth_memory.c - keyed hashes in tables of rows with few places each.
 */
#include "relay/ingress/auth_memory.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

bool auth_key_same(const struct auth_key *a, const struct auth_key *b)
{
    return CRYPTO_memcmp(a->octets, b->octets, sizeof(a->octets)) == 0;
}

/* HMAC-SHA256 of purpose, length of the first piece, first piece, second. */
static struct auth_key keyed(const struct auth_memory *memory, char purpose, struct str first,
                             struct str second)
{
    size_t size = 1 + sizeof(first.len) + first.len + second.len;
    unsigned char *text = mem_alloc(size);
    struct auth_key key = { { 0 } };
    unsigned len = sizeof(key.octets);

    text[0] = (unsigned char)purpose;
    memcpy(text + 1, &first.len, sizeof(first.len));
    if (first.len)
        memcpy(text + 1 + sizeof(first.len), first.at, first.len);
    if (second.len)
        memcpy(text + 1 + sizeof(first.len) + first.len, second.at, second.len);
    if (!HMAC(EVP_sha256(), memory->secret, (int)sizeof(memory->secret), text, size, key.octets,
              &len))
        abort(); /* a key of zeros would be everybody's */
    OPENSSL_cleanse(text, size);
    free(text);
    return key;
}

struct auth_key auth_key_credential(const struct auth_memory *memory, struct str user,
                                    struct str password)
{
    return keyed(memory, 'c', user, password);
}

struct auth_key auth_key_client(const struct auth_memory *memory, const struct endpoint *client,
                                struct str user)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    char network[9] = { 0 };

    switch (client->family) {
    case ENDPOINT_IPV6:
        if (memcmp(client->ip, mapped, sizeof(mapped)) == 0) {
            network[0] = 4;
            memcpy(network + 1, client->ip + 12, 3);
        } else {
            network[0] = 6;
            memcpy(network + 1, client->ip, 8);
        }
        break;
    case ENDPOINT_IPV4:
        network[0] = 4;
        memcpy(network + 1, client->ip, 3);
        break;
    case ENDPOINT_UNIX:
    case ENDPOINT_NONE:
        break;
    }
    return keyed(memory, 'n', str_make(network, sizeof(network)), user);
}

static unsigned row_of(const struct auth_key *key)
{
    return ((unsigned)key->octets[0] << 8 | key->octets[1]) % AUTH_ROWS;
}

/* ---- verified credentials ---- */

bool auth_memory_is_good(const struct auth_memory *memory, const struct auth_key *key,
                         uint64_t now_ms)
{
    const struct auth_good *row = memory->good[row_of(key)];

    for (unsigned i = 0; i < AUTH_WAYS; i++)
        if (row[i].until_ms > now_ms && auth_key_same(&row[i].key, key))
            return true;
    return false;
}

void auth_memory_add_good(struct auth_memory *memory, const struct auth_key *key, uint64_t now_ms)
{
    struct auth_good *row = memory->good[row_of(key)], *place = row;

    for (unsigned i = 0; i < AUTH_WAYS; i++) {
        if (auth_key_same(&row[i].key, key)) {
            place = &row[i];
            break;
        }
        if (row[i].until_ms < place->until_ms)
            place = &row[i];
    }
    *place = (struct auth_good){ *key, now_ms + AUTH_KEPT_MS };
}

void auth_memory_forget_good(struct auth_memory *memory)
{
    OPENSSL_cleanse(memory->good, sizeof(memory->good));
}

/* ---- failures ---- */

static struct auth_bad *find_bad(struct auth_memory *memory, const struct auth_key *key)
{
    struct auth_bad *row = memory->bad[row_of(key)];

    for (unsigned i = 0; i < AUTH_WAYS; i++)
        if (row[i].failures > 0 && auth_key_same(&row[i].key, key))
            return &row[i];
    return NULL;
}

static struct auth_bad *oldest_bad(struct auth_memory *memory, const struct auth_key *key)
{
    struct auth_bad *row = memory->bad[row_of(key)], *oldest = row;

    for (unsigned i = 1; i < AUTH_WAYS; i++)
        if (row[i].last_ms < oldest->last_ms)
            oldest = &row[i];
    return oldest;
}

uint64_t auth_memory_add_bad(struct auth_memory *memory, const struct auth_key *key,
                             uint64_t now_ms)
{
    struct auth_bad *bad = find_bad(memory, key);

    if (!bad || bad->last_ms + AUTH_FORGIVEN_MS <= now_ms) {
        if (!bad)
            bad = oldest_bad(memory, key);
        memory->bad_count += bad->failures == 0;
        *bad = (struct auth_bad){ .key = *key };
    }
    bad->last_ms = now_ms;
    if (bad->failures < 6)
        bad->failures++;
    uint64_t delay_ms = (uint64_t)AUTH_DELAY_FIRST_MS << (bad->failures - 1);
    return delay_ms < AUTH_DELAY_MAX_MS ? delay_ms : AUTH_DELAY_MAX_MS;
}

void auth_memory_forgive(struct auth_memory *memory, const struct auth_key *key)
{
    struct auth_bad *bad = find_bad(memory, key);

    if (!bad)
        return;
    *bad = (struct auth_bad){ .failures = 0 };
    memory->bad_count--;
}
