/*
 * conf_test.c - configurations, good and bad, with the exact words of each finding.
 */
#include "conf/conf.h"
#include "conf/schema.h"
#include "conf/value.h"
#include "relay/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static const char *in_dir(const char *name)
{
    static char path[4][160];
    static unsigned next;
    char *to = path[next++ % 4];

    snprintf(to, sizeof(path[0]), "%s/%s", dir, name);
    return to;
}

static void put(const char *name, const char *text, mode_t mode)
{
    FILE *f = fopen(in_dir(name), "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(in_dir(name), mode), 0);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/waypost-conf-XXXXXX");
    assert_non_null(mkdtemp(dir));
    setenv("CONF_TEST_DIR", dir, 1);
    setenv("CONF_TEST_VALUE", "from the environment", 1);
    unsetenv("CONF_TEST_UNSET");
    put("pass", "secret\r\n", 0600);
    put("open-pass", "secret", 0644);
    put("empty-pass", "\n", 0600);
    put("two-pass", "one\ntwo\n", 0600);
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = { "pass",     "open-pass", "empty-pass",
                                         "two-pass", "main",      "one.part",
                                         "two.part", "loop",      "broken.part" };

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(in_dir(names[i]));
    assert_int_equal(rmdir(dir), 0);
    return 0;
}

/* ---- findings as text ---- */

static void tell(void *arg, enum conf_severity severity, const char *file, unsigned line,
                 const char *what, const char *fix)
{
    const char *slash = strrchr(file, '/');

    buf_printf(arg, "%s%s:%u: %s (%s)\n", severity == CONF_WARNING ? "warning " : "",
               slash ? slash + 1 : file, line, what, fix);
}

/* All findings of a text; *out_conf NULL when there were errors. */
static void read_text(const char *text, struct buf *out, struct conf **out_conf)
{
    put("main", text, 0600);
    buf_init(out, 65536);
    *out_conf = NULL;
    conf_read(in_dir("main"), tell, out, out_conf);
}

static struct conf *good(const char *text)
{
    struct buf found;
    struct conf *conf;

    read_text(text, &found, &conf);
    if (!conf || found.len)
        fail_msg("%.*s", (int)found.len, found.at);
    buf_clear(&found);
    return conf;
}

#define HOST "hostname = relay.example.com\n"
#define LOCAL "listen local { address = \"127.0.0.1:25\" trust = \"127.0.0.1\" }\n"
#define CERT "tls { certificate = a key = b }\n"
#define USERS "users { file = u }\n"
#define BASE HOST LOCAL
#define TEN "0123456789"

