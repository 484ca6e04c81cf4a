/*
 * encode.h - header fields with raw 8-bit text or over-long lines, written anew.
 *
 * 8-bit text becomes encoded words (RFC 2047: unstructured text, phrases,
 * comments) or extended parameters (RFC 2231); lines are folded at blanks.
 * What a reader shows stays the same. Never inside an addr-spec, a msg-id or
 * another token: such a field is refused. Pure.
 */
#ifndef WAYPOST_MAIL_ENCODE_H
#define WAYPOST_MAIL_ENCODE_H

#include "relay/mail/header.h"

/* The whole field anew, with its CRLF. `hint` is the charset the message
 * declares for its body, maybe empty: the best guess for 8-bit text that is
 * not UTF-8. ERR_INVALID: 8-bit text where no encoding is allowed. ERR_LIMIT:
 * a line over 998 octets cannot be folded. Output written before a failure
 * stays in `out`. */
enum err encode_field(const struct header_field *field, struct str hint, struct buf *out,
                      struct arena *arena, struct fault *fault);

/* Only folded at blanks, every word stays (8-bit text too). ERR_LIMIT as above. */
enum err encode_fold(const struct header_field *field, struct buf *out, struct arena *arena,
                     struct fault *fault);

/* Length of the longest line of a field, without CRLF. */
size_t encode_longest_line(struct str raw);

#endif
