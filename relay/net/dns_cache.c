/*
 * dns_cache.c - a hash table in order of last use.
 *
 * uthash keeps its entries in the order they were added: one that is used is
 * taken out and added again, so the first is always the one to drop.
 */
#include "relay/net/dns_cache.h"

#include "relay/base/hash.h"
#include "relay/net/dns_pack.h"

#include <stdlib.h>

#define PACKED_MAX ((size_t)128 * 1024)

struct entry {
    UT_hash_handle hh;
    uint64_t stored_ms, expires_ms;
    size_t key_len, packed_len;
    char bytes[]; /* key, then the packed answer */
};

struct dns_cache {
    struct entry *table;
    size_t bytes, max_bytes;
};

struct key {
    char bytes[2 + DNS_NAME];
    size_t len;
};

static struct key key_of(const struct dns_question *question)
{
    struct key key;
    uint16_t type = (uint16_t)question->type;

    memcpy(key.bytes, &type, sizeof(type));
    key.len = sizeof(type) + str_copy(key.bytes + sizeof(type), DNS_NAME, str_of(question->name));
    return key;
}

struct dns_cache *dns_cache_new(size_t max_bytes)
{
    struct dns_cache *cache = mem_alloc(sizeof(*cache));

    cache->max_bytes = max_bytes;
    return cache;
}

void dns_cache_free(struct dns_cache **cache)
{
    if (!*cache)
        return;
    dns_cache_flush(*cache);
    free(*cache);
    *cache = NULL;
}

static size_t entry_bytes(const struct entry *entry)
{
    return sizeof(*entry) + entry->key_len + entry->packed_len + sizeof(UT_hash_bucket);
}

static void drop(struct dns_cache *cache, struct entry *entry)
{
    cache->bytes -= entry_bytes(entry);
    HASH_DEL(cache->table, entry);
    free(entry);
}

static void add(struct dns_cache *cache, struct entry *entry)
{
    HASH_ADD_KEYPTR(hh, cache->table, entry->bytes, entry->key_len, entry);
}

void dns_cache_flush(struct dns_cache *cache)
{
    while (cache->table)
        drop(cache, cache->table);
}

size_t dns_cache_bytes(const struct dns_cache *cache) { return cache->bytes; }

static uint32_t clamp(uint32_t value, uint32_t least, uint32_t most)
{
    return value < least ? least : value > most ? most : value;
}

static uint32_t lifetime_s(const struct dns_answer *answer)
{
    switch (answer->status) {
    case DNS_OK:
        return clamp(answer->ttl_s, DNS_TTL_MIN_S, DNS_TTL_MAX_S);
    case DNS_NODATA:
    case DNS_NXDOMAIN:
        return answer->ttl_s ? clamp(answer->ttl_s, DNS_TTL_MIN_S, DNS_NEGATIVE_TTL_MAX_S)
                             : DNS_FAILURE_TTL_S;
    case DNS_SERVFAIL:
    case DNS_BOGUS:
    case DNS_TIMEOUT:
    case DNS_INVALID:
        return DNS_FAILURE_TTL_S;
    }
    return 0;
}

static struct entry *find(struct dns_cache *cache, const struct key *key)
{
    struct entry *entry = NULL;

    HASH_FIND(hh, cache->table, key->bytes, key->len, entry);
    return entry;
}

void dns_cache_put(struct dns_cache *cache, const struct dns_question *question,
                   struct dns_answer *answer, uint64_t now_ms)
{
    struct key key = key_of(question);
    struct buf packed;
    struct entry *old = find(cache, &key);

    answer->ttl_s = lifetime_s(answer);
    if (old)
        drop(cache, old);
    buf_init(&packed, PACKED_MAX);
    if (!dns_pack(answer, question->type, &packed))
        goto out;
    struct entry *entry = mem_alloc(sizeof(*entry) + key.len + packed.len);
    entry->stored_ms = now_ms;
    entry->expires_ms = now_ms + (uint64_t)answer->ttl_s * 1000;
    entry->key_len = key.len;
    entry->packed_len = packed.len;
    memcpy(entry->bytes, key.bytes, key.len);
    memcpy(entry->bytes + key.len, packed.at, packed.len);
    cache->bytes += entry_bytes(entry);
    add(cache, entry);
    while (cache->bytes > cache->max_bytes)
        drop(cache, cache->table);
out:
    buf_clear(&packed);
}

static void age(struct dns_reply *reply, uint32_t age_s)
{
    struct dns_record *records = reply->records;

    reply->answer.ttl_s -= clamp(age_s, 0, reply->answer.ttl_s);
    for (size_t i = 0; i < reply->answer.count; i++)
        records[i].ttl_s -= clamp(age_s, 0, records[i].ttl_s);
}

bool dns_cache_get(struct dns_cache *cache, const struct dns_question *question, uint64_t now_ms,
                   struct dns_reply *out)
{
    struct key key = key_of(question);
    struct entry *entry = find(cache, &key);

    if (!entry)
        return false;
    if (now_ms >= entry->expires_ms) {
        drop(cache, entry);
        return false;
    }
    HASH_DEL(cache->table, entry); /* and added again: it is now the last to go */
    add(cache, entry);
    dns_unpack(str_make(entry->bytes + entry->key_len, entry->packed_len), question->type, out);
    age(out, (uint32_t)((now_ms - entry->stored_ms) / 1000));
    out->answer.from_cache = true;
    return true;
}
