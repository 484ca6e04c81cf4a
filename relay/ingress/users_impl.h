/*
 * users_impl.h - lines of the users file; shared by the users' own files only.
 */
#ifndef WAYPOST_INGRESS_USERS_IMPL_H
#define WAYPOST_INGRESS_USERS_IMPL_H

#include "relay/base/arena.h"
#include "relay/ingress/users.h"

#define USERS_FILE_MAX ((size_t)64 * 1024 * 1024)
#define USERS_LINE_MAX ((size_t)64 * 1024)

/* users_file.c: the whole file; refuses one that others may read or that the
 * group may write. out_mode may be NULL. */
struct users_stat {
    unsigned mode, uid, gid;
};
enum err users_file_read(const char *file, struct buf *out, struct users_stat *out_stat,
                         struct fault *fault);

/* users_line.c */
bool users_line_is_blank(struct str line); /* empty or a comment */
struct str users_line_name(struct str line);
/* The fault says what is wrong, without the place. Views into the arena. */
enum err users_line_parse(struct str line, struct arena *arena, struct user *out_user,
                          struct fault *fault);
void users_line_print(const struct user *user, struct buf *out); /* no line end */

/* users_secret.c: fills secret and scram of a user from the change's password. */
enum err users_secret_make(const struct user_change *change, struct arena *arena, struct user *user,
                           struct fault *fault);

#endif
