/*
 * keyring.c - loading keys, finding those of a From domain.
 */
#include "dkim/keyring.h"

#include "dkim/keyfile.h"
#include "dkim/ring.h"

#include <pthread.h>
#include <stdlib.h>

static struct str lowered(struct arena *arena, struct str s)
{
    char *copy = arena_cstr(arena, s);

    str_lower(copy, s.len);
    return str_make(copy, s.len);
}

/* What may stand in d= and s=, and in the name of a DNS record. */
static bool is_dns_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.at[i];
        if (!(c == '.' || c == '-' || c == '_' || (c >= '0' && c <= '9') ||
              (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            return false;
    }
    return name.len > 0 && name.len <= 253 && name.at[0] != '.' && name.at[name.len - 1] != '.';
}

static enum err check_names(const struct ring_key *key, const char *file, struct fault *fault)
{
    if (str_eq(key->sign_as, STR("*")))
        return fault_set(fault, ERR_INVALID,
                         "%s: the fallback for all domains needs a domain to sign as", file);
    if (!is_dns_name(key->sign_as))
        return fault_set(fault, ERR_INVALID, "%s: \"%s\" is not a domain in DNS form", file,
                         key->sign_as.at);
    if (!is_dns_name(key->selector))
        return fault_set(fault, ERR_INVALID, "%s: \"%s\" is not a selector in DNS form", file,
                         key->selector.at);
    return ERR_OK;
}

static bool same_place(const struct ring_key *a, const struct ring_key *b)
{
    return str_eq(a->domain, b->domain) && str_eq(a->sign_as, b->sign_as) &&
           str_ieq(a->selector, b->selector);
}

static enum err check_unique(const struct keyring *keyring, const struct ring_key *key,
                             const char *file, struct fault *fault)
{
    size_t same_domain = 0;

    for (size_t i = 0; i < keyring->count; i++) {
        if (same_place(&keyring->keys[i], key))
            return fault_set(fault, ERR_EXISTS, "%s: domain %s has selector %s twice", file,
                             key->domain.at, key->selector.at);
        same_domain += str_eq(keyring->keys[i].domain, key->domain);
    }
    if (same_domain >= RING_MATCH_MAX)
        return fault_set(fault, ERR_LIMIT, "%s: more than %d keys for domain %s", file,
                         RING_MATCH_MAX, key->domain.at);
    return ERR_OK;
}

static pthread_once_t mark_once = PTHREAD_ONCE_INIT;
static int mark_index;

static void mark_freed(void *parent, void *mark, CRYPTO_EX_DATA *data, int index, long argl,
                       void *argp)
{
    (void)parent, (void)data, (void)index, (void)argl, (void)argp;
    if (mark)
        *(bool *)mark = true;
}

static void mark_setup(void)
{
    mark_index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_EVP_PKEY, 0, NULL, NULL, NULL, mark_freed);
}

static enum err trial(struct keyring *keyring, const struct ring_key *key, struct fault *fault)
{
    static const char head[] = "From: a@example.com\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\n";
    struct signer *signer = ring_signer(keyring, &key, 1);
    unsigned count;
    struct buf out;

    buf_init(&out, 16384);
    enum err err = signer_head(signer, str_of(head), fault);
    if (!err)
        err = signer_body(signer, STR("trial\r\n"), fault);
    if (!err)
        err = signer_end(signer, &out, &count, fault);
    signer_free(&signer);
    buf_clear(&out);
    return err;
}

/* One signature with a copy of the key: does it work, is the key really taken
 * from us (keylend.h), and does the library give its reference back? Debian's
 * does for RSA and does not for Ed25519; left alone, the counter would overflow
 * after 2^31 signatures. */
static enum err try_key(struct keyring *keyring, struct ring_key *key, const char *file,
                        struct fault *fault)
{
    struct fault why;
    bool freed = false;
    struct ring_key copy = *key;

