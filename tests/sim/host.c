/*
 * host.c - hosts as replays describe them.
 */
#include "tests/sim/host.h"

#include "relay/smtp/ext.h"

#include <stdio.h>
#include <stdlib.h>

#define EXTS_USUAL (EXT_PIPELINING | EXT_SIZE | EXT_8BITMIME | EXT_ENHANCEDSTATUSCODES | EXT_DSN)
#define SIZE_USUAL ((uint64_t)64 << 20)

static const char *const stage_words[] = {
#define X(name, word) word,
    HOST_STAGE_MAP(X)
#undef X
};

struct host *host_find(const struct world *world, const char *name)
{
    for (struct host *host = world->hosts; host; host = host->next)
        if (strcmp(host->name, name) == 0)
            return host;
    return NULL;
}

struct host *host_at(const struct world *world, const struct endpoint *at)
{
    for (struct host *host = world->hosts; host; host = host->next)
        for (size_t i = 0; i < host->at_count; i++)
            if (endpoint_same_ip(&host->at[i], at) && host->at[i].port == at->port)
                return host;
    return NULL;
}

static void behave(struct host *host)
{
    for (size_t i = 0; i < HOST_STAGE_COUNT; i++)
        if (i != HOST_TLS)
            host->scripts[i].count = host->scripts[i].at = host->scripts[i].done = 0;
    host->people_count = 0;
}

static struct host *host_new(struct world *world, const char *name)
{
    struct host *host = mem_alloc(sizeof(*host));

    host->world = world;
    str_copy(host->name, sizeof(host->name), str_of(name));
    host->exts = EXTS_USUAL;
    host->size_max = SIZE_USUAL;
    host->recipients_max = 1000;
    host->keeps = true;
    str_copy(host->password, sizeof(host->password), STR("secret"));
    host->scripts[HOST_TLS].count = 1;
    host->scripts[HOST_TLS].steps[0].kind = ACTION_NONE;
    host->seen_last = &host->seen;
    host->next = world->hosts;
    world->hosts = host;
    return host;
}

/* ---- keys ---- */

static enum err set_exts(struct host *host, struct str value, struct fault *fault)
{
    struct str piece;
    unsigned exts = 0;

    while (str_next(&value, ',', &piece)) {
        bool known = str_eq(piece, STR("none"));
        for (unsigned i = 0; i < EXT_COUNT; i++)
            if (str_eq(piece, str_of(ext_keyword((enum ext_index)i)))) {
                exts |= 1U << i;
                known = true;
            }
        if (!known)
            return fault_set(fault, ERR_INVALID, "no extension \"" STR_FMT "\"", STR_ARG(piece));
    }
    host->exts = exts;
    return ERR_OK;
}

static enum err set_mechanisms(struct host *host, struct str value, struct fault *fault)
{
    struct str piece;
    enum mechanism mechanism;

    host->mechanisms = 0;
    while (str_next(&value, ',', &piece)) {
        if (str_eq(piece, STR("none")))
            continue;
        if (!mechanism_parse(piece, &mechanism))
            return fault_set(fault, ERR_INVALID, "no mechanism \"" STR_FMT "\"", STR_ARG(piece));
        host->mechanisms |= (unsigned)mechanism;
    }
    return ERR_OK;
}

static enum err set_number(struct str value, uint64_t *out, struct fault *fault)
{
    if (str_u64(value, out))
        return ERR_OK;
    return fault_set(fault, ERR_INVALID, "\"" STR_FMT "\" is not a number", STR_ARG(value));
}

static enum err set_span(struct str value, uint64_t *out, struct fault *fault)
{
    if (span_parse(value, out))
        return ERR_OK;
    return fault_set(fault, ERR_INVALID, "\"" STR_FMT "\" is not a time", STR_ARG(value));
}

/* key="3 1 1 HEX" */
static enum err set_key(struct host *host, struct str value, struct fault *fault)
{
    char text[160];
    unsigned usage, selector, matching, byte;
    int used = 0;

