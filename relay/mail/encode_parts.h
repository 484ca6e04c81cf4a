/*
 * encode_parts.h - what the files of mail/encode share. Not for others.
 *
 * Each function writes the value of one kind of field; the arena takes what is
 * put together on the way.
 */
#ifndef WAYPOST_MAIL_ENCODE_PARTS_H
#define WAYPOST_MAIL_ENCODE_PARTS_H

#include "relay/mail/encode.h"
#include "relay/mail/fold.h"

/* Blanks and the word behind them off the front of *rest. False at the end:
 * then *out_gap has the blanks that were left. */
bool encode_next_word(struct str *rest, struct str *out_gap, struct str *out_word);
bool encode_is_word(struct str word); /* looks like "=?...?=" */

void encode_text(struct fold *fold, struct str text, bool in_comment, struct arena *arena);
void encode_comment(struct fold *fold, struct str gap, struct str raw, struct arena *arena);

/* Words, quoted strings and comments; phrases are encoded only if the field has any. */
enum err encode_structured(struct fold *fold, struct str value, bool has_phrases,
                           struct arena *arena, struct fault *fault);
enum err encode_params(struct fold *fold, struct str value, struct arena *arena,
                       struct fault *fault);

#endif
