/*
 * dns_conf.c - resolv.conf(5), as far as a mail relay needs it.
 */
#include "relay/net/dns_conf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DNS_PORT 53
#define TIMEOUT_MS 3000
#define ROUNDS 2
#define TIMEOUT_MAX_S 30 /* libc's own bounds */
#define ROUNDS_MAX 5

struct reading {
    struct dns_conf *conf;
    bool trust_ad;
};

static void add_server(struct dns_conf *conf, const struct endpoint *at)
{
    struct dns_server *server = &conf->servers[conf->count++];

    *server = (struct dns_server){ .at = *at };
    if (server->at.port == 0)
        server->at.port = DNS_PORT;
    endpoint_print(&server->at, server->text, sizeof(server->text));
}

static bool next_word(struct str *line, struct str *out_word)
{
    *line = str_trim(*line);
    size_t end = 0;
    while (end < line->len && line->at[end] != ' ' && line->at[end] != '\t')
        end++;
    *out_word = str_head(*line, end);
    *line = str_from(*line, end);
    return out_word->len > 0;
}

/* Beside plain addresses "[::1]:5300" is understood, as OpenBSD writes it. What is
 * no address is skipped: that is what every other reader of the file does. */
static void read_nameserver(struct reading *reading, struct str line)
{
    struct endpoint at;
    struct str word;

    if (!next_word(&line, &word) || reading->conf->count == DNS_SERVERS_MAX)
        return;
    if (endpoint_parse(word, DNS_PORT, &at, NULL) == ERR_OK && at.family != ENDPOINT_UNIX)
        add_server(reading->conf, &at);
}

static bool read_number(struct str word, struct str name, uint64_t most, uint64_t *out)
{
    if (!str_starts(word, name) || !str_u64(str_from(word, name.len), out) || *out == 0)
        return false;
    if (*out > most)
        *out = most;
    return true;
}

static void read_options(struct reading *reading, struct str line)
{
    struct str word;
    uint64_t number;

    while (next_word(&line, &word)) {
        if (read_number(word, STR("timeout:"), TIMEOUT_MAX_S, &number))
            reading->conf->timeout_ms = (uint32_t)number * 1000;
        else if (read_number(word, STR("attempts:"), ROUNDS_MAX, &number))
            reading->conf->tries = (unsigned)number;
        else if (str_eq(word, STR("trust-ad")))
            reading->trust_ad = true;
    }
}

static void read_line(struct reading *reading, struct str line)
{
    struct str word;

    if (!next_word(&line, &word))
        return;
    if (str_eq(word, STR("nameserver")))
        read_nameserver(reading, line);
    else if (str_eq(word, STR("options")))
        read_options(reading, line);
}

static enum err read_resolv_conf(struct reading *reading, const char *path, struct fault *fault)
{
    char *line = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");

    if (!file && errno == ENOENT)
        return ERR_OK;
    if (!file)
        return fault_errno(fault, errno, "cannot read the name servers from %s", path);
    for (ssize_t len; (len = getline(&line, &size, file)) >= 0;)
        read_line(reading, str_make(line, (size_t)len));
    enum err rc = ferror(file) ? fault_errno(fault, errno, "cannot read %s", path) : ERR_OK;
    free(line);
    fclose(file);
    return rc;
}

static enum err find_servers(struct reading *reading, const struct resolver_options *options,
                             struct fault *fault)
{
    struct endpoint loopback = { .family = ENDPOINT_IPV4, .ip = { 127, 0, 0, 1 } };

    if (options->server_count > DNS_SERVERS_MAX)
        return fault_set(fault, ERR_LIMIT, "too many DNS servers (at most %d)", DNS_SERVERS_MAX);
    for (size_t i = 0; i < options->server_count; i++)
        add_server(reading->conf, &options->servers[i]);
    if (reading->conf->count)
        return ERR_OK;
    enum err rc = read_resolv_conf(
        reading, options->resolv_conf ? options->resolv_conf : "/etc/resolv.conf", fault);
    if (rc)
        return rc;
    if (!reading->conf->count)
        add_server(reading->conf, &loopback);
    return ERR_OK;
}

enum err dns_conf_new(const struct resolver_options *options, struct dns_conf **out_conf,
                      struct fault *fault)
{
    struct dns_conf *conf = mem_alloc(sizeof(*conf));
    struct reading reading = { .conf = conf, .trust_ad = options->trust_ad };

    conf->refs = 1;
    conf->timeout_ms = TIMEOUT_MS;
    conf->tries = ROUNDS;
    enum err rc = find_servers(&reading, options, fault);
    if (rc) {
        dns_conf_unref(&conf);
        return rc;
    }
    if (options->timeout_ms)
        conf->timeout_ms = options->timeout_ms;
    if (options->tries)
        conf->tries = options->tries;
    for (unsigned i = 0; i < conf->count; i++) {
        struct dns_server *server = &conf->servers[i];
        server->believe_ad = reading.trust_ad || endpoint_is_loopback(&server->at);
    }
    *out_conf = conf;
    return ERR_OK;
}

struct dns_conf *dns_conf_ref(struct dns_conf *conf)
{
    conf->refs++;
    return conf;
}

void dns_conf_unref(struct dns_conf **conf)
{
    if (*conf && --(*conf)->refs == 0)
        free(*conf);
    *conf = NULL;
}
