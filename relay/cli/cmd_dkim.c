/*
 * cmd_dkim.c - waypost dkim: which keys are meant, and what to do with them.
 */
#include "relay/cli/dkim_keys.h"

#include "dkim/keytool.h"
#include "relay/mail/addr.h"

#include <getopt.h>
#include <stdlib.h>

/* ---- which keys ---- */

static bool wants(const struct dkim_wish *wish, struct str domain, struct str selector)
{
    return (!wish->domain || str_ieq(domain, str_of(wish->domain))) &&
           (!wish->selector || str_ieq(selector, str_of(wish->selector)));
}

static void add_key(struct dkim_keys *keys, struct str domain, struct str selector, struct str file)
{
    keys->rows = mem_realloc(keys->rows, (keys->count + 1) * sizeof(*keys->rows));
    keys->rows[keys->count++] = (struct dkim_key){
        .domain = arena_cstr(&keys->arena, domain),
        .selector = arena_cstr(&keys->arena, selector),
        .file = arena_cstr(&keys->arena, file),
    };
}

static void add_configured(struct dkim_keys *keys, const struct conf *conf,
                           const struct dkim_wish *wish)
{
    for (size_t i = 0; i < conf->dkim_count; i++) {
        const struct conf_dkim *dkim = &conf->dkim[i];
        struct str domain = dkim->sign_as.len ? dkim->sign_as : dkim->domain;
        for (size_t k = 0; k < dkim->key_count; k++)
            if (wants(wish, domain, dkim->keys[k].selector))
                add_key(keys, domain, dkim->keys[k].selector, dkim->keys[k].file);
    }
}

static int none_found(const struct conf *conf, const struct dkim_wish *wish)
{
    if (conf->dkim_count == 0)
        return cmd_fail(EX_CONFIG,
                        STR_FMT ": no dkim section; make a key with waypost dkim keygen DOMAIN",
                        STR_ARG(conf->file));
    return cmd_fail(EX_CONFIG, STR_FMT ": there is no key %s%sfor %s", STR_ARG(conf->file),
                    wish->selector ? wish->selector : "", wish->selector ? " " : "",
                    wish->domain ? wish->domain : "any domain");
}

int dkim_keys_find(const char *conf_file, const struct dkim_wish *wish, struct dkim_keys *out_keys)
{
    struct conf *conf;
    int code = EX_OK;

    *out_keys = (struct dkim_keys){ .count = 0 };
    arena_init(&out_keys->arena);
    if (wish->file) {
        if (!wish->domain)
            return cmd_misuse("dkim", "--file needs a DOMAIN");
        add_key(out_keys, str_of(wish->domain), str_of(wish->selector ? wish->selector : "s1"),
                str_of(wish->file));
        return EX_OK;
    }
    conf = cmd_conf(conf_file);
    if (!conf)
        return cmd_fail(EX_CONFIG, "the configuration does not tell the keys; mend it, or name a "
                                   "key with --file");
    add_configured(out_keys, conf, wish);
    if (out_keys->count == 0)
        code = none_found(conf, wish);
    conf_unref(&conf);
    return code;
}

void dkim_keys_clear(struct dkim_keys *keys)
{
    arena_clear(&keys->arena);
    free(keys->rows);
}

/* ---- the line ---- */

static int read_options(int argc, char **argv, const char *allowed, struct dkim_wish *wish)
{
    static const struct option options[] = {
        { "selector", required_argument, NULL, 's' },
        { "type", required_argument, NULL, 't' },
        { "dir", required_argument, NULL, 'd' },
        { "file", required_argument, NULL, 'f' },
        { 0 },
    };
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (!strchr(allowed, option)) {
            struct cmd_wrong wrong = cmd_wrong_option(option, argv);
            return cmd_misuse("dkim", "dkim %s: %s%s", argv[0], wrong.what, wrong.word);
        }
        if (option == 's')
            wish->selector = optarg;
        else if (option == 't')
            wish->type = optarg;
        else if (option == 'd')
            wish->folder = optarg;
        else
            wish->file = optarg;
    }
    return EX_OK;
}

static bool is_selector(const char *selector)
{
    return str_is_ascii(str_of(selector)) && addr_is_domain(str_of(selector), 0) &&
           selector[0] != '[';
}

int dkim_wish_read(int argc, char **argv, const char *allowed, struct dkim_wish *out_wish)
{
    struct fault fault;
    int code;

    *out_wish = (struct dkim_wish){ .domain = NULL };
    code = read_options(argc, argv, allowed, out_wish);
    if (code)
        return code;
    if (optind < argc) {
        struct str domain = str_of(argv[optind++]);
        if (!addr_is_domain(domain, ADDR_ALLOW_UTF8) || domain.at[0] == '[' ||
            addr_domain_ascii(domain, out_wish->ascii, &fault))
            return cmd_fail(EX_USAGE, "\"%s\" is not a domain", argv[optind - 1]);
        out_wish->domain = out_wish->ascii;
    }
    if (optind < argc)
        return cmd_misuse("dkim", "dkim %s: one argument too many: %s", argv[0], argv[optind]);
    if (out_wish->selector && !is_selector(out_wish->selector))
        return cmd_fail(EX_USAGE,
                        "\"%s\" cannot be a selector: use letters, digits, hyphens and "
                        "dots",
                        out_wish->selector);
    return EX_OK;
}

/* ---- record ---- */

static int print_record(const struct dkim_key *key)
{
    struct fault fault;
    struct buf line;
    enum err rc;

    buf_init(&line, 8192);
    rc = keytool_zone_line(key->file, key->selector, key->domain, &line, &fault);
    if (!rc)
        (void)printf(STR_FMT "\n", STR_ARG(buf_view(&line)));
    buf_clear(&line);
    return rc ? cmd_fail(cmd_code(rc), "%s", fault.text) : EX_OK;
}

int dkim_record(const char *conf_file, int argc, char **argv)
{
    struct dkim_wish wish;
    struct dkim_keys keys;
    int code = dkim_wish_read(argc, argv, "sf", &wish);

    if (code)
        return code;
    code = dkim_keys_find(conf_file, &wish, &keys);
    for (size_t i = 0; i < keys.count; i++) {
        int one = print_record(&keys.rows[i]);
        code = code ? code : one;
    }
    dkim_keys_clear(&keys);
    return code;
}

int cmd_dkim(const char *conf_file, int argc, char **argv)
{
    static const struct cmd_verb verbs[] = {
        { "keygen", dkim_keygen },
        { "record", dkim_record },
        { "check", dkim_check },
    };
    const struct cmd_verb *verb = cmd_verb(verbs, sizeof(verbs) / sizeof(verbs[0]), argc, argv);

    return verb ? verb->run(conf_file, argc - 1, argv + 1) : EX_USAGE;
}
