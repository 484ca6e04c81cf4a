/*
 * migrate_rows.c - every known foreign setting, one row each.
 */
#include "relay/cli/migrate.h"

#include <stdio.h>

/* ---- what a setting does ---- */

#define TAKE(field)                                                                                \
    static void take_##field(struct migration *m, struct str value)                                \
    {                                                                                              \
        m->field = arena_str(&m->arena, value);                                                    \
    }
#define TAKE_ROUTE(field)                                                                          \
    static void route_##field(struct migration *m, struct str value)                               \
    {                                                                                              \
        m->route->field = arena_str(&m->arena, value);                                             \
    }
#define TAKE_FLAG(field)                                                                           \
    static void flag_##field(struct migration *m, struct str value)                                \
    {                                                                                              \
        (void)value;                                                                               \
        m->route->field = true;                                                                    \
    }
TAKE(hostname)
TAKE(certificate)
TAKE(key)
TAKE(aliases_file)
TAKE(password_maps)
TAKE_ROUTE(host)
TAKE_ROUTE(port)
TAKE_ROUTE(username)
TAKE_ROUTE(password)
TAKE_ROUTE(sender)
TAKE_FLAG(wants_tls)
TAKE_FLAG(is_implicit)
TAKE_FLAG(is_unverified)

static bool is_on(struct str value)
{
    return str_ieq(value, STR("yes")) || str_ieq(value, STR("on"));
}

static void add(struct migrate_list *list, struct migration *m, struct str item)
{
    if (item.len > 0 && list->count < MIGRATE_LIST)
        list->items[list->count++] = arena_str(&m->arena, item);
}

/* "[mail.example.com]:587": brackets mean no MX look-up, which we never make for a relay. */
static void relayhost(struct migration *m, struct str value)
{
    size_t end = str_chr(value, ']'), colon;

    if (value.len > 0 && value.at[0] == '[') {
        m->route->host = arena_str(&m->arena, str_make(value.at + 1, end > 0 ? end - 1 : 0));
        value = str_from(value, end + 1);
        if (value.len > 1)
            m->route->port = arena_str(&m->arena, str_from(value, 1));
        return;
    }
    colon = str_chr(value, ':');
    m->route->host = arena_str(&m->arena, str_head(value, colon));
    m->route->port = arena_str(&m->arena, str_from(value, colon + 1));
    if (value.len > 0)
        migrate_note(m, STR("relayhost"), value,
                     "Postfix asks for MX records of this name, waypost takes it as a host");
}

static void postfix_tls(struct migration *m, struct str value)
{
    static const struct {
        const char *theirs, *ours;
    } levels[] = {
        { "none", "none" },       { "may", "opportunistic" }, { "encrypt", "required" },
        { "dane", "dane" },       { "dane-only", "dane" },    { "verify", "verified" },
        { "secure", "verified" },
    };

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (str_eq(value, str_of(levels[i].theirs))) {
            m->route->tls = str_of(levels[i].ours);
            return;
        }
    migrate_note(m, STR("smtp_tls_security_level"), value, "waypost has no such level");
}

static void wrapper_mode(struct migration *m, struct str value)
{
    m->route->is_implicit = is_on(value);
}

static void postfix_use_tls(struct migration *m, struct str value)
{
    if (is_on(value) && m->route->tls.len == 0)
        m->route->tls = STR("opportunistic");
}

static void trust_file(struct migration *m, struct str value)
{
    if (!str_eq(value, STR("system")) && !str_eq(value, STR("/etc/ssl/certs/ca-certificates.crt")))
        m->route->ca_file = arena_str(&m->arena, value);
}

static void interfaces(struct migration *m, struct str value)
{
    bool is_local = str_eq(value, STR("loopback-only")) || str_eq(value, STR("localhost")) ||
                    str_starts(value, STR("127.0.0.1"));

    if (!is_local && !str_eq(value, STR("all")))
        migrate_note(m, STR("inet_interfaces"), value,
                     "carried over as all addresses: write a listen section for each");
    m->listen = is_local ? STR("127.0.0.1:25") : STR("*:25");
}

/* "127.0.0.0/8 [::1]/128, 192.0.2.1" */
static void networks(struct migration *m, struct str value)
{
    struct str word;

    while (value.len > 0) {
        size_t end = 0;
        while (end < value.len && value.at[end] != ' ' && value.at[end] != ',')
            end++;
        word = str_head(value, end);
        value = str_from(value, end + 1);
        if (word.len > 0 && word.at[0] == '[') {
            size_t close = str_chr(word, ']');
            word = str_of(arena_printf(&m->arena, STR_FMT STR_FMT, (int)close - 1, word.at + 1,
                                       STR_ARG(str_from(word, close + 1))));
        }
        if (word.len > 0 && (str_chr(word, '/') == 0 || str_chr(word, '!') == 0))
            migrate_note(m, STR("mynetworks"), word, "only plain networks are carried over");
        else if (word.len > 0 && !(word.at[0] >= '0' && word.at[0] <= '9') &&
                 str_chr(word, ':') == word.len)
            migrate_note(m, STR("mynetworks"), word, "only plain networks are carried over");
        else
            add(&m->trust, m, word);
    }
}

