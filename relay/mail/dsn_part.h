/*
 * dsn_part.h - the pieces that dsn.c puts together, and the pen they share.
 *
 * Whatever came from outside goes through this pen: control characters never
 * reach the report, lines end at 78 where there is a blank to fold at, and at
 * DSN_LINE_MAX where there is none.
 */
#ifndef WAYPOST_MAIL_DSN_PART_H
#define WAYPOST_MAIL_DSN_PART_H

#include "relay/mail/dsn.h"

#define DSN_COLUMN 76
#define DSN_LINE_MAX 900    /* under the 998 of RFC 5322 2.1.1, with room for an indent */
#define DSN_SHOWN_MAX 1500u /* bytes of foreign text shown at most */

struct dsn_report {
    const struct dsn_options *options;
    const struct envelope *original;
    const struct dsn_recipient *recipients;
    size_t count;
    bool is_global; /* an address needs UTF-8: the types of RFC 6533 */
};

/* ---- dsn_pen.c ---- */

/* Foreign text with control characters, invalid UTF-8 and (unless `utf8`) every
 * byte over 127 as \xNN. One line, at most DSN_SHOWN_MAX bytes of it. */
void dsn_escape(struct buf *out, struct str s, bool utf8);
/* RFC 3461 4: "+2B" is "+". What is no xtext stays. */
void dsn_xtext_decode(struct buf *out, struct str xtext);

/* "Name: value", folded at blanks, with CRLF. `value` is escaped already. */
void dsn_field(struct buf *out, const char *name, struct str value);
/* "    Label:   words ..." for people, following lines under the first word. */
void dsn_say(struct buf *out, const char *label, struct str words);
/* A paragraph at the left margin. */
void dsn_paragraph(struct buf *out, struct str words);

/* ---- the parts ---- */

const char *dsn_action_word(enum dsn_action action); /* RFC 3464 2.3.3 */
bool dsn_is_failure(enum dsn_action action);
/* The action that gives the whole report its subject: failures first. */
enum dsn_action dsn_main_action(const struct dsn_report *report);

void dsn_words(const struct dsn_report *report, struct buf *out);  /* dsn_words.c: for people */
void dsn_status(const struct dsn_report *report, struct buf *out); /* dsn_status.c: for machines */

#endif
