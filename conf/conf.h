/*
 * conf.h - the configuration as an immutable value.
 *
 * Built by conf_load() from one file and what it includes (syntax: lex.h), the
 * rows of schema.h and the environment; counted, so that a reload builds a new one,
 * swaps the pointer, and running sessions keep the old. Everything here has been
 * checked for form and range; what needs the machine (files, certificates,
 * users) is checked by conf_check().
 *
 * A fault names file, line, what is wrong and the fix. An unknown key names
 * the nearest real one.
 */
#ifndef WAYPOST_CONF_CONF_H
#define WAYPOST_CONF_CONF_H

#include "relay/base/arena.h"
#include "relay/base/canon.h"
#include "relay/base/err.h"
#include "relay/base/log.h"
#include "relay/mail/policy.h"

#define CONF_FILE_DEFAULT "/etc/waypost/waypost.conf"
#define CONF_SUBMIT_DEFAULT "/run/waypost/submit.sock"
#define CONF_DROP_DEFAULT "/var/spool/waypost"
/* In the default drop folder: a relay takes from it; its text is that relay's data folder. */
#define CONF_DROP_MARK ".relay"

struct conf_list {
    const struct str *items;
    size_t count;
};

enum conf_listen_tls { LISTEN_TLS_NONE, LISTEN_TLS_STARTTLS, LISTEN_TLS_IMPLICIT };
enum conf_listen_auth { LISTEN_AUTH_OFF, LISTEN_AUTH_OPTIONAL, LISTEN_AUTH_REQUIRED };

struct conf_listen {
    struct str name;
    const char *in_file; /* where it stands, for messages */
    unsigned line;
    struct str
        address; /* "*:587", "127.0.0.1:25", "unix:/path", or "fd:NAME" (socket activation) */
    enum conf_listen_tls tls;
    enum conf_listen_auth auth;
    struct conf_list trust; /* networks that may relay without AUTH */
    struct conf_list proxy; /* networks whose PROXY v2 header is believed */
    bool auth_in_clear;     /* loopback addresses only */
};

/* One per certificate; the client's SNI chooses among the names in them. */
struct conf_tls {
    const char *in_file;
    unsigned line;
    struct str certificate, key; /* both or none */
};

struct conf_dkim_key {
    struct str selector;
    struct str file;
    const char *in_file;
    unsigned line;
};
struct conf_dkim {
    struct str domain; /* "*": the fallback, then sign_as is set */
    struct str sign_as;
    enum canon canon;
    const char *in_file;
    unsigned line;
    const struct conf_dkim_key *keys;
    size_t key_count;
};

struct conf_route {
    struct str name;
    const char *in_file;
    unsigned line;
    struct conf_list match;        /* recipient patterns */
    struct conf_list match_sender; /* reverse-path patterns */
    struct conf_list relay;        /* "host[:port]", in order; empty: MX */
    enum policy_level tls;
    struct str username;
    struct str password; /* read from password-file; never printed */
    struct str password_file;
    struct conf_list source; /* local addresses, IPv4 and IPv6 */
    struct str ca_file;
    struct str sender;        /* replaces senders that the smarthost does not accept; empty: none */
    struct conf_list senders; /* patterns of those that it accepts, besides `sender` */
    bool null_sender;         /* it accepts the null reverse-path */
};

struct conf_destination {
    struct str match; /* recipient domain or MX host suffix */
    const char *in_file;
    unsigned line;
    unsigned max_connections;
    unsigned messages_per_connection;
    double rate_per_s; /* 0: no limit */
};

struct conf {
    struct arena arena;
    struct str file;
    bool is_partial;     /* conf_glance: something of it could not be read, or has an error */
    struct str hostname; /* FQDN of the machine when not set */
    bool hostname_is_set;
    struct str data;
    struct str user;    /* empty: stay who we are */
    unsigned workers;   /* 0: auto */
    bool received_user; /* put the authenticated name into Received */
    bool cram_md5;
    /* Behind the listen sections, and not among listen_count: the one for sendmail(1). */
    const struct conf_listen *listens;
    size_t listen_count, serve_count;
    const struct conf_tls *tls; /* the first is the default certificate */
    size_t tls_count;
    struct str ca_file; /* for verifying next hops; empty: the system's */
    struct str users_file;
    const struct conf_dkim *dkim;
    size_t dkim_count;
    const struct conf_route *routes;
    size_t route_count; /* built-in "direct" is not among them */
    const struct conf_destination *destinations;
    size_t destination_count;
    unsigned max_connections; /* outbound, in all */
    unsigned port;            /* of MX hosts: 25 (tests and labs use others) */
    struct {
        uint64_t first_s, max_s, lifetime_s, warn_after_s;
        unsigned reports_per_hour;
    } retry;
    struct {
        struct str file, root, mailname; /* root empty: not set */
        struct conf_list local_domains;
        bool forward;
    } aliases;
    struct {
        uint64_t connect_ms, banner_ms, command_ms, data_ms, end_of_data_ms, idle_ms;
    } timeouts;
    struct {
        uint64_t message_size, header_size;
        unsigned recipients, sessions, sessions_per_client, errors, hops;
        uint64_t data_rate_min; /* octets per second */
    } limits;
    struct {
        struct conf_list servers;
        bool trust_ad;
        uint64_t timeout_ms;
    } dns;
    struct {
        uint64_t size, map_size, trace_age_s, trace_size;
    } queue;
    struct {
        enum log_to to;
        enum log_format format;
        enum hop_weight level;
        struct str file;
    } log;
    uint64_t drain_ms;
    struct {
        struct str socket, address, token_file;
        const char *in_file; /* the section, or the file's top */
        unsigned line;
    } api;
    struct {
        struct str socket, drop; /* empty: none */
        unsigned drop_messages;
        uint64_t drop_size, wait_ms;
        bool extract_adds;
        bool is_written; /* the file has such a section */
    } sendmail;
};

#define CONF_LISTEN_SENDMAIL "sendmail" /* its name */

/* file NULL: $WAYPOST_CONF, unless the program runs with rights that its caller lacks
 * (set-uid, file capabilities), else the default path. */
const char *conf_file_name(const char *file);
/* `file` as there. */
enum err conf_load(const char *file, struct conf **out_conf, struct fault *fault);
/* The same from text (tests, quickstart); `name` is used in messages. */
enum err conf_parse(const char *name, struct str text, struct conf **out_conf, struct fault *fault);
struct conf *conf_ref(struct conf *conf); /* any thread */
void conf_unref(struct conf **conf);

/* Every mistake, not only the first: `tell` is called for each finding. */
enum conf_severity { CONF_ERROR, CONF_WARNING };
typedef void conf_finding_fn(void *arg, enum conf_severity severity, const char *file,
                             unsigned line, const char *what, const char *fix);
/* Parse with all mistakes told; *out_conf is set only when there was no error. */
enum err conf_read(const char *file, conf_finding_fn *tell, void *arg, struct conf **out_conf);

/* Only what is plain: no listeners, keys and routes. For programs that anybody runs: nothing
 * else is judged, no secret is read, no name is looked up. What cannot be read leaves its
 * default; false when that is the whole file. */
bool conf_glance(const char *file, struct conf **out_conf);

/* Prints every option with its default and help: the sample configuration and the
 * option part of waypost.conf(5) come from here. */
struct buf;
void conf_sample(struct buf *out);
void conf_manual(struct buf *out); /* mdoc */

#endif
