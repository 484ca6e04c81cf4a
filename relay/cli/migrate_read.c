/*
 * migrate_read.c - four small syntaxes taken apart into names and values.
 */
#include "relay/cli/migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)1 << 20)
#define EXPANSIONS 32

void migrate_note(struct migration *migration, struct str name, struct str value, const char *why)
{
    buf_str(&migration->notes, name);
    if (value.len > 0) {
        buf_cstr(&migration->notes, " = ");
        buf_escaped(&migration->notes, value, 200);
    }
    buf_printf(&migration->notes, ": %s\n", why);
    migration->note_count++;
}

static bool is_secret(struct str name) { return str_ifind(name, STR("pass")) < name.len; }

void migrate_set(struct migration *migration, const struct migrate_kind *kind, struct str name,
                 struct str value)
{
    struct str shown = is_secret(name) ? STR_EMPTY : value;

    for (size_t i = 0; i < kind->row_count; i++) {
        const struct migrate_row *row = &kind->rows[i];
        if (!str_ieq(name, str_of(row->name)))
            continue;
        if (row->take)
            row->take(migration, value);
        if (row->remark)
            migrate_note(migration, name, shown, row->remark);
        return;
    }
    migrate_note(migration, name, shown, "waypost has nothing that corresponds");
}

struct migrate_route *migrate_route_new(struct migration *migration, struct str name)
{
    struct migrate_route *route = &migration->routes[migration->route_count];

    if (migration->route_count == MIGRATE_ROUTES) {
        migrate_note(migration, name, STR_EMPTY, "more next hops than this helper carries over");
        return &migration->routes[MIGRATE_ROUTES - 1];
    }
    migration->route_count++;
    route->name = arena_str(&migration->arena, name);
    return route;
}

bool migrate_slurp(struct migration *migration, const char *path, struct str *out_text)
{
    FILE *file = fopen(path, "re");
    struct buf text;
    char piece[4096];
    size_t len;

    if (!file)
        return false;
    buf_init(&text, FILE_MAX);
    while ((len = fread(piece, 1, sizeof(piece), file)) > 0)
        buf_append(&text, piece, len);
    (void)fclose(file);
    *out_text = arena_str(&migration->arena, buf_view(&text));
    buf_clear(&text);
    return true;
}

/* The first word, and the rest behind white space or `mark`. */
static struct str cut_word(struct str line, char mark, struct str *out_rest)
{
    size_t end = 0;

    while (end < line.len && line.at[end] != ' ' && line.at[end] != '\t' && line.at[end] != mark)
        end++;
    *out_rest = str_trim(str_from(line, end));
    if (mark && out_rest->len > 0 && out_rest->at[0] == mark)
        *out_rest = str_trim(str_from(*out_rest, 1));
    return str_head(line, end);
}

static bool is_comment(struct str line) { return line.len == 0 || line.at[0] == '#'; }

/* ---- Postfix: name = value, continued by lines that begin with white space ---- */

struct setting {
    struct str name, value;
};
struct settings {
    struct setting *items;
    size_t count;
};

/* "$name", "${name}", "$(name)": a value of the same file; others stay as they are. */
static struct str expand(struct migration *migration, const struct settings *all, struct str value)
{
    for (unsigned n = 0; n < EXPANSIONS; n++) {
        size_t at = str_chr(value, '$'), skip, len = 0;
        struct str name, with = STR_EMPTY;
        bool found = false;
        if (at == value.len)
            break;
        skip =
            at + 1 + (at + 1 < value.len && (value.at[at + 1] == '{' || value.at[at + 1] == '('));
        while (skip + len < value.len &&
               (value.at[skip + len] == '_' ||
                (value.at[skip + len] >= 'a' && value.at[skip + len] <= 'z')))
            len++;
        name = str_make(value.at + skip, len);
        for (size_t i = 0; i < all->count; i++)
            if (str_eq(all->items[i].name, name)) {
                with = all->items[i].value;
                found = true;
            }
        if (!found)
            break;
        value = str_of(arena_printf(&migration->arena, STR_FMT STR_FMT STR_FMT, (int)at, value.at,
                                    STR_ARG(with),
                                    STR_ARG(str_from(value, skip + len + (skip > at + 1)))));
    }
    return value;
}

static void gather(struct migration *migration, struct str text, struct settings *all)
{
    struct str line;

    while (str_next(&text, '\n', &line)) {
        bool is_more = line.len > 0 && (line.at[0] == ' ' || line.at[0] == '\t');
        struct str trimmed = str_trim(line);
        if (is_comment(trimmed))
            continue;
        if (is_more && all->count > 0) {
            struct setting *last = &all->items[all->count - 1];
            last->value = str_of(arena_printf(&migration->arena, STR_FMT " " STR_FMT,
                                              STR_ARG(last->value), STR_ARG(trimmed)));
            continue;
        }
        all->items = mem_realloc(all->items, (all->count + 1) * sizeof(*all->items));
        all->items[all->count].name = cut_word(trimmed, '=', &all->items[all->count].value);
        all->count++;
    }
}