/* Domains that Postfix delivers to local mailboxes; ours reach aliases. */
static void destinations(struct migration *m, struct str value)
{
    struct str word;

    while (value.len > 0) {
        size_t end = 0;
        while (end < value.len && value.at[end] != ' ' && value.at[end] != ',')
            end++;
        word = str_head(value, end);
        value = str_from(value, end + 1);
        if (word.len == 0 || str_starts(word, STR("localhost")) || str_ieq(word, m->hostname))
            continue;
        if (str_chr(word, '.') == word.len || str_chr(word, '/') < word.len ||
            str_chr(word, '$') < word.len)
            migrate_note(m, STR("mydestination"), word, "not a domain with a dot");
        else
            add(&m->local_domains, m, word);
    }
}

static void origin(struct migration *m, struct str value)
{
    if (value.len > 0 && value.at[0] != '/' && value.at[0] != '$')
        m->mailname = arena_str(&m->arena, value);
    else if (!str_eq(value, STR("/etc/mailname"))) /* which we read anyway */
        migrate_note(m, STR("myorigin"), value, "set aliases { mailname = ... }");
}

static void alias_maps(struct migration *m, struct str value)
{
    size_t colon = str_chr(value, ':');

    if (str_chr(value, ',') < value.len || str_chr(value, ' ') < value.len ||
        (!str_starts(value, STR("hash:")) && !str_starts(value, STR("lmdb:")) &&
         !str_starts(value, STR("texthash:"))))
        migrate_note(m, STR("alias_maps"), value, "only one plain file is read");
    else
        m->aliases_file = arena_str(&m->arena, str_from(value, colon + 1));
}

/* Postfix's times: a number of `unit`, or with a unit of its own. */
static struct str time_of(struct migration *m, struct str value, char unit)
{
    bool bare = value.len > 0 && value.at[value.len - 1] >= '0' && value.at[value.len - 1] <= '9';

    return bare ? str_of(arena_printf(&m->arena, STR_FMT "%c", STR_ARG(value), unit))
                : arena_str(&m->arena, value);
}

static void lifetime(struct migration *m, struct str v) { m->lifetime = time_of(m, v, 'd'); }
static void first(struct migration *m, struct str v) { m->first = time_of(m, v, 's'); }
static void max_pause(struct migration *m, struct str v) { m->max = time_of(m, v, 's'); }
static void connect_time(struct migration *m, struct str v) { m->connect = time_of(m, v, 's'); }

static void warning(struct migration *m, struct str value)
{
    m->warn_after = value.len > 0 && value.at[0] == '0' ? STR("never") : time_of(m, value, 'h');
}

static void message_size(struct migration *m, struct str value)
{
    uint64_t octets;

    if (str_u64(value, &octets) && octets >= 65536 && octets <= (uint64_t)4 << 30)
        m->message_size = arena_str(&m->arena, value);
    else
        migrate_note(m, STR("message_size_limit"), value, "from 64K to 4G");
}

static void source(struct migration *m, struct str value) { add(&m->route->source, m, value); }

/* ---- msmtp ---- */

static void msmtp_tls(struct migration *m, struct str value) { m->route->wants_tls = is_on(value); }
static void msmtp_starttls(struct migration *m, struct str value)
{
    m->route->no_starttls = !is_on(value);
}
static void msmtp_certcheck(struct migration *m, struct str value)
{
    m->route->is_unverified = !is_on(value);
}
static void msmtp_auth(struct migration *m, struct str value)
{
    m->route->has_login = !str_eq(value, STR("off"));
    if (m->route->has_login && !is_on(value))
        migrate_note(m, STR("auth"), value, "the best mechanism of the next hop is chosen");
}
static void msmtp_syslog(struct migration *m, struct str value)
{
    if (!str_eq(value, STR("off")))
        m->log_to = STR("syslog");
}
static void maildomain(struct migration *m, struct str value)
{
    m->mailname = arena_str(&m->arena, value);
}

/* ---- dma ---- */

