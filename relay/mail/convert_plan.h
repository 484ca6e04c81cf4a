/*
 * convert_plan.h - what the two passes of a conversion share. Not for others.
 */
#ifndef WAYPOST_MAIL_CONVERT_PLAN_H
#define WAYPOST_MAIL_CONVERT_PLAN_H

#include "relay/mail/convert.h"
#include "relay/mail/mime.h"
#include "relay/mail/transfer.h"

/* What the scan found out about one region, and what will be done with it. */
struct convert_region {
    enum mime_kind kind;
    enum mime_cte cte;
    bool is_signed, is_fixed, is_message_head, has_type;
    bool has_8bit, has_long_line; /* in its own bytes */
    bool is_bad_utf8;
    bool head_needs;             /* its head has bytes or lines that must change */
    bool head_fails;             /* and they cannot */
    size_t bytes, escapes;       /* escapes: bytes that quoted-printable would escape */
    enum transfer_kind transfer; /* decided at the end of the scan */
};

struct convert_plan {
    struct str head; /* own copy */
    unsigned want, own_signatures;
    bool is_needed;
    struct mime *mime;
    struct convert_region *regions;
    size_t count, cap;
    /* state of the scan of the current region */
    size_t line_len;
    char last;
    unsigned utf8_more; /* continuation bytes still to come */
};

/* The head of a region as it will be sent. False when a field cannot be written. */
bool convert_head(const struct convert_plan *plan, const struct convert_region *region,
                  const struct mime_part *part, struct str head, struct buf *out);

#endif
