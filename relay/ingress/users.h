/*
 * users.h - the users file: who may log in, and as whom they may send.
 *
 * One line per user, colons between fields, '#' comments:
 *   name:secret:scram:senders
 * secret: a crypt(5) hash, yescrypt from us, or "{CLEAR}" and the password with
 * '%', ':' and control characters as %XX. scram: "iterations,salt,stored,server" of
 * SCRAM-SHA-256, octets in hex, or empty. senders: patterns (addr_matches), commas
 * between; empty: any. A user set is immutable and counted; a reload reads a new one.
 *
 * SCRAM secrets are stored only when asked for: whoever steals the file guesses
 * passwords faster from them than from yescrypt, which is there to prevent just that.
 */
#ifndef WAYPOST_INGRESS_USERS_H
#define WAYPOST_INGRESS_USERS_H

#include "relay/base/buf.h"
#include "relay/base/err.h"
#include "relay/net/sasl.h"

#define USERS_NAME_MAX 255
#define USERS_PASSWORD_MAX 511 /* crypt(3) takes no longer ones */
#define USERS_SCRAM_ITERATIONS 32768

struct users;

struct user {
    struct str name;
    struct str hash;           /* crypt(5) setting and hash; empty when `clear` is there */
    struct str clear;          /* the password itself, for CRAM-MD5 */
    const struct str *senders; /* patterns; count 0: any */
    size_t sender_count;
    bool has_scram;
    struct sasl_secret scram;
};

/* The fault names file, line and reason. A file others can read is refused. */
enum err users_load(const char *file, struct users **out_users, struct fault *fault);
struct users *users_ref(struct users *users); /* any thread */
void users_unref(struct users **users);
const struct user *users_find(const struct users *users, struct str name); /* exact */
const struct user *users_at(const struct users *users, size_t index);      /* NULL at the end */
size_t users_count(const struct users *users);
bool users_all_have_scram(const struct users *users);

/* May this user use the address as reverse-path or From? The null reverse-path
 * (empty) always. What is not an address only a user who may use any. */
bool user_may_send_as(const struct user *user, struct str address);

/* ---- keeping the file (`waypost user`) ----
 * Blocking. Locks the folder, replaces the file atomically and synced; owner and
 * mode are kept. A new file is 0640. Lines
 * of others, and comments, stay as they are. */

struct user_change {
    struct str name;
    struct str password;
    const struct str *senders; /* add only; passwd keeps those that are there */
    size_t sender_count;
    bool scram; /* also store SCRAM-SHA-256; passwd: also when the user has it already */
    bool clear; /* store the password itself; passwd: the same */
    long group; /* of a file that is new, when started by root; -1: its folder's */
};
/* May a user be called so, have this password, send as that pattern? */
enum err users_name_ok(struct str name, struct fault *fault);
enum err users_password_fit(struct str password, struct fault *fault);
enum err users_pattern_ok(struct str pattern, struct fault *fault);
enum err users_add(const char *file, const struct user_change *change,
                   struct fault *fault); /* ERR_EXISTS */
enum err users_passwd(const char *file, const struct user_change *change,
                      struct fault *fault); /* ERR_NOT_FOUND */
enum err users_remove(const char *file, struct str name, struct fault *fault);

/* Blocking and slow (hash class). Wrong for an unknown user too, after as long. */
bool users_password_ok(const struct user *user_or_null, struct str password);

#endif
