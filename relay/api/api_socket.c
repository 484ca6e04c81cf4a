/*
 * api_socket.c - the sockets that the API listens on.
 *
 * Bound by us and not by the HTTP library: a unix socket that another relay still
 * serves must not be taken.
 */
#include "relay/api/api_impl.h"

#include "relay/net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Anybody may connect: who asks is known, and call_peer.c judges it. */
#define SOCKET_MODE 0666
#define TOKEN_MIN 16
#define TOKEN_MAX 1024

static enum err make_folder_of(const char *path, struct fault *fault)
{
    char folder[sizeof(((struct endpoint *)0)->path)];
    const char *slash = strrchr(path, '/');

    if (!slash || slash == path)
        return ERR_OK;
    str_copy(folder, sizeof(folder), str_make(path, (size_t)(slash - path)));
    if (mkdir(folder, 0755) == 0 || errno == EEXIST)
        return ERR_OK;
    return fault_errno(fault, errno, "cannot make the folder %s for the api socket", folder);
}

enum err api_listen_unix(struct api *api, const char *path, int *out_fd, struct fault *fault)
{
    struct listener_options options = { .at = { .family = ENDPOINT_UNIX },
                                        .fd = -1,
                                        .unix_mode = SOCKET_MODE };
    struct stat st;
    enum err rc;

    if (str_copy(options.at.path, sizeof(options.at.path), str_of(path)) < strlen(path))
        return fault_set(fault, ERR_LIMIT, "the api socket's path is longer than %zu octets: %s",
                         sizeof(options.at.path) - 1, path);
    rc = make_folder_of(path, fault);
    if (!rc)
        rc = listener_bind(&options, out_fd, fault);
    if (rc)
        return rc;
    if (stat(path, &st) == 0) {
        api->socket = str_dup(str_of(path));
        api->socket_inode = st.st_ino;
    }
    return ERR_OK;
}

void api_unlink_socket(struct api *api)
{
    struct stat st;

    /* Another relay may have put its own there meanwhile. */
    if (api->socket && lstat(api->socket, &st) == 0 && st.st_ino == api->socket_inode)
        unlink(api->socket);
    free(api->socket);
    api->socket = NULL;
}

enum err api_read_token(const char *path, char **out_token, struct fault *fault)
{
    char text[TOKEN_MAX + 1];
    struct str token, rest;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text));
    enum err rc =
        len < 0 ? fault_errno(fault, errno, "cannot read the api token %s", path) : ERR_OK;

    if (fd >= 0)
        close(fd);
    if (rc)
        return rc;
    rest = str_make(text, (size_t)len);
    if (!str_next(&rest, '\n', &token))
        token = STR_EMPTY;
    token = str_trim(token);
    if (token.len < TOKEN_MIN || (size_t)len > TOKEN_MAX)
        return fault_set(fault, ERR_INVALID,
                         "the api token in %s has %zu characters: between %d and %d make one that "
                         "cannot be guessed",
                         path, token.len, TOKEN_MIN, TOKEN_MAX);
    *out_token = str_dup(token);
    return ERR_OK;
}

enum err api_listen_tcp(const char *address, int *out_fd, struct fault *fault)
{
    struct listener_options options = { .fd = -1 };
    enum err rc = endpoint_parse(str_of(address), 0, &options.at, fault);

    return rc ? rc : listener_bind(&options, out_fd, fault);
}
