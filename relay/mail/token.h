/*
 * token.h - the lexical tokens of structured header fields (RFC 5322 3.2).
 *
 * Below the address list and the re-encoding of address fields, so that both
 * see the same words, quoted strings and comments. Pure; views into the value.
 */
#ifndef WAYPOST_MAIL_TOKEN_H
#define WAYPOST_MAIL_TOKEN_H

#include "relay/base/str.h"

enum token_kind {
    TOKEN_END,
    TOKEN_WORD,    /* a run of anything but blanks and specials; dots included */
    TOKEN_QUOTED,  /* "..." with its quotes */
    TOKEN_COMMENT, /* (...) with its parentheses, nested ones included */
    TOKEN_LITERAL, /* [...] with its brackets */
    TOKEN_SPECIAL, /* one of < > : ; @ , ) ] and the backslash */
    TOKEN_BAD,     /* a quoted string, comment or literal that is not closed: all the rest */
};

struct token {
    enum token_kind kind;
    struct str gap; /* blanks and folding in front of it */
    struct str raw;
};

/* Cut the next token off the front of *rest. */
struct token token_next(struct str *rest);

bool token_is(const struct token *token, char special);

#endif
