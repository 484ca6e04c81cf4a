/*
 * param.h - the parameters of a structured MIME field, one by one (RFC 2045 5.1).
 *
 * Tolerant, because it decides nothing but how a body is taken apart: unquoted
 * values may hold anything but blanks and semicolons ("boundary=----=_Part").
 * Pure; views into the value.
 */
#ifndef WAYPOST_MAIL_PARAM_H
#define WAYPOST_MAIL_PARAM_H

#include "relay/base/str.h"

struct param {
    struct str raw;   /* from the name to the end of the value, as written */
    struct str name;  /* "filename", "filename*", "filename*1*" */
    struct str value; /* with its quotes, when quoted */
    bool is_quoted;
};

/* Length of blanks, folding and comments at the front. */
size_t param_skip_blanks(struct str s);

/* The word in front of the parameters ("text/plain", "attachment", "base64"),
 * without comments; *rest is left behind it. */
struct str param_main(struct str *rest);

/* The next parameter; false at the end. Nonsense between semicolons is skipped. */
bool param_next(struct str *rest, struct param *out_param);

/* The value without quotes and backslashes; `to` has room for value.len bytes. */
size_t param_plain(const struct param *param, char *to);

#endif
