/*
 * dns_addresses.c - where a host is: literal, /etc/hosts, or A and AAAA together.
 *
 * One of the two failing while the other answers is not a failure: mail can
 * be delivered. What was answered decides is_secure, not what is missing: A
 * and AAAA are of one zone, and an attacker who drops one of the two must not
 * be able to switch DANE off (RFC 7672 2.2.2).
 */
#include "relay/net/dns_resolver.h"

#define HOSTS_ADDRESSES 32

enum { PART_AAAA, PART_A }; /* in the order of the merged records */

static void answer_endpoints(struct dns_query *query, const char *name, const struct endpoint *at,
                             size_t count)
{
    struct dns_reply *reply = &query->reply;

    dns_reply_fail(reply, DNS_OK, name, "");
    reply->records = arena_alloc(&reply->arena, count * sizeof(reply->records[0]));
    for (size_t i = 0; i < count; i++) {
        reply->records[i].text = STR_EMPTY;
        reply->records[i].address = at[i];
    }
    reply->answer.records = reply->records;
    reply->answer.count = count;
    dns_query_ready(query);
}

static void keep_part(struct dns_reply *part, const struct dns_answer *answer)
{
    dns_reply_clear(part);
    part->answer = *answer;
    part->answer.fault = arena_str(&part->arena, answer->fault);
    if (!answer->count)
        return;
    part->records = arena_alloc(&part->arena, answer->count * sizeof(part->records[0]));
    memcpy(part->records, answer->records, answer->count * sizeof(part->records[0]));
    part->answer.records = part->records; /* addresses point at nothing */
}

static bool is_failure(enum dns_status status)
{
    switch (status) {
    case DNS_OK:
    case DNS_NODATA:
    case DNS_NXDOMAIN:
        return false;
    case DNS_SERVFAIL:
    case DNS_BOGUS:
    case DNS_TIMEOUT:
    case DNS_INVALID:
        return true;
    }
    return true;
}

/* The part that speaks for both: addresses, else a failure (there might be
 * some), else that the name does not exist. */
static const struct dns_answer *leading(const struct dns_answer *a, const struct dns_answer *b)
{
    if (a->status == DNS_OK || b->status == DNS_OK)
        return a->status == DNS_OK ? a : b;
    if (is_failure(a->status) || is_failure(b->status))
        return is_failure(a->status) ? a : b;
    return a->status == DNS_NXDOMAIN ? a : b;
}

static void merge(struct dns_query *query)
{
    const struct dns_answer *a = &query->part_reply[PART_AAAA].answer;
    const struct dns_answer *b = &query->part_reply[PART_A].answer;
    struct dns_reply *reply = &query->reply;
    size_t count = a->count + b->count;

    dns_reply_clear(reply);
    reply->answer = *leading(a, b);
    reply->answer.is_secure = (is_failure(a->status) || a->is_secure) &&
                              (is_failure(b->status) || b->is_secure) &&
                              !is_failure(reply->answer.status);
    reply->answer.from_cache = a->from_cache && b->from_cache;
    if (a->status == DNS_OK && b->status == DNS_OK)
        reply->answer.ttl_s = a->ttl_s < b->ttl_s ? a->ttl_s : b->ttl_s;
    if (!count)
        return;
    reply->records = arena_alloc(&reply->arena, count * sizeof(reply->records[0]));
    if (a->count)
        memcpy(reply->records, a->records, a->count * sizeof(reply->records[0]));
    if (b->count)
        memcpy(reply->records + a->count, b->records, b->count * sizeof(reply->records[0]));
    reply->answer.records = reply->records;
    reply->answer.count = count;
}

static void on_part(struct dns_query *query, unsigned part, const struct dns_answer *answer)
{
    query->parts[part] = NULL;
    keep_part(&query->part_reply[part], answer);
    if (query->parts[PART_AAAA] || query->parts[PART_A])
        return;
    merge(query);
    dns_query_finish(query, &query->reply.answer);
}

static void on_aaaa(void *arg, const struct dns_answer *answer) { on_part(arg, PART_AAAA, answer); }

static void on_a(void *arg, const struct dns_answer *answer) { on_part(arg, PART_A, answer); }

static void ask_part(struct dns_query *query, unsigned part, struct dns_question *question,
                     enum dns_type type, dns_fn *fn)
{
    question->type = type;
    query->parts[part] = dns_query_new(query->resolver, true, fn, query);
    dns_query_ask(query->parts[part], question);
}

static size_t find_in_hosts(struct resolver *resolver, const char *name, struct endpoint *out)
{
    if (!resolver->hosts)
        resolver->hosts = dns_hosts_read(resolver->options.hosts_file);
    return dns_hosts_find(resolver->hosts, name, out, HOSTS_ADDRESSES);
}

void dns_addresses_ask(struct dns_query *query, const char *host, bool hosts)
{
    struct dns_question question = { 0 };
    struct endpoint at[HOSTS_ADDRESSES];

    if (endpoint_ip(str_of(host), &at[0])) {
        answer_endpoints(query, host, at, 1);
        return;
    }
    if (!dns_name_clean(str_of(host), question.name)) {
        dns_reply_fail(&query->reply, DNS_INVALID, "", "not a host name");
        dns_query_ready(query);
        return;
    }
    size_t count = hosts ? find_in_hosts(query->resolver, question.name, at) : 0;
    if (count) {
        answer_endpoints(query, question.name, at, count);
        return;
    }
    ask_part(query, PART_AAAA, &question, DNS_AAAA, on_aaaa);
    ask_part(query, PART_A, &question, DNS_A, on_a);
}
