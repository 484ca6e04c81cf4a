/*
 * schema.h - every section and every option, one row each (inside this layer).
 *
 * From these rows come the parser, the checks of form and range, the sample
 * configuration and the option list of waypost.conf(5). To add an option: a
 * row here, its field in conf.h, and the code that makes it true.
 */
#ifndef WAYPOST_CONF_SCHEMA_H
#define WAYPOST_CONF_SCHEMA_H

#include "conf/conf.h"

enum section_title {
    TITLE_NONE,  /* name { ... }, may be repeated; an option counts once over all */
    TITLE_EACH,  /* name { ... }, each one is a thing of its own */
    TITLE_NAME,  /* name "word" { ... }, a word for logs and lanes */
    TITLE_MATCH, /* name "text" { ... }, a domain or selector */
};

/* kind, name, kind around it, title, struct (void: fields of conf), example title, help */
#define SECTION_MAP(X)                                                                             \
    X(ROOT, "", ROOT, NONE, void, "", "")                                                          \
    X(LISTEN, "listen", ROOT, NAME, struct conf_listen, "submission",                              \
      "A place where clients connect. Any number of them, each with its name.")                    \
    X(TLS, "tls", ROOT, EACH, struct conf_tls, "",                                                 \
      "A certificate for our listeners. Several sections give several certificates; the name "     \
      "that a client asks for chooses, the first is the default.")                                 \
    X(USERS, "users", ROOT, NONE, void, "", "Who may log in.")                                     \
    X(AUTH, "auth", ROOT, NONE, void, "", "How clients may log in.")                               \
    X(DKIM, "dkim", ROOT, MATCH, struct conf_dkim, "example.com",                                  \
      "Signs mail whose From domain is the title or below it. The title \"*\" is the fallback "    \
      "for all other domains.")                                                                    \
    X(KEY, "key", DKIM, MATCH, struct conf_dkim_key, "s1",                                         \
      "A signing key inside a dkim section; the title is its selector. One RSA and one Ed25519 "   \
      "key together give two signatures.")                                                         \
    X(ROUTE, "route", ROOT, NAME, struct conf_route, "ses",                                        \
      "Where mail goes. The first route that matches recipient and sender is taken; without "      \
      "one, mail goes by MX with opportunistic TLS.")                                              \
    X(DESTINATION, "destination", ROOT, MATCH, struct conf_destination, "google.com",              \
      "How hard to push one place. The title is a recipient domain or the suffix of MX hosts, "    \
      "so that all domains at one provider share the limits.")                                     \
    X(ALIASES, "aliases", ROOT, NONE, void, "",                                                    \
      "Where the machine's own mail goes: names without a domain, and what cron, daemons and "     \
      "monitors send to root. All of it is in force without this section too.")                    \
    X(RETRY, "retry", ROOT, NONE, void, "", "When to try again, and for how long.")                \
    X(TIMEOUTS, "timeouts", ROOT, NONE, void, "",                                                  \
      "How long to wait for the other side (RFC 5321 section 4.5.3.2).")                           \
    X(LIMITS, "limits", ROOT, NONE, void, "", "What a client may ask of us.")                      \
    X(DNS, "dns", ROOT, NONE, void, "", "Who answers our name lookups.")                           \
    X(QUEUE, "queue", ROOT, NONE, void, "", "How much may be kept.")                               \
    X(LOG, "log", ROOT, NONE, void, "", "Where log lines go.")                                     \
    X(API, "api", ROOT, NONE, void, "", "The control interface (HTTP).")                           \
    X(SENDMAIL, "sendmail", ROOT, NONE, void, "",                                                  \
      "How programs of this machine hand in mail by sendmail(1). The socket and the folder are "   \
      "there without this section too.")

enum section_kind {
#define X(kind, name, around, title, type, example, help) SECTION_##kind,
    SECTION_MAP(X)
#undef X
        SECTION_COUNT
};

struct section_row {
    const char *name;
    enum section_kind around;
    enum section_title title;
    const char *example; /* a title, for the sample */
    const char *help;
};

enum option_type {
    TYPE_TEXT,
    TYPE_LIST,    /* of texts; one alone needs no braces */
    TYPE_FLAG,    /* true, false */
    TYPE_COUNT,   /* unsigned */
    TYPE_SIZE,    /* uint64_t octets: "50M" */
    TYPE_SECONDS, /* uint64_t: "1m30s" */
    TYPE_MILLIS,  /* uint64_t */
    TYPE_RATE,    /* double per second: "50/s" */
    TYPE_WORD,    /* an enum, by its words */
};

