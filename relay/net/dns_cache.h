/*
 * dns_cache.h - answers kept for as long as they may be, in bounded memory.
 *
 * Answers are kept packed (a struct dns_answer is ten times as large) and the
 * one that has not been used for longest goes first. Expiry is lazy: nothing
 * runs while nobody asks. `now_ms` is monotonic.
 */
#ifndef WAYPOST_NET_DNS_CACHE_H
#define WAYPOST_NET_DNS_CACHE_H

#include "relay/net/dns_wire.h"

#define DNS_TTL_MAX_S 86400u
#define DNS_TTL_MIN_S 1u
#define DNS_NEGATIVE_TTL_MAX_S 3600u
#define DNS_FAILURE_TTL_S 5u /* also for negative answers that name no time */

struct dns_cache;

struct dns_cache *dns_cache_new(size_t max_bytes);
void dns_cache_free(struct dns_cache **cache);

/* Sets answer->ttl_s to what it will be kept for. */
void dns_cache_put(struct dns_cache *cache, const struct dns_question *question,
                   struct dns_answer *answer, uint64_t now_ms);
/* TTLs are what is left of them. False: not there; *out is untouched. */
bool dns_cache_get(struct dns_cache *cache, const struct dns_question *question, uint64_t now_ms,
                   struct dns_reply *out);
void dns_cache_flush(struct dns_cache *cache);
size_t dns_cache_bytes(const struct dns_cache *cache);

#endif