static const struct {
    const char *name, *text, *found;
} rows[] = {
    /* syntax */
    { "a missing equal sign", BASE "data /x\n",
      "main:3: an equal sign expected, found \"/x\" (write data = ...)\n" },
    { "a missing value", BASE "data =\nport = 25\n",
      "main:3: a value expected, found \"port\" (write a value behind it)\n" },
    { "a missing value at the end", BASE "data =",
      "main:3: a value expected, found \"the end of the file\" (write a value behind it)\n" },
    { "a list where one value is wanted", BASE "data = {\"a\", \"b\"}\n",
      "main:3: a value expected, found \"{\" (write one value, without braces)\n" },
    { "an unclosed section", BASE "log { to = stdout\n",
      "main:3: section log is not closed (add a })\n" },
    { "a brace too many", BASE "log { to = stdout }\n}\n",
      "main:4: } closes nothing (remove it)\n" },
    { "an unclosed quote", BASE "data = \"/x\nport = 25\n",
      "main:3: the quote is not closed (end it on the same line)\n" },
    { "an unclosed comment", BASE "port = 25 /* oh\n\n",
      "main:3: the comment is not closed (end it with */)\n" },
    { "a semicolon", BASE "port = 25;\n",
      "main:3: unexpected \";\" (a line ends without a mark; quote what is meant as text)\n" },
    { "a backslash before what needs none", BASE "data = \"c:\\data\"\n",
      "main:3: a backslash in quotes stands before \\, $, n, t or the quote (write \\\\ for a "
      "backslash)\n" },
    { "a comma missing in a list",
      HOST "listen x { address = \"[::1]:25\" trust = {\"::1\" \"a\"} "
           "}\n",
      "main:2: a comma or } expected, found \"a\" (write {\"one\", \"two\"})\n" },
    { "a section without its name", HOST LOCAL "listen { address = \"*:1\" }\n",
      "main:3: a name in quotes expected, found \"{\" (write listen \"submission\" { ... })\n" },
    { "a section without its brace", BASE "log to = stdout\n",
      "main:3: { expected, found \"to\" (write log { ... })\n" },
    { "a name that is quoted", BASE "\"port\" = 25\n",
      "main:3: a name expected, found \"port\" (write name = value, or name { ... })\n" },
    { "control characters are shown safely", BASE "port = \"\x1b[31m\"\n",
      "main:3: port: \"\\x1B[31m\" is not a whole number (write digits only)\n" },

    /* variables */
    { "a variable that is not set", BASE "data = \"${CONF_TEST_UNSET}\"\n",
      "main:3: the environment has no variable CONF_TEST_UNSET (set it, or write "
      "${NAME:-otherwise})\n" },
    { "a variable without its brace", BASE "data = \"${CONF_TEST\"\nport = 25\n",
      "main:3: ${ is not closed (end it with })\n" },
    { "a variable with a strange name", BASE "data = \"${A B}\"\n",
      "main:3: \"A B\" is not the name of a variable (write ${NAME} or ${NAME:-otherwise})\n" },

    /* names */
    { "a misspelt option", BASE "hostnme = x\n",
      "main:3: unknown option \"hostnme\" (did you mean hostname?)\n" },
    { "an underscore for a hyphen", BASE "limits { message_size = \"1M\" }\n",
      "main:3: unknown option \"message_size\" in limits (did you mean message-size?)\n" },
    { "a misspelt section", BASE "timeout { connect = \"1s\" }\n",
      "main:3: unknown option \"timeout\" (it belongs in dns)\n" },
    { "an option of another section", BASE "message-size = \"1M\"\n",
      "main:3: unknown option \"message-size\" (it belongs in limits)\n" },
    { "a name like no other", BASE "xyzzy { a = 1 b { c = 2 } }\nport = x\n",
      "main:3: unknown option \"xyzzy\" (see waypost.conf(5))\n"
      "main:4: port: \"x\" is not a whole number (write digits only)\n" },
    { "root's mail needs a whole address", BASE "aliases { root = ops }\n",
      "main:3: root: \"ops\" cannot be used here (write a whole address, as in "
      "ops@example.com)\n" },
    { "aliases", BASE "aliases { root = \"ops@example.com\" mailname = \"example.com\" }\n", "" },
    { "accepted senders without one that replaces others",
      BASE "route a { relay = h senders = { \"example.com\" } }\n",
      "main:3: route \"a\" says which senders its next hop accepts, but not what replaces others "
      "(add sender = \"relay@example.com\")\n" },
    { "no null sender, and no other", BASE "route a { relay = h null-sender = false }\n",
      "main:3: route \"a\" says which senders its next hop accepts, but not what replaces others "
      "(add sender = \"relay@example.com\")\n" },
    { "the rest of the line behind an unknown option counts",
      BASE "limits { mesage-size = \"1M\" errors = x }\n",
      "main:3: unknown option \"mesage-size\" in limits (did you mean message-size?)\n"
      "main:3: errors: \"x\" is not a whole number (write digits only)\n" },
    { "an option twice", BASE "port = 25\nport = 26\n",
      "main:4: port is given twice, first in line 3 (leave one of them out)\n" },
    { "an option twice in two sections of a kind",
      BASE "log { to = stdout }\nlog { to = syslog }\n",
      "main:4: to is given twice, first in line 3 (leave one of them out)\n" },
    { "a list twice",
      HOST "listen x { address = \"[::1]:25\" trust = \"::1\"\n trust = \"::2\" }\n",
      "main:3: trust is given twice, first in line 2 (leave one of them out)\n" },
    { "two listeners of a name", BASE "listen local { address = \"unix:/x\" }\n",
      "main:3: listen \"local\" is there twice, first in line 2 (give each its own)\n" },
    { "two routes of a name", BASE "route a { match = \"x.test\" }\nroute A { }\n",
      "main:4: route \"A\" is there twice, first in line 3 (give each its own)\n" },
    { "a name that would break a lane", BASE "route \"a/b\" { }\n",
      "main:3: \"a/b\" cannot be the name of a route (use letters, digits, - _ . only, at most "
      "63)\n" },

    /* values */
    { "a port out of range", BASE "port = 65536\n",
      "main:3: port: \"65536\" is out of range (1 to 65535)\n" },
    { "a word that stands for zero is named", BASE "workers = 0\n",
      "main:3: workers: \"0\" is out of range (1 to 256, or auto)\n" },
    { "a size that is none", BASE "limits { message-size = 50Q }\n",
      "main:3: message-size: \"50Q\" is not a size (write a number with K, M, G or T, as in 50M)\n" },
    { "a size over all numbers", BASE "limits { message-size = 99999999999T }\n",
      "main:3: message-size: \"99999999999T\" is not a size (write a number with K, M, G or T, as "
      "in 50M)\n" },
    { "a size out of range", BASE "limits { message-size = 1 }\n",
      "main:3: message-size: \"1\" is out of range (64K to 4G)\n" },
    { "a duration without a unit", BASE "drain = 10\n",
      "main:3: drain: \"10\" is not a duration (write numbers with ms, s, m, h, d or w, as in "
      "1m30s)\n" },
    { "a duration finer than it can be", BASE "retry { first = 1500ms }\n",
      "main:3: first: \"1500ms\" is finer than a second (write whole seconds)\n" },
    { "a duration out of range", BASE "timeouts { idle = 2h }\n",
      "main:3: idle: \"2h\" is out of range (1s to 1h)\n" },
    { "a rate", BASE "destination \"example.com\" { rate = \"50\" }\n",
      "main:3: rate: \"50\" is not a rate (write a number and /s, /m or /h, as in 50/s)\n" },
    { "neither true nor false", BASE "received-user = maybe\n",
      "main:3: received-user: \"maybe\" is neither true nor false (write true or false)\n" },
    { "an unknown word", BASE "log { to = stderr }\n",
      "main:3: to: \"stderr\" is not one of its words (one of: stdout, journal, syslog, file)\n" },
    { "an unknown policy", BASE "route a { tls = secure }\n",
      "main:3: tls: \"secure\" is not one of its words (one of: none, opportunistic, required, "
      "verified, implicit, dane)\n" },
    { "a host name", LOCAL "hostname = \"a b\"\n",
      "main:2: hostname: \"a b\" cannot be used here (write a host name, as in "
      "relay.example.com)\n" },
    { "a listen address without a port",
      HOST "listen x { address = \"127.0.0.1\" trust = \"::1\" "
           "}\n",
      "main:2: address: \"127.0.0.1\" cannot be used here (write address:port as in *:587 or "
      "[::1]:25, unix:/path, or fd:NAME)\n" },
    { "a network", HOST "listen x { address = \"*:25\" trust = {\"::1\", \"10.0.0.0/33\"} }\n",
      "main:2: trust: \"10.0.0.0/33\" cannot be used here (write a network or address, as in "
      "192.0.2.0/24 or ::1)\n" },
    { "a next hop", BASE "route a { relay = \"host:port\" }\n",
      "main:3: relay: \"host:port\" cannot be used here (write host or host:port, as in "
      "smtp.example.com:587 or [2001:db8::1]:25)\n" },
    { "a source", BASE "route a { source = {\"192.0.2.1\", \"eth0\"} }\n",
      "main:3: source: \"eth0\" cannot be used here (write an IP address without a port)\n" },
    { "a pattern", BASE "route a { match = \"*.example.com\" }\n",
      "main:3: match: \"*.example.com\" cannot be used here (write example.com, .example.com, "
      "a@example.com, postmaster@ or *)\n" },
    { "a name server by name", BASE "dns { servers = \"ns.example.com\" }\n",
      "main:3: servers: \"ns.example.com\" cannot be used here (write an IP address, with a port "
      "when it is not 53: 127.0.0.1:5353)\n" },
    { "a listener without an address", HOST "listen x { trust = \"::1\" }\n",
      "main:2: listen \"x\" has no address (add address = \"*:587\")\n" },
    { "a DKIM key without a file", BASE "dkim \"example.com\" { key s1 { } }\n",
      "main:3: key \"s1\" has no file (add file = \"/etc/waypost/dkim/example.com.s1.pem\")\n" },

    /* what cannot work together */
    { "credentials with opportunistic TLS",
      BASE "route ses { relay = h username = u password-file = \"${CONF_TEST_DIR}/pass\" }\n",
      "main:3: route \"ses\" has tls = opportunistic: credentials would go in clear (add tls = "
      "verified)\n" },
    { "credentials without TLS",
      BASE "route ses { relay = h username = u tls = none\n"
           "password-file = \"${CONF_TEST_DIR}/pass\" }\n",
      "main:3: route \"ses\" has tls = none: credentials would go in clear (add tls = "
      "verified)\n" },
    { "credentials with DANE",
      BASE "route ses { relay = h username = u tls = dane\n"
           "password-file = \"${CONF_TEST_DIR}/pass\" }\n",
      "main:3: route \"ses\" has tls = dane: without TLSA records credentials would go in clear "
      "(use tls = verified)\n" },
    { "credentials for whoever answers",
      BASE "route ses { relay = h username = u tls = required\n"
           "password-file = \"${CONF_TEST_DIR}/pass\" }\n",
      "warning main:3: route \"ses\" has tls = required: credentials go to whoever answers (use "
      "tls = verified)\n" },
    { "credentials for MX hosts",
      BASE "route a { username = u tls = verified password-file = \"${CONF_TEST_DIR}/pass\" }\n",
      "main:3: route \"a\" has credentials, but goes by MX: every host would get them (add relay = "
      "\"...\")\n" },
    { "a username alone", BASE "route a { relay = h tls = verified username = u }\n",
      "main:3: route \"a\" has a username, no password-file (add password-file = \"...\")\n" },
    { "a password alone",
      BASE "route a { relay = h tls = verified password-file = \"${CONF_TEST_DIR}/pass\" }\n",
      "main:3: route \"a\" has a password-file, no username (add username = \"...\")\n" },
    { "a password file that is not there",
      BASE "route a { relay = h tls = verified username = u\n"
           "password-file = \"/proc/self/cwd/nowhere\" }\n",
      "main:3: cannot read /proc/self/cwd/nowhere: No such file or directory (write the password "
      "into it, mode 0640)\n" },
    { "implicit TLS by MX", BASE "route a { tls = implicit }\n",
      "main:3: route \"a\" has tls = implicit, which MX hosts do not speak (use tls = verified, or "
      "name a relay)\n" },
    { "STARTTLS to a port with TLS at connect",
      BASE
      "route a { relay = {\"h:587\", \"h:465\", \"[::1]:465\", \"2001:db8::465\", \"[::465]\"} "
      "tls = verified }\n",
      "warning main:3: route \"a\" has tls = verified, but hosts expect TLS at connect on port 465: "
      "h:465 (use tls = implicit, or port 587)\n"
      "warning main:3: route \"a\" has tls = verified, but hosts expect TLS at connect on port 465: "
      "[::1]:465 (use tls = implicit, or port 587)\n" },
    { "TLS at connect to a port with STARTTLS",
      BASE "route a { relay = {\"h\", \"h:465\", \"h:587\"} tls = implicit }\n",
      "warning main:3: route \"a\" has tls = implicit, but hosts expect STARTTLS on port 587: h:587 "
      "(use tls = verified, or port 465)\n" },
    { "the API where sendmail listens",
      BASE "sendmail { socket = /run/x }\napi { socket = /run/x }\n",
      "main:4: api: the socket is that of sendmail (give each its own)\n" },
    { "the API where a listener listens",
      BASE "listen u { address = \"unix:/run/x\" }\napi { socket = /run/x }\n",
      "main:4: api: the socket is that of listen \"u\" (give each its own)\n" },
    { "a socket path of 108 octets",
      BASE "api { socket = /" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "1234567 }\n",
      "main:3: api: the socket's path has 108 octets, more than a socket can have (name one of at "
      "most 107)\n" },
    { "a socket path of 107 octets",
      BASE "api { socket = /" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "123456 }\n", "" },
    { "a route that is never taken",
      BASE "route all { relay = h }\nroute b { match = \"b.test\" }\n",
      "warning main:4: route \"b\" is never taken: \"all\" before it takes everything (put it "
      "before that one)\n" },
    { "TLS without a certificate",
      BASE USERS "listen x { address = \"*:587\" tls = starttls auth = required }\n",
      "main:4: listen \"x\" has tls = starttls, but there is no certificate (add tls { certificate "
      "= \"...\" key = \"...\" })\n" },
    { "a ca-file is no certificate",
      BASE
      "tls { ca-file = \"/ca\" }\nlisten x { address = \"*:465\" tls = implicit trust = \"::1\" "
      "}\n",
      "main:4: listen \"x\" has tls = implicit, but there is no certificate (add tls { certificate "
      "= \"...\" key = \"...\" })\n" },
    { "a certificate without its key", BASE "tls { certificate = a }\n",
      "main:3: tls has a certificate, no key (add key = \"...\")\n" },
    { "an open relay",
      HOST "listen x { address = \"*:25\" trust = {\"10.0.0.0/8\", \"0.0.0.0/0\"} "
           "}\n",
      "main:2: listen \"x\" trusts 0.0.0.0/0, which is everybody: an open relay (name your own "
      "networks)\n" },
    { "an open relay by IPv6", HOST "listen x { address = \"*:25\" trust = \"::/0\" }\n",
      "main:2: listen \"x\" trusts ::/0, which is everybody: an open relay (name your own "
      "networks)\n" },
    { "half of the world", HOST "listen x { address = \"*:25\" trust = \"128.0.0.0/1\" }\n",
      "warning main:2: listen \"x\" trusts 128.0.0.0/1, which is very wide (name your own "
      "networks)\n" },
    { "PROXY headers from everybody",
      HOST "listen x { address = \"*:25\" trust = \"::1\" proxy = \"0.0.0.0/0\" }\n",
      "main:2: listen \"x\" believes PROXY headers from everybody: any client could pass for a "
      "trusted one (name your load balancers)\n" },
    { "login in clear on a public address",
      HOST USERS "listen x { address = \"*:25\" auth = required auth-in-clear = true }\n",
      "main:3: listen \"x\" has auth-in-clear, but \"*:25\" is not a loopback address (use tls, or "
      "listen on 127.0.0.1)\n" },
    { "login without TLS", HOST USERS "listen x { address = \"127.0.0.1:25\" auth = required }\n",
      "main:3: listen \"x\" has auth = required without tls: login is never offered in clear (add "
      "tls = starttls)\n" },
    { "login without users",
      HOST CERT "listen x { address = \"*:587\" tls = starttls auth = "
                "required }\n",
      "main:3: listen \"x\" has auth = required, but there are no users (add users { file = "
      "\"/etc/waypost/users\" })\n" },
    { "one address twice", BASE "listen b { address = \"127.0.0.1:25\" trust = \"::1\" }\n",
      "main:3: listen \"b\" has the address of listen \"local\" (give each its own address)\n" },
    { "nobody may send", HOST "listen x { address = \"*:25\" }\n",
      "warning main:2: listen \"x\" lets nobody send: no auth, no trust (add auth = required, or "
      "trust = {\"127.0.0.0/8\"})\n" },
    { "no listener: the relay does not start, commands do", HOST, "" },
    { "a host name without a dot", LOCAL "hostname = relay\n",
      "warning main:2: the host name \"relay\" has no dot: receivers distrust such names, we greet "
      "with our address instead (set hostname = \"relay.example.com\")\n" },
    { "DKIM without a key", BASE "dkim \"example.com\" { }\n",
      "main:3: dkim \"example.com\" has no key (add key \"s1\" { file = \"...\" })\n" },
    { "a DKIM fallback without a domain", BASE "dkim \"*\" { key s1 { file = a } }\n",
      "main:3: dkim \"*\" does not say which domain signs (add sign-as = \"example.com\")\n" },
    { "a DKIM domain that is none", BASE "dkim \"b\xc3\xbc.de\" { key s1 { file = a } }\n",
      "main:3: dkim \"b\xc3\xbc.de\" is not a domain (write a domain, as in example.com (other "
      "scripts as xn--...))\n" },
    { "two DKIM sections of a domain",
      BASE "dkim a.test { key x { file = a } }\ndkim A.test { key x { file = a } }\n",
      "main:4: dkim \"A.test\" is there twice, first in line 3 (give each its own)\n" },
    { "two keys of a selector", BASE "dkim a.test { key x { file = a } key x { file = b } }\n",
      "main:3: key \"x\" is there twice, first in line 3 (give each its own)\n" },
    { "retry times", BASE "retry { first = 2h max = 1h lifetime = 30m warn-after = 1h }\n",
      "main:3: retry: first is longer than max (make first shorter)\n"
      "main:3: retry: max is longer than lifetime (make lifetime longer)\n"
      "main:3: retry: warn-after is not before lifetime ends (make it shorter, or never)\n" },
    { "a header over the message", BASE "limits { message-size = 64K }\n",
      "main:0: limits: header-size is over message-size (make it smaller)\n" },
    { "a queue too small", BASE "queue { size = 10M }\n",
      "main:3: queue: size is smaller than one message may be (make it larger than "
      "message-size)\n" },
    { "a log file without a name", BASE "log { to = file }\n",
      "main:3: log: to = file, but no file is named (add file = \"/var/log/waypost.log\")\n" },
    { "a log file that is not used", BASE "log { file = \"/x\" }\n",
      "warning main:3: log: file is named but not written to (add to = file)\n" },
    { "an API without a token", BASE "api { address = \"127.0.0.1:8025\" }\n",
      "main:3: api: address without a token: anyone who can connect would control the relay (add "
      "token-file = \"/etc/waypost/api.token\")\n" },

    /* all of them */
    { "three mistakes, three findings", BASE "a = 1\nport = x\nlog { to = y }\n",
      "main:3: unknown option \"a\" (see waypost.conf(5))\n"
      "main:4: port: \"x\" is not a whole number (write digits only)\n"
      "main:5: to: \"y\" is not one of its words (one of: stdout, journal, syslog, file)\n" },
    { "lines are counted behind comments", BASE "# one\n// two\n/* three\nfour */\nport = x # y\n",
      "main:7: port: \"x\" is not a whole number (write digits only)\n" },
};

