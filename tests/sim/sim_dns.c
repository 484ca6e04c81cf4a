/*
 * sim_dns.c - net/dns.h over a table.
 *
 * Answers come at once, except a time-out, which takes as long as asking two
 * silent servers twice. There is no cache: sched keeps its plans itself.
 */
#include "tests/sim/world.h"
#include "tests/sim/zone.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define TIMEOUT_MS 12000
#define TTL_S 300
#define RECORDS_MAX 32
#define TYPE_CNAME 5
#define TYPE_HOSTS 0x10000
#define CNAMES_MAX 8

/* ---- the table ---- */

struct zone_set { /* one type of one name */
    struct zone_set *next;
    char name[DNS_NAME];
    unsigned type;
    enum dns_status status; /* when not OK there are no records */
    bool is_secure;
    struct dns_record records[RECORDS_MAX];
    uint8_t tlsa[RECORDS_MAX][64];
    size_t count;
};

struct zone {
    struct zone_set *sets;
};

struct zone *zone_new(void) { return mem_alloc(sizeof(struct zone)); }

static void forget(struct zone *zone, const char *name, unsigned type)
{
    for (struct zone_set **at = &zone->sets; *at;) {
        struct zone_set *set = *at;
        if (name && (strcasecmp(set->name, name) != 0 || (type && set->type != type))) {
            at = &set->next;
            continue;
        }
        *at = set->next;
        free(set);
    }
}

void zone_free(struct zone **zone)
{
    if (*zone)
        forget(*zone, NULL, 0);
    free(*zone);
    *zone = NULL;
}

static struct zone_set *find(const struct zone *zone, const char *name, unsigned type)
{
    for (struct zone_set *set = zone->sets; set; set = set->next)
        if (strcasecmp(set->name, name) == 0 && set->type == type)
            return set;
    return NULL;
}

static bool exists(const struct zone *zone, const char *name)
{
    for (struct zone_set *set = zone->sets; set; set = set->next)
        if (strcasecmp(set->name, name) == 0 && set->type != TYPE_HOSTS)
            return true;
    return false;
}

static struct zone_set *get(struct zone *zone, const char *name, unsigned type)
{
    struct zone_set *set = find(zone, name, type);

    if (set)
        return set;
    set = mem_alloc(sizeof(*set));
    str_copy(set->name, sizeof(set->name), str_of(name));
    set->type = type;
    set->next = zone->sets;
    zone->sets = set;
    return set;
}

/* ---- what replays say ---- */

static const struct {
    const char *word;
    unsigned type;
} types[] = {
    { "A", DNS_A },       { "AAAA", DNS_AAAA },    { "MX", DNS_MX },
    { "TLSA", DNS_TLSA }, { "CNAME", TYPE_CNAME }, { "HOSTS", TYPE_HOSTS },
};

static const struct {
    const char *word;
    enum dns_status status;
} statuses[] = {
    { "NXDOMAIN", DNS_NXDOMAIN }, { "NODATA", DNS_NODATA },   { "SERVFAIL", DNS_SERVFAIL },
    { "BOGUS", DNS_BOGUS },       { "TIMEOUT", DNS_TIMEOUT },
};

static bool type_of(const char *word, unsigned *out_type)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(types[i].word, word) == 0) {
            *out_type = types[i].type;
            return true;
        }
    return false;
}

static bool status_of(const char *word, enum dns_status *out_status)
{
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        if (strcmp(statuses[i].word, word) == 0) {
            *out_status = statuses[i].status;
            return true;
        }
    return false;
}

static void set_status(struct zone *zone, const char *name, unsigned type, enum dns_status status)
{
    static const unsigned all[] = { DNS_A, DNS_AAAA, DNS_MX, DNS_TLSA };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (!type || type == all[i]) {
            struct zone_set *set = get(zone, name, all[i]);
            set->status = status;
            set->count = 0;
        }
}

static bool hex(const char *word, uint8_t out[64], size_t *out_len)
{
    size_t len = strlen(word);

    if (len % 2 || len > 128)
        return false;
    for (size_t i = 0; i < len / 2; i++) {
        unsigned byte;
        if (sscanf(word + 2 * i, "%2x", &byte) != 1)
            return false;
        out[i] = (uint8_t)byte;
    }
    *out_len = len / 2;
    return true;
}

static enum err add_tlsa(struct zone_set *set, char **words, size_t count, struct fault *fault)
{
    struct tlsa *tlsa = &set->records[set->count].tlsa;

    if (count < 4 || !hex(words[3], set->tlsa[set->count], &tlsa->len))
        return fault_set(fault, ERR_INVALID, "TLSA takes USAGE SELECTOR MATCHING HEX");
    tlsa->usage = (uint8_t)atoi(words[0]);
    tlsa->selector = (uint8_t)atoi(words[1]);
    tlsa->matching = (uint8_t)atoi(words[2]);
    tlsa->data = set->tlsa[set->count];
    return ERR_OK;
}

