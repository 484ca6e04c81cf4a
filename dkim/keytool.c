/*
 * keytool.c - new keys, the DNS record of a key, and whether a published
 * record is that of a key (RFC 6376 section 3.6.1, RFC 8463).
 */
#include "dkim/keytool.h"

#include "dkim/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TXT_STRING_MAX 255 /* RFC 1035 3.3: one character-string */

static EVP_PKEY *generate(enum key_type type)
{
    switch (type) {
    case KEY_RSA_2048:
        return EVP_RSA_gen(2048);
    case KEY_ED25519:
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    }
    return NULL;
}

static enum err write_all(int fd, const char *bytes, size_t len, const char *file,
                          struct fault *fault)
{
    while (len) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fault_errno(fault, errno, "%s", file);
        bytes += n;
        len -= (size_t)n;
    }
    if (fsync(fd) != 0)
        return fault_errno(fault, errno, "%s", file);
    return ERR_OK;
}

static enum err create(const char *file, const char *pem, size_t len, struct fault *fault)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0 && errno == EEXIST)
        return fault_set(fault, ERR_EXISTS, "%s: already there; move it away or name another file",
                         file);
    if (fd < 0)
        return fault_errno(fault, errno, "%s", file);
    enum err err = write_all(fd, pem, len, file, fault);
    if (close(fd) != 0 && !err)
        err = fault_errno(fault, errno, "%s", file);
    if (err)
        unlink(file); /* half a key is worse than none */
    return err;
}

enum err keytool_make(enum key_type type, const char *file, struct fault *fault)
{
    char *pem = NULL;
    EVP_PKEY *key = generate(type);
    BIO *bio = BIO_new(BIO_s_secmem());
    enum err err = ERR_UNSUPPORTED;

    if (key && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)) {
        long len = BIO_get_mem_data(bio, &pem);
        err = create(file, pem, (size_t)len, fault);
    } else {
        ERR_clear_error();
        fault_set(fault, err, "OpenSSL cannot make this kind of key");
    }
    BIO_free(bio);
    EVP_PKEY_free(key);
    return err;
}

/* What goes into p=: the raw 32 octets for Ed25519 (RFC 8463 section 4), the
 * SubjectPublicKeyInfo for RSA. */
static bool public_part(const EVP_PKEY *key, unsigned char **out_bytes, size_t *out_len)
{
    unsigned char *bytes = NULL;
    size_t len = 32;

    if (EVP_PKEY_is_a(key, "ED25519")) {
        bytes = OPENSSL_malloc(len);
        if (!bytes || EVP_PKEY_get_raw_public_key(key, bytes, &len) != 1) {
            OPENSSL_free(bytes);
            return false;
        }
    } else {
        int n = i2d_PUBKEY(key, &bytes);
        if (n <= 0)
            return false;
        len = (size_t)n;
    }
    *out_bytes = bytes;
    *out_len = len;
    return true;
}

static enum err record_of(const EVP_PKEY *key, struct buf *out, struct fault *fault)
{
    unsigned char *bytes;
    size_t len;

    if (!public_part(key, &bytes, &len))
        return fault_set(fault, ERR_UNSUPPORTED, "OpenSSL cannot give the public part of the key");
    unsigned char *text = mem_alloc(len / 3 * 4 + 8);
    EVP_EncodeBlock(text, bytes, (int)len);
    buf_printf(out, "v=DKIM1; k=%s; p=%s", keyfile_type(key), (char *)text);
    free(text);
    OPENSSL_free(bytes);
    return out->overflowed ? fault_set(fault, ERR_LIMIT, "the record is too long") : ERR_OK;
}

enum err keytool_record(const char *file, struct buf *out, struct fault *fault)
{
    EVP_PKEY *key;
    enum err err = keyfile_read(file, &key, fault);

    if (err)
        return err;
    err = record_of(key, out, fault);
    EVP_PKEY_free(key);
    return err;
}

