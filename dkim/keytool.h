/*
 * keytool.h - making keys and their DNS records (`waypost dkim ...`).
 */
#ifndef WAYPOST_DKIM_KEYTOOL_H
#define WAYPOST_DKIM_KEYTOOL_H

#include "relay/base/buf.h"
#include "relay/base/err.h"

enum key_type { KEY_RSA_2048, KEY_ED25519 };

/* Writes a new private key, PKCS#8 PEM, mode 0600; never over an existing file (ERR_EXISTS). */
enum err keytool_make(enum key_type type, const char *file, struct fault *fault);
/* "v=DKIM1; k=rsa; p=..." of a private key file. */
enum err keytool_record(const char *file, struct buf *out, struct fault *fault);
/* The zone file line: name, TXT, strings of at most 255 octets. */
enum err keytool_zone_line(const char *file, const char *selector, const char *domain,
                           struct buf *out, struct fault *fault);
/* Does a published TXT record carry this key? ERR_INVALID: the fault says how it differs. */
enum err keytool_compare(const char *file, struct str txt, struct fault *fault);

#endif
