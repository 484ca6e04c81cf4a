/*
 * dkim_sign.c - signs one message, for dkim_verify.py to check.
 *
 * usage: dkim_sign DOMAIN FORMS SELECTOR=KEYFILE... < message > signed message
 * FORMS: c= of the signatures, relaxed/simple for example.
 * Pieces are cut at odd places on purpose. Exit 65: the message cannot be
 * signed (its reason on stderr).
 */
#include "dkim/signer.h"

#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#define KEYS_MAX 4
#define PIECE 997

static enum err sign(struct keyring *keyring, const char *domain, struct str message,
                     struct buf *out, struct fault *fault)
{
    size_t end = str_find(message, STR("\r\n\r\n"));
    struct str head = str_starts(message, STR("\r\n")) ? STR_EMPTY : str_head(message, end + 2);
    struct str body = str_from(message, head.len + 2);
    struct signer *signer = signer_new(keyring, str_of(domain));
    unsigned count;

    enum err err = signer_head(signer, head, fault);
    for (; !err && body.len; body = str_from(body, PIECE))
        err = signer_body(signer, str_head(body, PIECE), fault);
    if (!err)
        err = signer_end(signer, out, &count, fault);
    signer_free(&signer);
    return err;
}

static bool read_forms(const char *word, enum canon *out_canon)
{
    static const char *const words[] = {
#define X(name, word) [CANON_##name] = word,
        CANON_MAP(X)
#undef X
    };

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        *out_canon = (enum canon)i;
        if (!strcmp(words[i], word))
            return true;
    }
    return false;
}

static struct str read_all(FILE *from)
{
    char *bytes = NULL;
    size_t len = 0, got;

    do {
        bytes = mem_realloc(bytes, len + 65536);
        got = fread(bytes + len, 1, 65536, from);
        len += got;
    } while (got);
    return str_make(bytes, len);
}

int main(int argc, char **argv)
{
    struct keyring_key keys[KEYS_MAX];
    struct keyring *keyring;
    struct fault fault;
    struct buf out;
    enum canon canon;
    size_t count = 0;

    if (argc < 4 || !read_forms(argv[2], &canon))
        return EX_USAGE;
    for (int i = 3; i < argc && count < KEYS_MAX; i++) {
        char *equals = strchr(argv[i], '=');
        if (!equals)
            return EX_USAGE;
        *equals = '\0';
        keys[count++] = (struct keyring_key){
            .domain = argv[1], .selector = argv[i], .file = equals + 1, .canon = canon
        };
    }
    buf_init(&out, 65536);
    struct str message = read_all(stdin);
    enum err err = keyring_new(keys, count, &keyring, &fault);
    if (!err) {
        err = sign(keyring, argv[1], message, &out, &fault);
        keyring_unref(&keyring);
    }
    if (err)
        fprintf(stderr, "%s\n", fault.text);
    else if (fwrite(out.at, 1, out.len, stdout) != out.len ||
             fwrite(message.at, 1, message.len, stdout) != message.len)
        err = ERR_IO;
    free((void *)(uintptr_t)message.at);
    buf_clear(&out);
    return err == ERR_INVALID ? EX_DATAERR : err ? EX_SOFTWARE : EX_OK;
}
