/*
 * fold.h - writing one header field, folded, with encoded words where needed.
 *
 * The pen of mail/encode: it knows columns, folding at 78 and the forms of
 * RFC 2047 and RFC 2231; what is to be encoded is decided above it. Pure.
 */
#ifndef WAYPOST_MAIL_FOLD_H
#define WAYPOST_MAIL_FOLD_H

#include "relay/base/buf.h"

#define FOLD_COLUMN 78    /* RFC 5322 2.1.1: where lines should end */
#define FOLD_LINE_MAX 998 /* and where they must */

struct fold {
    struct buf *out;
    struct str charset; /* of the 8-bit text */
    size_t column, first_column;
    bool is_over; /* a line came out longer than FOLD_LINE_MAX */
};

/* Writes "Name:". */
void fold_begin(struct fold *fold, struct str name, struct str charset, struct buf *out);
/* ASCII text kept as it is. `gap` are the blanks in front of it: the place to fold. */
void fold_plain(struct fold *fold, struct str gap, struct str text);
/* Text as one or more encoded words of at most 75 octets. */
void fold_words(struct fold *fold, struct str gap, struct str text);
/* "name*=charset''text", in numbered pieces when it is long. */
void fold_param(struct fold *fold, struct str name, struct str text);
/* The final CRLF. False when a line could not be kept within FOLD_LINE_MAX. */
bool fold_end(struct fold *fold);

#endif