/* What a text or list item must look like. */
enum option_form {
    FORM_ANY,
    FORM_FILE,    /* a path */
    FORM_HOST,    /* a host name */
    FORM_DOMAIN,  /* a domain in DNS form */
    FORM_LISTEN,  /* "*:587", "127.0.0.1:25", "[::1]:25", "unix:/path", "fd:NAME" */
    FORM_ADDRESS, /* IP address with port: the API */
    FORM_SERVER,  /* IP address, port optional: name servers */
    FORM_IP,      /* IP address */
    FORM_NETWORK, /* "192.0.2.0/24" or one address */
    FORM_RELAY,   /* host[:port] */
    FORM_PATTERN, /* a@example.com, example.com, .example.com, local@, * */
    FORM_MAILBOX, /* a@example.com */
};

typedef const char *words_fn(unsigned index); /* NULL behind the last one */
words_fn words_listen_tls, words_listen_auth, words_policy, words_canon, words_log_to,
    words_log_format, words_log_level;

struct option_row {
    enum section_kind section;
    const char *name;
    enum option_type type;
    bool in_conf; /* the field is one of struct conf, else of the section's own struct */
    size_t offset;
    const char *start;   /* default as written in a file; "": not set; NULL: must be given */
    const char *unset;   /* what "" means, in words; for a word that stands for zero: that word */
    const char *example; /* for the sample when start is "" or NULL */
    uint64_t min, max;
    enum option_form form;
    words_fn *words;
    const char *help;
};

#define TOP(field) true, offsetof(struct conf, field)
#define OWN(type, field) false, offsetof(struct conf_##type, field)
#define ANY 0, 0, FORM_ANY, NULL
#define FORM(form) 0, 0, FORM_##form, NULL
#define RANGE(min, max) min, max, FORM_ANY, NULL
#define WORDS(words) 0, 0, FORM_ANY, words_##words

#define KIB 1024ULL
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)
#define MINUTE 60ULL
#define HOUR 3600ULL
#define DAY 86400ULL
#define MS(seconds) (1000ULL * (seconds))

