/*
 * engine_socket.c - listening sockets: bound once, early, kept over reloads.
 *
 * "fd:NAME" takes what systemd passed (LISTEN_FDS, LISTEN_FDNAMES); everything
 * else is bound here, one socket a loop with SO_REUSEPORT so that the kernel
 * spreads clients without a lock between loops.
 */
#include "relay/engine_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKETS_FIRST 3 /* sd_listen_fds(3): SD_LISTEN_FDS_START */

/* The descriptor passed under this name; -1: none. */
static int passed_fd(struct str name)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    struct str names = str_of(getenv("LISTEN_FDNAMES")), one;
    uint64_t value;
    int fd = SOCKETS_FIRST;

    if (!pid || !count || !str_u64(str_of(pid), &value) || value != (uint64_t)getpid())
        return -1;
    if (!str_u64(str_of(count), &value))
        return -1;
    for (uint64_t i = 0; i < value && str_next(&names, ':', &one); i++, fd++)
        if (str_eq(one, name))
            return fd;
    return -1;
}

static struct engine_socket *socket_find(struct engine *engine, struct str address)
{
    for (struct engine_socket *socket = engine->sockets; socket; socket = socket->next)
        if (str_eq(socket->address, address))
            return socket;
    return NULL;
}

/* Ours alone, since nobody else can bind to it while we listen. In vain where
 * root made it for us; the next start clears it away then. */
static void unlink_path(const struct engine_socket *socket)
{
    struct endpoint at;

    if (!socket->is_passed && socket->fd[0] >= 0 &&
        endpoint_parse(socket->address, 0, &at, NULL) == ERR_OK && at.family == ENDPOINT_UNIX)
        (void)unlink(at.path);
}

static void socket_free(struct engine_socket *socket)
{
    unlink_path(socket);
    for (int i = 0; i < ENGINE_LOOPS_MAX; i++)
        if (socket->fd[i] >= 0)
            close(socket->fd[i]);
    free((char *)(uintptr_t)socket->address.at);
    free(socket);
}

/* One descriptor for all loops: each accepts from its own copy. The one that was
 * passed stays open: a later reload may ask for it by name again. */
static enum err share_fd(struct engine_socket *socket, int fd, unsigned count, struct fault *fault)
{
    for (unsigned i = 0; i < count; i++) {
        socket->fd[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (socket->fd[i] < 0)
            return fault_errno(fault, errno, "cannot copy a listening socket");
    }
    return ERR_OK;
}

/* A reload may rename a listener, or widen its address: then the port is our own already. */
static bool is_our_port(const struct engine *engine, uint16_t port)
{
    struct endpoint at;

    for (const struct engine_socket *socket = engine->sockets; socket; socket = socket->next)
        if (endpoint_parse(socket->address, 0, &at, NULL) == ERR_OK && at.family != ENDPOINT_UNIX &&
            at.port == port)
            return true;
    return false;
}

/* With SO_REUSEPORT a second relay of the same user would not fail: it would
 * take part of our clients, unnoticed. So it is asked for once without. */
static enum err refuse_company(const struct engine *engine, const struct listener_options *options,
                               struct fault *fault)
{
    struct listener_options alone = *options;
    int fd;
    enum err rc;

