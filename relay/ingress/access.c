/*
 * access.c - who may submit: one rule, asked at MAIL, RCPT and the end of content.
 */
#include "relay/ingress/access.h"

bool access_is_trusted(const struct network *trust, size_t count, const struct endpoint *client)
{
    for (size_t i = 0; i < count; i++)
        if (network_has(&trust[i], client))
            return true;
    return false;
}

/* Nothing about the recipient can make up for it: there is no domain we are final for. */
static bool may_relay(const struct access *access) { return access->is_trusted || access->user; }

bool access_mail(const struct access *access, struct str sender, struct reply *out_reply)
{
    if (access->auth_required && !may_relay(access)) {
        reply_set(out_reply, 530, STATUS(5, 7, 0), "Authentication required");
        return false;
    }
    if (access->user && !user_may_send_as(access->user, sender)) {
        reply_set(out_reply, 553, STATUS(5, 7, 1), "You may not send as this address");
        return false;
    }
    return true;
}

bool access_rcpt(const struct access *access, struct str recipient, struct reply *out_reply)
{
    (void)recipient;
    if (may_relay(access))
        return true;
    reply_set(out_reply, 550, STATUS(5, 7, 1), "Relaying denied, log in first");
    return false;
}

bool access_from(const struct access *access, struct str from_address, struct reply *out_reply)
{
    const struct user *user = access->user;

    /* Empty here is not the null reverse-path but a From that names nobody. */
    if (!user || user->sender_count == 0 ||
        (from_address.len > 0 && user_may_send_as(user, from_address)))
        return true;
    reply_set(out_reply, 550, STATUS(5, 7, 1), "You may not use this address in From");
    return false;
}
