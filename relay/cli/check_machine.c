/*
 * check_machine.c - the user, and the folders that are written to.
 */
#include "relay/cli/check_machine.h"

#include "relay/net/endpoint.h"

#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct machine {
    const struct conf *conf;
    struct check_report *report;
    struct check_place top;
    char user[64]; /* whose rights are tried, for messages */
};

/* ---- the user ---- */

static const char *name_of_us(struct arena *arena)
{
    const struct passwd *pw = getpwuid(geteuid());

    return pw ? arena_cstr(arena, str_of(pw->pw_name))
              : arena_printf(arena, "%u", (unsigned)geteuid());
}

static const struct passwd *find_user(struct machine *machine)
{
    const struct conf *conf = machine->conf;
    const struct passwd *pw;

    str_copy(machine->user, sizeof(machine->user), conf->user);
    pw = getpwnam(machine->user);
    if (!pw)
        check_report_add(machine->report, CONF_ERROR, machine->top,
                         "make it with useradd --system, or set user = \"...\"",
                         "user \"%s\" does not exist", machine->user);
    return pw;
}

/* False: what follows would be tried with the wrong rights. */
static bool become_user(struct machine *machine)
{
    const struct conf *conf = machine->conf;
    const struct passwd *pw;

    str_copy(machine->user, sizeof(machine->user), str_of(name_of_us(&machine->report->arena)));
    if (conf->user.len == 0) {
        if (geteuid() == 0)
            check_report_add(machine->report, CONF_WARNING, machine->top, "set user = \"waypost\"",
                             "the relay would stay root");
        return true;
    }
    if (geteuid() != 0) {
        if (!str_eq(conf->user, str_of(machine->user)))
            check_report_add(machine->report, CONF_WARNING, machine->top, "run check as root",
                             "files are tried as %s, not as user \"" STR_FMT "\"", machine->user,
                             STR_ARG(conf->user));
        return true;
    }
    pw = find_user(machine);
    if (!pw)
        return false;
    if (initgroups(pw->pw_name, pw->pw_gid) == 0 && setgid(pw->pw_gid) == 0 &&
        setuid(pw->pw_uid) == 0)
        return true;
    check_report_add(machine->report, CONF_ERROR, machine->top, "run check as root",
                     "cannot become user \"%s\": %s", machine->user, strerror(errno));
    return false;
}

/* ---- folders ---- */

static const char *parent_of(struct machine *machine, struct str path)
{
    while (path.len > 1 && path.at[path.len - 1] == '/')
        path.len--;
    while (path.len > 0 && path.at[path.len - 1] != '/')
        path.len--;
    while (path.len > 1 && path.at[path.len - 1] == '/')
        path.len--;
    return path.len ? arena_cstr(&machine->report->arena, path) : ".";
}

static bool is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void tell_folder(struct machine *machine, const char *path, const char *what,
                        const char *reason)
{
    check_report_add(
        machine->report, CONF_ERROR, machine->top,
        arena_printf(&machine->report->arena, "chown it to %s, or name another", machine->user),
        "%s: %s cannot write here (%s): %s", path, machine->user, what, reason);
}

static void check_data(struct machine *machine, bool root_makes_it)
{
    const char *path = arena_cstr(&machine->report->arena, machine->conf->data);
    const char *parent = parent_of(machine, machine->conf->data);

    if (access(path, F_OK) != 0) {
        if (!is_folder(parent))
            check_report_add(machine->report, CONF_ERROR, machine->top, "make it",
                             "%s: the folder for data = \"%s\" does not exist", parent, path);
        else if (!root_makes_it && access(parent, W_OK | X_OK) != 0)
            tell_folder(machine, parent, "the data folder would be made in it", strerror(errno));
    } else if (!is_folder(path)) {
        check_report_add(machine->report, CONF_ERROR, machine->top, "name a folder",
                         "%s: data is not a folder", path);
    } else if (access(path, R_OK | W_OK | X_OK) != 0) {
        tell_folder(machine, path, "the data folder", strerror(errno));
    }
}

