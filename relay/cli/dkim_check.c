/*
 * dkim_check.c - waypost dkim check: does DNS say what we sign with?
 *
 * Asks for every key at once over the relay's own resolver, then tells in the
 * order of the configuration.
 */
#include "dkim/keytool.h"
#include "relay/cli/dkim_keys.h"
#include "relay/net/dns.h"

#include <stdlib.h>

struct checking;

struct question {
    struct checking *checking;
    const struct dkim_key *key;
    char name[DNS_NAME];
    enum dns_status status;
    char trouble[256];
    struct str *texts; /* copies, in the arena */
    size_t text_count;
};

struct checking {
    struct arena arena;
    struct loop *loop;
    struct resolver *resolver;
    struct question *questions;
    size_t count, open;
};

/* ---- asking ---- */

static void answered(void *arg, const struct dns_answer *answer)
{
    struct question *question = arg;
    struct checking *checking = question->checking;

    question->status = answer->status;
    str_copy(question->trouble, sizeof(question->trouble), answer->fault);
    question->texts = arena_alloc(&checking->arena, (answer->count + 1) * sizeof(struct str));
    for (size_t i = 0; i < answer->count; i++)
        question->texts[question->text_count++] =
            arena_str(&checking->arena, answer->records[i].text);
    if (--checking->open == 0)
        loop_stop(checking->loop);
}

static enum err ask_all(struct checking *checking, const struct dkim_keys *keys,
                        struct fault *fault)
{
    checking->questions = arena_alloc(&checking->arena, keys->count * sizeof(*checking->questions));
    checking->count = checking->open = keys->count;
    for (size_t i = 0; i < keys->count; i++) {
        struct question *question = &checking->questions[i];
        question->checking = checking;
        question->key = &keys->rows[i];
        int len = snprintf(question->name, sizeof(question->name), "%s._domainkey.%s",
                           question->key->selector, question->key->domain);
        if (len < 0 || (size_t)len >= sizeof(question->name))
            return fault_set(fault, ERR_LIMIT, "the name of the record of %s is too long",
                             question->key->selector);
    }
    for (size_t i = 0; i < keys->count; i++)
        resolver_ask(checking->resolver, checking->questions[i].name, DNS_TXT, answered,
                     &checking->questions[i], NULL);
    return ERR_OK;
}

/* The servers of the configuration, when it can be read; else those of the system. */
static enum err begin(struct checking *checking, const struct conf *conf, struct fault *fault)
{
    struct loop_options loop_options = { .count = 1 };
    struct resolver_options options = { .server_count = 0 };
    struct endpoint *servers = NULL;
    enum err rc = loop_new(&loop_options, &checking->loop, fault);

    if (rc)
        return rc;
    if (conf) {
        servers = arena_alloc(&checking->arena, (conf->dns.servers.count + 1) * sizeof(*servers));
        for (size_t i = 0; i < conf->dns.servers.count; i++)
            if (endpoint_parse(conf->dns.servers.items[i], 53, &servers[options.server_count],
                               fault) == ERR_OK)
                options.server_count++;
        options.timeout_ms = (uint32_t)conf->dns.timeout_ms;
    }
    options.servers = servers;
    return resolver_new(checking->loop, &options, &checking->resolver, fault);
}

static void end(struct checking *checking)
{
    if (checking->resolver)
        resolver_free(&checking->resolver);
    if (checking->loop)
        loop_free(&checking->loop);
    arena_clear(&checking->arena);
}

/* ---- telling ---- */

static int bad(const struct question *question, int code, const char *what)
{
    (void)printf("%s: %s%s%s\n", question->name, cmd_colour(stdout, COLOUR_RED), what,
                 cmd_colour(stdout, COLOUR_NONE));
    return code;
}

static void tell_what_to_publish(const struct question *question)
{
    struct fault fault;
    struct buf line;

    buf_init(&line, 8192);
    if (keytool_zone_line(question->key->file, question->key->selector, question->key->domain,
                          &line, &fault) == ERR_OK)
        (void)printf("    publish: " STR_FMT "\n", STR_ARG(buf_view(&line)));
    buf_clear(&line);
}

static int no_record(const struct question *question)
{
    char what[384];

    switch (question->status) {
    case DNS_OK:
    case DNS_NODATA:
    case DNS_NXDOMAIN:
        (void)bad(question, EX_DATAERR, "no TXT record at this name");
        tell_what_to_publish(question);
        return EX_DATAERR;
    case DNS_SERVFAIL:
    case DNS_BOGUS:
    case DNS_TIMEOUT:
    case DNS_INVALID:
        break;
    }
    (void)snprintf(what, sizeof(what), "the lookup failed (%s): %s",
                   dns_status_word(question->status), question->trouble);
    return bad(question, EX_TEMPFAIL, what);
}

/* Records at this name that are no DKIM keys (a wildcard's SPF) do not count as a second key. */
static bool looks_like_key(struct str text)
{
    return str_find(text, STR("p=")) < text.len && !str_istarts(text, STR("v=spf1"));
}

static int judge(const struct question *question)
{
    struct str key = STR_EMPTY;
    size_t keys = 0;
    struct fault fault;
    char what[FAULT_MAX + 64];

    for (size_t i = 0; i < question->text_count; i++) {
        if (!looks_like_key(question->texts[i]))
            continue;
        key = question->texts[i];
        keys++;
    }
    if (question->status != DNS_OK || question->text_count == 0)
        return no_record(question);
    if (keys > 1)
        return bad(question, EX_DATAERR,
                   "more than one key at this name: verifiers take any of them; keep one");
    if (keys == 0)
        key = question->texts[0];
    if (keytool_compare(question->key->file, key, &fault) == ERR_OK) {
        (void)printf("%s: %sok%s, it carries the key of %s\n", question->name,
                     cmd_colour(stdout, COLOUR_GREEN), cmd_colour(stdout, COLOUR_NONE),
                     question->key->file);
        return EX_OK;
    }
    (void)snprintf(what, sizeof(what), "%s", fault.text);
    (void)bad(question, EX_DATAERR, what);
    tell_what_to_publish(question);
    return EX_DATAERR;
}

static int check(const struct conf *conf, const struct dkim_keys *keys)
{
    struct checking checking = { .count = 0 };
    struct fault fault;
    int code = EX_OK;
    enum err rc;

    arena_init(&checking.arena);
    rc = begin(&checking, conf, &fault);
    if (!rc)
        rc = ask_all(&checking, keys, &fault);
    if (!rc)
        loop_run(checking.loop);
    for (size_t i = 0; !rc && i < checking.count; i++) {
        int one = judge(&checking.questions[i]);
        code = code ? code : one;
    }
    end(&checking);
    return rc ? cmd_fail(cmd_code(rc), "%s", fault.text) : code;
}

int dkim_check(const char *conf_file, int argc, char **argv)
{
    struct dkim_wish wish;
    struct dkim_keys keys;
    struct conf *conf;
    int code = dkim_wish_read(argc, argv, "sf", &wish);

    if (code)
        return code;
    code = dkim_keys_find(conf_file, &wish, &keys);
    if (code == EX_OK) {
        conf = cmd_conf_quietly(conf_file);
        code = check(conf, &keys);
        if (conf)
            conf_unref(&conf);
    }
    dkim_keys_clear(&keys);
    return code;
}
