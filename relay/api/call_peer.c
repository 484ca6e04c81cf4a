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

bool peer_is_limited(int fd, uid_t *out_uid)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
        return true;
    *out_uid = peer.uid;
    return peer.uid != 0 && peer.uid != geteuid() && peer.gid != getegid() &&
           !is_member(fd, getegid());
}

void call_judge_peer(struct call *call)
{
    uid_t uid = (uid_t)-1; /* nobody has this one: then nothing is theirs */

    call->is_limited = peer_is_limited(door_fd_of(call->connection), &uid);
    (void)snprintf(call->user, sizeof(call->user), "uid:%u", (unsigned)uid);
}

bool call_may_see(const struct call *call, struct str user)
{
    return !call->is_limited || (user.len > 0 && str_eq(user, str_of(call->user)));
}