/* The name, or the file that holds it. */
static void dma_mailname(struct migration *m, struct str value)
{
    struct str text, line = STR_EMPTY;

    if (value.len > 0 && value.at[0] != '/')
        m->mailname = arena_str(&m->arena, value);
    else if (str_eq(value, STR("/etc/mailname")))
        return;
    else if (migrate_slurp(m, arena_cstr(&m->arena, value), &text) && str_next(&text, '\n', &line))
        m->mailname = str_trim(line);
    else
        migrate_note(m, STR("MAILNAME"), value, "cannot be read: set aliases { mailname = ... }");
}

static void masquerade(struct migration *m, struct str value)
{
    size_t at = str_chr(value, '@');

    if (at > 0 && at + 1 < value.len)
        m->route->sender = arena_str(&m->arena, value);
    else if (at == value.len)
        m->mailname = arena_str(&m->arena, value);
    else
        migrate_note(m, STR("MASQUERADE"), value, "set sender = \"user@domain\" in the route");
}

static void dma_secure(struct migration *m, struct str value)
{
    (void)value;
    m->route->wants_tls = m->route->is_unverified = true; /* dma checks no certificates */
}
static void dma_starttls(struct migration *m, struct str value)
{
    (void)value;
    m->route->is_implicit = false;
    m->route->tls = STR("required");
}

/* ---- the tables ---- */

#define ALWAYS "needs no setting: it is always so"
#define NOT_NEEDED "not needed: waypost is one program with one folder"
#define NO_MAILBOX "waypost delivers to no local mailbox; aliases lead elsewhere"
#define ACCESS "who may send is decided by listen sections: trust, auth, users"
#define REWRITE "addresses are rewritten by aliases { } and the route's sender only"
#define ROUTES "write a route with match or match-sender for each row"
#define MILTER "waypost signs by itself: dkim sections, waypost dkim keygen"

static const struct migrate_row postfix[] = {
    { "myhostname", take_hostname, NULL },
    { "myorigin", origin, NULL },
    { "mydomain", NULL, "only its use in other values is carried over" },
    { "mydestination", destinations, NULL },
    { "mynetworks", networks, NULL },
    { "inet_interfaces", interfaces, NULL },
    { "inet_protocols", NULL, "IPv4 and IPv6 are used where the machine has them" },
    { "relayhost", relayhost, NULL },
    { "smtp_tls_security_level", postfix_tls, NULL },
    { "smtp_use_tls", postfix_use_tls, NULL },
    { "smtp_tls_wrappermode", wrapper_mode, NULL },
    { "smtp_tls_CAfile", trust_file, NULL },
    { "smtp_tls_CApath", NULL, "name one file: tls { ca-file = ... }" },
    { "smtp_tls_session_cache_database", NULL, ALWAYS },
    { "smtp_sasl_auth_enable", NULL, "a route with username logs in" },
    { "smtp_sasl_password_maps", take_password_maps, NULL },
    { "smtp_sasl_security_options", NULL, "anonymous and clear logins are never made" },
    { "smtp_sasl_tls_security_options", NULL, "anonymous logins are never made" },
    { "smtp_bind_address", source, NULL },
    { "smtp_bind_address6", source, NULL },
    { "smtp_connect_timeout", connect_time, NULL },
    { "smtp_generic_maps", NULL, REWRITE },
    { "sender_canonical_maps", NULL, REWRITE },
    { "canonical_maps", NULL, REWRITE },
    { "virtual_alias_maps", NULL, REWRITE },
    { "transport_maps", NULL, ROUTES },
    { "sender_dependent_relayhost_maps", NULL, ROUTES },
    { "header_checks", NULL, "header fields are not filtered" },
    { "smtpd_milters", NULL, MILTER },
    { "non_smtpd_milters", NULL, MILTER },
    { "milter_default_action", NULL, MILTER },
    { "milter_protocol", NULL, MILTER },
    { "message_size_limit", message_size, NULL },
    { "maximal_queue_lifetime", lifetime, NULL },
    { "bounce_queue_lifetime", NULL, "reports wait as long as other mail" },
    { "minimal_backoff_time", first, NULL },
    { "maximal_backoff_time", max_pause, NULL },
    { "delay_warning_time", warning, NULL },
    { "alias_maps", alias_maps, NULL },
    { "alias_database", NULL, "the alias file is read as it is: newaliases has nothing to do" },
    { "smtpd_tls_cert_file", take_certificate, NULL },
    { "smtpd_tls_key_file", take_key, NULL },
    { "smtpd_tls_security_level", NULL, "tls = starttls in a listen section" },
    { "smtpd_use_tls", NULL, "tls = starttls in a listen section" },
    { "smtpd_sasl_auth_enable", NULL, "auth = required in a listen section, users { file }" },
    { "smtpd_relay_restrictions", NULL, ACCESS },
    { "smtpd_recipient_restrictions", NULL, ACCESS },
    { "smtpd_banner", NULL, "the greeting is hostname" },
    { "mailbox_size_limit", NULL, NO_MAILBOX },
    { "mailbox_command", NULL, NO_MAILBOX },
    { "home_mailbox", NULL, NO_MAILBOX },
    { "recipient_delimiter", NULL, NO_MAILBOX },
    { "biff", NULL, NO_MAILBOX },
    { "append_dot_mydomain", NULL, ALWAYS },
    { "compatibility_level", NULL, NOT_NEEDED },
    { "readme_directory", NULL, NOT_NEEDED },
    { "queue_directory", NULL, NOT_NEEDED },
    { "data_directory", NULL, NOT_NEEDED },
    { "command_directory", NULL, NOT_NEEDED },
    { "daemon_directory", NULL, NOT_NEEDED },
    { "mail_owner", NULL, NOT_NEEDED },
    { "setgid_group", NULL, NOT_NEEDED },
};

