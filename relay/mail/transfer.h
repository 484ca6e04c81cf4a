/*
 * transfer.h - content transfer encodings, streaming (RFC 2045 6.7, 6.8).
 *
 * Byte machines: how the input is cut into pieces never shows in the output.
 * No output line is longer than 76 octets, none begins with "--" (so that none
 * can be taken for a boundary). Pure.
 */
#ifndef WAYPOST_MAIL_TRANSFER_H
#define WAYPOST_MAIL_TRANSFER_H

#include "relay/base/buf.h"

enum transfer_kind {
    TRANSFER_COPY,
    TRANSFER_QP,           /* encode as quoted-printable */
    TRANSFER_BASE64,       /* encode as base64 */
    TRANSFER_QP_AGAIN,     /* is quoted-printable, but with bad lines or bytes */
    TRANSFER_BASE64_AGAIN, /* the same for base64 */
    TRANSFER_CLEAN,        /* text nobody reads: 8-bit bytes to "?", lines broken */
};

struct transfer {
    enum transfer_kind kind;
    size_t column;
    unsigned held; /* bytes in `pending` */
    unsigned char pending[3];
    struct buf blanks; /* seen, and maybe at the end of a line */
    bool after_hyphen; /* the output line is "-" so far */
};

void transfer_init(struct transfer *transfer, enum transfer_kind kind);
void transfer_clear(struct transfer *transfer);
void transfer_feed(struct transfer *transfer, struct str in, struct buf *out);
/* The end of the content. At the end of the whole body the output gets a final
 * line end if it has none (for quoted-printable a soft one: no content is added). */
void transfer_end(struct transfer *transfer, bool at_body_end, struct buf *out);

#endif