static enum err add_value(struct zone_set *set, char **words, size_t count, struct fault *fault)
{
    struct dns_record *record = &set->records[set->count];

    switch (set->type) {
    case DNS_MX:
        if (count < 2)
            return fault_set(fault, ERR_INVALID, "MX takes PREFERENCE HOST");
        record->preference = (uint16_t)atoi(words[0]);
        if (strcmp(words[1], ".") != 0)
            str_copy(record->name, sizeof(record->name), str_of(words[1]));
        return ERR_OK;
    case DNS_TLSA:
        return add_tlsa(set, words, count, fault);
    case TYPE_CNAME:
        str_copy(record->name, sizeof(record->name), str_of(words[0]));
        return ERR_OK;
    default:
        if (!endpoint_ip(str_of(words[0]), &record->address))
            return fault_set(fault, ERR_INVALID, "\"%s\" is not an address", words[0]);
        return ERR_OK;
    }
}

static enum err add(struct zone *zone, unsigned type, char **words, size_t count,
                    struct fault *fault)
{
    struct zone_set *set = get(zone, words[0], type);
    uint32_t ttl = TTL_S;
    enum err rc;

    for (; count > 3; count--) {
        if (strcmp(words[count - 1], "secure") == 0)
            set->is_secure = true;
        else if (strncmp(words[count - 1], "ttl=", 4) == 0)
            ttl = (uint32_t)atoi(words[count - 1] + 4);
        else
            break;
    }
    set->status = DNS_OK;
    if (count < 3 || set->count == RECORDS_MAX)
        return fault_set(fault, ERR_INVALID, "a record takes NAME TYPE VALUE");
    rc = add_value(set, words + 2, count - 2, fault);
    if (!rc)
        set->records[set->count++].ttl_s = ttl;
    return rc;
}

enum err zone_tell(struct zone *zone, char **words, size_t count, struct fault *fault)
{
    enum dns_status status;
    unsigned type;

    if (count == 2 && strcmp(words[1], "gone") == 0) {
        forget(zone, words[0], 0);
    } else if (count == 2 && status_of(words[1], &status)) {
        set_status(zone, words[0], 0, status);
    } else if (count >= 3 && type_of(words[1], &type)) {
        if (strcmp(words[2], "gone") == 0)
            forget(zone, words[0], type);
        else if (status_of(words[2], &status))
            set_status(zone, words[0], type, status);
        else
            return add(zone, type, words, count, fault);
    } else {
        return fault_set(fault, ERR_INVALID, "dns takes NAME TYPE VALUE or NAME STATUS");
    }
    return ERR_OK;
}

/* ---- the resolver ---- */

struct resolver {
    struct loop *loop;
    struct dns_query *queries;
    uint64_t asked;
};

struct dns_query {
    struct resolver *resolver;
    struct dns_query *next, **link;
    char name[DNS_NAME];
    enum dns_type type;
    bool is_host, hosts;
    dns_fn *fn;
    void *arg;
    struct timer timer;
    struct deferred deferred;
    char fault[160];
};

static void query_free(struct dns_query *query)
{
    loop_timer_stop(query->resolver->loop, &query->timer);
    loop_undefer(query->resolver->loop, &query->deferred);
    *query->link = query->next;
    if (query->next)
        query->next->link = query->link;
    free(query);
}

/* Follows CNAMEs; says what a name server would. */
static enum dns_status look(const struct zone *zone, char name[DNS_NAME], unsigned type,
                            const struct zone_set **out_set)
{
    const struct zone_set *set;

    for (unsigned i = 0; i < CNAMES_MAX && (set = find(zone, name, TYPE_CNAME)); i++)
        str_copy(name, DNS_NAME, str_of(set->records[0].name));
    set = find(zone, name, type);
    *out_set = set;
    if (set && (set->count > 0 || set->status != DNS_OK))
        return set->status;
    return exists(zone, name) ? DNS_NODATA : DNS_NXDOMAIN;
}

static void answer(struct dns_query *query, struct dns_answer *out)
{
    dns_fn *fn = query->fn;
    void *arg = query->arg;
    char fault[160];

    if (out->status != DNS_OK) {
        (void)snprintf(fault, sizeof(fault), "the simulated name server says: %s",
                       dns_status_word(out->status));
        out->fault = str_of(fault);
    }
    query_free(query);
    fn(arg, out);
}

static void add_set(struct dns_answer *out, struct dns_record *records, const struct zone_set *set)
{
    for (size_t i = 0; set && i < set->count && out->count < 2 * (size_t)RECORDS_MAX; i++) {
        records[out->count++] = set->records[i];
        if (out->ttl_s == 0 || set->records[i].ttl_s < out->ttl_s)
            out->ttl_s = set->records[i].ttl_s;
        out->is_secure = set->is_secure;
    }
}