static void test_findings(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf found;
        struct conf *conf;
        read_text(rows[i].text, &found, &conf);
        if (!str_eq(buf_view(&found), str_of(rows[i].found)))
            fail_msg("%s:\n%.*sinstead of:\n%s", rows[i].name, (int)found.len, found.at,
                     rows[i].found);
        bool only_warnings = !rows[i].found[0] || str_starts(str_of(rows[i].found), STR("warning"));
        assert_int_equal(conf != NULL, only_warnings);
        conf_unref(&conf);
        buf_clear(&found);
    }
}

static void test_passwords(void **state)
{
    static const struct {
        const char *file, *found;
    } cases[] = {
        { "pass", "" },
        { "open-pass", "is open to all users (mode 0644)" },
        { "empty-pass", "is empty" },
        { "two-pass", "has more than one line" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[400];
        struct buf found;
        struct conf *conf;
        snprintf(text, sizeof(text),
                 BASE "route a { relay = h tls = verified username = u\n"
                      "password-file = \"%s\" }\n",
                 in_dir(cases[i].file));
        read_text(text, &found, &conf);
        if (cases[i].found[0] ? str_find(buf_view(&found), str_of(cases[i].found)) == found.len
                              : found.len > 0)
            fail_msg("%s: %.*s", cases[i].file, (int)found.len, found.at);
        if (conf)
            assert_true(str_eq(conf->routes[0].password, STR("secret")));
        conf_unref(&conf);
        buf_clear(&found);
    }
}

/* ---- what comes out ---- */

static void test_defaults(void **state)
{
    struct conf *conf = good(BASE);

    (void)state;
    assert_true(conf->hostname_is_set);
    assert_true(str_eq(conf->data, STR("/var/lib/waypost")));
    assert_int_equal(conf->user.len, 0);
    assert_int_equal(conf->workers, 0);
    assert_int_equal(conf->port, 25);
    assert_int_equal(conf->max_connections, 1000);
    assert_int_equal(conf->drain_ms, 10000);
    assert_int_equal(conf->retry.first_s, 60);
    assert_int_equal(conf->retry.max_s, 4 * 3600);
    assert_int_equal(conf->retry.lifetime_s, 5 * 86400);
    assert_int_equal(conf->retry.warn_after_s, 4 * 3600);
    assert_int_equal(conf->timeouts.connect_ms, 30000);
    assert_int_equal(conf->timeouts.end_of_data_ms, 600000);
    assert_int_equal(conf->limits.message_size, 50 << 20);
    assert_int_equal(conf->limits.recipients, 1000);
    assert_int_equal(conf->queue.size, 0);
    assert_int_equal(conf->queue.map_size, 1ULL << 40);
    assert_int_equal(conf->queue.trace_age_s, 30 * 86400);
    assert_int_equal(conf->log.to, LOG_TO_STDOUT);
    assert_int_equal(conf->log.level, HOP_EVENT);
    assert_int_equal(conf->dns.servers.count, 0);
    assert_false(conf->dns.trust_ad);
    assert_true(str_eq(conf->api.socket, STR("/run/waypost/waypost.sock")));
    assert_int_equal(conf->listens[0].tls, LISTEN_TLS_NONE);
    assert_int_equal(conf->listens[0].auth, LISTEN_AUTH_OFF);
    assert_int_equal(conf->tls_count, 0);
    assert_int_equal(conf->route_count, 0);
    conf_unref(&conf);
}

static void test_sections(void **state)
{
    struct conf *conf = good(
        HOST
        "workers = 3\ndata = '${not expanded}'\n"
        "listen submission { address = \"*:587\" tls = starttls auth = required }\n"
        "listen local { address = \"unix:/run/x.sock\" auth = optional auth-in-clear = yes\n"
        "               trust = {\"127.0.0.0/8\", \"::1\",} }\n" USERS
        "tls { certificate = c1 key = k1 ca-file = \"/ca\" }\ntls { certificate = c2 key = k2 }\n"
        "dkim example.com { key s1 { file = f1 } key e1 { file = f2 } }\n"
        "dkim \"*\" { sign-as = relay.test key f { file = f3 } }\n"
        "route ses { match-sender = \"news.test\" relay = {\"a:587\", \"b\"} tls = verified\n"
        "            username = u password-file = \"${CONF_TEST_DIR}/pass\" source = \"::1\" }\n"
        "route rest { match = {\".x.test\", \"y@z.test\"} tls = dane ca-file = \"/ca2\" }\n"
        "destination google.com { max-connections = 7 rate = 600/m }\n"
        "destination slow.test { rate = unlimited messages-per-connection = 5 }\n"
        "retry { warn-after = never }\nlog { to = journal format = json level = alarm }\n"
        "dns { servers = {\"127.0.0.1:5353\", \"::1\"} trust-ad = on timeout = 250ms }\n");

    (void)state;
    assert_int_equal(conf->workers, 3);
    assert_true(str_eq(conf->data, STR("${not expanded}")));
    assert_int_equal(conf->listen_count, 2);
    assert_true(str_eq(conf->listens[0].name, STR("submission")));
    assert_int_equal(conf->listens[0].line, 4);
    assert_int_equal(conf->listens[0].tls, LISTEN_TLS_STARTTLS);
    assert_int_equal(conf->listens[0].auth, LISTEN_AUTH_REQUIRED);
    assert_true(conf->listens[1].auth_in_clear);
    assert_int_equal(conf->listens[1].trust.count, 2);
    assert_true(str_eq(conf->listens[1].trust.items[1], STR("::1")));
    assert_int_equal(conf->tls_count, 2);
    assert_true(str_eq(conf->tls[1].key, STR("k2")));
    assert_true(str_eq(conf->ca_file, STR("/ca")));
    assert_int_equal(conf->dkim_count, 2);
    assert_int_equal(conf->dkim[0].key_count, 2);
    assert_true(str_eq(conf->dkim[0].keys[1].selector, STR("e1")));
    assert_true(str_eq(conf->dkim[0].keys[1].file, STR("f2")));
    assert_true(str_eq(conf->dkim[1].sign_as, STR("relay.test")));
    assert_int_equal(conf->dkim[1].key_count, 1);
    assert_int_equal(conf->route_count, 2);
    assert_int_equal(conf->routes[0].relay.count, 2);
    assert_int_equal(conf->routes[0].tls, POLICY_VERIFIED);
    assert_true(str_eq(conf->routes[0].password, STR("secret")));
    assert_int_equal(conf->routes[1].tls, POLICY_DANE);
    assert_int_equal(conf->routes[1].match.count, 2);
    assert_int_equal(conf->destinations[0].max_connections, 7);
    assert_true(conf->destinations[0].rate_per_s > 9.99 &&
                conf->destinations[0].rate_per_s < 10.01);
    assert_int_equal(conf->destinations[1].max_connections, 20);
    assert_int_equal(conf->destinations[1].messages_per_connection, 5);
    assert_true(conf->destinations[1].rate_per_s < 0.001);
    assert_int_equal(conf->retry.warn_after_s, 0);
    assert_int_equal(conf->log.to, LOG_TO_JOURNAL);
    assert_int_equal(conf->log.format, LOG_FORMAT_JSON);
    assert_int_equal(conf->log.level, HOP_ALARM);
    assert_int_equal(conf->dns.servers.count, 2);
    assert_true(conf->dns.trust_ad);
    assert_int_equal(conf->dns.timeout_ms, 250);
    struct conf *again = conf_ref(conf);
    conf_unref(&conf);
    assert_null(conf);
    assert_int_equal(again->workers, 3);
    conf_unref(&again);
}

static void test_words_and_quotes(void **state)
{
    static const struct {
        const char *name, *text, *value;
    } cases[] = {
        { "bare", "data = /a/b//c*\n", "/a/b//c*" },
        { "double quotes", "data = \"a # b // c\\\"d\\\\ \\${x}\"\n", "a # b // c\"d\\ ${x}" },
        { "single quotes", "data = 'a \"${b}\" \\'c'\n", "a \"${b}\" 'c" },
        { "a variable in quotes", "data = \"x ${CONF_TEST_VALUE}!\"\n", "x from the environment!" },
        { "a bare variable", "data = /x/${CONF_TEST_VALUE}/y\n", "/x/from the environment/y" },
        { "a variable in place of none", "data = \"${CONF_TEST_UNSET:-other}\"\n", "other" },
        { "a variable before its stand-in", "data = ${CONF_TEST_VALUE:-other}\n",
          "from the environment" },
        { "CRLF", "data = x\r\n", "x" },
        { "no line end", "data = x", "x" },
        { "a byte order mark",
          "\xef\xbb\xbf"
          "data = x\n",
          "x" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[300];
        struct conf *conf = NULL;
        struct fault fault = { 0 };
        snprintf(text, sizeof(text), "%s\n" HOST, cases[i].text);
        enum err err = conf_parse("test", str_of(text), &conf, &fault);
        if (err || !str_eq(conf->data, str_of(cases[i].value)))
            fail_msg("%s: %s \"%s\"", cases[i].name, fault.text, err ? "" : conf->data.at);
        conf_unref(&conf);
    }
}

static void test_includes(void **state)
{
    struct buf found;
    struct conf *conf;

    (void)state;
    put("one.part", "port = 2525\n", 0600);
    put("two.part", "# nothing\n" LOCAL, 0600);
    conf = good(HOST "include(\"*.part\")\ninclude(\"none-*.conf\")\n");
    assert_int_equal(conf->port, 2525);
    assert_int_equal(conf->listens[0].line, 2);
    assert_non_null(strstr(conf->listens[0].in_file, "two.part"));
    conf_unref(&conf);

    put("broken.part", "\nlog { to = x\n", 0600);
    put("loop", "include(\"loop\")\n", 0600);
    read_text(BASE "include(\"broken.part\")\ninclude(\"missing\")\ninclude(one.part)\nport = 1\n"
                   "log { include(\"one.part\") }\ninclude()\n",
              &found, &conf);
    char want[600];
    snprintf(want, sizeof(want),
             "broken.part:2: section log is not closed (add a })\n"
             "main:4: cannot read %s/missing: No such file or directory (check its name and mode)\n"
             "main:6: port is given twice, first in line 1 of %s/one.part (leave one of them out)\n"
             "main:7: include stands inside a section (move it out of the section)\n"
             "main:8: include needs the name of a file (write include(\"file\"))\n"
             "broken.part:2: to: \"x\" is not one of its words (one of: stdout, journal, syslog, "
             "file)\n",
             dir, dir);
    buf_char(&found, '\0');
    assert_string_equal(found.at, want);
    buf_clear(&found);

    read_text(BASE "include(\"loop\")\n", &found, &conf);
    assert_null(conf);
    assert_true(str_find(buf_view(&found), STR("loop:1: files include each other too deeply")) <
                found.len);
    buf_clear(&found);
}

static void test_one_sentence(void **state)
{
    struct conf *conf = NULL;
    struct fault fault;

    (void)state;
    assert_int_equal(conf_parse("t.conf", STR(HOST "port = x\n"), &conf, &fault), ERR_INVALID);
    assert_string_equal(fault.text,
                        "t.conf:2: port: \"x\" is not a whole number (write digits only)");
    assert_int_equal(conf_parse("t.conf", STR("a = 1\nb = 2\nc = 3\n"), &conf, &fault),
                     ERR_INVALID);
    assert_string_equal(fault.text, "t.conf:1: unknown option \"a\" (see waypost.conf(5)); and 2 "
                                    "more, see waypost check");
    assert_null(conf);
    assert_int_equal(conf_load(in_dir("nothing"), &conf, &fault), ERR_NOT_FOUND);
    assert_non_null(strstr(fault.text, "nothing: No such file or directory"));
    setenv("WAYPOST_CONF", in_dir("nothing"), 1);
    assert_int_equal(conf_load(NULL, &conf, &fault), ERR_NOT_FOUND);
    assert_non_null(strstr(fault.text, in_dir("nothing")));
    put("main", HOST, 0600);
    setenv("WAYPOST_CONF", in_dir("main"), 1);
    assert_int_equal(conf_load(NULL, &conf, &fault), ERR_OK);
    unsetenv("WAYPOST_CONF");
    conf_unref(&conf);
    assert_int_equal(conf_load(dir, &conf, &fault), ERR_INVALID);
    assert_non_null(strstr(fault.text, "not a regular file"));
}

static void test_own_name(void **state)
{
    struct conf *conf = NULL;

    (void)state;
    assert_int_equal(conf_parse("t", STR(LOCAL), &conf, NULL), ERR_OK);
    assert_false(conf->hostname_is_set);
    assert_true(conf->hostname.len > 0);
    conf_unref(&conf);
}

/* ---- forms ---- */

static void test_forms(void **state)
{
    static const struct {
        enum option_form form;
        bool fits;
        const char *text;
    } cases[] = {
        { FORM_LISTEN, true, "*:25" },
        { FORM_LISTEN, true, "0.0.0.0:65535" },
        { FORM_LISTEN, true, "[::]:25" },
        { FORM_LISTEN, true, "[fe80::1%eth0]:25" },
        { FORM_LISTEN, true, "unix:/run/x" },
        { FORM_LISTEN, true, "fd:smtp" },
        { FORM_LISTEN, false, "*" },
        { FORM_LISTEN, false, ":25" },
        { FORM_LISTEN, false, "[::1]" },
        { FORM_LISTEN, false, "::1:25" },
        { FORM_LISTEN, false, "[127.0.0.1]:25" },
        { FORM_LISTEN, false, "*:0" },
        { FORM_LISTEN, false, "*:65536" },
        { FORM_LISTEN, false, "host:25" },
        { FORM_LISTEN, false, "unix:x" },
        { FORM_LISTEN, false, "fd:" },
        { FORM_LISTEN, false, "" },
        { FORM_LISTEN, false, "[" },
        { FORM_SERVER, true, "127.0.0.1" },
        { FORM_SERVER, true, "::1" },
        { FORM_SERVER, true, "[::1]:53" },
        { FORM_SERVER, false, "*:53" },
        { FORM_RELAY, true, "smtp.example.com" },
        { FORM_RELAY, true, "localhost:2525" },
        { FORM_RELAY, true, "192.0.2.1:25" },
        { FORM_RELAY, true, "[2001:db8::1]:25" },
        { FORM_RELAY, true, "2001:db8::1" },
        { FORM_RELAY, true,
          "b\xc3\xbc"
          "cher.test:25" },
        { FORM_RELAY, false, "a..b" },
        { FORM_RELAY, false, "a:b:c" },
        { FORM_RELAY, false, "[a]:25" },
        { FORM_RELAY, false, "http://x" },
        { FORM_NETWORK, true, "10.0.0.0/8" },
        { FORM_NETWORK, true, "::/0" },
        { FORM_NETWORK, true, "::1" },
        { FORM_NETWORK, false, "10.0.0.0/" },
        { FORM_NETWORK, false, "10/8" },
        { FORM_NETWORK, false, "::1/129" },
        { FORM_NETWORK, false, "fe80::1%eth0" },
        { FORM_NETWORK, false, "localhost" },
        { FORM_PATTERN, true, "*" },
        { FORM_PATTERN, true, "<>" },
        { FORM_PATTERN, true, "a@b.test" },
        { FORM_PATTERN, true, "@b.test" },
        { FORM_PATTERN, true, ".b.test" },
        { FORM_PATTERN, true, "postmaster@" },
        { FORM_PATTERN, false, "@" },
        { FORM_PATTERN, false, "" },
        { FORM_PATTERN, false, "a b" },
        { FORM_PATTERN, false, "a@.b" },
        { FORM_PATTERN, false, "a@*" },
        { FORM_MAILBOX, true, "ops@example.com" },
        { FORM_MAILBOX, true, "a.b+c@xn--bcher-kva.test" },
        { FORM_MAILBOX, false, "ops" },
        { FORM_MAILBOX, false, "@example.com" },
        { FORM_MAILBOX, false, "a..b@example.com" },
        { FORM_MAILBOX, false, "a@b@example.com" },
        { FORM_MAILBOX, false, "Ops <ops@example.com>" },
        { FORM_MAILBOX, false, "ops@" },
        { FORM_HOST, true, "xn--bcher-kva.test" },
        { FORM_HOST, false, "-.." },
        { FORM_HOST, false,
          "b\xc3\xbc"
          "cher.test" },
        { FORM_HOST, false, "a\n.test" },
        { FORM_FILE, false, "" },
        { FORM_IP, true, "fe80::1%eth0" },
        { FORM_IP, false, "fe80::1%" },
        { FORM_ADDRESS, true, "*:8025" },
        { FORM_ADDRESS, false, "unix:/x" },
    };
    const char *wants;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (form_fits(cases[i].form, str_of(cases[i].text), &wants) != cases[i].fits)
            fail_msg("form %u: \"%s\"", cases[i].form, cases[i].text);
    }
    assert_true(form_is_loopback(STR("127.3.2.1:25")));
    assert_true(form_is_loopback(STR("[::1]:25")));
    assert_true(form_is_loopback(STR("unix:/x")));
    assert_false(form_is_loopback(STR("*:25")));
    assert_false(form_is_loopback(STR("fd:smtp")));
    assert_false(form_is_loopback(STR("0.0.0.0:25")));
}

static void test_units(void **state)
{
    static const struct {
        const char *text, *printed;
        uint64_t ms;
    } durations[] = {
        { "0", "0", 0 },
        { "250ms", "250ms", 250 },
        { "90s", "1m30s", 90000 },
        { "1m30s", "1m30s", 90000 },
        { "5d", "5d", 432000000 },
        { "1w", "7d", 604800000 },
        { "1h1ms", "1h1ms", 3600001 },
        { "1s500ms", "1s500ms", 1500 },
    };
    static const char *const wrong[] = { "",    "s",    "10",  "1x",  "1m30",
                                         "-1s", "1.5s", "1 s", "1s ", "99999999999999999w" };
    struct buf out;

    (void)state;
    buf_init(&out, 100);
    for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        uint64_t ms;
        assert_true(value_duration(str_of(durations[i].text), &ms));
        assert_int_equal(ms, durations[i].ms);
        buf_reset(&out);
        value_print_duration(ms, &out);
        assert_true(str_eq(buf_view(&out), str_of(durations[i].printed)));
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint64_t ms;
        if (value_duration(str_of(wrong[i]), &ms))
            fail_msg("\"%s\" passes for a duration", wrong[i]);
    }
    uint64_t size;
    assert_true(value_size(STR("50m"), &size) && size == 50 << 20);
    assert_true(value_size(STR("1T"), &size) && size == 1ULL << 40);
    assert_false(value_size(STR("1KB"), &size));
    assert_false(value_size(STR("K"), &size));
    double rate;
    assert_true(value_rate(STR("3600/h"), &rate) && rate > 0.99 && rate < 1.01);
    assert_false(value_rate(STR("0/s"), &rate));
    buf_clear(&out);
}

