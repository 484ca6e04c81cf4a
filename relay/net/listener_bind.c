/*
 * listener_bind.c - sockets that listen.
 *
 * Apart from serving, so that a process may bind as root and serve as another.
 */
#include "relay/net/sockaddr.h"
#include "relay/net/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int new_socket(int family)
{
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Nobody answers at `address`: what lies there is left over from a dead process. */
static bool is_stale(const union sockaddr_any *address, socklen_t len)
{
    int fd = new_socket(AF_UNIX);
    bool stale = fd >= 0 && connect(fd, &address->any, len) && errno == ECONNREFUSED;

    if (fd >= 0)
        close(fd);
    return stale;
}

static bool is_socket(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static enum err bind_unix(const struct listener_options *options, int fd, struct fault *fault)
{
    union sockaddr_any address;
    socklen_t len = endpoint_to_sockaddr(&options->at, &address);
    const char *path = options->at.path;

    int rc = bind(fd, &address.any, len);
    if (rc && errno == EADDRINUSE && is_socket(path) && is_stale(&address, len)) {
        unlink(path);
        rc = bind(fd, &address.any, len);
    }
    if (rc && errno == EADDRINUSE)
        return fault_set(fault, ERR_BUSY, "cannot listen on unix:%s: %s", path,
                         is_socket(path) ? "another process listens there"
                                         : "something that is not a socket is in the way");
    /* Before listen() nobody can connect, so the mode is never too open. */
    if (rc || (options->unix_mode && chmod(path, options->unix_mode)))
        return fault_errno(fault, errno, "cannot listen on unix:%s", path);
    return ERR_OK;
}

static enum err bind_ip(const struct listener_options *options, const struct endpoint *at, int fd,
                        struct fault *fault)
{
    union sockaddr_any address;
    socklen_t len = endpoint_to_sockaddr(at, &address);
    char text[ENDPOINT_TEXT];
    int on = 1, off = 0;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (options->reuse_port)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (at->family == ENDPOINT_IPV6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, &address.any, len) == 0)
        return ERR_OK;
    int why = errno;
    endpoint_print(at, text, sizeof(text));
    if (why == EADDRINUSE)
        return fault_set(fault, ERR_BUSY,
                         "cannot listen on %s: another process uses this port (ss -ltnp shows it)",
                         text);
    if (why == EACCES)
        return fault_set(fault, ERR_DENIED,
                         "cannot listen on %s: ports below 1024 need root or CAP_NET_BIND_SERVICE",
                         text);
    return fault_errno(fault, why, "cannot listen on %s", text);
}

static bool is_any6(const struct endpoint *at)
{
    static const uint8_t zero[16];

    return at->family == ENDPOINT_IPV6 && memcmp(at->ip, zero, sizeof(zero)) == 0;
}

static int family_of(const struct endpoint *at)
{
    if (at->family == ENDPOINT_UNIX)
        return AF_UNIX;
    return at->family == ENDPOINT_IPV4 ? AF_INET : AF_INET6;
}

static enum err bind_and_listen(const struct listener_options *options, const struct endpoint *at,
                                int *out_fd, struct fault *fault)
{
    int fd = new_socket(family_of(at));
    if (fd < 0)
        return fault_errno(fault, errno, "cannot make a socket to listen on");
    enum err err = at->family == ENDPOINT_UNIX ? bind_unix(options, fd, fault)
                                               : bind_ip(options, at, fd, fault);
    if (!err && listen(fd, SOMAXCONN))
        err = errno == EADDRINUSE
                  ? fault_set(fault, ERR_BUSY, "cannot listen: another process uses this port")
                  : fault_errno(fault, errno, "cannot listen");
    if (err) {
        close(fd);
        return err;
    }
    *out_fd = fd;
    return ERR_OK;
}

enum err listener_bind(const struct listener_options *options, int *out_fd, struct fault *fault)
{
    struct endpoint any4 = { .family = ENDPOINT_IPV4, .port = options->at.port };

    enum err err = bind_and_listen(options, &options->at, out_fd, fault);
    /* "*" on a machine without IPv6 */
    if (err == ERR_UNREACHABLE && is_any6(&options->at))
        err = bind_and_listen(options, &any4, out_fd, fault);
    return err;
}
