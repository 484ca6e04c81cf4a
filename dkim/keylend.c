/*
 * keylend.c - the interposed d2i_PrivateKey_bio; see keylend.h for why.
 *
 * It must end up in the executable's dynamic symbol table: meson.build asks
 * the linker for that, keyring_new() fails when it is not so, and
 * tests/unit/dkim_test.c says it by name.
 */
#include "dkim/keylend.h"

#include <dlfcn.h>
#include <openssl/bio.h>
#include <openssl/x509.h>
#include <string.h>

static _Thread_local EVP_PKEY *lent;
static _Thread_local unsigned given;

void keylend_begin(EVP_PKEY *key)
{
    lent = key;
    given = 0;
}

unsigned keylend_end(void)
{
    lent = NULL;
    return given;
}

static EVP_PKEY *parse_for_real(BIO *bio, EVP_PKEY **key)
{
    static const char name[] = "d2i_PrivateKey_bio";
    EVP_PKEY *(*real)(BIO *, EVP_PKEY **);

    /* POSIX promises that a function fits into dlsym's pointer; ISO C does not
     * let us cast it. */
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(&real, &found, sizeof(real));
    return real ? real(bio, key) : NULL;
}

__attribute__((visibility("default"))) EVP_PKEY *d2i_PrivateKey_bio(BIO *bio, EVP_PKEY **key)
{
    char *text = NULL;
    long len = BIO_method_type(bio) == BIO_TYPE_MEM ? BIO_get_mem_data(bio, &text) : 0;

    if (!lent || len != sizeof(KEYLEND_TEXT) - 1 || memcmp(text, KEYLEND_TEXT, (size_t)len) != 0)
        return parse_for_real(bio, key);
    if (!EVP_PKEY_up_ref(lent))
        return NULL;
    given++;
    return lent;
}
