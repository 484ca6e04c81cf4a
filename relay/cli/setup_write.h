/*
 * setup_write.h - the answers of `waypost setup` as files.
 *
 * The configuration and the password's own file are first written with ".new"
 * behind their names; keep puts them in place, end removes what was not kept.
 */
#ifndef WAYPOST_CLI_SETUP_WRITE_H
#define WAYPOST_CLI_SETUP_WRITE_H

#include "relay/cli/cmd.h"
#include "relay/cli/password.h"

#include <limits.h>

/* NULL or "": no answer. */
struct setup_answers {
    const char *smarthost, *username, *tls, *domain, *root, *sender, *ca_file;
    char password[PASSWORD_MAX];
    size_t password_len;
};

struct setup_files {
    char conf[PATH_MAX], conf_new[PATH_MAX];
    char secret[PATH_MAX], secret_new[PATH_MAX]; /* "": no password */
    char backup[PATH_MAX];                       /* of the old configuration; "": there was none */
};

/* Not there, or still what the package put there. */
bool setup_may_write(const char *file);
const char *setup_domain_guess(void); /* /etc/mailname, the host's name; "" */

/* `secret`: the name that the text gives the password's file. */
void setup_text(const struct setup_answers *answers, const char *secret, struct buf *out);

enum err setup_files_begin(const char *file, const struct setup_answers *answers,
                           struct setup_files *out_files, struct fault *fault);
enum err setup_files_keep(struct setup_files *files, const struct setup_answers *answers,
                          struct fault *fault);
void setup_files_end(struct setup_files *files);
/* A sentence about what is tried, with the names that the files will have. */
const char *setup_real_names(const struct setup_files *files, const char *text,
                             struct arena *arena);

#endif
