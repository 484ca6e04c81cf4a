/*
 * setup.c - from a checked configuration to loaded parts.
 */
#include "relay/setup.h"

#include "relay/mail/addr.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err load_keys(struct setup *setup, struct fault *fault)
{
    const struct conf *conf = setup->conf;
    struct keyring_key *keys;
    size_t count = 0;

    for (size_t i = 0; i < conf->dkim_count; i++)
        count += conf->dkim[i].key_count;
    keys = arena_alloc(&setup->arena, (count + 1) * sizeof(*keys));
    count = 0;
    for (size_t i = 0; i < conf->dkim_count; i++) {
        const struct conf_dkim *dkim = &conf->dkim[i];
        for (size_t k = 0; k < dkim->key_count; k++)
            keys[count++] = (struct keyring_key){
                .domain = arena_cstr(&setup->arena, dkim->domain),
                .sign_as = dkim->sign_as.len ? arena_cstr(&setup->arena, dkim->sign_as) : NULL,
                .selector = arena_cstr(&setup->arena, dkim->keys[k].selector),
                .file = arena_cstr(&setup->arena, dkim->keys[k].file),
                .canon = dkim->canon,
            };
    }
    return keyring_new(keys, count, &setup->keyring, fault);
}

enum err setup_certificates(const struct conf *conf, struct tls_server **out_tls,
                            struct fault *fault)
{
    struct arena arena;
    struct tls_pair *pairs;
    enum err rc;

    *out_tls = NULL;
    if (conf->tls_count == 0)
        return ERR_OK;
    arena_init(&arena);
    pairs = arena_alloc(&arena, conf->tls_count * sizeof(*pairs));
    for (size_t i = 0; i < conf->tls_count; i++) {
        pairs[i].certificate = arena_cstr(&arena, conf->tls[i].certificate);
        pairs[i].key = arena_cstr(&arena, conf->tls[i].key);
    }
    rc = tls_server_new(pairs, conf->tls_count, out_tls, fault);
    arena_clear(&arena);
    return rc;
}

static enum err load_clients(struct setup *setup, struct fault *fault)
{
    const struct conf *conf = setup->conf;
    const char *ca = conf->ca_file.len ? arena_cstr(&setup->arena, conf->ca_file) : NULL;
    enum err rc = tls_client_new(ca, &setup->tls_client, fault);

    setup->route_tls_count = conf->route_count;
    setup->route_tls =
        arena_alloc(&setup->arena, (conf->route_count + 1) * sizeof(struct tls_client *));
    for (size_t i = 0; !rc && i < conf->route_count; i++)
        if (conf->routes[i].ca_file.len)
            rc = tls_client_new(arena_cstr(&setup->arena, conf->routes[i].ca_file),
                                &setup->route_tls[i], fault);
    return rc;
}

/* ---- local names ---- */

static void add_domain(const struct conf *conf, struct str *domains, size_t *count,
                       struct str domain)
{
    if (domain.len > 0 && !str_ieq(domain, conf->aliases.mailname))
        domains[(*count)++] = domain;
}

/* A name with a dot may well be one that others know. */
static struct str bare(struct str machine, struct str mailname)
{
    bool is_bare = str_chr(machine, '.') == machine.len && !str_ieq(machine, mailname);

    return is_bare ? machine : STR_EMPTY;
}

struct locals *setup_locals(const struct conf *conf)
{
    const struct conf_list *further = &conf->aliases.local_domains;
    struct str *domains = mem_alloc((further->count + 2) * sizeof(*domains));
    char machine[256] = "";
    size_t count = 0;
    struct locals *locals;

    (void)gethostname(machine, sizeof(machine) - 1);
    add_domain(conf, domains, &count, conf->hostname);
    add_domain(conf, domains, &count, str_of(machine));
    for (size_t i = 0; i < further->count; i++)
        domains[count++] = further->items[i];
    struct locals_options options = {
        .file = conf->aliases.file,
        .root = conf->aliases.root,
        .names = { .mailname = conf->aliases.mailname,
                   .machine = bare(str_of(machine), conf->aliases.mailname) },
        .domains = domains,
        .domain_count = count,
        .forward = conf->aliases.forward,
    };
    locals = locals_new(&options);
    free(domains);
    return locals;
}

struct alias_words {
    struct buf text;
    enum alias_severity worst;
};

