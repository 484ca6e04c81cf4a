/*
 * dns_pack.h - an answer as few bytes, for the cache. Never leaves the process.
 */
#ifndef WAYPOST_NET_DNS_PACK_H
#define WAYPOST_NET_DNS_PACK_H

#include "relay/base/buf.h"
#include "relay/net/dns_wire.h"

/* False: over the buf's limit. */
bool dns_pack(const struct dns_answer *answer, enum dns_type type, struct buf *out);
/* `packed` is one of ours. *out is zeroed or cleared before; a copy of everything. */
void dns_unpack(struct str packed, enum dns_type type, struct dns_reply *out);

#endif
