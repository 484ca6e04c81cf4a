/*
 * password.h - a password from a person or a pipe, never from the command line,
 * where every user of the machine could read it.
 */
#ifndef WAYPOST_CLI_PASSWORD_H
#define WAYPOST_CLI_PASSWORD_H

#include "relay/base/err.h"

#include <stddef.h>

#define PASSWORD_MAX 512

/* From the terminal: without echo. From anything else: one line of standard
 * input. *out_len excludes the NUL. Wipe `out` after use. */
enum err password_read(const char *prompt, char out[PASSWORD_MAX], size_t *out_len,
                       struct fault *fault);
/* A new one: from the terminal twice. */
enum err password_choose(const char *prompt, char out[PASSWORD_MAX], size_t *out_len,
                         struct fault *fault);

#endif
