/*
 * keyfile.h - a private key file, read with suspicion (inside this layer only).
 */
#ifndef WAYPOST_DKIM_KEYFILE_H
#define WAYPOST_DKIM_KEYFILE_H

#include "relay/base/err.h"

#include <openssl/evp.h>

/* PEM, PKCS#8 or PKCS#1: RSA of 1024 to 4096 bits or Ed25519, mode closed to
 * others. The fault names the file and the reason. *out_key is yours. */
enum err keyfile_read(const char *file, EVP_PKEY **out_key, struct fault *fault);

/* "rsa" or "ed25519": the k= of the DNS record, and the a= without its hash. */
const char *keyfile_type(const EVP_PKEY *key);

#endif
