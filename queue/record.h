/*
 * record.h - the stored form of an envelope: what the store keeps of a message
 * beside its content. Pure.
 *
 * A record is cut into slices of RECORD_SLICE recipients, so that settling one
 * recipient of a thousand rewrites one slice. Slice 0 carries the message's own
 * facts too; most messages have no other.
 *
 * Every slice starts with a version and a checksum: a slice that does not
 * decode is reported (ERR_CORRUPT), one of a newer waypost is refused
 * (ERR_VERSION), and neither ever crashes the reader. Decoded text is a view
 * into the given bytes: they must outlive the envelope.
 */
#ifndef WAYPOST_QUEUE_RECORD_H
#define WAYPOST_QUEUE_RECORD_H

#include "relay/base/buf.h"
#include "relay/base/err.h"
#include "relay/mail/envelope.h"

#define RECORD_SLICE 16              /* recipients */
#define RECORD_RECIPIENTS_MAX 100000 /* more than this is not a record of ours */

/* Where the content is. */
struct record_content {
    uint64_t head_len;
    uint64_t body_len;
    unsigned own_signatures;
    struct str file; /* side file of the body; empty: the body is stored behind the head */
};

size_t record_slices(const struct envelope *envelope);

/* Appends slice number `slice`; `content` is needed for slice 0 only. */
void record_encode(const struct envelope *envelope, const struct record_content *content,
                   size_t slice, struct buf *out);

/* Slice 0 into an initialised envelope: every field, recipient_count (all slices)
 * and the first recipients; the others are zero until their slice is decoded. */
enum err record_decode(struct str bytes, struct envelope *envelope,
                       struct record_content *out_content, struct fault *fault);
enum err record_decode_slice(struct str bytes, size_t slice, struct envelope *envelope,
                             struct fault *fault);

/* Write version and checksum in front of a payload of at least RECORD_FRAME
 * bytes' length (what record_encode does last; the fuzzer too). */
#define RECORD_FRAME 6
void record_seal(char *bytes, size_t len);

#endif