    copy.key = EVP_PKEY_dup(key->key);
    pthread_once(&mark_once, mark_setup);
    EVP_PKEY_set_ex_data(copy.key, mark_index, &freed);
    enum err err = trial(keyring, &copy, &why);
    EVP_PKEY_free(copy.key);
    key->library_keeps = !freed;
    if (!freed) /* undo what the library forgot */
        EVP_PKEY_free(copy.key);
    if (err)
        return fault_set(fault, err, "%s: a trial signature failed: %s", file, why.text);
    return ERR_OK;
}

static enum err load_key(struct keyring *keyring, const struct keyring_key *from,
                         struct fault *fault)
{
    struct ring_key *key = &keyring->keys[keyring->count];

    *key = (struct ring_key){
        .domain = lowered(&keyring->arena, str_of(from->domain)),
        .sign_as = lowered(&keyring->arena, str_of(from->sign_as ? from->sign_as : from->domain)),
        .selector = arena_str(&keyring->arena, str_of(from->selector)),
        .body_form = from->canon == CANON_SIMPLE_BODY ? DKIM_CANON_SIMPLE : DKIM_CANON_RELAXED,
    };
    enum err err = check_names(key, from->file, fault);
    if (!err)
        err = check_unique(keyring, key, from->file, fault);
    if (!err)
        err = keyfile_read(from->file, &key->key, fault);
    if (err)
        return err;
    keyring->count++; /* from here keyring_unref() frees the key */
    key->algorithm = EVP_PKEY_is_a(key->key, "RSA") ? DKIM_SIGN_RSASHA256 : DKIM_SIGN_ED25519SHA256;
    return try_key(keyring, key, from->file, fault);
}

enum err keyring_new(const struct keyring_key *keys, size_t count, struct keyring **out_keyring,
                     struct fault *fault)
{
    struct keyring *keyring = mem_alloc(sizeof(*keyring));

    atomic_init(&keyring->refs, 1);
    arena_init(&keyring->arena);
    keyring->keys = mem_alloc((count ? count : 1) * sizeof(*keyring->keys));
    enum err err = ring_library(&keyring->library, fault);
    for (size_t i = 0; !err && i < count; i++)
        err = load_key(keyring, &keys[i], fault);
    if (err) {
        keyring_unref(&keyring);
        return err;
    }
    *out_keyring = keyring;
    return ERR_OK;
}

struct keyring *keyring_ref(struct keyring *keyring)
{
    atomic_fetch_add(&keyring->refs, 1);
    return keyring;
}

void keyring_unref(struct keyring **keyring_at)
{
    struct keyring *keyring = *keyring_at;

    *keyring_at = NULL;
    if (!keyring || atomic_fetch_sub(&keyring->refs, 1) != 1)
        return;
    for (size_t i = 0; i < keyring->count; i++)
        EVP_PKEY_free(keyring->keys[i].key);
    if (keyring->library)
        dkim_close(keyring->library);
    free(keyring->keys);
    arena_clear(&keyring->arena);
    free(keyring);
}

size_t keyring_count(const struct keyring *keyring) { return keyring->count; }

static size_t match_exactly(const struct keyring *keyring, struct str domain,
                            const struct ring_key *out_keys[RING_MATCH_MAX])
{
    size_t found = 0;

    for (size_t i = 0; i < keyring->count && found < RING_MATCH_MAX; i++) {
        if (str_ieq(keyring->keys[i].domain, domain))
            out_keys[found++] = &keyring->keys[i];
    }
    return found;
}

size_t ring_match(const struct keyring *keyring, struct str from_domain,
                  const struct ring_key *out_keys[RING_MATCH_MAX])
{
    struct str domain = from_domain;

    if (domain.len && domain.at[domain.len - 1] == '.')
        domain.len--;
    while (domain.len) {
        size_t found = match_exactly(keyring, domain, out_keys);
        if (found)
            return found;
        domain = str_from(domain, str_chr(domain, '.') + 1);
    }
    return match_exactly(keyring, STR("*"), out_keys);
}

size_t keyring_match(const struct keyring *keyring, struct str from_domain)
{
    const struct ring_key *keys[RING_MATCH_MAX];

    return ring_match(keyring, from_domain, keys);
}

const char *ring_algorithm_word(const struct ring_key *key)
{
    return key->algorithm == DKIM_SIGN_RSASHA256 ? "rsa-sha256" : "ed25519-sha256";
}