/* ---- what is written from the schema ---- */

static void test_schema(void **state)
{
    (void)state;
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_row *row = &option_rows[i];
        max_align_t home[(sizeof(struct conf) + sizeof(max_align_t)) / sizeof(max_align_t)] = { 0 };
        struct arena arena;
        arena_init(&arena);
        if (row->start && !value_set_default(row, home, &arena))
            fail_msg("%s: its own default is refused", row->name);
        if (!row->example && (!row->start || !row->start[0]))
            fail_msg("%s: nothing to show in the sample", row->name);
        if (row->start && !row->start[0] && !row->unset)
            fail_msg("%s: no words for not set", row->name);
        if ((row->type == TYPE_WORD) != (row->words != NULL))
            fail_msg("%s: words", row->name);
        arena_clear(&arena);
    }
}

static struct str read_file(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "r");
    char piece[4096];
    size_t got;

    buf_init(out, 1 << 20);
    assert_non_null(f);
    while ((got = fread(piece, 1, sizeof(piece), f)) > 0)
        buf_append(out, piece, got);
    fclose(f);
    return buf_view(out);
}

static const char *beside_tests(const char *name)
{
    static char path[2][600];
    static unsigned next;
    char *to = path[next++ % 2];
    const char *data = getenv("WAYPOST_TEST_DATA");

    snprintf(to, sizeof(path[0]), "%s/../../conf/%s", data ? data : ".", name);
    return to;
}