    alone.reuse_port = false;
    if (is_our_port(engine, options->at.port))
        return ERR_OK;
    rc = listener_bind(&alone, &fd, fault);
    if (!rc)
        close(fd);
    return rc;
}

static enum err bind_all(struct engine *engine, struct engine_socket *socket,
                         const struct setup_listen *listen, struct fault *fault)
{
    struct listener_options options = { .fd = -1, .reuse_port = true, .unix_mode = 0666 };
    unsigned count = engine->loop_count;
    enum err rc;

    if (str_eq(listen->conf->name, STR(CONF_LISTEN_SENDMAIL)) && passed_fd(STR("submit")) >= 0) {
        socket->is_passed = true;
        return share_fd(socket, passed_fd(STR("submit")), count, fault);
    }
    if (str_starts(socket->address, STR("fd:"))) {
        int fd = passed_fd(str_from(socket->address, 3));
        if (fd < 0)
            return fault_set(fault, ERR_NOT_FOUND,
                             "listen \"" STR_FMT "\": no socket named \"" STR_FMT
                             "\" was passed by the service manager",
                             STR_ARG(listen->conf->name), STR_ARG(str_from(socket->address, 3)));
        return share_fd(socket, fd, count, fault);
    }
    rc = endpoint_parse(listen->conf->address, 0, &options.at, fault);
    if (!rc && options.at.family == ENDPOINT_UNIX) {
        int fd = -1;
        rc = listener_bind(&options, &fd, fault);
        if (!rc)
            rc = share_fd(socket, fd, count, fault);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    if (!rc)
        rc = refuse_company(engine, &options, fault);
    for (unsigned i = 0; !rc && i < count; i++)
        rc = listener_bind(&options, &socket->fd[i], fault);
    return rc;
}

enum err engine_can_listen(const struct conf *conf, struct fault *fault)
{
    if (conf->listen_count > 0 || (conf->sendmail.is_written && conf->sendmail.socket.len > 0))
        return ERR_OK;
    return fault_set(fault, ERR_INVALID, "%s has no listen section: nothing could come in",
                     conf->file.len ? conf->file.at : "the configuration");
}

enum err engine_bind(struct engine *engine, const struct setup_listen *listen, struct fault *fault)
{
    struct engine_socket *socket;
    enum err rc;

    if (socket_find(engine, listen->conf->address))
        return ERR_OK;
    socket = mem_alloc(sizeof(*socket));
    for (int i = 0; i < ENGINE_LOOPS_MAX; i++)
        socket->fd[i] = -1;
    socket->address = str_of(str_dup(listen->conf->address));
    rc = bind_all(engine, socket, listen, fault);
    if (rc) {
        socket_free(socket);
        return rc;
    }
    socket->next = engine->sockets;
    engine->sockets = socket;
    return ERR_OK;
}

bool engine_has_socket(const struct engine *engine, struct str address)
{
    for (const struct engine_socket *socket = engine->sockets; socket; socket = socket->next)
        if (str_eq(socket->address, address))
            return true;
    return false;
}

static void make_folder_of(struct str path)
{
    const char *slash = memrchr(path.at, '/', path.len);
    char *folder = slash ? str_dup(str_head(path, (size_t)(slash - path.at))) : NULL;

    if (folder && *folder)
        (void)mkdir(folder, 0755); /* in vain: binding says why */
    free(folder);
}

void engine_bind_sendmail(struct engine *engine, const struct conf *conf)
{
    struct setup_listen listen = { .conf = &conf->listens[conf->listen_count] };

    engine->no_sendmail.err = ERR_OK;
    if (conf->serve_count == conf->listen_count)
        return;
    if (passed_fd(STR("submit")) < 0 && !engine_has_socket(engine, listen.conf->address))
        make_folder_of(conf->sendmail.socket);
    (void)engine_bind(engine, &listen, &engine->no_sendmail);
}

enum err engine_socket_copy(struct engine *engine, const struct setup_listen *listen, unsigned loop,
                            int *out_fd, struct fault *fault)
{
    struct engine_socket *socket;
    enum err rc = ERR_OK;

    socket = socket_find(engine, listen->conf->address);
    *out_fd = fcntl(socket->fd[loop], F_DUPFD_CLOEXEC, 0);
    if (*out_fd < 0)
        rc = fault_errno(fault, errno, "listen \"" STR_FMT "\": cannot copy its socket",
                         STR_ARG(listen->conf->name));
    return rc;
}

static bool conf_has(const struct conf *conf, const struct engine_socket *socket)
{
    for (size_t i = 0; i < conf->serve_count; i++)
        if (str_eq(conf->listens[i].address, socket->address))
            return true;
    return false;
}

void engine_sockets_prune(struct engine *engine, const struct conf *conf)
{
    for (struct engine_socket **at = &engine->sockets; *at;) {
        struct engine_socket *socket = *at;
        if (conf_has(conf, socket)) {
            at = &socket->next;
            continue;
        }
        *at = socket->next;
        socket_free(socket);
    }
}

void engine_sockets_free(struct engine *engine)
{
    while (engine->sockets) {
        struct engine_socket *next = engine->sockets->next;
        socket_free(engine->sockets);
        engine->sockets = next;
    }
}