static void gather_alias(void *arg, enum alias_severity severity, struct str file, unsigned line,
                         const char *what)
{
    struct alias_words *words = arg;

    if (severity < words->worst)
        buf_reset(&words->text);
    if (severity > words->worst)
        return;
    words->worst = severity;
    buf_printf(&words->text, "%s" STR_FMT ":%u: %s", words->text.len ? "; " : "", STR_ARG(file),
               line, what);
}

/* Mistakes in it are alarms, none keeps the relay from running. */
static void load_aliases(struct setup *setup)
{
    struct alias_words words = { .worst = ALIAS_WARNING };

    buf_init(&words.text, 900);
    setup->locals = setup_locals(setup->conf);
    setup->aliases_err = locals_load(setup->locals, gather_alias, &words);
    setup->alias_words = arena_str(&setup->arena, buf_view(&words.text));
    buf_clear(&words.text);
}

static enum err networks(struct setup *setup, struct conf_list list, const struct network **out,
                         size_t *out_count, struct fault *fault)
{
    struct network *networks = arena_alloc(&setup->arena, (list.count + 1) * sizeof(*networks));

    for (size_t i = 0; i < list.count; i++)
        if (!network_parse(list.items[i], &networks[i]))
            return fault_set(fault, ERR_INVALID, "\"" STR_FMT "\" is not a network",
                             STR_ARG(list.items[i]));
    *out = networks;
    *out_count = list.count;
    return ERR_OK;
}

static enum err set_listens(struct setup *setup, struct fault *fault)
{
    const struct conf *conf = setup->conf;
    enum err rc = ERR_OK;

    setup->listens = arena_alloc(&setup->arena, (conf->serve_count + 1) * sizeof(*setup->listens));
    for (size_t i = 0; !rc && i < conf->serve_count; i++) {
        struct setup_listen *listen = &setup->listens[i];
        listen->conf = &conf->listens[i];
        rc = networks(setup, listen->conf->trust, &listen->trust, &listen->trust_count, fault);
        if (!rc)
            rc = networks(setup, listen->conf->proxy, &listen->proxy, &listen->proxy_count, fault);
    }
    return rc;
}

/* ---- routes ---- */

static enum err set_sources(struct setup *setup, const struct conf_route *conf,
                            struct route_settings *route, struct fault *fault)
{
    struct endpoint *source =
        arena_alloc(&setup->arena, (conf->source.count + 1) * sizeof(*source));

    for (size_t i = 0; i < conf->source.count; i++)
        if (!endpoint_ip(conf->source.items[i], &source[i]))
            return fault_set(fault, ERR_INVALID,
                             "route \"" STR_FMT "\": source \"" STR_FMT "\" is not an address",
                             STR_ARG(conf->name), STR_ARG(conf->source.items[i]));
    route->source = source;
    route->source_count = conf->source.count;
    return ERR_OK;
}

/* A name for what the file holds: another one when it was written anew. */
static struct str roots_of(struct setup *setup, const struct conf_route *row)
{
    struct str file = row && row->ca_file.len ? row->ca_file : setup->conf->ca_file;
    struct stat st = { 0 };
    char text[4400];

    if (file.len == 0)
        return STR_EMPTY;
    (void)stat(arena_cstr(&setup->arena, file), &st);
    (void)snprintf(text, sizeof(text), STR_FMT " %lld.%09ld %lld", STR_ARG(file),
                   (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long long)st.st_size);
    return arena_str(&setup->arena, str_of(text));
}

static enum err set_routes(struct setup *setup, struct fault *fault)
{
    const struct conf *conf = setup->conf;
    size_t count = conf->route_count;
    struct route_settings *routes = arena_alloc(&setup->arena, (count + 1) * sizeof(*routes));
    enum err rc = ERR_OK;

    setup->lane_routes = arena_alloc(&setup->arena, (count + 1) * sizeof(*setup->lane_routes));
    setup->lane_route_count = count;
    for (size_t i = 0; !rc && i < count; i++) {
        const struct conf_route *row = &conf->routes[i];
        uint16_t port =
            row->relay.count ? (row->tls == POLICY_IMPLICIT ? 465 : 25) : (uint16_t)conf->port;
        setup->lane_routes[i] = (struct lane_route){
            .name = row->name,
            .match = row->match.items,
            .match_count = row->match.count,
            .match_sender = row->match_sender.items,
            .match_sender_count = row->match_sender.count,
            .is_smarthost = row->relay.count > 0,
        };
        routes[i] = (struct route_settings){
            .name = row->name,
            .relay = row->relay.items,
            .relay_count = row->relay.count,
            .level = row->tls,
            .username = row->username,
            .password = row->password,
            .tls = setup->route_tls[i] ? setup->route_tls[i] : setup->tls_client,
            .roots = roots_of(setup, row),
            .port = port,
            .senders = { .sender = row->sender,
                         .accepted = row->senders.items,
                         .accepted_count = row->senders.count,
                         .null_ok = row->null_sender },
        };
        rc = set_sources(setup, row, &routes[i], fault);
    }
    routes[count] = (struct route_settings){
        .name = STR("direct"),
        .level = POLICY_OPPORTUNISTIC,
        .tls = setup->tls_client,
        .roots = roots_of(setup, NULL),
        .port = (uint16_t)conf->port,
    };
    setup->sched.routes = routes;
    setup->sched.route_count = count + 1;
    return rc;
}

