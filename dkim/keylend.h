/*
 * keylend.h - giving libopendkim a key that is already parsed (inside this
 * layer only).
 *
 * The library wants key text and parses it for every signature; parsing and
 * setting up a fresh RSA key costs as much as signing. Text that does not look
 * like PEM it hands to OpenSSL's d2i_PrivateKey_bio, so this module defines
 * that symbol: the executable's definition wins over libcrypto's. When the
 * text is KEYLEND_TEXT, the key that this thread has lent comes back, with a
 * reference of its own; anything else goes to the real function.
 *
 * A key is lent per thread, only while the library runs: no table, no lock,
 * and a stray "WPK:" from elsewhere finds nothing.
 */
#ifndef WAYPOST_DKIM_KEYLEND_H
#define WAYPOST_DKIM_KEYLEND_H

#include <openssl/evp.h>

#define KEYLEND_TEXT "WPK:1"

void keylend_begin(EVP_PKEY *key);
unsigned keylend_end(void); /* how many references were given out since begin */

#endif
