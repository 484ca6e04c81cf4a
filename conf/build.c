/*
 * build.c - the immutable value: arrays of sections, fields, defaults.
 */
#include "conf/build.h"

#include "conf/value.h"

#include <netdb.h>
#include <stddef.h>
#include <unistd.h>

#define HOST_TEXT_MAX 256

/* ---- arrays, one struct per section ---- */

static size_t count_sections(const struct tree *tree, enum section_kind kind)
{
    size_t count = 0;

    for (const struct tree_section *s = tree->sections; s; s = s->next)
        count += s->kind == kind;
    return count;
}

/* Room for all sections of a kind; each section gets its element. */
static void *lay_out(struct tree *tree, enum section_kind kind, size_t size, size_t *out_count)
{
    size_t count = count_sections(tree, kind);
    char *items = arena_alloc(tree->arena, (count + 1) * size);
    char *next = items;

    for (struct tree_section *s = tree->sections; s; s = s->next) {
        if (s->kind != kind)
            continue;
        s->item = next;
        next += size;
    }
    *out_count = count;
    return items;
}

static void give_keys(struct tree *tree, struct tree_section *section)
{
    struct conf_dkim *dkim = section->item;
    struct conf_dkim_key *keys;
    size_t count = 0;

    for (struct tree_section *s = section; s; s = s->next)
        count += s->kind == SECTION_KEY && s->around == section;
    keys = arena_alloc(tree->arena, (count ? count : 1) * sizeof(*keys));
    dkim->keys = keys;
    dkim->key_count = count;
    for (struct tree_section *s = section; s; s = s->next) {
        if (s->kind == SECTION_KEY && s->around == section)
            s->item = keys++;
    }
}

static void lay_out_all(struct tree *tree, struct conf *conf)
{
    size_t tls_count;

    conf->listens = lay_out(tree, SECTION_LISTEN, sizeof(struct conf_listen), &conf->listen_count);
    conf->tls = lay_out(tree, SECTION_TLS, sizeof(struct conf_tls), &tls_count);
    conf->tls_count = tls_count;
    conf->dkim = lay_out(tree, SECTION_DKIM, sizeof(struct conf_dkim), &conf->dkim_count);
    conf->routes = lay_out(tree, SECTION_ROUTE, sizeof(struct conf_route), &conf->route_count);
    conf->destinations = lay_out(tree, SECTION_DESTINATION, sizeof(struct conf_destination),
                                 &conf->destination_count);
    for (struct tree_section *s = tree->sections; s; s = s->next) {
        if (s->kind == SECTION_DKIM)
            give_keys(tree, s);
    }
}

/* ---- fields that are not options: names and places ---- */

static void name_item(struct tree_section *section)
{
    const char *file = section->place.file;
    unsigned line = section->place.line;

    switch (section->kind) {
    case SECTION_LISTEN:
        *(struct conf_listen *)section->item =
            (struct conf_listen){ .name = section->title, .in_file = file, .line = line };
        break;
    case SECTION_TLS:
        *(struct conf_tls *)section->item = (struct conf_tls){ .in_file = file, .line = line };
        break;
    case SECTION_DKIM: {
        struct conf_dkim *dkim = section->item;
        dkim->domain = section->title;
        dkim->in_file = file;
        dkim->line = line;
        break;
    }
    case SECTION_KEY:
        *(struct conf_dkim_key *)section->item =
            (struct conf_dkim_key){ .selector = section->title, .in_file = file, .line = line };
        break;
    case SECTION_ROUTE:
        *(struct conf_route *)section->item =
            (struct conf_route){ .name = section->title, .in_file = file, .line = line };
        break;
    case SECTION_DESTINATION:
        *(struct conf_destination *)section->item =
            (struct conf_destination){ .match = section->title, .in_file = file, .line = line };
        break;
    case SECTION_ROOT:
    case SECTION_USERS:
    case SECTION_AUTH:
    case SECTION_RETRY:
    case SECTION_ALIASES:
    case SECTION_TIMEOUTS:
    case SECTION_LIMITS:
    case SECTION_DNS:
    case SECTION_QUEUE:
    case SECTION_LOG:
    case SECTION_API:
    case SECTION_SENDMAIL:
    case SECTION_COUNT:
        break;
    }
}

/* ---- options ---- */

static void set_defaults(struct tree *tree, struct conf *conf)
{
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_row *row = &option_rows[i];
        if (row->in_conf)
            value_set_default(row, conf, tree->arena);
        for (struct tree_section *s = tree->sections; s && !row->in_conf; s = s->next) {
            if (s->kind == row->section && row->start)
                value_set_default(row, s->item, tree->arena);
        }
    }
}

static void apply(struct tree *tree, struct conf *conf, const struct tree_setting *setting)
{
    const struct option_row *row = setting->row;
    void *home = row->in_conf ? (void *)conf : setting->section->item;
    struct wrong wrong;

    if (value_set(row, home, setting->values, setting->count, tree->arena, &wrong))
        return;
    report_error(tree->report, setting->place, arena_cstr(tree->arena, str_of(wrong.fix)),
                 "%s: \"%s\" %s", row->name,
                 report_shown(tree->arena, setting->values[wrong.index]), wrong.what);
}

