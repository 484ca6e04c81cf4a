/*
 * check_files.c - every file that the configuration names, opened as the relay
 * will open it, by the code that will.
 */
#include "dkim/keyring.h"
#include "relay/api/api.h"
#include "relay/cli/check_machine.h"
#include "relay/ingress/users.h"
#include "relay/net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SOON_S (INT64_C(14) * 86400)

struct files {
    const struct conf *conf;
    struct check_report *report;
};

static char *cstr(struct files *files, struct str text)
{
    return arena_cstr(&files->report->arena, text);
}

/* The relay opens files as its user: at the start, and again at every reload. */
static const char *fix_of(struct files *files, const struct fault *fault, const char *path,
                          const char *otherwise)
{
    struct str user = files->conf->user;

    if (fault->err == ERR_NOT_FOUND)
        return "name a file that exists";
    if (fault->err != ERR_DENIED || access(path, R_OK) == 0)
        return otherwise;
    if (user.len == 0)
        return "let the user that runs the relay read it";
    return arena_printf(&files->report->arena,
                        "the relay reads it as user " STR_FMT ": chgrp " STR_FMT
                        " and chmod 0640, and open its folder",
                        STR_ARG(user), STR_ARG(user));
}

/* ---- certificates ---- */

static void check_certificate(struct files *files, const struct conf_tls *tls)
{
    struct check_place place = { tls->in_file, tls->line };
    struct tls_pair pair = { cstr(files, tls->certificate), cstr(files, tls->key) };
    struct tls_server *server;
    struct fault fault;

    if (tls_server_new(&pair, 1, &server, &fault)) {
        bool is_key = access(pair.certificate, R_OK) == 0;
        check_report_add(
            files->report, CONF_ERROR, place,
            fix_of(files, &fault, is_key ? pair.key : pair.certificate, "mend or replace it"), "%s",
            fault.text);
        return;
    }
    int64_t left_s = tls_server_expires_at(server) - (int64_t)time(NULL);
    if (*tls_server_problem(server))
        check_report_add(files->report, CONF_WARNING, place, "renew or mend it", "%s",
                         tls_server_problem(server));
    else if (left_s < SOON_S)
        check_report_add(files->report, CONF_WARNING, place, "renew it",
                         "%s: the certificate expires in %d days", pair.certificate,
                         (int)(left_s / 86400));
    tls_server_unref(&server);
}

int64_t check_certificate_expiry(const struct conf_tls *tls)
{
    struct arena arena;
    struct tls_server *server;
    struct fault fault;
    int64_t at = 0;

    arena_init(&arena);
    struct tls_pair pair = { arena_cstr(&arena, tls->certificate), arena_cstr(&arena, tls->key) };
    if (tls_server_new(&pair, 1, &server, &fault) == ERR_OK) {
        at = tls_server_expires_at(server);
        tls_server_unref(&server);
    }
    arena_clear(&arena);
    return at;
}

/* ---- signing keys ---- */

static void check_key(struct files *files, const struct conf_dkim *dkim,
                      const struct conf_dkim_key *key)
{
    struct keyring_key row = {
        .domain = cstr(files, dkim->domain),
        .sign_as = dkim->sign_as.len ? cstr(files, dkim->sign_as) : NULL,
        .selector = cstr(files, key->selector),
        .file = cstr(files, key->file),
        .canon = dkim->canon,
    };
    struct keyring *keyring;
    struct fault fault;

    if (keyring_new(&row, 1, &keyring, &fault) == ERR_OK) {
        keyring_unref(&keyring);
        return;
    }
    const char *fix =
        arena_printf(&files->report->arena, "%s with waypost dkim keygen %s",
                     fault.err == ERR_NOT_FOUND ? "make it" : "mend it, or make another",
                     row.sign_as ? row.sign_as : row.domain);
    if (fault.err == ERR_DENIED)
        fix = fix_of(files, &fault, row.file, fix);
    check_report_add(files->report, CONF_ERROR, (struct check_place){ key->in_file, key->line },
                     fix, "%s", fault.text);
}

static void check_keys(struct files *files)
{
    for (size_t i = 0; i < files->conf->dkim_count; i++)
        for (size_t k = 0; k < files->conf->dkim[i].key_count; k++)
            check_key(files, &files->conf->dkim[i], &files->conf->dkim[i].keys[k]);
}

/* ---- users ---- */

static bool anyone_logs_in(const struct conf *conf)
{
    for (size_t i = 0; i < conf->listen_count; i++)
        if (conf->listens[i].auth != LISTEN_AUTH_OFF)
            return true;
    return false;
}

