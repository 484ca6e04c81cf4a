/*
 * lex.h - the words of a configuration file (inside this layer).
 *
 * Words and "strings", { } ( ) = and the comma; comments as # ..., // ... and
 * slash-star; ${NAME} and ${NAME:-otherwise} from the environment, except in
 * 'single quotes'. The syntax is libconfuse's.
 *
 * The library itself was measured (3.3) and lost: it counts lines wrong after
 * a comment, drops an unquoted "*" without a word (address = *:587 became
 * ":587"), stops at the first unknown name, takes an unclosed section or
 * comment and an unset variable for fine, and keeps its state in the process.
 * Its gaps would have needed this file in front of it anyway.
 */
#ifndef WAYPOST_CONF_LEX_H
#define WAYPOST_CONF_LEX_H

#include "conf/report.h"

enum token_kind {
    TOKEN_END,   /* of the file */
    TOKEN_WORD,  /* bare */
    TOKEN_TEXT,  /* quoted */
    TOKEN_MARK,  /* one of { } ( ) = , */
    TOKEN_WRONG, /* told already */
};

struct token {
    enum token_kind kind;
    struct str text; /* in the arena; a mark is its one character */
    unsigned line;
};

struct lex {
    struct str text;
    size_t at;
    unsigned line;
    const char *file;
    struct arena *arena;
    struct report *report;
};

void lex_init(struct lex *lex, const char *file, struct str text, struct arena *arena,
              struct report *report);
struct token lex_next(struct lex *lex);
bool lex_is(struct token token, char mark);
bool token_is_value(struct token token); /* a word or a text */

#endif