static void demand_required(struct tree *tree)
{
    for (const struct tree_section *s = tree->sections; s; s = s->next) {
        for (size_t i = 0; i < option_row_count; i++) {
            const struct option_row *row = &option_rows[i];
            if (row->section != s->kind || row->start || tree_find(tree, s, row->name))
                continue;
            report_error(tree->report, s->place,
                         arena_printf(tree->arena, "add %s = \"%s\"", row->name, row->example),
                         "%s \"%s\" has no %s", section_rows[s->kind].name,
                         report_shown(tree->arena, s->title), row->name);
        }
    }
}

/* The machine's name; the resolver is asked only when the short name has no dot. */
static void find_hostname(struct tree *tree, struct conf *conf)
{
    struct addrinfo hints = { .ai_flags = AI_CANONNAME, .ai_socktype = SOCK_STREAM }, *found;
    char name[HOST_TEXT_MAX] = "localhost";

    conf->hostname_is_set = conf->hostname.len > 0;
    if (conf->hostname_is_set)
        return;
    if (gethostname(name, sizeof(name) - 1) != 0 || !name[0])
        str_copy(name, sizeof(name), STR("localhost"));
    conf->hostname = arena_str(tree->arena, str_of(name));
    if (strchr(name, '.') || getaddrinfo(name, NULL, &hints, &found) != 0)
        return;
    if (found->ai_canonname && strchr(found->ai_canonname, '.'))
        conf->hostname = arena_str(tree->arena, str_of(found->ai_canonname));
    freeaddrinfo(found);
}

/* Debian's file; every mailer there reads it. */
static void find_mailname(struct tree *tree, struct conf *conf)
{
    struct str text, line;
    const char *wants;
    unsigned mode;

    if (conf->aliases.mailname.len > 0)
        return;
    conf->aliases.mailname = conf->hostname;
    if (tree_slurp("/etc/mailname", 4096, tree->arena, &text, &mode, NULL))
        return;
    line = str_trim(str_head(text, str_chr(text, '\n')));
    if (line.len > 0 && form_fits(FORM_DOMAIN, line, &wants))
        conf->aliases.mailname = line;
}

/* tls sections that only name a ca-file carry no certificate. */
static void drop_empty_tls(struct conf *conf)
{
    struct conf_tls *all = (struct conf_tls *)(uintptr_t)conf->tls;
    size_t kept = 0;

    for (size_t i = 0; i < conf->tls_count; i++) {
        if (all[i].certificate.len || all[i].key.len)
            all[kept++] = all[i];
    }
    conf->tls_count = kept;
}

static void find_api(struct tree *tree, struct conf *conf)
{
    conf->api.in_file = tree->sections->place.file;
    conf->api.line = tree->sections->place.line;
    for (const struct tree_section *s = tree->sections; s; s = s->next) {
        if (s->kind != SECTION_API)
            continue;
        conf->api.in_file = s->place.file;
        conf->api.line = s->place.line;
    }
}

/* The listener that is always there, for sendmail(1). */
static void add_sendmail(struct tree *tree, struct conf *conf)
{
    struct conf_listen *all = (struct conf_listen *)(uintptr_t)conf->listens;

    conf->sendmail.is_written = count_sections(tree, SECTION_SENDMAIL) > 0;
    conf->serve_count = conf->listen_count + (conf->sendmail.socket.len > 0);
    all[conf->listen_count] = (struct conf_listen){
        .name = STR(CONF_LISTEN_SENDMAIL),
        .in_file = tree->sections->place.file,
        .address =
            str_of(arena_printf(tree->arena, "unix:" STR_FMT, STR_ARG(conf->sendmail.socket))),
    };
}

void build_glance(struct tree *tree, struct conf *conf)
{
    conf->file = str_of(tree->sections->place.file);
    lay_out_all(tree, conf);
    set_defaults(tree, conf);
    for (const struct tree_setting *s = tree->settings; s; s = s->next) {
        enum section_kind kind = s->section->kind;
        if (kind == SECTION_ROOT || kind == SECTION_SENDMAIL || kind == SECTION_API ||
            kind == SECTION_LIMITS || kind == SECTION_ALIASES)
            apply(tree, conf, s);
    }
    add_sendmail(tree, conf);
}

void build_conf(struct tree *tree, struct conf *conf)
{
    conf->file = str_of(tree->sections->place.file);
    lay_out_all(tree, conf);
    for (struct tree_section *s = tree->sections; s; s = s->next)
        name_item(s);
    set_defaults(tree, conf);
    for (const struct tree_setting *s = tree->settings; s; s = s->next)
        apply(tree, conf, s);
    demand_required(tree);
    find_hostname(tree, conf);
    find_mailname(tree, conf);
    drop_empty_tls(conf);
    add_sendmail(tree, conf);
    find_api(tree, conf);
}
