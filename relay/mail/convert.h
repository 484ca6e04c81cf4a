/*
 * convert.h - re-encoding a MIME body: over-long lines, or 8-bit to 7-bit.
 *
 * Two passes, both streaming, both pure. A scan reads head and body and plans
 * which leaf parts must change; if any, the rewriter gives the new head and
 * body: those parts become quoted-printable (base64 when mostly binary), all
 * other bytes stay. RFC 2045, 2046, 6152 section 3.
 *
 * A plan is refused (ERR_DENIED) when the change would break a foreign
 * signature (DKIM-Signature in the head, multipart/signed or encrypted around the
 * part), or message/rfc822 restrictions of RFC 2046 5.2.1 cannot be met.
 */
#ifndef WAYPOST_MAIL_CONVERT_H
#define WAYPOST_MAIL_CONVERT_H

#include "relay/base/buf.h"
#include "relay/base/err.h"

enum {
    CONVERT_LONG_LINES = 1 << 0, /* no body line over 998 octets */
    CONVERT_7BIT = 1 << 1,       /* no byte over 127 */
};

struct convert_plan;

/* `own_signatures`: number of DKIM-Signature fields at the top of the head
 * that are ours and will be made again; they do not count as foreign and are
 * left out of the rewritten head. */
struct convert_plan *convert_plan_new(struct str head, unsigned want, unsigned own_signatures);
void convert_plan_feed(struct convert_plan *plan, struct str body_piece);
/* ERR_OK: *out_needed says whether anything must change. ERR_DENIED: it must, but may not. */
enum err convert_plan_end(struct convert_plan *plan, bool *out_needed, struct fault *fault);
void convert_plan_free(struct convert_plan **plan);

/* Second pass, after convert_plan_end. The new head first (whole, with its
 * empty line), then feed the same body again. `out` is drained by the caller
 * between calls. */
struct convert;
struct convert *convert_new(const struct convert_plan *plan, struct buf *out_head);
void convert_feed(struct convert *convert, struct str body_piece, struct buf *out);
void convert_end(struct convert *convert, struct buf *out);
void convert_free(struct convert **convert);

#endif