static const struct migrate_row msmtp[] = {
    { "host", route_host, NULL },
    { "port", route_port, NULL },
    { "tls", msmtp_tls, NULL },
    { "tls_starttls", msmtp_starttls, NULL },
    { "tls_certcheck", msmtp_certcheck, NULL },
    { "tls_trust_file", trust_file, NULL },
    { "tls_fingerprint", NULL, "certificates are verified by their authority: ca-file" },
    { "tls_key_file", NULL, "no certificate is shown to next hops" },
    { "tls_cert_file", NULL, "no certificate is shown to next hops" },
    { "auth", msmtp_auth, NULL },
    { "user", route_username, NULL },
    { "password", route_password, NULL },
    { "passwordeval", NULL, "no program is run: write its output into the password file" },
    { "from", route_sender, NULL },
    { "maildomain", maildomain, NULL },
    { "domain", take_hostname, NULL },
    { "aliases", take_aliases_file, NULL },
    { "timeout", connect_time, NULL },
    { "source_ip", source, NULL },
    { "syslog", msmtp_syslog, NULL },
    { "logfile", NULL, "the log goes to the journal; log { to = file  file = ... } for a file" },
    { "set_from_header", NULL, "sender in the route sets From as well" },
    { "proxy_host", NULL, "no proxy is used" },
    { "proxy_port", NULL, "no proxy is used" },
    { "keepbcc", NULL, "Bcc is always removed" },
};

static const struct migrate_row dma[] = {
    { "SMARTHOST", route_host, NULL },
    { "PORT", route_port, NULL },
    { "ALIASES", take_aliases_file, NULL },
    { "AUTHPATH", take_password_maps, NULL },
    { "SECURETRANSFER", flag_is_implicit, NULL },
    { "STARTTLS", dma_starttls, NULL },
    { "OPPORTUNISTIC_TLS", flag_wants_tls, "with a login, TLS is never optional" },
    { "SECURE", dma_secure, NULL },
    { "FINGERPRINT", NULL, "certificates are verified by their authority: ca-file" },
    { "CERTFILE", NULL, "no certificate is shown to next hops" },
    { "MAILNAME", dma_mailname, NULL },
    { "MASQUERADE", masquerade, NULL },
    { "SPOOLDIR", NULL, NOT_NEEDED },
    { "DEFER", NULL, "mail is always queued first" },
    { "FULLBOUNCE", NULL, "reports carry the header, as the sender asks for (RFC 3461)" },
    { "NULLCLIENT", NULL, ALWAYS },
};

static const struct migrate_row nullmailer[] = {
    { "--port", route_port, NULL },
    { "--user", route_username, NULL },
    { "--pass", route_password, NULL },
    { "--starttls", flag_wants_tls, NULL },
    { "--ssl", flag_is_implicit, NULL },
    { "--insecure", flag_is_unverified, NULL },
    { "--x509cafile", trust_file, NULL },
    { "--x509certfile", NULL, "no certificate is shown to next hops" },
    { "--source", source, NULL },
    { "--auth-login", NULL, "the best mechanism of the next hop is chosen" },
};

#define ROWS(table) table, sizeof(table) / sizeof((table)[0])
const struct migrate_kind migrate_kinds[] = {
    { "postfix", "main.cf", "Postfix", ROWS(postfix), migrate_read_postfix },
    { "msmtp", "msmtprc", "msmtp", ROWS(msmtp), migrate_read_msmtp },
    { "dma", "dma.conf", "dma", ROWS(dma), migrate_read_dma },
    { "nullmailer", "remotes", "nullmailer", ROWS(nullmailer), migrate_read_nullmailer },
};
const size_t migrate_kind_count = sizeof(migrate_kinds) / sizeof(migrate_kinds[0]);
