/*
 * dns_conf.h - which servers to ask, how long, and what to believe.
 *
 * Read by ourselves: the reader of ldns ignores the options, and timeout,
 * attempts and trust-ad are what matters here. Search lists are left alone:
 * every name in mail is absolute.
 */
#ifndef WAYPOST_NET_DNS_CONF_H
#define WAYPOST_NET_DNS_CONF_H

#include "relay/net/dns.h"

#define DNS_SERVERS_MAX 8

struct dns_server {
    struct endpoint at;
    char text[ENDPOINT_TEXT]; /* "127.0.0.1:53" */
    bool believe_ad;
    uint64_t bad_until_ms; /* did not answer lately: asked after the others */
};

/* Counted by the questions that run on it; a reload does not disturb them. */
struct dns_conf {
    unsigned refs;
    struct dns_server servers[DNS_SERVERS_MAX];
    unsigned count;
    uint32_t timeout_ms;
    unsigned tries; /* rounds over all servers */
};

/* From the options' servers, else from their resolv_conf. No such file, or no
 * server in it: 127.0.0.1, as in libc. */
enum err dns_conf_new(const struct resolver_options *options, struct dns_conf **out_conf,
                      struct fault *fault);
struct dns_conf *dns_conf_ref(struct dns_conf *conf);
void dns_conf_unref(struct dns_conf **conf);

#endif
