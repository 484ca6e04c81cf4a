/*
 * users_secret.c - passwords to what is stored of them, and back to yes or no.
 *
 * Slow on purpose: never on a loop.
 */
#include "relay/ingress/users_impl.h"

#include <crypt.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static bool same(const char *a, const char *b, size_t len)
{
    unsigned char differs = 0;

    for (size_t i = 0; i < len; i++)
        differs |= (unsigned char)(a[i] ^ b[i]);
    return differs == 0;
}

/* crypt_data is 32 KiB and holds the password: heap, and wiped. */
static bool crypt_hash(const char *password, const char *setting, char out[CRYPT_OUTPUT_SIZE])
{
    struct crypt_data *data = mem_alloc(sizeof(*data));
    const char *hash = crypt_r(password, setting, data);
    bool ok = hash && hash[0] != '*';

    if (ok)
        str_copy(out, CRYPT_OUTPUT_SIZE, str_of(hash));
    explicit_bzero(data, sizeof(*data));
    free(data);
    return ok;
}

static bool new_hash(const char *password, char out[CRYPT_OUTPUT_SIZE])
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];

    return crypt_gensalt_rn("$y$", 0, NULL, 0, setting, (int)sizeof(setting)) &&
           crypt_hash(password, setting, out);
}

bool users_password_ok(const struct user *user_or_null, struct str password)
{
    struct fault fault;
    char text[USERS_PASSWORD_MAX + 1], hash[CRYPT_OUTPUT_SIZE];
    bool fits = users_password_fit(password, &fault) == ERR_OK;
    bool ok = false;

    str_copy(text, sizeof(text), fits ? password : STR("-"));
    if (user_or_null && user_or_null->hash.len > 0) {
        ok = crypt_hash(text, user_or_null->hash.at, hash) &&
             str_eq(str_of(hash), user_or_null->hash) && fits;
    } else {
        /* As long as for the others, so that the time does not tell who exists. */
        (void)new_hash(text, hash);
        if (user_or_null)
            ok = fits && user_or_null->clear.len == password.len &&
                 same(user_or_null->clear.at, password.at, password.len);
    }
    explicit_bzero(text, sizeof(text));
    return ok;
}

static enum err make_scram(struct str password, struct arena *arena, struct user *user,
                           struct fault *fault)
{
    char *octets = arena_alloc(arena, 16 + 32 + 32);
    enum err rc;

    if (getrandom(octets, 16, 0) != 16)
        return fault_errno(fault, errno, "no random octets");
    rc = sasl_scram_derive(password, str_make(octets, 16), USERS_SCRAM_ITERATIONS,
                           (uint8_t *)octets + 16, (uint8_t *)octets + 48, fault);
    user->has_scram = true;
    user->scram = (struct sasl_secret){
        .known = true,
        .scram_salt = str_make(octets, 16),
        .scram_iterations = USERS_SCRAM_ITERATIONS,
        .scram_stored_key = str_make(octets + 16, 32),
        .scram_server_key = str_make(octets + 48, 32),
    };
    return rc;
}

static enum err make_hash(struct str password, struct arena *arena, struct user *user,
                          struct fault *fault)
{
    char text[USERS_PASSWORD_MAX + 1], hash[CRYPT_OUTPUT_SIZE];
    bool ok;

    str_copy(text, sizeof(text), password);
    ok = new_hash(text, hash);
    explicit_bzero(text, sizeof(text));
    if (!ok)
        return fault_set(fault, ERR_UNSUPPORTED, "libcrypt cannot make yescrypt hashes");
    user->hash = arena_str(arena, str_of(hash));
    return ERR_OK;
}

enum err users_secret_make(const struct user_change *change, struct arena *arena, struct user *user,
                           struct fault *fault)
{
    enum err rc = users_password_fit(change->password, fault);

    user->hash = user->clear = STR_EMPTY;
    if (!rc && change->clear)
        user->clear = arena_str(arena, change->password);
    else if (!rc)
        rc = make_hash(change->password, arena, user, fault);
    if (!rc && change->scram)
        rc = make_scram(change->password, arena, user, fault);
    return rc;
}