    str_copy(text, sizeof(text), value);
    if (sscanf(text, "%u %u %u %n", &usage, &selector, &matching, &used) != 3 || !used)
        return fault_set(fault, ERR_INVALID, "key takes \"USAGE SELECTOR MATCHING HEX\"");
    host->key = (struct tlsa){
        .usage = (uint8_t)usage,
        .selector = (uint8_t)selector,
        .matching = (uint8_t)matching,
        .data = host->key_data,
    };
    for (const char *at = text + used; host->key.len < 64 && sscanf(at, "%2x", &byte) == 1; at += 2)
        host->key_data[host->key.len++] = (uint8_t)byte;
    return ERR_OK;
}

static enum err set_person(struct host *host, struct str address, struct str value,
                           struct fault *fault)
{
    struct person *person = NULL;

    for (size_t i = 0; i < host->people_count; i++)
        if (str_eq(address, str_of(host->people[i].address)))
            person = &host->people[i];
    if (!person && host->people_count == HOST_PEOPLE_MAX)
        return fault_set(fault, ERR_LIMIT, "too many addresses with scripts");
    if (!person) {
        person = &host->people[host->people_count++];
        str_copy(person->address, sizeof(person->address), address);
    }
    return script_parse(value, &person->script, fault);
}

static enum err set_word(struct host *host, struct str key, struct str value, struct fault *fault)
{
    uint64_t number = 0;
    enum err rc;

    for (size_t i = 0; i < HOST_STAGE_COUNT; i++)
        if (str_eq(key, str_of(stage_words[i])))
            return script_parse(value, &host->scripts[i], fault);
    if (str_starts(key, STR("rcpt:")))
        return set_person(host, str_from(key, 5), value, fault);
    if (str_eq(key, STR("ext")))
        return set_exts(host, value, fault);
    if (str_eq(key, STR("mechanisms")))
        return set_mechanisms(host, value, fault);
    if (str_eq(key, STR("key")))
        return set_key(host, value, fault);
    if (str_eq(key, STR("latency")))
        return set_span(value, &host->latency_ms, fault);
    if (str_eq(key, STR("idle")))
        return set_span(value, &host->idle_ms, fault);
    if (str_eq(key, STR("size")))
        return set_number(value, &host->size_max, fault);
    if (str_eq(key, STR("password"))) {
        str_copy(host->password, sizeof(host->password), value);
        return ERR_OK;
    }
    if (!str_eq(key, STR("recipients")) && !str_eq(key, STR("keep")) &&
        !str_eq(key, STR("implicit")) && !str_eq(key, STR("sessions")))
        return fault_set(fault, ERR_INVALID, "a host has no \"" STR_FMT "\"", STR_ARG(key));
    rc = set_number(value, &number, fault);
    if (rc)
        return rc;
    if (str_eq(key, STR("recipients")))
        host->recipients_max = (unsigned)number;
    else if (str_eq(key, STR("sessions")))
        host->sessions_max = (unsigned)number;
    else if (str_eq(key, STR("keep")))
        host->keeps = number > 0;
    else
        host->implicit_tls = number > 0;
    return ERR_OK;
}

enum err host_tell(struct world *world, char **words, size_t count, struct fault *fault)
{
    struct host *host = host_find(world, words[0]);
    enum err rc = ERR_OK;

    if (!host)
        host = host_new(world, words[0]);
    for (size_t i = 1; !rc && i < count; i++) {
        struct str word = str_of(words[i]);
        size_t equals = str_chr(word, '=');
        if (equals < word.len) {
            rc = set_word(host, str_head(word, equals), str_from(word, equals + 1), fault);
        } else if (str_eq(word, STR("accepts"))) {
            behave(host);
        } else if (host->at_count < HOST_ADDRESSES_MAX) {
            rc = endpoint_parse(word, 25, &host->at[host->at_count], fault);
            host->at_count += !rc;
        }
    }
    return rc;
}

bool host_count(const struct host *host, const char *name, unsigned *out_value)
{
#define X(field, help)                                                                             \
    if (strcmp(name, #field) == 0) {                                                               \
        *out_value = host->counts.field;                                                           \
        return true;                                                                               \
    }
    HOST_COUNT_MAP(X)
#undef X
    return false;
}

void hosts_free(struct world *world)
{
    while (world->hosts) {
        struct host *host = world->hosts;
        world->hosts = host->next;
        while (host->seen) {
            struct seen *seen = host->seen;
            host->seen = seen->next;
            envelope_clear(&seen->envelope);
            free(seen->user);
            free(seen->content);
            free(seen);
        }
        free(host);
    }
}
