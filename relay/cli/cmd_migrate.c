/*
 * cmd_migrate.c - waypost migrate: a foreign configuration as a waypost.conf on
 * standard output, with what could not be carried over named in it and on
 * standard error.
 */
#include "relay/cli/cmd.h"
#include "relay/cli/migrate.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct wish {
    const struct migrate_kind *kind;
    const char *secrets; /* the folder of password files, which are written; NULL: not */
};

/* ---- text ---- */

static void quoted(struct buf *out, struct str text)
{
    buf_char(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '"' || c == '\\' || c == '$')
            buf_char(out, '\\');
        if ((unsigned char)c >= ' ')
            buf_char(out, c);
    }
    buf_char(out, '"');
}

static void setting(struct buf *out, const char *lead, const char *name, struct str value)
{
    if (value.len == 0)
        return;
    buf_printf(out, "%s%s = ", lead, name);
    quoted(out, value);
    buf_char(out, '\n');
}

static void list(struct buf *out, const char *lead, const char *name,
                 const struct migrate_list *items, const char *end)
{
    if (items->count == 0)
        return;
    buf_printf(out, "%s%s = {", lead, name);
    for (size_t i = 0; i < items->count; i++) {
        buf_cstr(out, i > 0 ? ", " : "");
        quoted(out, items->items[i]);
    }
    buf_printf(out, "}%s", end);
}

/* ---- what it comes to ---- */

static struct str tls_of(struct migration *m, const struct migrate_route *route)
{
    bool has_login = route->username.len > 0;
    bool is_weak = str_eq(route->tls, STR("none")) || str_eq(route->tls, STR("opportunistic"));

    if (route->is_unverified)
        migrate_note(m, route->name, STR_EMPTY,
                     "certificates were not checked before: tls = verified is safer, with the "
                     "right ca-file");
    if (route->is_implicit || (route->wants_tls && route->no_starttls))
        return STR("implicit");
    if (has_login && (is_weak || route->is_unverified))
        return STR("required"); /* a login never goes in clear */
    if (route->is_unverified)
        return STR("opportunistic");
    if (route->tls.len > 0)
        return route->tls;
    return has_login || route->wants_tls ? STR("verified") : STR("opportunistic");
}

