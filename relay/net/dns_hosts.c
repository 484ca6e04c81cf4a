/*
 * dns_hosts.c - hosts(5) as a table by name.
 */
#include "relay/net/dns_hosts.h"

#include "relay/base/arena.h"
#include "relay/base/hash.h"

#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX ((size_t)8 << 20) /* block lists are kept in this file, some of them long */

struct host_address {
    struct host_address *next;
    enum endpoint_family family;
    uint32_t scope_id;
    uint8_t ip[16];
};

struct host {
    UT_hash_handle hh;
    struct host_address *first, **last;
    char name[];
};

struct dns_hosts {
    struct host *table;
    struct arena arena; /* hosts and addresses */
};

static struct host *host_of(struct dns_hosts *hosts, const char *name)
{
    struct host *host = NULL;

    HASH_FIND_STR(hosts->table, name, host);
    if (host)
        return host;
    size_t len = strlen(name);
    host = arena_alloc(&hosts->arena, sizeof(*host) + len + 1);
    memcpy(host->name, name, len);
    host->last = &host->first;
    HASH_ADD_KEYPTR(hh, hosts->table, host->name, len, host);
    return host;
}

static void add(struct dns_hosts *hosts, const char *name, const struct endpoint *at)
{
    struct host *host = host_of(hosts, name);
    struct host_address *address = arena_alloc(&hosts->arena, sizeof(*address));

    address->family = at->family;
    address->scope_id = at->scope_id;
    memcpy(address->ip, at->ip, sizeof(address->ip));
    *host->last = address;
    host->last = &address->next;
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

static void read_line(struct dns_hosts *hosts, struct str line)
{
    struct str word;
    struct endpoint at;
    char name[DNS_NAME];

    line = str_head(line, str_chr(line, '#'));
    if (!next_word(&line, &word) || !endpoint_ip(word, &at))
        return;
    while (next_word(&line, &word)) {
        if (dns_name_clean(word, name))
            add(hosts, name, &at);
    }
}

struct dns_hosts *dns_hosts_read(const char *path)
{
    struct dns_hosts *hosts = mem_alloc(sizeof(*hosts));
    char *line = NULL;
    size_t size = 0, total = 0;
    FILE *file = fopen(path, "re");

    arena_init(&hosts->arena);
    if (!file)
        return hosts;
    for (ssize_t len; total < FILE_MAX && (len = getline(&line, &size, file)) >= 0;) {
        read_line(hosts, str_make(line, (size_t)len));
        total += (size_t)len;
    }
    free(line);
    fclose(file);
    return hosts;
}

void dns_hosts_free(struct dns_hosts **hosts)
{
    if (!*hosts)
        return;
    HASH_CLEAR(hh, (*hosts)->table);
    arena_clear(&(*hosts)->arena);
    free(*hosts);
    *hosts = NULL;
}

static size_t find_localhost(const char *name, struct endpoint *out, size_t max)
{
    static const struct endpoint loopbacks[] = {
        { .family = ENDPOINT_IPV6, .ip = { [15] = 1 } },
        { .family = ENDPOINT_IPV4, .ip = { 127, 0, 0, 1 } },
    };
    size_t count = 0;

    if (strcmp(name, "localhost") != 0 && !str_iends(str_of(name), STR(".localhost")))
        return 0;
    for (; count < 2 && count < max; count++)
        out[count] = loopbacks[count];
    return count;
}

size_t dns_hosts_find(const struct dns_hosts *hosts, const char *name, struct endpoint *out,
                      size_t max)
{
    struct host *host = NULL;
    size_t count = 0;

    HASH_FIND_STR(hosts->table, name, host);
    if (!host)
        return find_localhost(name, out, max);
    for (const struct host_address *at = host->first; at && count < max; at = at->next) {
        out[count] = (struct endpoint){ .family = at->family, .scope_id = at->scope_id };
        memcpy(out[count++].ip, at->ip, sizeof(at->ip));
    }
    return count;
}
