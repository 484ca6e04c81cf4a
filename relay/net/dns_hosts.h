/*
 * dns_hosts.h - /etc/hosts: addresses that need no question.
 */
#ifndef WAYPOST_NET_DNS_HOSTS_H
#define WAYPOST_NET_DNS_HOSTS_H

#include "relay/net/dns_name.h"

struct dns_hosts;

/* Never fails: a file that is missing or unreadable names no hosts. */
struct dns_hosts *dns_hosts_read(const char *path);
void dns_hosts_free(struct dns_hosts **hosts);

/* `name` as dns_name_clean() gives it. Up to `max` addresses in the file's
 * order; 0: not there. "localhost" is always there (RFC 6761 6.3). */
size_t dns_hosts_find(const struct dns_hosts *hosts, const char *name, struct endpoint *out,
                      size_t max);

#endif
