/*
 * access.h - who may submit, to whom, as whom. Pure.
 *
 * The only place where "may relay" is decided: a session may if it is
 * authenticated, comes from a trusted network of its listener, or came over
 * the local socket. Everything else is 550 5.7.1, whatever the address looks like.
 */
#ifndef WAYPOST_INGRESS_ACCESS_H
#define WAYPOST_INGRESS_ACCESS_H

#include "relay/ingress/users.h"
#include "relay/mail/addr.h"
#include "relay/mail/reply.h"
#include "relay/net/endpoint.h"

struct access {
    bool is_trusted; /* network or local socket */
    bool auth_required;
    const struct user *user; /* authenticated, or NULL */
};

bool access_is_trusted(const struct network *trust, size_t count, const struct endpoint *client);
/* Fill *out_reply and return false to refuse. */
bool access_mail(const struct access *access, struct str sender, struct reply *out_reply);
bool access_rcpt(const struct access *access, struct str recipient, struct reply *out_reply);
/* At the end of content: may this user use the From address? */
bool access_from(const struct access *access, struct str from_address, struct reply *out_reply);

#endif