/* ---- pace ---- */

static struct dest_limits limits_of(const struct conf *conf, const struct conf_destination *row)
{
    /* A place that is down is asked again at least this often. */
    static const uint64_t probe_max_s = 1800;
    uint64_t max = conf->retry.max_s < probe_max_s ? conf->retry.max_s : probe_max_s;

    return (struct dest_limits){
        .max_connections = row && row->max_connections ? row->max_connections : 20,
        .messages_per_connection = row ? row->messages_per_connection : 0,
        .rate_per_s = row ? row->rate_per_s : 0,
        .backoff = { .first_s = (uint32_t)conf->retry.first_s, .max_s = (uint32_t)max },
    };
}

static void set_destinations(struct setup *setup)
{
    const struct conf *conf = setup->conf;
    struct sched_destination *rows =
        arena_alloc(&setup->arena, (conf->destination_count + 1) * sizeof(*rows));

    for (size_t i = 0; i < conf->destination_count; i++) {
        rows[i].match = conf->destinations[i].match;
        rows[i].limits = limits_of(conf, &conf->destinations[i]);
    }
    setup->sched.destinations = rows;
    setup->sched.destination_count = conf->destination_count;
    setup->sched.default_limits = limits_of(conf, NULL);
}

/* Our own addresses, for noticing that the best MX is ourselves. */
static void add_local(struct endpoint *locals, size_t *count, size_t cap, const struct endpoint *at)
{
    if (*count < cap)
        locals[(*count)++] = *at;
}

static bool is_any(const struct endpoint *at)
{
    static const uint8_t zero[16];
    return memcmp(at->ip, zero, at->family == ENDPOINT_IPV4 ? 4 : 16) == 0;
}

static void add_interfaces(struct endpoint *locals, size_t *count, size_t cap, uint16_t port)
{
    struct ifaddrs *all = NULL;

    if (getifaddrs(&all) != 0)
        return;
    for (struct ifaddrs *one = all; one; one = one->ifa_next) {
        struct endpoint at = { .port = port };
        if (!one->ifa_addr)
            continue;
        if (one->ifa_addr->sa_family == AF_INET) {
            struct sockaddr_in in;
            memcpy(&in, one->ifa_addr, sizeof(in));
            at.family = ENDPOINT_IPV4;
            memcpy(at.ip, &in.sin_addr, 4);
        } else if (one->ifa_addr->sa_family == AF_INET6) {
            struct sockaddr_in6 in;
            memcpy(&in, one->ifa_addr, sizeof(in));
            at.family = ENDPOINT_IPV6;
            memcpy(at.ip, &in.sin6_addr, 16);
        } else {
            continue;
        }
        add_local(locals, count, cap, &at);
    }
    freeifaddrs(all);
}

static void set_locals(struct setup *setup)
{
    enum { CAP = 512 };
    const struct conf *conf = setup->conf;
    struct endpoint *locals = arena_alloc(&setup->arena, CAP * sizeof(*locals));
    size_t count = 0;

    for (size_t i = 0; i < conf->listen_count; i++) {
        struct endpoint at;
        if (endpoint_parse(conf->listens[i].address, 0, &at, NULL))
            continue;
        if (at.family == ENDPOINT_UNIX)
            continue;
        if (is_any(&at))
            add_interfaces(locals, &count, CAP, at.port);
        else
            add_local(locals, &count, CAP, &at);
    }
    setup->sched.locals = locals;
    setup->sched.local_count = count;
}