enum err keytool_zone_line(const char *file, const char *selector, const char *domain,
                           struct buf *out, struct fault *fault)
{
    struct buf record;

    buf_init(&record, 4096);
    enum err err = keytool_record(file, &record, fault);
    if (!err) {
        struct str rest = buf_view(&record);
        buf_printf(out, "%s._domainkey.%s. IN TXT", selector, domain);
        for (; rest.len; rest = str_from(rest, TXT_STRING_MAX)) {
            struct str piece = str_head(rest, TXT_STRING_MAX);
            buf_printf(out, " \"" STR_FMT "\"", STR_ARG(piece));
        }
        if (out->overflowed)
            err = fault_set(fault, ERR_LIMIT, "the zone line is too long");
    }
    buf_clear(&record);
    return err;
}

/* The value of one tag of a tag=value list, false when it is not there. */
static bool find_tag(struct str list, struct str name, struct str *out_value)
{
    struct str rest = list, tag;

    while (str_next(&rest, ';', &tag)) {
        size_t equals = str_chr(tag, '=');
        if (!str_eq(str_trim(str_head(tag, equals)), name))
            continue;
        *out_value = str_trim(str_from(tag, equals + 1));
        return true;
    }
    return false;
}

static bool list_has(struct str list, struct str word)
{
    struct str rest = list, item;

    while (str_next(&rest, ':', &item)) {
        if (str_eq(str_trim(item), word))
            return true;
    }
    return false;
}

/* Folding white space is allowed inside base64 and changes nothing. */
static bool same_base64(struct str a, struct str b)
{
    size_t i = 0, j = 0;

    for (;;) {
        while (i < a.len && strchr(" \t\r\n", a.at[i]))
            i++;
        while (j < b.len && strchr(" \t\r\n", b.at[j]))
            j++;
        if (i == a.len || j == b.len)
            return i == a.len && j == b.len;
        if (a.at[i++] != b.at[j++])
            return false;
    }
}

static enum err compare_key(struct str txt, struct str ours, struct fault *fault)
{
    struct str value, own = STR_EMPTY, own_type = STR_EMPTY;

    find_tag(ours, STR("k"), &own_type);
    find_tag(ours, STR("p"), &own);
    if (!find_tag(txt, STR("k"), &value))
        value = STR("rsa");
    if (!str_eq(value, own_type))
        return fault_set(fault, ERR_INVALID,
                         "the record is for another type of key (k=), not " STR_FMT,
                         STR_ARG(own_type));
    if (!find_tag(txt, STR("p"), &value))
        return fault_set(fault, ERR_INVALID, "the record has no key (p=)");
    if (!value.len)
        return fault_set(fault, ERR_INVALID, "the record revokes the key (p= is empty)");
    if (!same_base64(value, own))
        return fault_set(
            fault, ERR_INVALID,
            "the record carries another key (p= differs): publish the new one, or sign "
            "with the old");
    return ERR_OK;
}

static enum err compare_rest(struct str txt, struct fault *fault)
{
    struct str value;

    if (find_tag(txt, STR("v"), &value) && !str_eq(value, STR("DKIM1")))
        return fault_set(fault, ERR_INVALID, "the record is not a DKIM key (v= is not DKIM1)");
    if (find_tag(txt, STR("h"), &value) && !list_has(value, STR("sha256")))
        return fault_set(fault, ERR_INVALID, "the record does not allow sha256 (h=)");
    if (find_tag(txt, STR("s"), &value) && !list_has(value, STR("*")) &&
        !list_has(value, STR("email")))
        return fault_set(fault, ERR_INVALID, "the record is not for mail (s=)");
    return ERR_OK;
}

enum err keytool_compare(const char *file, struct str txt, struct fault *fault)
{
    struct buf ours;

    buf_init(&ours, 4096);
    enum err err = keytool_record(file, &ours, fault);
    if (!err)
        err = compare_rest(txt, fault);
    if (!err)
        err = compare_key(txt, buf_view(&ours), fault);
    buf_clear(&ours);
    return err;
}
