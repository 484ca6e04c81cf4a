/*
 * notify.c - one datagram; nobody answers, and nothing depends on it.
 */
#include "relay/cli/notify.h"

#include "relay/base/str.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_manager(const char *state)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    const char *name = getenv("NOTIFY_SOCKET");
    size_t len = name ? strlen(name) : 0;
    int fd;

    if (len == 0 || len >= sizeof(to.sun_path) || (name[0] != '/' && name[0] != '@'))
        return;
    memcpy(to.sun_path, name, len);
    if (name[0] == '@') /* an abstract socket */
        to.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}

uint64_t notify_interval_ms(void)
{
    const char *pid = getenv("WATCHDOG_PID");
    uint64_t usec = 0, number;

    if (pid && (!str_u64(str_of(pid), &number) || number != (uint64_t)getpid()))
        return 0; /* meant for who started us */
    return str_u64(str_of(getenv("WATCHDOG_USEC")), &usec) ? usec / 2000 : 0;
}