static void write_file(const char *path, struct str text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text.at, 1, text.len, f), text.len);
    fclose(f);
}

static void test_sample_is_committed(void **state)
{
    struct buf fresh, committed;

    (void)state;
    buf_init(&fresh, 1 << 20);
    conf_sample(&fresh);
    if (getenv("CONF_TEST_WRITE"))
        write_file(beside_tests("waypost.conf"), buf_view(&fresh));
    if (!str_eq(buf_view(&fresh), read_file(beside_tests("waypost.conf"), &committed)))
        fail_msg("conf/waypost.conf is not what the schema says: run this test with "
                 "CONF_TEST_WRITE=1");
    buf_clear(&fresh);
    buf_clear(&committed);
}

#define BEGIN ".\\\" begin of options\n"
#define END ".\\\" end of options\n"

static void test_manual_is_committed(void **state)
{
    struct buf fresh, committed;

    (void)state;
    buf_init(&fresh, 1 << 20);
    struct str page = read_file(beside_tests("waypost.conf.5"), &committed);
    size_t begin = str_find(page, STR(BEGIN)) + sizeof(BEGIN) - 1, end = str_find(page, STR(END));
    assert_true(begin < end && end < page.len);
    buf_str(&fresh, str_head(page, begin));
    conf_manual(&fresh);
    buf_str(&fresh, str_from(page, end));
    if (getenv("CONF_TEST_WRITE"))
        write_file(beside_tests("waypost.conf.5"), buf_view(&fresh));
    else if (!str_eq(buf_view(&fresh), page))
        fail_msg("conf/waypost.conf.5 is not what the schema says: run this test with "
                 "CONF_TEST_WRITE=1");
    buf_clear(&fresh);
    buf_clear(&committed);
}

