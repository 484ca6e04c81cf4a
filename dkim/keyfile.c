/*
 * keyfile.c - reading a private key: every reason why it cannot be used is
 * told with the file's name, because these files are placed by hand.
 */
#include "dkim/keyfile.h"

#include "relay/base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYFILE_MAX 65536 /* a PEM key of 4096 bits is under 4 KB */

static enum err check_file(int fd, const char *file, struct fault *fault)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return fault_errno(fault, errno, "%s", file);
    if (!S_ISREG(st.st_mode))
        return fault_set(fault, ERR_INVALID, "%s: not a regular file", file);
    if (st.st_mode & (S_IRWXO | S_IWGRP))
        return fault_set(fault, ERR_DENIED,
                         "%s: a private key open to others (mode %04o): chmod 0640 or 0600", file,
                         (unsigned)(st.st_mode & 07777));
    if (st.st_size > KEYFILE_MAX)
        return fault_set(fault, ERR_LIMIT, "%s: too large for a key (%lld bytes)", file,
                         (long long)st.st_size);
    return ERR_OK;
}

/* The whole file into a memory BIO of the secure kind: wiped when freed. */
static enum err slurp(const char *file, BIO **out_bio, struct fault *fault)
{
    char piece[4096];
    ssize_t got;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return fault_errno(fault, errno, "%s", file);
    enum err err = check_file(fd, file, fault);
    if (err) {
        close(fd);
        return err;
    }
    BIO *bio = BIO_new(BIO_s_secmem());
    while ((got = read(fd, piece, sizeof(piece))) > 0)
        BIO_write(bio, piece, (int)got);
    int errnum = errno;
    OPENSSL_cleanse(piece, sizeof(piece));
    close(fd);
    if (got < 0) {
        BIO_free(bio);
        return fault_errno(fault, errnum, "%s", file);
    }
    *out_bio = bio;
    return ERR_OK;
}

static int no_password(char *out, int size, int writing, void *asked)
{
    (void)out, (void)size, (void)writing;
    *(bool *)asked = true;
    return -1; /* nobody is there to be asked when the relay starts */
}

static enum err check_kind(const EVP_PKEY *key, const char *file, struct fault *fault)
{
    int bits = EVP_PKEY_get_bits(key);

    if (EVP_PKEY_is_a(key, "ED25519"))
        return ERR_OK;
    if (!EVP_PKEY_is_a(key, "RSA"))
        return fault_set(fault, ERR_INVALID, "%s: a %s key: DKIM signs with RSA or Ed25519", file,
                         EVP_PKEY_get0_type_name(key));
    if (bits < 1024)
        return fault_set(fault, ERR_INVALID,
                         "%s: RSA with %d bits: verifiers ignore keys under 1024, make one of 2048",
                         file, bits);
    /* RFC 8301 3.2: nobody has to be able to verify longer ones. */
    if (bits > 4096)
        return fault_set(fault, ERR_INVALID,
                         "%s: RSA with %d bits: verifiers may refuse keys over 4096", file, bits);
    return ERR_OK;
}

enum err keyfile_read(const char *file, EVP_PKEY **out_key, struct fault *fault)
{
    BIO *bio = NULL;
    bool encrypted = false;
    enum err err = slurp(file, &bio, fault);

    if (err)
        return err;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, &encrypted);
    BIO_free(bio);
    ERR_clear_error();
    if (!key && encrypted)
        return fault_set(fault, ERR_INVALID,
                         "%s: the key is encrypted: store it without a passphrase", file);
    if (!key)
        return fault_set(fault, ERR_INVALID, "%s: not a private key in PEM form", file);
    err = check_kind(key, file, fault);
    if (err) {
        EVP_PKEY_free(key);
        return err;
    }
    *out_key = key;
    return ERR_OK;
}

const char *keyfile_type(const EVP_PKEY *key)
{
    return EVP_PKEY_is_a(key, "ED25519") ? "ed25519" : "rsa";
}