static void write_secret(const struct wish *wish, struct migration *m,
                         const struct migrate_route *route, const char *path)
{
    int fd;
    bool ok;

    if (!wish->secrets || route->password.len == 0) {
        migrate_note(m, str_of(path), STR_EMPTY,
                     "write the password of this next hop into it (mode 0640, group waypost)");
        return;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    ok = fd >= 0 &&
         write(fd, route->password.at, route->password.len) == (ssize_t)route->password.len;
    if (!ok)
        migrate_note(m, str_of(path), STR_EMPTY,
                     errno == EEXIST ? "is there already and stays: it has to hold the password"
                                     : "the password could not be written into it");
    if (fd >= 0)
        close(fd);
}

static void route_text(const struct wish *wish, struct migration *m,
                       const struct migrate_route *route, struct buf *out)
{
    struct str name = route->name.len > 0 ? route->name : STR("smarthost");

    if (route->host.len == 0)
        return;
    buf_printf(out, "\nroute \"" STR_FMT "\" {\n", STR_ARG(name));
    setting(out, "    ", "match-sender", route->match_sender);
    setting(out, "    ", "relay",
            route->port.len == 0
                ? route->host
                : str_of(arena_printf(&m->arena,
                                      str_chr(route->host, ':') < route->host.len
                                          ? "[" STR_FMT "]:" STR_FMT
                                          : STR_FMT ":" STR_FMT,
                                      STR_ARG(route->host), STR_ARG(route->port))));
    buf_printf(out, "    tls = " STR_FMT "\n", STR_ARG(tls_of(m, route)));
    setting(out, "    ", "ca-file", route->ca_file);
    setting(out, "    ", "username", route->username);
    if (route->username.len > 0) {
        char *path = arena_printf(&m->arena, "%s/" STR_FMT ".pass",
                                  wish->secrets ? wish->secrets : "/etc/waypost", STR_ARG(name));
        setting(out, "    ", "password-file", str_of(path));
        write_secret(wish, m, route, path);
    }
    setting(out, "    ", "sender", route->sender);
    list(out, "    ", "source", &route->source, "\n");
    buf_cstr(out, "}\n");
}

static void listen_text(const struct migration *m, struct buf *out)
{
    static const struct migrate_list local = { .items = { STR("127.0.0.0/8") }, .count = 1 };
    bool has_tls = m->certificate.len > 0 && m->key.len > 0;

    buf_cstr(out, "\nlisten \"local\" { ");
    buf_cstr(out, "address = ");
    quoted(out, m->listen.len > 0 ? m->listen : STR("127.0.0.1:25"));
    buf_printf(out, "%s", has_tls ? "  tls = starttls" : "");
    list(out, "  ", "trust", m->trust.count > 0 ? &m->trust : &local, " }\n");
    if (!has_tls)
        return;
    buf_cstr(out, "tls {\n");
    setting(out, "    ", "certificate", m->certificate);
    setting(out, "    ", "key", m->key);
    buf_cstr(out, "}\n");
}

static void section(struct buf *out, const char *name, const struct buf *content)
{
    if (content->len > 0)
        buf_printf(out, "\n%s {\n" STR_FMT "}\n", name, STR_ARG(buf_view(content)));
}

static void sections_text(const struct migration *m, struct buf *out)
{
    struct buf in;

    buf_init(&in, 65536);
    setting(&in, "    ", "root", m->root);
    setting(&in, "    ", "mailname", m->mailname);
    setting(&in, "    ", "file", m->aliases_file);
    list(&in, "    ", "local-domains", &m->local_domains, "\n");
    section(out, "aliases", &in);
    buf_reset(&in);
    setting(&in, "    ", "first", m->first);
    setting(&in, "    ", "max", m->max);
    setting(&in, "    ", "lifetime", m->lifetime);
    setting(&in, "    ", "warn-after", m->warn_after);
    section(out, "retry", &in);
    buf_reset(&in);
    setting(&in, "    ", "connect", m->connect);
    section(out, "timeouts", &in);
    buf_reset(&in);
    setting(&in, "    ", "message-size", m->message_size);
    section(out, "limits", &in);
    buf_printf(out, "\nlog { to = " STR_FMT " }\n",
               STR_ARG(m->log_to.len > 0 ? m->log_to : STR("journal")));
    buf_clear(&in);
}

static void notes_text(const struct migration *m, struct buf *out)
{
    struct str rest = buf_view(&m->notes), line;

    if (m->note_count == 0)
        return;
    buf_cstr(out, "\n# Not carried over, or to be looked at:\n");
    while (str_next(&rest, '\n', &line))
        buf_printf(out, "#   " STR_FMT "\n", STR_ARG(line));
}

static int print(const struct wish *wish, struct migration *m)
{
    struct buf out;
    int code;

    buf_init(&out, (size_t)1 << 20);
    buf_printf(&out, "# waypost.conf - what %s did by ", wish->kind->program);
    buf_escaped(&out, str_of(m->file), 200);
    buf_cstr(&out, "; look it over, then: waypost check\n");
    buf_cstr(&out, "user = \"waypost\"\n");
    setting(&out, "", "hostname", m->hostname);
    listen_text(m, &out);
    for (size_t i = 0; i < m->route_count; i++)
        route_text(wish, m, &m->routes[i], &out);
    sections_text(m, &out);
    notes_text(m, &out);
    code = cmd_put(stdout, &out);
    if (m->note_count > 0)
        (void)fprintf(stderr, "waypost: %zu setting%s not carried over, or to be looked at:\n",
                      m->note_count, m->note_count > 1 ? "s" : "");
    (void)cmd_put(stderr, &m->notes);
    buf_clear(&out);
    return code;
}

/* ---- the command ---- */

static const struct migrate_kind *kind_of(const char *file, const char *from)
{
    const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;

    base += *base == '.';
    for (size_t i = 0; i < migrate_kind_count; i++) {
        const struct migrate_kind *kind = &migrate_kinds[i];
        if (from ? strcmp(from, kind->name) == 0 : strcmp(base, kind->basename) == 0)
            return kind;
    }
    return NULL;
}

static int migrate(const struct wish *wish, const char *file)
{
    const char *slash = strrchr(file, '/');
    struct migration *m = mem_alloc(sizeof(*m));
    struct fault fault;
    struct str text;
    int code;

    arena_init(&m->arena);
    buf_init(&m->notes, 262144);
    m->file = file;
    m->folder = arena_printf(&m->arena, "%.*s", slash ? (int)(slash - file) + 1 : 0, file);
    if (!migrate_slurp(m, file, &text))
        code = cmd_fail(EX_NOINPUT, "cannot read %s: %s", file, strerror(errno));
    else if (wish->kind->read(m, wish->kind, text, &fault))
        code = cmd_fail(EX_DATAERR, "%s", fault.text);
    else
        code = print(wish, m);
    buf_clear(&m->notes);
    arena_clear(&m->arena);
    free(m);
    return code;
}

int cmd_migrate(const char *conf_file, int argc, char **argv)
{
    static const struct option options[] = { { "from", required_argument, NULL, 'f' },
                                             { "secrets", required_argument, NULL, 's' },
                                             { 0 } };
    struct wish wish = { .kind = NULL };
    const char *from = NULL;
    int option;

    (void)conf_file;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == '?' || option == ':') {
            struct cmd_wrong wrong = cmd_wrong_option(option, argv);
            return cmd_misuse("migrate", "migrate: %s%s", wrong.what, wrong.word);
        }
        from = option == 'f' ? optarg : from;
        wish.secrets = option == 's' ? optarg : wish.secrets;
    }
    if (optind + 1 != argc)
        return cmd_misuse("migrate", "migrate wants one file");
    wish.kind = kind_of(argv[optind], from);
    if (wish.secrets && access(wish.secrets, W_OK | X_OK) != 0)
        return cmd_fail(EX_CANTCREAT, "cannot write passwords into %s: %s", wish.secrets,
                        strerror(errno));
    if (access(argv[optind], R_OK) != 0)
        return cmd_fail(EX_NOINPUT, "cannot read %s: %s", argv[optind], strerror(errno));
    if (!wish.kind)
        return cmd_misuse("migrate", "what kind of file is %s? Say --from", argv[optind]);
    return migrate(&wish, argv[optind]);
}