enum err migrate_read_postfix(struct migration *migration, const struct migrate_kind *kind,
                              struct str text, struct fault *fault)
{
    struct settings all = { .count = 0 };

    (void)fault;
    migration->route = migrate_route_new(migration, STR("smarthost"));
    gather(migration, text, &all);
    for (size_t i = 0; i < all.count; i++)
        migrate_set(migration, kind, all.items[i].name,
                    expand(migration, &all, all.items[i].value));
    free(all.items);
    migrate_login_postfix(migration, migration->route);
    return ERR_OK;
}

/* hash:/etc/postfix/sasl_passwd is made from the file without "hash:" and ".db". */
void migrate_login_postfix(struct migration *migration, struct migrate_route *route)
{
    struct str maps = migration->password_maps, path, text, line, key, login;
    size_t colon = str_chr(maps, ':');

    if (maps.len == 0 || route->host.len == 0)
        return;
    path = str_from(maps, colon < maps.len ? colon + 1 : 0);
    route->has_login = true;
    if (str_starts(maps, STR("static:"))) {
        text = str_of(arena_printf(&migration->arena, STR_FMT " " STR_FMT, STR_ARG(route->host),
                                   STR_ARG(path)));
    } else if (!migrate_slurp(migration, arena_cstr(&migration->arena, path), &text)) {
        migrate_note(migration, STR("smtp_sasl_password_maps"), maps,
                     "cannot be read: add username and password-file to the route");
        return;
    }
    while (str_next(&text, '\n', &line)) {
        key = cut_word(str_trim(line), '\0', &login);
        if (is_comment(str_trim(line)) || str_find(key, route->host) == key.len)
            continue;
        colon = str_chr(login, ':');
        route->username = str_head(login, colon);
        route->password = str_from(login, colon + 1);
        return;
    }
    migrate_note(migration, STR("smtp_sasl_password_maps"), maps, "has no login for the next hop");
}

/* ---- msmtp: name value; sections begin with defaults or account ---- */

static struct migrate_route *route_named(struct migration *migration, struct str name)
{
    for (size_t i = 0; i < migration->route_count; i++)
        if (str_eq(migration->routes[i].name, name))
            return &migration->routes[i];
    return NULL;
}

/* "account NAME [: OTHER...]": what the others and the defaults say comes first. */
static void msmtp_account(struct migration *migration, const struct migrate_route *defaults,
                          struct str rest, struct str *out_default)
{
    size_t colon = str_chr(rest, ':');
    struct str name = str_trim(str_head(rest, colon)), from = str_trim(str_from(rest, colon + 1));
    const struct migrate_route *model = from.len > 0 ? route_named(migration, from) : NULL;
    struct migrate_route *route;

    if (str_eq(name, STR("default")) && model) {
        *out_default = from;
        return;
    }
    route = migrate_route_new(migration, name);
    name = route->name;
    *route = model ? *model : *defaults;
    route->name = name;
    migration->route = route;
    if (str_eq(name, STR("default")) || out_default->len == 0)
        *out_default = name;
}

static void msmtp_order(struct migration *migration, struct str usual)
{
    struct migrate_route *route = route_named(migration, usual), last;

    for (size_t i = 0; i < migration->route_count; i++) {
        struct migrate_route *one = &migration->routes[i];
        if (one == route)
            continue;
        one->match_sender = one->sender;
        if (one->sender.len == 0)
            migrate_note(migration, one->name, STR_EMPTY,
                         "an account without from: nothing says when it is meant; its route is "
                         "left out");
        if (one->sender.len == 0)
            one->host = STR_EMPTY;
        one->sender = STR_EMPTY; /* it takes no other sender than its own */
    }
    if (!route || migration->route_count < 2)
        return;
    last = *route; /* it matches everything: behind all others */
    memmove(route, route + 1,
            (size_t)(migration->routes + migration->route_count - 1 - route) * sizeof(*route));
    migration->routes[migration->route_count - 1] = last;
}

enum err migrate_read_msmtp(struct migration *migration, const struct migrate_kind *kind,
                            struct str text, struct fault *fault)
{
    struct migrate_route defaults = { .name = STR("defaults") };
    struct str line, name, value, usual = STR_EMPTY;

