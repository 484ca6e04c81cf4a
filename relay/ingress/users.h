/*
 * users.h - the users file: who may log in, and as whom they may send.
 *
 * One line per user, colons between fields, '#' comments:
 *   name:crypt-hash:scram:senders
 * crypt-hash: crypt(5), yescrypt by default. scram: "iterations,salt64,stored64,server64"
 * of SCRAM-SHA-256, or empty. senders: patterns (addr_matches), commas between;
 * empty: any. A user set is immutable and counted; a reload reads a new one.
 */
#ifndef WAYPOST_INGRESS_USERS_H
#define WAYPOST_INGRESS_USERS_H

#include "relay/base/buf.h"
#include "relay/base/err.h"
#include "relay/net/sasl.h"

struct users;

struct user {
    struct str name;
    struct str hash;           /* crypt(5) setting and hash */
    struct str clear;          /* clear password for CRAM-MD5 when the hash field is "{CLEAR}..." */
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
 * (empty) always. */
bool user_may_send_as(const struct user *user, struct str address);
/* The same for a From domain with the address not at hand. */

/* ---- keeping the file (`waypost user`): blocking, locks, replaces atomically, mode kept or 0640 ---- */

struct user_change {
    struct str name;
    struct str password;       /* add, passwd */
    const struct str *senders; /* add: replaces; passwd: kept */
    size_t sender_count;
    bool scram; /* also derive SCRAM-SHA-256 */
};
enum err users_add(const char *file, const struct user_change *change,
                   struct fault *fault); /* ERR_EXISTS */
enum err users_passwd(const char *file, const struct user_change *change,
                      struct fault *fault); /* ERR_NOT_FOUND */
enum err users_remove(const char *file, struct str name, struct fault *fault);

/* Blocking and slow (hash class). Wrong for an unknown user too, after as long. */
bool users_password_ok(const struct user *user_or_null, struct str password);

#endif