static bool is_missing(const char *path)
{
    struct stat st;

    return stat(path, &st) != 0 && errno == ENOENT;
}

static void check_socket(struct machine *machine, bool root_makes_it)
{
    struct check_place place = { machine->conf->api.in_file, machine->conf->api.line };
    const char *folder = parent_of(machine, machine->conf->api.socket);
    const char *parent = parent_of(machine, str_of(folder));

    if (is_folder(folder)) {
        if (access(folder, W_OK | X_OK) != 0)
            tell_folder(machine, folder, "the folder of the API socket", strerror(errno));
        return;
    }
    if (is_missing(parent)) {
        check_report_add(machine->report, CONF_ERROR, place,
                         "make it, or name a socket elsewhere: the relay makes one folder, no more",
                         "%s: the folder for the folder of the API socket does not exist", parent);
        return;
    }
    /* systemd makes it (RuntimeDirectory=) before it starts us. */
    if (!root_makes_it && access(parent, W_OK | X_OK) != 0)
        check_report_add(machine->report, CONF_WARNING, place,
                         "make it, or let the service manager do so (RuntimeDirectory=waypost)",
                         "%s: the folder of the API socket does not exist, and %s cannot make it",
                         folder, machine->user);
}

static void check_log(struct machine *machine)
{
    const char *path = arena_cstr(&machine->report->arena, machine->conf->log.file);

    if (machine->conf->log.to != LOG_TO_FILE || !*path)
        return;
    if (access(path, F_OK) == 0 ? access(path, W_OK) != 0
                                : access(parent_of(machine, str_of(path)), W_OK | X_OK) != 0)
        tell_folder(machine, path, "the log file", strerror(errno));
}

/* ---- addresses ---- */

static bool is_ours(const struct endpoint *address)
{
    struct sockaddr_in in4 = { .sin_family = AF_INET };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
    bool is_ipv6 = address->family == ENDPOINT_IPV6;
    int fd = socket(is_ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return false;
    memcpy(&in4.sin_addr, address->ip, 4);
    memcpy(&in6.sin6_addr, address->ip, 16);
    rc = is_ipv6 ? bind(fd, (struct sockaddr *)&in6, sizeof(in6))
                 : bind(fd, (struct sockaddr *)&in4, sizeof(in4));
    close(fd);
    return rc == 0;
}

static void check_sources(struct machine *machine)
{
    struct endpoint address;

    for (size_t i = 0; i < machine->conf->route_count; i++) {
        const struct conf_route *route = &machine->conf->routes[i];
        struct check_place place = { route->in_file, route->line };
        for (size_t s = 0; s < route->source.count; s++)
            if (endpoint_ip(route->source.items[s], &address) && !is_ours(&address))
                check_report_add(
                    machine->report, CONF_WARNING, place, "add it to an interface, or remove it",
                    "route \"" STR_FMT "\": source " STR_FMT " is not an address of this machine",
                    STR_ARG(route->name), STR_ARG(route->source.items[s]));
    }
}

void check_machine(const struct conf *conf, struct check_report *report)
{
    struct machine machine = { .conf = conf, .report = report };
    bool is_root = geteuid() == 0;

    machine.top.file = arena_cstr(&report->arena, conf->file);
    if (conf->listen_count == 0 && !(conf->sendmail.is_written && conf->sendmail.socket.len))
        check_report_add(report, CONF_ERROR, machine.top,
                         "add listen \"local\" { address = \"127.0.0.1:25\" ... }",
                         "there is no listen section: nothing could come in, and the relay does "
                         "not start");
    check_sources(&machine);
    if (!become_user(&machine))
        return;
    check_data(&machine, is_root && conf->user.len > 0);
    check_socket(&machine, is_root && conf->user.len > 0);
    check_sendmail(conf, is_root && conf->user.len > 0, report);
    check_log(&machine);
    check_files(conf, report);
    check_aliases(conf, report);
}
