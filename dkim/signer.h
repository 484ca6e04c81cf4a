/*
 * signer.h - DKIM signatures over one message (RFC 6376, RFC 8463).
 *
 * One signature per matching key (RSA and Ed25519 together when both are there),
 * in the canonical form of that key, important fields over-signed. Synchronous; feed pieces
 * as they are, CRLF text; one thread at a time per signer, any number of
 * signers. The private-key step is in signer_end (RSA-2048: about 0.8 ms):
 * call that on a worker.
 */
#ifndef WAYPOST_DKIM_SIGNER_H
#define WAYPOST_DKIM_SIGNER_H

#include "dkim/keyring.h"
#include "relay/base/buf.h"

struct signer;

/* NULL when no key matches (keyring_match gives 0). */
struct signer *signer_new(struct keyring *keyring, struct str from_domain);
/* The whole header block, empty line included or not. */
enum err signer_head(struct signer *signer, struct str head, struct fault *fault);
enum err signer_body(struct signer *signer, struct str piece, struct fault *fault);
/* Appends one "DKIM-Signature: ... CRLF" per key, to be put on top of the head.
 * ERR_INVALID: the message cannot be signed (550 5.6.0), the fault says why. */
enum err signer_end(struct signer *signer, struct buf *out_fields, unsigned *out_count,
                    struct fault *fault);
void signer_free(struct signer **signer);

/* Domains and selectors used, for hops: "example.com/s1 rsa-sha256, example.com/e1 ed25519-sha256". */
struct str signer_words(const struct signer *signer);

#endif