    migration->route = &defaults;
    while (str_next(&text, '\n', &line)) {
        line = str_trim(line);
        if (is_comment(line))
            continue;
        name = cut_word(line, '\0', &value);
        if (value.len > 1 && value.at[0] == '"' && value.at[value.len - 1] == '"')
            value = str_make(value.at + 1, value.len - 2);
        if (str_eq(name, STR("defaults")))
            migration->route = &defaults;
        else if (str_eq(name, STR("account")))
            msmtp_account(migration, &defaults, value, &usual);
        else
            migrate_set(migration, kind, name, value);
    }
    migration->route = NULL; /* defaults end with this function */
    if (migration->route_count == 0)
        return fault_set(fault, ERR_INVALID, "%s has no account", migration->file);
    msmtp_order(migration, usual);
    return ERR_OK;
}

/* ---- dma: NAME value ---- */

enum err migrate_read_dma(struct migration *migration, const struct migrate_kind *kind,
                          struct str text, struct fault *fault)
{
    struct str line, name, value;

    (void)fault;
    migration->route = migrate_route_new(migration, STR("smarthost"));
    while (str_next(&text, '\n', &line)) {
        line = str_trim(line);
        if (is_comment(line))
            continue;
        name = cut_word(line, '\0', &value);
        migrate_set(migration, kind, name, value);
    }
    migrate_login_dma(migration, migration->route);
    return ERR_OK;
}

void migrate_login_dma(struct migration *migration, struct migrate_route *route)
{
    struct str text, line, rest;

    if (migration->password_maps.len == 0 || route->host.len == 0)
        return;
    if (!migrate_slurp(migration, arena_cstr(&migration->arena, migration->password_maps), &text)) {
        migrate_note(migration, STR("AUTHPATH"), migration->password_maps,
                     "cannot be read: add username and password-file to the route");
        return;
    }
    while (str_next(&text, '\n', &line)) {
        size_t bar = str_chr(line, '|');
        rest = str_from(line, bar + 1);
        if (is_comment(str_trim(line)) || bar == line.len || !str_starts(rest, route->host))
            continue;
        route->has_login = true;
        route->username = str_trim(str_head(line, bar));
        route->password = str_trim(str_from(rest, route->host.len + 1));
        return;
    }
}

/* ---- nullmailer: HOST PROTOCOL --option=value..., and files of one line beside it ---- */

static struct str beside(struct migration *migration, const char *name)
{
    struct str text = STR_EMPTY, line = STR_EMPTY;

    if (migrate_slurp(migration, arena_printf(&migration->arena, "%s%s", migration->folder, name),
                      &text))
        (void)str_next(&text, '\n', &line);
    return str_trim(line);
}

/* "--name=value", with the value in quotes when it has spaces. */
static struct str cut_option(struct str line, struct str *out_rest)
{
    char quote = '\0';
    size_t end = 0;

    for (; end < line.len && (quote || (line.at[end] != ' ' && line.at[end] != '\t')); end++) {
        char c = line.at[end];
        if (quote)
            quote = c == quote ? '\0' : quote;
        else if (c == '\'' || c == '"')
            quote = c;
    }
    *out_rest = str_trim(str_from(line, end));
    return str_head(line, end);
}

static void nullmailer_remote(struct migration *migration, const struct migrate_kind *kind,
                              struct str line)
{
    struct str word, rest, name, value;

    migration->route->host = cut_word(line, '\0', &rest);
    word = cut_word(rest, '\0', &rest);
    if (word.len > 0 && !str_eq(word, STR("smtp")))
        migrate_note(migration, STR("protocol"), word, "only smtp is known");
    while (rest.len > 0) {
        word = cut_option(rest, &rest);
        size_t equals = str_chr(word, '=');
        name = str_head(word, equals);
        value = str_from(word, equals + 1);
        if (value.len > 1 && (value.at[0] == '\'' || value.at[0] == '"'))
            value = str_make(value.at + 1, value.len - 2);
        migrate_set(migration, kind, name, value);
    }
}

enum err migrate_read_nullmailer(struct migration *migration, const struct migrate_kind *kind,
                                 struct str text, struct fault *fault)
{
    struct str line;

    while (str_next(&text, '\n', &line)) {
        line = str_trim(line);
        if (is_comment(line))
            continue;
        if (migration->route_count > 0) {
            migrate_note(migration, STR("remote"), str_head(line, str_chr(line, ' ')),
                         "a further remote: add it to relay = {...} when it takes the same login");
            continue;
        }
        migration->route = migrate_route_new(migration, STR("smarthost"));
        nullmailer_remote(migration, kind, line);
    }
    if (migration->route_count == 0)
        return fault_set(fault, ERR_INVALID, "%s names no remote", migration->file);
    migration->hostname = beside(migration, "me");
    migration->mailname = beside(migration, "defaultdomain");
    migration->root = beside(migration, "adminaddr");
    return ERR_OK;
}