static void set_sched(struct setup *setup)
{
    const struct conf *conf = setup->conf;
    struct sched_settings *sched = &setup->sched;

    sched->hostname = conf->hostname;
    sched->backoff.first_s = (uint32_t)conf->retry.first_s;
    sched->backoff.max_s = (uint32_t)conf->retry.max_s;
    sched->lifetime_s = conf->retry.lifetime_s;
    sched->warn_after_s = conf->retry.warn_after_s;
    sched->reports_per_hour = conf->retry.reports_per_hour;
    sched->timeouts = (struct smtp_client_timeouts){
        .banner_ms = conf->timeouts.banner_ms,
        .command_ms = conf->timeouts.command_ms,
        .data_ms = conf->timeouts.data_ms,
        .end_of_data_ms = conf->timeouts.end_of_data_ms,
    };
    sched->connect_ms = conf->timeouts.connect_ms;
}

static enum err set_dns(struct setup *setup, struct fault *fault)
{
    const struct conf *conf = setup->conf;
    struct endpoint *servers =
        arena_alloc(&setup->arena, (conf->dns.servers.count + 1) * sizeof(*servers));

    for (size_t i = 0; i < conf->dns.servers.count; i++) {
        enum err rc = endpoint_parse(conf->dns.servers.items[i], 53, &servers[i], fault);
        if (rc)
            return rc;
    }
    setup->dns.servers = servers;
    setup->dns.server_count = conf->dns.servers.count;
    setup->dns.trust_ad = conf->dns.trust_ad;
    setup->dns.timeout_ms = (uint32_t)conf->dns.timeout_ms;
    return ERR_OK;
}

enum err setup_new(struct conf *conf, struct setup **out_setup, struct fault *fault)
{
    struct setup *setup = mem_alloc(sizeof(*setup));
    enum err rc;

    atomic_init(&setup->refs, 1);
    setup->conf = conf_ref(conf);
    arena_init(&setup->arena);
    rc = load_keys(setup, fault);
    if (!rc)
        rc = setup_certificates(setup->conf, &setup->tls, fault);
    if (!rc)
        rc = load_clients(setup, fault);
    if (!rc && conf->users_file.len)
        rc = users_load(arena_cstr(&setup->arena, conf->users_file), &setup->users, fault);
    load_aliases(setup);
    if (!rc)
        rc = set_listens(setup, fault);
    if (!rc)
        rc = set_routes(setup, fault);
    if (!rc)
        rc = set_dns(setup, fault);
    if (rc) {
        setup_unref(&setup);
        return rc;
    }
    set_destinations(setup);
    set_locals(setup);
    set_sched(setup);
    *out_setup = setup;
    return ERR_OK;
}

struct setup *setup_ref(struct setup *setup)
{
    atomic_fetch_add(&setup->refs, 1);
    return setup;
}

void setup_unref(struct setup **setup_at)
{
    struct setup *setup = *setup_at;

    *setup_at = NULL;
    if (!setup || atomic_fetch_sub(&setup->refs, 1) != 1)
        return;
    if (setup->keyring)
        keyring_unref(&setup->keyring);
    if (setup->users)
        users_unref(&setup->users);
    locals_unref(&setup->locals);
    if (setup->tls)
        tls_server_unref(&setup->tls);
    for (size_t i = 0; i < setup->route_tls_count; i++)
        tls_client_free(&setup->route_tls[i]);
    tls_client_free(&setup->tls_client);
    arena_clear(&setup->arena);
    conf_unref(&setup->conf);
    free(setup);
}

void setup_lane(const struct setup *setup, const struct envelope *envelope,
                const struct recipient *recipient, char out_lane[LANE_MAX])
{
    (void)lane_of(setup->lane_routes, setup->lane_route_count, envelope->sender, recipient->address,
                  out_lane);
}

size_t setup_lead(const struct setup *setup, const struct envelope *envelope,
                  const struct recipient *recipient, struct arena *arena,
                  struct local_result *out_led, const struct store_address **out_addresses)
{
    struct store_address *addresses;
    struct alias_table *table;
    char lane[LANE_MAX];

    struct local_rules rules = locals_rules(setup->locals, false, &table);
    local_expand(&rules, addr_local_of(recipient->address), arena, out_led);
    alias_unref(&table);
    addresses = arena_alloc(arena, (out_led->count + 1) * sizeof(*addresses));
    for (size_t i = 0; i < out_led->count; i++) {
        (void)lane_of(setup->lane_routes, setup->lane_route_count, envelope->sender,
                      out_led->found[i].address, lane);
        addresses[i].address = out_led->found[i].address;
        addresses[i].lane = arena_str(arena, str_of(lane));
    }
    *out_addresses = addresses;
    return out_led->count;
}
