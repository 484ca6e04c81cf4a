/*
 * call_peer.c - who asks on the unix socket, and what of it that user may see.
 *
 * The socket itself is open to everybody: mailq is for every user. What was the
 * file's group before (a mode of 0660) is judged here.
 */
#include "relay/api/api_impl.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUPS_MAX 1024

static int fd_of(struct call *call)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

    return info ? info->connect_fd : -1;
}

static bool is_member(int fd, gid_t group)
{
    gid_t groups[GROUPS_MAX];
    socklen_t len = sizeof(groups);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len))
        return false;
    for (size_t i = 0; i < len / sizeof(groups[0]); i++)
        if (groups[i] == group)
            return true;
    return false;
}

void call_judge_peer(struct call *call)
{
    int fd = fd_of(call);
    struct ucred peer;
    socklen_t len = sizeof(peer);

    call->is_limited = true;
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
        return; /* nobody is known: then nothing is theirs */
    (void)snprintf(call->user, sizeof(call->user), "uid:%u", (unsigned)peer.uid);
    call->is_limited = peer.uid != 0 && peer.uid != geteuid() && peer.gid != getegid() &&
                       !is_member(fd, getegid());
}

bool call_may_see(const struct call *call, struct str user)
{
    return !call->is_limited || (user.len > 0 && str_eq(user, str_of(call->user)));
}
