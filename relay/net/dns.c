/*
 * dns.c - the resolver: cache, questions in flight, and who waits for them.
 *
 * Below it: dns_lookup asks the servers, dns_exchange moves packets, dns_scan
 * and dns_wire read them. An idle resolver has no timer and no socket.
 */
#include "relay/net/dns_resolver.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <utlist.h>

#define CACHE_BYTES ((size_t)4 << 20)
#define LOOK_MS 10000u /* how often resolv.conf and hosts may be looked at */
#define SOCKETS_MIN 4u
#define SOCKETS_MAX 256u

/* ---- queries ---- */

struct dns_query *dns_query_new(struct resolver *resolver, bool is_part, dns_fn *fn, void *arg)
{
    struct dns_query *query = mem_alloc(sizeof(*query));

    query->resolver = resolver;
    query->is_part = is_part;
    query->fn = fn;
    query->arg = arg;
    if (!is_part)
        DL_APPEND(resolver->queries, query);
    return query;
}

static void leave_lookup(struct dns_query *query)
{
    struct dns_lookup *lookup = query->lookup;

    if (!lookup)
        return;
    DL_DELETE2(lookup->queries, query, lookup_prev, lookup_next);
    query->lookup = NULL;
    if (!lookup->queries && lookup->state != DNS_LOOKUP_DONE)
        dns_lookup_free(lookup);
}

// NOLINTNEXTLINE(misc-no-recursion): one level, a part has no parts
static void unlink_query(struct dns_query *query)
{
    leave_lookup(query);
    loop_undefer(query->resolver->loop, &query->deferred);
    for (size_t i = 0; i < 2; i++) {
        if (query->parts[i])
            dns_query_drop(query->parts[i]);
        query->parts[i] = NULL;
    }
    if (!query->is_part)
        DL_DELETE(query->resolver->queries, query);
}

static void free_query(struct dns_query *query)
{
    dns_reply_clear(&query->reply);
    for (size_t i = 0; i < 2; i++)
        dns_reply_clear(&query->part_reply[i]);
    free(query);
}

// NOLINTNEXTLINE(misc-no-recursion): see unlink_query()
void dns_query_drop(struct dns_query *query)
{
    unlink_query(query);
    free_query(query);
}

/* The answer may be the query's own, so that is freed last. */
void dns_query_finish(struct dns_query *query, const struct dns_answer *answer)
{
    unlink_query(query);
    query->fn(query->arg, answer);
    free_query(query);
}

static void on_ready(void *arg)
{
    struct dns_query *query = arg;

    dns_query_finish(query, &query->reply.answer);
}

void dns_query_ready(struct dns_query *query)
{
    loop_defer(query->resolver->loop, &query->deferred, on_ready, query);
}

void dns_query_ask(struct dns_query *query, const struct dns_question *question)
{
    struct resolver *resolver = query->resolver;

    resolver->counts.asked++;
    if (dns_cache_get(resolver->cache, question, loop_now_ms(resolver->loop), &query->reply)) {
        resolver->counts.cached++;
        dns_query_ready(query);
        return;
    }
    query->lookup = dns_lookup_get(resolver, question);
    DL_APPEND2(query->lookup->queries, query, lookup_prev, lookup_next);
}

/* ---- the files behind it ---- */

static struct dns_file_mark mark_of(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return (struct dns_file_mark){ 0 };
    return (struct dns_file_mark){
        .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
        .inode = st.st_ino,
        .size = (uint64_t)st.st_size,
    };
}

static bool same_mark(const struct dns_file_mark *a, const struct dns_file_mark *b)
{
    return a->mtime_ns == b->mtime_ns && a->inode == b->inode && a->size == b->size;
}

static enum err read_conf(struct resolver *resolver, struct fault *fault)
{
    struct dns_conf *conf = NULL;
    struct dns_file_mark mark = mark_of(resolver->options.resolv_conf);

    enum err rc = dns_conf_new(&resolver->options, &conf, fault);
    if (rc)
        return rc; /* the servers we had are better than none */
    dns_conf_unref(&resolver->conf);
    resolver->conf = conf;
    resolver->conf_mark = mark;
    return ERR_OK;
}

/* Machines that move between networks have these files rewritten under us. */
static void look_at_files(struct resolver *resolver)
{
    uint64_t now = loop_now_ms(resolver->loop);

    if (now < resolver->looked_ms + LOOK_MS)
        return;
    resolver->looked_ms = now;
    struct dns_file_mark conf = mark_of(resolver->options.resolv_conf);
    struct dns_file_mark hosts = mark_of(resolver->options.hosts_file);
    if (!resolver->options.server_count && !same_mark(&conf, &resolver->conf_mark))
        read_conf(resolver, NULL);
    if (!same_mark(&hosts, &resolver->hosts_mark))
        dns_hosts_free(&resolver->hosts);
    resolver->hosts_mark = hosts;
}

