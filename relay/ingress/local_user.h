/*
 * local_user.h - the name of a user of this machine, without asking anybody.
 *
 * Read from the passwd file alone: the name service switch may go to a server
 * far away, and a loop must not wait for it. A user known only there is shown
 * by number. Any thread.
 */
#ifndef WAYPOST_INGRESS_LOCAL_USER_H
#define WAYPOST_INGRESS_LOCAL_USER_H

#include <stddef.h>
#include <stdint.h>

/* "joe, uid 1000" or "uid 1000"; its length. `size` at least 64. */
size_t local_user_print(uint32_t uid, char *out, size_t size);

#endif
