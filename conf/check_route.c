/*
 * check_route.c - routes: credentials that would go in clear, TLS that cannot
 * be had, routes that are never reached. Reads the passwords.
 */
#include "conf/build.h"

#include <stdio.h>

#define PASSWORD_FILE_MAX 4096

static struct place place_of(const struct conf_route *route)
{
    return (struct place){ route->in_file, route->line };
}

static void read_password(struct tree *tree, struct conf_route *route)
{
    struct place place = place_of(route);
    const char *file = arena_cstr(tree->arena, route->password_file);
    struct fault fault;
    struct str text;
    unsigned mode;

    if (tree_slurp(file, PASSWORD_FILE_MAX, tree->arena, &text, &mode, &fault)) {
        report_error(tree->report, place,
                     fault.err == ERR_NOT_FOUND ? "write the password into it, mode 0640"
                     : fault.err == ERR_DENIED ? "let the relay's user read it, or run this as root"
                                               : "it is one line, the password",
                     "%s", fault.text);
        return;
    }
    if (mode & 0007)
        report_warning(tree->report, place, arena_printf(tree->arena, "chmod 0640 %s", file),
                       "%s is open to all users (mode %04o)", file, mode);
    while (text.len && strchr("\r\n", text.at[text.len - 1]))
        text.len--;
    if (!text.len)
        report_error(tree->report, place, "write the password into it", "%s is empty", file);
    if (str_chr(text, '\n') < text.len || str_chr(text, '\0') < text.len)
        report_error(tree->report, place, "leave only the password in it",
                     "%s has more than one line", file);
    route->password = text;
}

static void check_credentials(struct tree *tree, struct conf_route *route)
{
    struct place place = place_of(route);

    if (!route->username.len && !route->password_file.len)
        return;
    if (!route->password_file.len)
        report_error(tree->report, place, "add password-file = \"...\"",
                     "route \"%.*s\" has a username, no password-file", STR_ARG(route->name));
    if (!route->username.len)
        report_error(tree->report, place, "add username = \"...\"",
                     "route \"%.*s\" has a password-file, no username", STR_ARG(route->name));
    if (!route->relay.count)
        report_error(tree->report, place, "add relay = \"...\"",
                     "route \"%.*s\" has credentials, but goes by MX: every host would get them",
                     STR_ARG(route->name));
    if (!policy_needs_tls(route->tls))
        report_error(tree->report, place, "add tls = verified",
                     "route \"%.*s\" has tls = %s: credentials would go in clear",
                     STR_ARG(route->name), policy_word(route->tls));
    else if (route->tls == POLICY_DANE)
        /* Where there are no TLSA records, dane means opportunistic. */
        report_error(tree->report, place, "use tls = verified",
                     "route \"%.*s\" has tls = dane: without TLSA records credentials would go in "
                     "clear",
                     STR_ARG(route->name));
    else if (!policy_needs_identity(route->tls))
        report_warning(tree->report, place, "use tls = verified",
                       "route \"%.*s\" has tls = %s: credentials go to whoever answers",
                       STR_ARG(route->name), policy_word(route->tls));
    if (route->password_file.len)
        read_password(tree, route);
}

static bool has_port(struct str relay, const char *port)
{
    size_t colon = str_chr(relay, ':');
    bool is_bracketed = str_starts(relay, STR("["));

    if (is_bracketed)
        colon = str_chr(relay, ']') + 1;
    else if (str_chr(str_from(relay, colon + 1), ':') + colon + 1 < relay.len)
        return false; /* an IPv6 address without a port */
    return colon < relay.len && str_eq(str_from(relay, colon + 1), str_of(port));
}

/* RFC 8314 3.3: TLS at connect on 465, STARTTLS on 587. With the other one both wait for
 * the other to speak. */
static void check_ports(struct tree *tree, const struct conf_route *route)
{
    bool is_implicit = route->tls == POLICY_IMPLICIT;

    for (size_t i = 0; i < route->relay.count; i++) {
        struct str relay = route->relay.items[i];
        if (!has_port(relay, is_implicit ? "587" : "465"))
            continue;
        report_warning(tree->report, place_of(route),
                       is_implicit ? "use tls = verified, or port 465"
                                   : "use tls = implicit, or port 587",
                       "route \"%.*s\" has tls = %s, but hosts expect %s: %s", STR_ARG(route->name),
                       policy_word(route->tls),
                       is_implicit ? "STARTTLS on port 587" : "TLS at connect on port 465",
                       report_shown(tree->arena, relay));
    }
}

static void check_sender(struct tree *tree, const struct conf_route *route)
{
    if (route->sender.len > 0)
        return;
    if (route->senders.count > 0 || !route->null_sender)
        report_error(tree->report, place_of(route), "add sender = \"relay@example.com\"",
                     "route \"%.*s\" says which senders its next hop accepts, but not what "
                     "replaces others",
                     STR_ARG(route->name));
}

static bool matches_all(struct conf_list patterns)
{
    for (size_t i = 0; i < patterns.count; i++) {
        if (str_eq(patterns.items[i], STR("*")))
            return true;
    }
    return patterns.count == 0;
}

static void check_reached(struct tree *tree, const struct conf *conf, size_t index)
{
    const struct conf_route *route = &conf->routes[index];

    for (size_t i = 0; i < index; i++) {
        const struct conf_route *before = &conf->routes[i];
        if (!matches_all(before->match) || !matches_all(before->match_sender))
            continue;
        report_warning(tree->report, place_of(route), "put it before that one",
                       "route \"%.*s\" is never taken: \"%.*s\" before it takes everything",
                       STR_ARG(route->name), STR_ARG(before->name));
        return;
    }
}

void check_routes(struct tree *tree, struct conf *conf)
{
    struct conf_route *routes = (struct conf_route *)(uintptr_t)conf->routes;

    for (size_t i = 0; i < conf->route_count; i++) {
        struct conf_route *route = &routes[i];
        if (route->tls == POLICY_IMPLICIT && !route->relay.count)
            report_error(tree->report, place_of(route), "use tls = verified, or name a relay",
                         "route \"%.*s\" has tls = implicit, which MX hosts do not speak",
                         STR_ARG(route->name));
        check_ports(tree, route);
        check_credentials(tree, route);
        check_sender(tree, route);
        check_reached(tree, conf, i);
    }
}
