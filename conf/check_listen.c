/*
 * check_listen.c - listeners: nothing that makes an open relay, nothing that
 * offers a login in clear, nothing that cannot work.
 */
#include "conf/build.h"
#include "conf/value.h"

#include <stdio.h>

struct checked {
    struct tree *tree;
    const struct conf *conf;
    const struct conf_listen *listen;
    struct place place;
};

/* A widest network that is still plausible as "ours": 10.0.0.0/8, 2001:db8::/20. */
#define WIDE_IPV4 8
#define WIDE_IPV6 20

static void check_trust(const struct checked *c)
{
    for (size_t i = 0; i < c->listen->trust.count; i++) {
        struct str network = c->listen->trust.items[i];
        bool is_ipv6;
        unsigned bits = form_network_bits(network, &is_ipv6);
        const char *shown = report_shown(c->tree->arena, network);
        if (bits == 0)
            report_error(c->tree->report, c->place, "name your own networks",
                         "listen \"%.*s\" trusts %s, which is everybody: an open relay",
                         STR_ARG(c->listen->name), shown);
        else if (bits < (is_ipv6 ? WIDE_IPV6 : WIDE_IPV4))
            report_warning(c->tree->report, c->place, "name your own networks",
                           "listen \"%.*s\" trusts %s, which is very wide",
                           STR_ARG(c->listen->name), shown);
    }
}

static void check_proxy(const struct checked *c)
{
    for (size_t i = 0; i < c->listen->proxy.count; i++) {
        if (form_network_is_all(c->listen->proxy.items[i]))
            report_error(c->tree->report, c->place, "name your load balancers",
                         "listen \"%.*s\" believes PROXY headers from everybody: any client could "
                         "pass for a trusted one",
                         STR_ARG(c->listen->name));
    }
}

static void check_certificate(const struct checked *c)
{
    if (c->listen->tls == LISTEN_TLS_NONE || c->conf->tls_count)
        return;
    report_error(c->tree->report, c->place, "add tls { certificate = \"...\" key = \"...\" }",
                 "listen \"%.*s\" has tls = %s, but there is no certificate",
                 STR_ARG(c->listen->name), words_listen_tls(c->listen->tls));
}

static void check_auth(const struct checked *c)
{
    bool has_tls = c->listen->tls != LISTEN_TLS_NONE;

    if (c->listen->auth_in_clear && !form_is_loopback(c->listen->address))
        report_error(c->tree->report, c->place, "use tls, or listen on 127.0.0.1",
                     "listen \"%.*s\" has auth-in-clear, but \"%s\" is not a loopback address",
                     STR_ARG(c->listen->name), report_shown(c->tree->arena, c->listen->address));
    if (c->listen->auth == LISTEN_AUTH_OFF)
        return;
    if (!c->conf->users_file.len)
        report_error(c->tree->report, c->place, "add users { file = \"/etc/waypost/users\" }",
                     "listen \"%.*s\" has auth = %s, but there are no users",
                     STR_ARG(c->listen->name), words_listen_auth(c->listen->auth));
    if (!has_tls && !c->listen->auth_in_clear)
        report_error(c->tree->report, c->place, "add tls = starttls",
                     "listen \"%.*s\" has auth = %s without tls: login is never offered in clear",
                     STR_ARG(c->listen->name), words_listen_auth(c->listen->auth));
}

static void check_anyone(const struct checked *c)
{
    if (c->listen->auth != LISTEN_AUTH_OFF || c->listen->trust.count ||
        str_starts(c->listen->address, STR("unix:")))
        return;
    report_warning(c->tree->report, c->place, "add auth = required, or trust = {\"127.0.0.0/8\"}",
                   "listen \"%.*s\" lets nobody send: no auth, no trust", STR_ARG(c->listen->name));
}

static void check_address(const struct checked *c)
{
    for (const struct conf_listen *other = c->conf->listens; other < c->listen; other++) {
        if (str_eq(other->address, c->listen->address))
            report_error(c->tree->report, c->place, "give each its own address",
                         "listen \"%.*s\" has the address of listen \"%.*s\"",
                         STR_ARG(c->listen->name), STR_ARG(other->name));
    }
}

void check_listens(struct tree *tree, const struct conf *conf)
{
    for (size_t i = 0; i < conf->listen_count; i++) {
        const struct conf_listen *listen = &conf->listens[i];
        struct checked c = { tree, conf, listen, { listen->in_file, listen->line } };
        check_address(&c);
        check_certificate(&c);
        check_auth(&c);
        check_trust(&c);
        check_proxy(&c);
        check_anyone(&c);
    }
}