/* Every row, with its default, in the place of its section. */
static void test_manual_is_complete(void **state)
{
    struct buf page;
    struct str text = read_file(beside_tests("waypost.conf.5"), &page);

    (void)state;
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_row *row = &option_rows[i];
        char head[100], item[100], start[200];
        const char *name = section_rows[row->section].name;
        snprintf(head, sizeof(head), "\n.Ss %s", *name ? name : "Outside of sections");
        snprintf(item, sizeof(item), "\n.It Ic %s No = Ar ", row->name);
        const char *value = row->start && row->start[0] ? row->start : row->unset;
        snprintf(start, sizeof(start), "\nDefault: %s.",
                 row->start ? value : "none, it must be given");
        struct str section = str_from(text, str_find(text, str_of(head)) + 1);
        section = str_head(section, str_find(section, STR("\n.Ss ")));
        struct str paragraph = str_from(section, str_find(section, str_of(item)) + 1);
        paragraph = str_head(paragraph, str_find(paragraph, STR("\n.It ")));
        if (str_find(paragraph, str_of(start)) == paragraph.len)
            fail_msg("%s { %s }: not in the manual with its default", name, row->name);
    }
    buf_clear(&page);
}

/* The sample with nothing commented out is a configuration without errors. */
static void test_sample_is_valid(void **state)
{
    struct buf sample, bare;
    struct conf *conf = NULL;
    struct fault fault = { 0 };
    struct str rest, line;

    (void)state;
    buf_init(&sample, 1 << 20);
    buf_init(&bare, 1 << 20);
    conf_sample(&sample);
    assert_int_equal(conf_parse("sample", buf_view(&sample), &conf, &fault), ERR_OK);
    conf_unref(&conf);
    for (rest = buf_view(&sample); str_next(&rest, '\n', &line);) {
        bool is_prose = line.len > 2 && line.at[1] == ' ' && line.at[2] != ' ';
        bool is_secret = str_find(line, STR("password-file =")) < line.len ||
                         str_find(line, STR("username =")) < line.len;
        if (is_prose || is_secret || !line.len)
            continue;
        buf_str(&bare, str_from(line, 1));
        buf_char(&bare, '\n');
    }
    if (conf_parse("sample", buf_view(&bare), &conf, &fault))
        fail_msg("%s", fault.text);
    assert_int_equal(conf->dkim[0].key_count, 1);
    conf_unref(&conf);
    buf_clear(&sample);
    buf_clear(&bare);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_findings),
        cmocka_unit_test(test_passwords),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_sections),
        cmocka_unit_test(test_words_and_quotes),
        cmocka_unit_test(test_includes),
        cmocka_unit_test(test_one_sentence),
        cmocka_unit_test(test_own_name),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_sample_is_committed),
        cmocka_unit_test(test_manual_is_committed),
        cmocka_unit_test(test_manual_is_complete),
        cmocka_unit_test(test_sample_is_valid),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