static bool any_clear(const struct users *users)
{
    const struct user *user;

    for (size_t i = 0; (user = users_at(users, i)) != NULL; i++)
        if (user->clear.len > 0)
            return true;
    return false;
}

static void check_users(struct files *files)
{
    const struct conf *conf = files->conf;
    struct check_place top = { cstr(files, conf->file), 0 };
    struct users *users;
    struct fault fault;

    if (conf->users_file.len == 0)
        return;
    if (users_load(cstr(files, conf->users_file), &users, &fault)) {
        const char *fix = "mend it, or let waypost user make the lines";
        if (fault.err == ERR_NOT_FOUND)
            fix = "waypost user add NAME makes it";
        else if (fault.err == ERR_DENIED)
            fix = "it must be readable by the relay's user, and by nobody else";
        check_report_add(files->report, CONF_ERROR, top, fix, "users: %s", fault.text);
        return;
    }
    if (users_count(users) == 0 && anyone_logs_in(conf))
        check_report_add(files->report, CONF_WARNING, top, "waypost user add NAME",
                         "there is no user: nobody can log in");
    else if (conf->cram_md5 && !any_clear(users))
        check_report_add(files->report, CONF_WARNING, top, "waypost user add NAME --clear",
                         "CRAM-MD5 is on, but no user's password is stored for it");
    users_unref(&users);
}

/* ---- CA files, secrets, the configuration itself ---- */

static void check_ca(struct files *files, struct check_place place, struct str file)
{
    const char *path = cstr(files, file);
    X509_STORE *store;

    if (file.len == 0)
        return;
    if (access(path, R_OK) != 0) {
        check_report_add(files->report, CONF_ERROR, place, "name a PEM file that can be read",
                         "ca-file %s: %s", path, strerror(errno));
        return;
    }
    store = X509_STORE_new();
    if (!store || !X509_STORE_load_file(store, path))
        check_report_add(files->report, CONF_ERROR, place, "name a PEM file of certificates",
                         "ca-file %s: there is no certificate in it", path);
    ERR_clear_error();
    X509_STORE_free(store);
}

/* Read at the start by whoever starts us, and again at a reload, by then as the user. */
static void check_readable(struct files *files, struct check_place place, const char *path)
{
    if (*path && access(path, R_OK) != 0)
        check_report_add(files->report, CONF_ERROR, place,
                         "make it readable for the relay's user: a reload reads it again", "%s: %s",
                         path, strerror(errno));
}

static void check_route(struct files *files, const struct conf_route *route)
{
    struct check_place place = { route->in_file, route->line };

    check_ca(files, place, route->ca_file);
    check_readable(files, place, cstr(files, route->password_file));
}

/* Files that are included show as the places of what stands in them. */
static void check_conf_files(struct files *files)
{
    const struct conf *conf = files->conf;
    const char *seen = cstr(files, conf->file);

    check_readable(files, (struct check_place){ seen, 0 }, seen);
    for (size_t i = 0; i < conf->listen_count; i++)
        if (strcmp(conf->listens[i].in_file, seen) != 0) {
            seen = conf->listens[i].in_file;
            check_readable(files, (struct check_place){ seen, 0 }, seen);
        }
    for (size_t i = 0; i < conf->route_count; i++)
        if (strcmp(conf->routes[i].in_file, seen) != 0) {
            seen = conf->routes[i].in_file;
            check_readable(files, (struct check_place){ seen, 0 }, seen);
        }
}

/* Without an address nobody asks for it. */
static void check_token(struct files *files)
{
    const struct conf *conf = files->conf;
    const char *path = cstr(files, conf->api.token_file);
    struct fault fault;
    char *token = NULL;

    if (*path && api_read_token(path, &token, &fault))
        check_report_add(
            files->report, conf->api.address.len > 0 ? CONF_ERROR : CONF_WARNING,
            (struct check_place){ conf->api.in_file, conf->api.line },
            fix_of(files, &fault, path, "write one line into it, as openssl rand -hex 20 makes it"),
            "%s", fault.text);
    free(token);
}

void check_files(const struct conf *conf, struct check_report *report)
{
    struct files files = { conf, report };
    struct check_place top = { arena_cstr(&report->arena, conf->file), 0 };

    check_conf_files(&files);
    for (size_t i = 0; i < conf->tls_count; i++)
        if (conf->tls[i].certificate.len > 0)
            check_certificate(&files, &conf->tls[i]);
    check_keys(&files);
    check_users(&files);
    check_ca(&files, top, conf->ca_file);
    for (size_t i = 0; i < conf->route_count; i++)
        check_route(&files, &conf->routes[i]);
    check_token(&files);
}
