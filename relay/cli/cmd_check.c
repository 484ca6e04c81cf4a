/*
 * cmd_check.c - waypost check: every mistake with its place and its fix, or
 * "ok" and what the relay would do.
 */
#include "relay/base/clock.h"
#include "relay/cli/check_machine.h"

#include <getopt.h>
#include <time.h>

/* ---- the summary ---- */

static void sum_listens(const struct conf *conf, struct buf *out)
{
    static const char *const tls[] = {
        [LISTEN_TLS_NONE] = "no tls",
        [LISTEN_TLS_STARTTLS] = "starttls",
        [LISTEN_TLS_IMPLICIT] = "implicit tls",
    };
    static const char *const auth[] = {
        [LISTEN_AUTH_OFF] = "",
        [LISTEN_AUTH_OPTIONAL] = ", auth optional",
        [LISTEN_AUTH_REQUIRED] = ", auth required",
    };

    for (size_t i = 0; i < conf->listen_count; i++) {
        const struct conf_listen *listen = &conf->listens[i];
        buf_printf(out, "  listen  %-16.*s " STR_FMT ": %s%s", STR_ARG(listen->name),
                   STR_ARG(listen->address), tls[listen->tls], auth[listen->auth]);
        for (size_t t = 0; t < listen->trust.count; t++)
            buf_printf(out, "%s" STR_FMT, t > 0 ? ", " : ", trusts ",
                       STR_ARG(listen->trust.items[t]));
        buf_char(out, '\n');
    }
}

static void sum_certificates(const struct conf *conf, struct buf *out)
{
    char at[32], span[24];

    for (size_t i = 0; i < conf->tls_count; i++) {
        int64_t expires_at = check_certificate_expiry(&conf->tls[i]);
        int64_t left_s = expires_at - (int64_t)time(NULL);
        if (conf->tls[i].certificate.len == 0)
            continue;
        clock_iso(expires_at * 1000000, at, sizeof(at));
        clock_span(left_s > 0 ? (uint64_t)left_s : 0, span, sizeof(span));
        buf_printf(out, "  tls     " STR_FMT ": expires %.10s, in %s\n",
                   STR_ARG(conf->tls[i].certificate), at, span);
    }
}

static void sum_keys(const struct conf *conf, struct buf *out)
{
    if (conf->dkim_count == 0)
        buf_cstr(out, "  signs   nothing: there is no dkim section\n");
    for (size_t i = 0; i < conf->dkim_count; i++) {
        const struct conf_dkim *dkim = &conf->dkim[i];
        buf_printf(out, "  signs   " STR_FMT, STR_ARG(dkim->domain));
        if (dkim->sign_as.len > 0)
            buf_printf(out, " as " STR_FMT, STR_ARG(dkim->sign_as));
        for (size_t k = 0; k < dkim->key_count; k++)
            buf_printf(out, "%s" STR_FMT, k > 0 ? ", " : " with ", STR_ARG(dkim->keys[k].selector));
        buf_char(out, '\n');
    }
}

static void sum_routes(const struct conf *conf, struct buf *out)
{
    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_route *route = &conf->routes[i];
        buf_printf(out, "  route   %-16.*s ", STR_ARG(route->name));
        for (size_t r = 0; r < route->relay.count; r++)
            buf_printf(out, "%s" STR_FMT, r > 0 ? ", " : "to ", STR_ARG(route->relay.items[r]));
        buf_printf(out, "%s, tls %s%s", route->relay.count == 0 ? "by MX" : "",
                   policy_word(route->tls), route->username.len > 0 ? ", with login" : "");
        if (route->sender.len > 0)
            buf_printf(out, ", other senders become " STR_FMT, STR_ARG(route->sender));
        buf_char(out, '\n');
    }
    buf_cstr(out, "  route   (all other)      by MX, tls opportunistic\n");
}

static void sum_up(const struct conf *conf, struct buf *out)
{
    buf_printf(out, "%s" STR_FMT ": ok%s\n  name    " STR_FMT "\n  data    " STR_FMT "\n",
               cmd_colour(stdout, COLOUR_GREEN), STR_ARG(conf->file),
               cmd_colour(stdout, COLOUR_NONE), STR_ARG(conf->hostname), STR_ARG(conf->data));
    sum_listens(conf, out);
    sum_certificates(conf, out);
    sum_keys(conf, out);
    sum_routes(conf, out);
    buf_printf(out, "  local   names without a domain are at " STR_FMT,
               STR_ARG(conf->aliases.mailname));
    if (conf->aliases.root.len > 0)
        buf_printf(out, ", root's mail goes to " STR_FMT, STR_ARG(conf->aliases.root));
    buf_char(out, '\n');
}

/* ---- the command ---- */

static int tell(const struct conf *conf, const struct check_report *report, bool json)
{
    struct buf out;
    int code;

    buf_init(&out, (size_t)16 << 20);
    if (json) {
        buf_printf(&out, "{\"ok\":%s,\"findings\":", report->errors ? "false" : "true");
        check_report_json(report, &out);
        buf_cstr(&out, "}\n");
    } else {
        check_report_print(report, stderr);
        if (report->errors == 0)
            sum_up(conf, &out);
    }
    code = cmd_put(stdout, &out);
    buf_clear(&out);
    if (report->errors > 0 && !json)
        (void)cmd_fail(EX_CONFIG, "%zu error%s%s", report->errors, report->errors > 1 ? "s" : "",
                       conf ? "" : "; the files it names are tried when that is mended");
    return report->errors ? EX_CONFIG : code;
}

static int check(const char *conf_file, bool json)
{
    struct check_report report;
    struct conf *conf = NULL;
    int code;

    check_report_init(&report);
    if (conf_read(conf_file, check_report_tell, &report, &conf) == ERR_OK)
        check_machine(conf, &report);
    code = tell(conf, &report, json);
    if (conf)
        conf_unref(&conf);
    check_report_clear(&report);
    return code;
}

int cmd_check(const char *conf_file, int argc, char **argv)
{
    static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
    bool json = false;
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 'j') {
            struct cmd_wrong wrong = cmd_wrong_option(option, argv);
            return cmd_misuse("check", "%s%s", wrong.what, wrong.word);
        }
        json = true;
    }
    /* The file's name without -c is what everybody tries first. */
    if (optind < argc && !conf_file)
        conf_file = argv[optind++];
    if (optind < argc)
        return cmd_misuse("check", "one argument too many: %s", argv[optind]);
    return check(conf_file, json);
}