/* The two families together, AAAA first; the kinder trouble speaks for both. */
static void answer_host(struct dns_query *query, const struct zone *zone)
{
    static const unsigned families[] = { DNS_AAAA, DNS_A };
    struct dns_record *records = mem_alloc(2 * (size_t)RECORDS_MAX * sizeof(*records));
    struct dns_answer out = { .status = DNS_OK, .records = records };
    enum dns_status worst = DNS_NXDOMAIN;
    const struct zone_set *set = query->hosts ? find(zone, query->name, TYPE_HOSTS) : NULL;

    str_copy(out.canonical, sizeof(out.canonical), str_of(query->name));
    if (set) {
        add_set(&out, records, set);
    } else if (endpoint_ip(str_of(query->name), &records[0].address)) {
        out.count = 1;
        out.ttl_s = TTL_S;
    }
    for (size_t i = 0, have = out.count; have == 0 && i < 2; i++) {
        enum dns_status status = look(zone, out.canonical, families[i], &set);
        if (status == DNS_OK)
            add_set(&out, records, set);
        else if (worst == DNS_NXDOMAIN || status > DNS_NXDOMAIN)
            worst = status;
    }
    if (out.count == 0)
        out.status = worst;
    answer(query, &out);
    free(records);
}

static void answer_one(struct dns_query *query, const struct zone *zone)
{
    struct dns_answer out = { 0 };
    const struct zone_set *set;

    str_copy(out.canonical, sizeof(out.canonical), str_of(query->name));
    out.status = look(zone, out.canonical, query->type, &set);
    out.is_secure = set && set->is_secure;
    if (out.status == DNS_OK) {
        out.records = set->records;
        out.count = set->count;
        out.ttl_s = set->records[0].ttl_s;
    }
    answer(query, &out);
}

static void answer_now(void *arg)
{
    struct dns_query *query = arg;
    const struct zone *zone = loop_world(query->resolver->loop)->zone;

    if (query->is_host)
        answer_host(query, zone);
    else
        answer_one(query, zone);
}

static bool is_silent(const struct dns_query *query)
{
    const struct zone *zone = loop_world(query->resolver->loop)->zone;
    const struct zone_set *set =
        find(zone, query->name, query->is_host ? (unsigned)DNS_A : (unsigned)query->type);

    return set && set->status == DNS_TIMEOUT;
}

static struct dns_query *ask(struct resolver *resolver, const char *name, dns_fn *fn, void *arg,
                             struct dns_query **out_query)
{
    struct dns_query *query = mem_alloc(sizeof(*query));
    struct str text = str_of(name);

    if (text.len && text.at[text.len - 1] == '.')
        text.len--;
    query->resolver = resolver;
    str_copy(query->name, sizeof(query->name), text);
    query->fn = fn;
    query->arg = arg;
    query->next = resolver->queries;
    query->link = &resolver->queries;
    if (query->next)
        query->next->link = &query->next;
    resolver->queries = query;
    resolver->asked++;
    if (out_query)
        *out_query = query;
    return query;
}

static void schedule(struct dns_query *query)
{
    if (is_silent(query))
        loop_timer_start(query->resolver->loop, &query->timer, TIMEOUT_MS, answer_now, query);
    else
        loop_defer(query->resolver->loop, &query->deferred, answer_now, query);
}

void resolver_ask(struct resolver *resolver, const char *name, enum dns_type type, dns_fn *fn,
                  void *arg, struct dns_query **out_query)
{
    struct dns_query *query = ask(resolver, name, fn, arg, out_query);

    query->type = type;
    schedule(query);
}

void resolver_addresses(struct resolver *resolver, const char *host, bool hosts, dns_fn *fn,
                        void *arg, struct dns_query **out_query)
{
    struct dns_query *query = ask(resolver, host, fn, arg, out_query);

    query->is_host = true;
    query->hosts = hosts;
    schedule(query);
}

void resolver_cancel(struct dns_query **query)
{
    if (*query)
        query_free(*query);
    *query = NULL;
}

enum err resolver_new(struct loop *loop, const struct resolver_options *options,
                      struct resolver **out_resolver, struct fault *fault)
{
    (void)options;
    (void)fault;
    *out_resolver = mem_alloc(sizeof(**out_resolver));
    (*out_resolver)->loop = loop;
    return ERR_OK;
}

enum err resolver_set(struct resolver *resolver, const struct resolver_options *options,
                      struct fault *fault)
{
    (void)resolver;
    (void)options;
    (void)fault;
    return ERR_OK;
}

void resolver_flush(struct resolver *resolver) { (void)resolver; }

struct resolver_counts resolver_counts(const struct resolver *resolver)
{
    return (struct resolver_counts){ .asked = resolver->asked, .sent = resolver->asked };
}

void resolver_free(struct resolver **resolver)
{
    while (*resolver && (*resolver)->queries)
        query_free((*resolver)->queries);
    free(*resolver);
    *resolver = NULL;
}