/* section, name, type, field, default, meaning of "not set", example, form or range, help */
#define OPTION_MAP(X)                                                                              \
    X(ROOT, "hostname", TEXT, TOP(hostname), "", "the machine's fully qualified name",             \
      "relay.example.com", FORM(HOST),                                                             \
      "The name we use in greetings, Received fields and reports. Receivers check that it has "    \
      "an address and that the address leads back to it.")                                         \
    X(ROOT, "data", TEXT, TOP(data), "/var/lib/waypost", NULL, NULL, FORM(FILE),                   \
      "The folder of the queue.")                                                                  \
    X(ROOT, "user", TEXT, TOP(user), "", "the user that started it", "waypost", ANY,               \
      "When started as root: open the listeners, then become this user.")                          \
    X(ROOT, "workers", COUNT, TOP(workers), "auto", "auto", NULL, RANGE(1, 256),                   \
      "Event loops. auto: as many as the machine has processors.")                                 \
    X(ROOT, "max-connections", COUNT, TOP(max_connections), "1000", NULL, NULL, RANGE(1, 65535),   \
      "Outgoing connections in all. An eighth of them is for places that take mail quickly.")      \
    X(ROOT, "port", COUNT, TOP(port), "25", NULL, NULL, RANGE(1, 65535),                           \
      "The port of MX hosts. Only laboratories need another one.")                                 \
    X(ROOT, "received-user", FLAG, TOP(received_user), "false", NULL, NULL, ANY,                   \
      "Put the name that the client logged in with into the Received field.")                      \
    X(ROOT, "drain", MILLIS, TOP(drain_ms), "10s", NULL, NULL, RANGE(0, MS(HOUR)),                 \
      "On SIGTERM: finish what runs, for at most this long. A second SIGTERM ends at once.")       \
                                                                                                   \
    X(LISTEN, "address", TEXT, OWN(listen, address), NULL, NULL, "*:587", FORM(LISTEN),            \
      "Address and port, * for all addresses; or unix:/path, or fd:NAME for a socket passed by "   \
      "the service manager.")                                                                      \
    X(LISTEN, "tls", WORD, OWN(listen, tls), "none", NULL, "starttls", WORDS(listen_tls),          \
      "One of none; starttls: offered as an extension; implicit: TLS from the first byte.")        \
    X(LISTEN, "auth", WORD, OWN(listen, auth), "off", NULL, "required", WORDS(listen_auth),        \
      "One of off; optional; required: no mail without login. Never offered in clear.")            \
    X(LISTEN, "trust", LIST, OWN(listen, trust), "", "nobody", "127.0.0.0/8", FORM(NETWORK),       \
      "Networks that may send mail to anywhere without login.")                                    \
    X(LISTEN, "proxy", LIST, OWN(listen, proxy), "", "nobody", "192.0.2.1", FORM(NETWORK),         \
      "Load balancers whose PROXY protocol version 2 header is believed.")                         \
    X(LISTEN, "auth-in-clear", FLAG, OWN(listen, auth_in_clear), "false", NULL, NULL, ANY,         \
      "Offer login without TLS. Only on loopback addresses and unix sockets.")                     \
                                                                                                   \
    X(TLS, "certificate", TEXT, OWN(tls, certificate), "", "no certificate",                       \
      "/etc/waypost/tls/cert.pem", FORM(FILE),                                                     \
      "The certificate and its chain, in PEM form. Read again on reload.")                         \
    X(TLS, "key", TEXT, OWN(tls, key), "", "no key", "/etc/waypost/tls/key.pem", FORM(FILE),       \
      "Its private key, in PEM form.")                                                             \
    X(TLS, "ca-file", TEXT, TOP(ca_file), "", "the system's certificates",                         \
      "/etc/ssl/certs/ca-certificates.crt", FORM(FILE),                                            \
      "The authorities that next hops are verified with. Counts for all tls sections.")            \
                                                                                                   \
    X(USERS, "file", TEXT, TOP(users_file), "", "no users", "/etc/waypost/users", FORM(FILE),      \
      "Users, password hashes and what each may send as; kept by waypost user.")                   \
    X(AUTH, "cram-md5", FLAG, TOP(cram_md5), "false", NULL, NULL, ANY,                             \
      "Offer CRAM-MD5 too, for clients that know nothing better. Only users whose password is "    \
      "stored in clear can use it.")                                                               \
                                                                                                   \
    X(DKIM, "sign-as", TEXT, OWN(dkim, sign_as), "", "the title", "example.com", FORM(DOMAIN),     \
      "The domain of the signature (d=). Needed when the title is \"*\".")                         \
    X(DKIM, "canonicalization", WORD, OWN(dkim, canon), "relaxed/relaxed", NULL, "relaxed/simple", \
      WORDS(canon),                                                                                \
      "What counts as the same message when a signature is verified (c=), of head and body: "      \
      "relaxed forgives blanks that were changed on the way, simple forgives nothing. One of "     \
      "relaxed/relaxed; relaxed/simple: as OpenDKIM in Debian, a little cheaper to make.")         \
    X(KEY, "file", TEXT, OWN(dkim_key, file), NULL, NULL, "/etc/waypost/dkim/example.com.s1.pem",  \
      FORM(FILE),                                                                                  \
      "The private key, in PEM form, readable by nobody else. waypost dkim keygen makes one.")     \
                                                                                                   \
    X(ROUTE, "match", LIST, OWN(route, match), "", "every recipient", "*", FORM(PATTERN),          \
      "Recipients: example.com, .example.com for all below it, a@example.com, postmaster@, or "    \
      "* for all.")                                                                                \
    X(ROUTE, "match-sender", LIST, OWN(route, match_sender), "", "every sender", "example.com",    \
      FORM(PATTERN), "Senders (reverse-paths), written in the same way.")                          \
    X(ROUTE, "relay", LIST, OWN(route, relay), "", "the recipient domain's MX hosts",              \
      "email-smtp.eu-west-1.amazonaws.com:587", FORM(RELAY),                                       \
      "The next hop, host or host:port; several are tried in order. Port 25 when none is "         \
      "written, 465 with tls = implicit.")                                                         \
    X(ROUTE, "tls", WORD, OWN(route, tls), "opportunistic", NULL, "verified", WORDS(policy),       \
      "One of none; opportunistic: when offered; required: encrypted, whoever it is; "             \
      "verified: chain and name are right; implicit: the same, with TLS at connect; "              \
      "dane: by TLSA records where there are any.")                                                \
    X(ROUTE, "username", TEXT, OWN(route, username), "", "no login", "AKIAEXAMPLE", ANY,           \
      "The name to log in with. Never sent in clear.")                                             \
    X(ROUTE, "password-file", TEXT, OWN(route, password_file), "", "no login",                     \
      "/etc/waypost/ses.pass", FORM(FILE), "The file that holds the password, on one line.")       \
    X(ROUTE, "source", LIST, OWN(route, source), "", "the system chooses", "192.0.2.1", FORM(IP),  \
      "Our own addresses to connect from, IPv4 and IPv6.")                                         \
    X(ROUTE, "ca-file", TEXT, OWN(route, ca_file), "", "as in tls", "/etc/waypost/ca.pem",         \
      FORM(FILE), "The authorities that this route's hosts are verified with.")                    \
    X(ROUTE, "sender", TEXT, OWN(route, sender), "", "senders stay as they are",                   \
      "relay@example.com", FORM(MAILBOX),                                                          \
      "For a next hop that accepts only senders it knows: From and reverse-path of mail from "     \
      "anybody else become this address before signing. The old From stays in "                    \
      "X-Original-From, and in Reply-To where there is none.")                                     \
    X(ROUTE, "senders", LIST, OWN(route, senders), "", "only the address in sender",               \
      "example.com", FORM(PATTERN),                                                                \
      "With sender: patterns of further addresses that the next hop accepts as they are.")         \
    X(ROUTE, "null-sender", FLAG, OWN(route, null_sender), "true", NULL, NULL, ANY,                \
      "The next hop accepts the null reverse-path of reports. false: they carry sender instead.")  \
                                                                                                   \
    X(DESTINATION, "max-connections", COUNT, OWN(destination, max_connections), "20", NULL, NULL,  \
      RANGE(1, 10000), "Connections at once. We start lower and widen while all goes well.")       \
    X(DESTINATION, "messages-per-connection", COUNT, OWN(destination, messages_per_connection),    \
      "unlimited", "unlimited", "100", RANGE(1, 1000000),                                          \
      "Messages sent over one connection before it is closed.")                                    \
    X(DESTINATION, "rate", RATE, OWN(destination, rate_per_s), "unlimited", "unlimited", "50/s",   \
      ANY, "Messages in a time: 50/s, 600/m, 10000/h.")                                            \
                                                                                                   \
    X(RETRY, "first", SECONDS, TOP(retry.first_s), "1m", NULL, NULL, RANGE(1, DAY),                \
      "The pause after the first failed attempt; it doubles from there.")                          \
    X(RETRY, "max", SECONDS, TOP(retry.max_s), "4h", NULL, NULL, RANGE(1, 7 * DAY),                \
      "The longest pause.")                                                                        \
    X(RETRY, "lifetime", SECONDS, TOP(retry.lifetime_s), "5d", NULL, NULL, RANGE(1, 60 * DAY),     \
      "After this time a message that could not be delivered is returned.")                        \
    X(RETRY, "warn-after", SECONDS, TOP(retry.warn_after_s), "4h", "never", NULL,                  \
      RANGE(1, 60 * DAY),                                                                          \
      "The sender is told after this time that the message is late. never: no such warning.")      \
    X(RETRY, "reports-per-hour", COUNT, TOP(retry.reports_per_hour), "1000", NULL, NULL,           \
      RANGE(1, 1000000),                                                                           \
      "Delivery reports (bounces, warnings) that are sent in an hour; further ones wait for "      \
      "the next hour, none is lost.")                                                              \
                                                                                                   \
    X(ALIASES, "root", TEXT, TOP(aliases.root), "", "the alias file says where",                   \
      "ops@example.com", FORM(MAILBOX),                                                            \
      "The address that gets the machine's own mail: to root, to postmaster, and to every "        \
      "local name without an alias. Without it and without an alias for root such mail is "        \
      "held until there is one.")                                                                  \
    X(ALIASES, "file", TEXT, TOP(aliases.file), "/etc/aliases", NULL, NULL, FORM(FILE),            \
      "Aliases of local names. A change is noticed by itself. Pipes and files in it are "          \
      "refused: nothing is delivered on this machine.")                                            \
    X(ALIASES, "mailname", TEXT, TOP(aliases.mailname), "",                                        \
      "the first line of /etc/mailname, else hostname", "example.com", FORM(DOMAIN),               \
      "What completes addresses without a domain, in the envelope and in the header.")             \
    X(ALIASES, "local-domains", LIST, TOP(aliases.local_domains), "", "none", "web1.example.com",  \
      FORM(DOMAIN),                                                                                \
      "Further domains whose addresses are all this machine's. hostname, the machine's name "      \
      "and localhost are such without being named, when they are not mailname.")                   \
    X(ALIASES, "forward", FLAG, TOP(aliases.forward), "true", NULL, NULL, ANY,                     \
      "Follow the .forward files of local users, where the relay's user may read them.")           \
                                                                                                   \
    X(TIMEOUTS, "connect", MILLIS, TOP(timeouts.connect_ms), "30s", NULL, NULL,                    \
      RANGE(MS(1), MS(HOUR)), "Until a connection is made, for each address.")                     \
    X(TIMEOUTS, "banner", MILLIS, TOP(timeouts.banner_ms), "5m", NULL, NULL,                       \
      RANGE(MS(1), MS(HOUR)), "Until the next hop greets.")                                        \
    X(TIMEOUTS, "command", MILLIS, TOP(timeouts.command_ms), "5m", NULL, NULL,                     \
      RANGE(MS(1), MS(HOUR)), "Until a command is answered.")                                      \
    X(TIMEOUTS, "data", MILLIS, TOP(timeouts.data_ms), "3m", NULL, NULL, RANGE(MS(1), MS(HOUR)),   \
      "For each piece of the content, in both directions.")                                        \
    X(TIMEOUTS, "end-of-data", MILLIS, TOP(timeouts.end_of_data_ms), "10m", NULL, NULL,            \
      RANGE(MS(1), MS(HOUR)),                                                                      \
      "Until the next hop answers the final dot. Shorter means more mail that arrives twice.")     \
    X(TIMEOUTS, "idle", MILLIS, TOP(timeouts.idle_ms), "5m", NULL, NULL, RANGE(MS(1), MS(HOUR)),   \
      "For a client to finish its next command line, counted from the start of the line.")         \
                                                                                                   \
    X(LIMITS, "message-size", SIZE, TOP(limits.message_size), "50M", NULL, NULL,                   \
      RANGE(64 * KIB, 4 * GIB), "The largest message.")                                            \
    X(LIMITS, "header-size", SIZE, TOP(limits.header_size), "256K", NULL, NULL,                    \
      RANGE(4 * KIB, 16 * MIB), "The largest header of a message.")                                \
    X(LIMITS, "recipients", COUNT, TOP(limits.recipients), "1000", NULL, NULL, RANGE(100, 100000), \
      "Recipients of one message; further ones are answered with 452.")                            \
    X(LIMITS, "sessions", COUNT, TOP(limits.sessions), "1000", NULL, NULL, RANGE(1, 1000000),      \
      "Client connections in all.")                                                                \
    X(LIMITS, "sessions-per-client", COUNT, TOP(limits.sessions_per_client), "50", NULL, NULL,     \
      RANGE(1, 1000000), "Connections from one address, or of one user by sendmail(1).")           \
    X(LIMITS, "errors", COUNT, TOP(limits.errors), "20", NULL, NULL, RANGE(1, 10000),              \
      "Refused commands before a session is ended.")                                               \
    X(LIMITS, "hops", COUNT, TOP(limits.hops), "50", NULL, NULL, RANGE(10, 1000),                  \
      "Received fields that make a message count as looping.")                                     \
    X(LIMITS, "data-rate-min", SIZE, TOP(limits.data_rate_min), "1K", NULL, NULL, RANGE(1, GIB),   \
      "Octets per second that a client has to send, on average over the content.")                 \
                                                                                                   \
    X(DNS, "servers", LIST, TOP(dns.servers), "", "those of /etc/resolv.conf", "127.0.0.1:53",     \
      FORM(SERVER), "Name servers, in order; port 53 when none is written.")                       \
    X(DNS, "trust-ad", FLAG, TOP(dns.trust_ad), "false", NULL, NULL, ANY,                          \
      "Believe these servers when they say that an answer was validated (DNSSEC); DANE needs "     \
      "it. Servers on loopback addresses are always believed.")                                    \
    X(DNS, "timeout", MILLIS, TOP(dns.timeout_ms), "3s", NULL, NULL, RANGE(100, MS(MINUTE)),       \
      "For one answer, before the next server is asked.")                                          \
                                                                                                   \
    X(QUEUE, "size", SIZE, TOP(queue.size), "auto", "auto", NULL, RANGE(MIB, 1024 * TIB),          \
      "How much mail may wait; 452 above it. auto: half of the disk space that is free at the "    \
      "start.")                                                                                    \
    X(QUEUE, "map-size", SIZE, TOP(queue.map_size), "1T", NULL, NULL, RANGE(16 * MIB, 64 * TIB),   \
      "Address space of the store; not memory, not disk space. Only for tools that cannot stand "  \
      "large mappings.")                                                                           \
    X(QUEUE, "trace-age", SECONDS, TOP(queue.trace_age_s), "30d", NULL, NULL,                      \
      RANGE(HOUR, 3650 * DAY), "How long the traces of messages are kept.")                        \
    X(QUEUE, "trace-size", SIZE, TOP(queue.trace_size), "1G", NULL, NULL, RANGE(MIB, 64 * TIB),    \
      "How much disk space traces may take; the oldest go first.")                                 \
                                                                                                   \
    X(LOG, "to", WORD, TOP(log.to), "stdout", NULL, NULL, WORDS(log_to),                           \
      "One of stdout; journal: standard error with priorities for the service manager; "           \
      "syslog; file.")                                                                             \
    X(LOG, "format", WORD, TOP(log.format), "text", NULL, NULL, WORDS(log_format),                 \
      "One of text: key=value; json: one object a line.")                                          \
    X(LOG, "level", WORD, TOP(log.level), "info", NULL, NULL, WORDS(log_level),                    \
      "The least that is worth a line: debug, info, warning, alarm. Traces keep everything.")      \
    X(LOG, "file", TEXT, TOP(log.file), "", "no file", "/var/log/waypost.log", FORM(FILE),         \
      "With to = file: its name. Opened again on SIGHUP.")                                         \
                                                                                                   \
    X(API, "socket", TEXT, TOP(api.socket), "/run/waypost/waypost.sock", NULL, NULL, FORM(FILE),   \
      "The unix socket that the waypost commands talk to. It is always there.")                    \
    X(API, "address", TEXT, TOP(api.address), "", "no TCP", "127.0.0.1:8025", FORM(ADDRESS),       \
      "Serve the interface on this address too. Needs token-file.")                                \
    X(API, "token-file", TEXT, TOP(api.token_file), "", "no token", "/etc/waypost/api.token",      \
      FORM(FILE), "The file that holds the token which callers over TCP have to show.")            \
                                                                                                   \
    X(SENDMAIL, "socket", TEXT, TOP(sendmail.socket), CONF_SUBMIT_DEFAULT, NULL, NULL, ANY,        \
      "The unix socket on which every user of the machine may hand in mail; who it was is kept "   \
      "with the message. \"\": none.")                                                             \
    X(SENDMAIL, "drop", TEXT, TOP(sendmail.drop), CONF_DROP_DEFAULT, NULL, NULL, ANY,              \
      "The folder where sendmail(1) leaves mail while the relay does not run. \"\": none. What "   \
      "lies in one that was configured before is still taken.")                                    \
    X(SENDMAIL, "drop-messages", COUNT, TOP(sendmail.drop_messages), "1000", NULL, NULL,           \
      RANGE(1, 1000000),                                                                           \
      "Messages of one user that are taken from the folder at a time; the rest waits a minute.")   \
    X(SENDMAIL, "drop-size", SIZE, TOP(sendmail.drop_size), "256M", NULL, NULL,                    \
      RANGE(MIB, 64 * TIB), "The same in octets; one message is always taken.")                    \
    X(SENDMAIL, "wait", MILLIS, TOP(sendmail.wait_ms), "30s", NULL, NULL, RANGE(0, MS(HOUR)),      \
      "How long sendmail -odi, -odf and -v wait for the next hop's verdict.")                      \
    X(SENDMAIL, "extract-adds-arguments", FLAG, TOP(sendmail.extract_adds), "true", NULL, NULL,    \
      ANY,                                                                                         \
      "With -t, addresses on the command line are recipients too, as with Postfix. false: they "   \
      "are taken away from those in the header, as with Exim.")

extern const struct section_row section_rows[SECTION_COUNT];
extern const struct option_row option_rows[];
extern const size_t option_row_count;

bool schema_has_title(enum section_kind section);

/* By exact name inside a section; NULL / SECTION_ROOT when there is none. */
const struct option_row *schema_option(enum section_kind section, struct str name);
enum section_kind schema_section(enum section_kind around, struct str name);
/* The real name in this section that is most like `name`, NULL when none is near. */
const char *schema_nearest(enum section_kind section, struct str name);
/* A section that does have an option of this name, SECTION_ROOT when none has. */
enum section_kind schema_home_of(struct str name);

#endif