/* ---- the resolver ---- */

/* Names are few and answers quick: an eighth of the descriptors serves them. */
static unsigned socket_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur / 8 > SOCKETS_MAX)
        return SOCKETS_MAX;
    unsigned share = (unsigned)(limit.rlim_cur / 8);
    return share < SOCKETS_MIN ? SOCKETS_MIN : share;
}

static void drop_options(struct resolver_options *options)
{
    free((void *)options->servers);
    free((void *)options->resolv_conf);
    free((void *)options->hosts_file);
}

static void keep_options(struct resolver *resolver, const struct resolver_options *options)
{
    struct resolver_options *own = &resolver->options;
    const char *conf = options->resolv_conf, *hosts = options->hosts_file;

    *own = *options;
    own->servers = NULL; /* the caller's */
    own->resolv_conf = str_dup(str_of(conf ? conf : "/etc/resolv.conf"));
    own->hosts_file = str_dup(str_of(hosts ? hosts : "/etc/hosts"));
    if (!own->server_count)
        return;
    struct endpoint *servers = mem_alloc(own->server_count * sizeof(servers[0]));
    memcpy(servers, options->servers, own->server_count * sizeof(servers[0]));
    own->servers = servers;
}

enum err resolver_new(struct loop *loop, const struct resolver_options *options,
                      struct resolver **out_resolver, struct fault *fault)
{
    struct resolver *resolver = mem_alloc(sizeof(*resolver));

    resolver->loop = loop;
    keep_options(resolver, options);
    resolver->sockets_max = socket_limit();
    resolver->cache = dns_cache_new(options->cache_bytes ? options->cache_bytes : CACHE_BYTES);
    resolver->looked_ms = loop_now_ms(loop);
    resolver->hosts_mark = mark_of(resolver->options.hosts_file);
    enum err rc = read_conf(resolver, fault);
    if (rc) {
        resolver_free(&resolver);
        return rc;
    }
    *out_resolver = resolver;
    return ERR_OK;
}

void resolver_free(struct resolver **resolver)
{
    struct resolver *r = *resolver;

    if (!r)
        return;
    while (r->queries)
        dns_query_drop(r->queries); /* with the last of them each lookup goes */
    loop_undefer(r->loop, &r->pump);
    dns_cache_free(&r->cache);
    dns_hosts_free(&r->hosts);
    dns_conf_unref(&r->conf);
    drop_options(&r->options);
    free(r);
    *resolver = NULL;
}

void resolver_ask(struct resolver *resolver, const char *name, enum dns_type type, dns_fn *fn,
                  void *arg, struct dns_query **out_query)
{
    struct dns_query *query = dns_query_new(resolver, false, fn, arg);
    struct dns_question question = { .type = type };

    if (out_query)
        *out_query = query;
    look_at_files(resolver);
    if (dns_name_clean(str_of(name), question.name)) {
        dns_query_ask(query, &question);
        return;
    }
    dns_reply_fail(&query->reply, DNS_INVALID, "", "not a domain name");
    dns_query_ready(query);
}

void resolver_addresses(struct resolver *resolver, const char *host, bool hosts, dns_fn *fn,
                        void *arg, struct dns_query **out_query)
{
    struct dns_query *query = dns_query_new(resolver, false, fn, arg);

    if (out_query)
        *out_query = query;
    look_at_files(resolver);
    dns_addresses_ask(query, host, hosts);
}

void resolver_cancel(struct dns_query **query)
{
    if (*query)
        dns_query_drop(*query);
    *query = NULL;
}

void resolver_flush(struct resolver *resolver)
{
    struct dns_lookup *lookup = NULL;

    dns_cache_flush(resolver->cache);
    /* What is in flight may come from a server that is not to be asked any more. */
    DL_FOREACH (resolver->lookups, lookup) {
        dns_lookup_unjoin(lookup);
    }
    read_conf(resolver, NULL);
    dns_hosts_free(&resolver->hosts);
}

enum err resolver_set(struct resolver *resolver, const struct resolver_options *options,
                      struct fault *fault)
{
    struct resolver_options before = resolver->options;
    struct dns_lookup *lookup = NULL;

    keep_options(resolver, options);
    enum err rc = read_conf(resolver, fault);
    if (rc) {
        drop_options(&resolver->options);
        resolver->options = before;
        return rc;
    }
    drop_options(&before);
    dns_cache_flush(resolver->cache);
    DL_FOREACH (resolver->lookups, lookup) {
        dns_lookup_unjoin(lookup);
    }
    dns_hosts_free(&resolver->hosts);
    return ERR_OK;
}

struct resolver_counts resolver_counts(const struct resolver *resolver) { return resolver->counts; }
