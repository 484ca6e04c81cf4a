/*
 * check.c - options that are each right but cannot work together, or would
 * not be safe: certificates, keys, time and size limits. Listeners and routes
 * have files of their own.
 */
#include "conf/build.h"
#include "conf/value.h"

#include <stdio.h>

static struct place place_of(const char *file, unsigned line)
{
    return (struct place){ file, line };
}

/* Where an option of struct conf was set, else the top of the file. */
static struct place where(const struct tree *tree, enum section_kind kind, const char *option)
{
    struct tree_section any = { .kind = kind };
    const struct tree_setting *setting = tree_find(tree, &any, option);

    return setting ? setting->place : tree->sections->place;
}

void check_tls(struct tree *tree, const struct conf *conf)
{
    for (size_t i = 0; i < conf->tls_count; i++) {
        const struct conf_tls *tls = &conf->tls[i];
        struct place place = place_of(tls->in_file, tls->line);
        if (!tls->key.len)
            report_error(tree->report, place, "add key = \"...\"", "tls has a certificate, no key");
        if (!tls->certificate.len)
            report_error(tree->report, place, "add certificate = \"...\"",
                         "tls has a key, no certificate");
    }
}

static void check_dkim_key(struct tree *tree, const struct conf_dkim_key *key)
{
    const char *wants;

    if (!form_fits(FORM_DOMAIN, key->selector, &wants))
        report_error(tree->report, place_of(key->in_file, key->line),
                     "use letters, digits, hyphens and dots", "\"%s\" cannot be a selector",
                     report_shown(tree->arena, key->selector));
}

void check_dkim(struct tree *tree, const struct conf *conf)
{
    const char *wants;

    for (size_t i = 0; i < conf->dkim_count; i++) {
        const struct conf_dkim *dkim = &conf->dkim[i];
        struct place place = place_of(dkim->in_file, dkim->line);
        const char *shown = report_shown(tree->arena, dkim->domain);
        bool is_fallback = str_eq(dkim->domain, STR("*"));
        if (!dkim->key_count)
            report_error(tree->report, place, "add key \"s1\" { file = \"...\" }",
                         "dkim \"%s\" has no key", shown);
        if (is_fallback && !dkim->sign_as.len)
            report_error(tree->report, place, "add sign-as = \"example.com\"",
                         "dkim \"*\" does not say which domain signs");
        if (!is_fallback && !form_fits(FORM_DOMAIN, dkim->domain, &wants))
            report_error(tree->report, place, wants, "dkim \"%s\" is not a domain", shown);
        for (size_t k = 0; k < dkim->key_count; k++)
            check_dkim_key(tree, &dkim->keys[k]);
    }
}

static void check_destinations(struct tree *tree, const struct conf *conf)
{
    const char *wants;

    for (size_t i = 0; i < conf->destination_count; i++) {
        const struct conf_destination *row = &conf->destinations[i];
        if (!form_fits(FORM_DOMAIN, row->match, &wants))
            report_error(tree->report, place_of(row->in_file, row->line), wants,
                         "destination \"%s\" is not a domain or host suffix",
                         report_shown(tree->arena, row->match));
    }
}

static void check_retry(struct tree *tree, const struct conf *conf)
{
    if (conf->retry.first_s > conf->retry.max_s)
        report_error(tree->report, where(tree, SECTION_RETRY, "first"), "make first shorter",
                     "retry: first is longer than max");
    if (conf->retry.max_s > conf->retry.lifetime_s)
        report_error(tree->report, where(tree, SECTION_RETRY, "max"), "make lifetime longer",
                     "retry: max is longer than lifetime");
    if (conf->retry.warn_after_s >= conf->retry.lifetime_s)
        report_error(tree->report, where(tree, SECTION_RETRY, "warn-after"),
                     "make it shorter, or never", "retry: warn-after is not before lifetime ends");
}

static void check_limits(struct tree *tree, const struct conf *conf)
{
    if (conf->limits.header_size > conf->limits.message_size)
        report_error(tree->report, where(tree, SECTION_LIMITS, "header-size"), "make it smaller",
                     "limits: header-size is over message-size");
    if (conf->limits.sessions_per_client > conf->limits.sessions)
        report_warning(tree->report, where(tree, SECTION_LIMITS, "sessions-per-client"),
                       "make it smaller than sessions", "limits: one client may take all sessions");
    if (conf->queue.size && conf->queue.size < conf->limits.message_size)
        report_error(tree->report, where(tree, SECTION_QUEUE, "size"),
                     "make it larger than message-size",
                     "queue: size is smaller than one message may be");
}

static void check_log(struct tree *tree, const struct conf *conf)
{
    if (conf->log.to == LOG_TO_FILE && !conf->log.file.len)
        report_error(tree->report, where(tree, SECTION_LOG, "to"),
                     "add file = \"/var/log/waypost.log\"", "log: to = file, but no file is named");
    if (conf->log.to != LOG_TO_FILE && conf->log.file.len)
        report_warning(tree->report, where(tree, SECTION_LOG, "file"), "add to = file",
                       "log: file is named but not written to");
}

static void check_api(struct tree *tree, const struct conf *conf)
{
    if (conf->api.address.len && !conf->api.token_file.len)
        report_error(tree->report, where(tree, SECTION_API, "address"),
                     "add token-file = \"/etc/waypost/api.token\"",
                     "api: address without a token: anyone who can connect would control the "
                     "relay");
}

/* sendmail's is not looked at: without it the relay starts all the same, and tells. */
static void check_api_socket(struct tree *tree, const struct conf *conf)
{
    struct place place = where(tree, SECTION_API, "socket");
    struct str path = conf->api.socket;

    if (path.len > UNIX_PATH_MAX)
        report_error(
            tree->report, place, arena_printf(tree->arena, "name one of at most %d", UNIX_PATH_MAX),
            "api: the socket's path has %zu octets, more than a socket can have", path.len);
    for (size_t i = 0; i < conf->serve_count; i++) {
        const struct conf_listen *listen = &conf->listens[i];
        if (!str_starts(listen->address, STR("unix:")) ||
            !str_eq(str_from(listen->address, 5), path))
            continue;
        report_error(tree->report, place, "give each its own",
                     i < conf->listen_count ? "api: the socket is that of listen \"%.*s\""
                                            : "api: the socket is that of %.*s",
                     STR_ARG(listen->name));
    }
}

static void check_hostname(struct tree *tree, const struct conf *conf)
{
    if (str_chr(conf->hostname, '.') < conf->hostname.len)
        return;
    report_warning(tree->report, where(tree, SECTION_ROOT, "hostname"),
                   "set hostname = \"relay.example.com\"",
                   "the host name \"%s\" has no dot: receivers distrust such names, we greet with "
                   "our address instead",
                   report_shown(tree->arena, conf->hostname));
}

void check_conf(struct tree *tree, struct conf *conf)
{
    check_hostname(tree, conf);
    check_listens(tree, conf);
    check_tls(tree, conf);
    check_dkim(tree, conf);
    check_routes(tree, conf);
    check_destinations(tree, conf);
    check_retry(tree, conf);
    check_limits(tree, conf);
    check_log(tree, conf);
    check_api(tree, conf);
    check_api_socket(tree, conf);
}
