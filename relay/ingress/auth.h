/*
 * auth.h - judging credentials without stopping a loop.
 *
 * One `struct auth` for all loops: the present users, a cache of verified
 * credentials (keyed hash of user and password under a secret of this process;
 * minutes; gone when the users change), and the delays after wrong passwords,
 * per client network and user. The delay makes a wrong answer late; it never
 * delays the right password, wherever it comes from. Any thread; the functions
 * with a loop on that loop's.
 *
 * Behind one mutex, held for some array look-ups and never while hashing: users,
 * cache and delays change together (what a new users file forbids must be gone
 * from the cache at the same moment), which atomics cannot say. Logins are few.
 */
#ifndef WAYPOST_INGRESS_AUTH_H
#define WAYPOST_INGRESS_AUTH_H

#include "relay/ingress/users.h"
#include "relay/net/endpoint.h"
#include "relay/net/loop.h"

struct auth;

/* users may be NULL: nobody can log in. A reference is taken. */
struct auth *auth_new(struct users *users);
/* No password may be in the pool any more: free the pool before. */
void auth_free(struct auth **auth);
void auth_set_users(struct auth *auth, struct users *users); /* reload; forgets the cache */
struct users *auth_users(struct auth *auth);                 /* a reference */

enum auth_verdict {
    AUTH_OK,
    AUTH_WRONG, /* 535 5.7.8 */
    AUTH_LATER, /* hashing is swamped, by this client's network or by all: 454 4.7.0 */
};
typedef void auth_fn(void *arg, enum auth_verdict verdict);

/* Judge a password. The function is called once, from the loop, not before
 * this returned; late when the verdict is AUTH_WRONG. */
struct auth_check;
void auth_password(struct auth *auth, struct loop *loop, const struct endpoint *client,
                   struct str user, struct str password, auth_fn *fn, void *arg,
                   struct auth_check **out_check);
/* For mechanisms that proved or failed by themselves (SCRAM, CRAM-MD5): count
 * a failure and call back when the answer may be sent. */
void auth_failed(struct auth *auth, struct loop *loop, const struct endpoint *client,
                 struct str user, auth_fn *fn, void *arg, struct auth_check **out_check);
void auth_cancel(struct auth_check **check);

#endif
