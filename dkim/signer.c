/*
 * signer.c - one message, one libopendkim handle per key, all fed the same bytes.
 *
 * Every byte goes through dkim_header and dkim_body; the library's own line
 * fixing (FIXCRLF, dkim_chunk) makes wrong signatures on long fields.
 */
#include "dkim/signer.h"

#include "dkim/keylend.h"
#include "dkim/ring.h"

#include <openssl/err.h>
#include <stdlib.h>

#define NAME_WIDTH (sizeof("DKIM-Signature: ") - 1)

struct handle {
    const struct ring_key *key;
    DKIM *dkim;
};

struct signer {
    struct arena arena; /* all that the handles allocate */
    struct keyring *keyring;
    size_t count;
    bool head_is_closed;
    struct str words;
    struct handle handles[RING_MATCH_MAX];
};

static void write_words(struct signer *signer)
{
    char *words = arena_cstr(&signer->arena, STR_EMPTY);

    for (size_t i = 0; i < signer->count; i++) {
        const struct ring_key *key = signer->handles[i].key;
        words = arena_printf(&signer->arena, "%s%s%s/%s %s", words, i ? ", " : "", key->sign_as.at,
                             key->selector.at, ring_algorithm_word(key));
    }
    signer->words = str_of(words);
}

struct signer *ring_signer(struct keyring *keyring, const struct ring_key *const *keys,
                           size_t count)
{
    struct signer *signer = mem_alloc(sizeof(*signer));

    arena_init(&signer->arena);
    signer->keyring = keyring_ref(keyring);
    for (size_t i = 0; i < count; i++)
        signer->handles[signer->count++].key = keys[i];
    write_words(signer);
    return signer;
}

struct signer *signer_new(struct keyring *keyring, struct str from_domain)
{
    const struct ring_key *keys[RING_MATCH_MAX];
    size_t count = ring_match(keyring, from_domain, keys);

    return count ? ring_signer(keyring, keys, count) : NULL;
}

static void handle_close(struct handle *handle)
{
    if (handle->dkim)
        dkim_free(handle->dkim);
    handle->dkim = NULL;
}

void signer_free(struct signer **signer_at)
{
    struct signer *signer = *signer_at;

    *signer_at = NULL;
    if (!signer)
        return;
    for (size_t i = 0; i < signer->count; i++)
        handle_close(&signer->handles[i]);
    arena_clear(&signer->arena);
    keyring_unref(&signer->keyring);
    free(signer);
}

/* What the library says of a message it cannot sign, or of itself. */
static enum err judge(const struct handle *handle, DKIM_STAT status, const char *part,
                      struct fault *fault)
{
    const char *why = handle->dkim ? dkim_geterror(handle->dkim) : NULL;
    enum err err = status == DKIM_STAT_SYNTAX ? ERR_INVALID : ERR_UNSUPPORTED;

    if (status == DKIM_STAT_OK)
        return ERR_OK;
    if (!why || !*why)
        why = dkim_getresultstr(status);
    return fault_set(fault, err, "DKIM cannot sign the %s: %s", part, why);
}

/* The handles are made with the first field, so that a signer that is never fed
 * costs nothing but its name. */
static enum err open_handles(struct signer *signer, struct fault *fault)
{
    for (size_t i = 0; i < signer->count; i++) {
        struct handle *handle = &signer->handles[i];
        DKIM_STAT status = DKIM_STAT_OK;
        if (handle->dkim)
            continue;
        handle->dkim = dkim_sign(signer->keyring->library, (const u_char *)"waypost",
                                 &signer->arena, (dkim_sigkey_t)(uintptr_t)KEYLEND_TEXT,
                                 (const u_char *)handle->key->selector.at,
                                 (const u_char *)handle->key->sign_as.at, DKIM_CANON_RELAXED,
                                 handle->key->body_form, handle->key->algorithm, -1, &status);
        if (!handle->dkim)
            return judge(handle, status ? status : DKIM_STAT_INTERNAL, "message", fault);
    }
    return ERR_OK;
}

/* Cut the next field, folded lines included, off *rest; no CRLF at its end. */
static struct str next_field(struct str *rest)
{
    size_t at = 0;

    for (;;) {
        size_t line = str_find(str_from(*rest, at), STR("\r\n"));
        struct str after = str_from(*rest, at + line + 2);
        at += line;
        if (!after.len || (after.at[0] != ' ' && after.at[0] != '\t')) {
            struct str field = str_head(*rest, at);
            *rest = after;
            return field;
        }
        at += 2;
    }
}

/* RFC 5322 2.2: printable characters and a colon behind them. The library lets
 * "Reply-To :" pass, and then not every verifier reads the message as signed. */
static bool has_name(struct str field)
{
    size_t colon = str_chr(field, ':');

    for (size_t i = 0; i < colon; i++) {
        unsigned char c = (unsigned char)field.at[i];
        if (c <= 32 || c >= 127 || c == ';')
            return false;
    }
    return colon > 0 && colon < field.len;
}

static enum err feed_field(struct signer *signer, struct str field, unsigned number,
                           struct fault *fault)
{
    enum err err = ERR_OK;

    if (!has_name(field))
        return fault_set(fault, ERR_INVALID, "DKIM cannot sign header field %u: no proper name",
                         number);
    for (size_t i = 0; !err && i < signer->count; i++) {
        struct handle *handle = &signer->handles[i];
        DKIM_STAT status = dkim_header(handle->dkim, (u_char *)(uintptr_t)field.at, field.len);
        err = judge(handle, status, "header", fault);
    }
    return err;
}

enum err signer_head(struct signer *signer, struct str head, struct fault *fault)
{
    struct str rest = head;
    enum err err = open_handles(signer, fault);

    for (unsigned number = 1; !err && rest.len; number++) {
        struct str field = next_field(&rest);
        if (!field.len) /* the empty line */
            break;
        err = feed_field(signer, field, number, fault);
    }
    return err;
}

static enum err close_head(struct signer *signer, struct fault *fault)
{
    enum err err = open_handles(signer, fault);

    signer->head_is_closed = true;
    for (size_t i = 0; !err && i < signer->count; i++)
        err = judge(&signer->handles[i], dkim_eoh(signer->handles[i].dkim), "header", fault);
    return err;
}

enum err signer_body(struct signer *signer, struct str piece, struct fault *fault)
{
    enum err err = signer->head_is_closed ? ERR_OK : close_head(signer, fault);

    for (size_t i = 0; !err && piece.len && i < signer->count; i++) {
        struct handle *handle = &signer->handles[i];
        DKIM_STAT status = dkim_body(handle->dkim, (u_char *)(uintptr_t)piece.at, piece.len);
        err = judge(handle, status, "body", fault);
    }
    return err;
}

static enum err take_field(struct handle *handle, struct buf *out, struct fault *fault)
{
    u_char *text = NULL;
    size_t len = 0;
    DKIM_STAT status = dkim_getsighdr_d(handle->dkim, NAME_WIDTH, &text, &len);

    if (status != DKIM_STAT_OK)
        return judge(handle, status, "message", fault);
    bool fits =
        buf_cstr(out, "DKIM-Signature: ") && buf_append(out, text, len) && buf_cstr(out, "\r\n");
    return fits ? ERR_OK : fault_set(fault, ERR_LIMIT, "the DKIM signatures are too long");
}

static enum err sign_with(struct handle *handle, struct buf *out, struct fault *fault)
{
    keylend_begin(handle->key->key);
    DKIM_STAT status = dkim_eom(handle->dkim, NULL);
    unsigned given = keylend_end();
    enum err err = status == DKIM_STAT_OK ? take_field(handle, out, fault)
                                          : judge(handle, status, "message", fault);

    handle_close(handle);
    for (unsigned i = 0; handle->key->library_keeps && i < given; i++)
        EVP_PKEY_free(handle->key->key);
    return err;
}

enum err signer_end(struct signer *signer, struct buf *out_fields, unsigned *out_count,
                    struct fault *fault)
{
    size_t before = out_fields->len;
    enum err err = signer->head_is_closed ? ERR_OK : close_head(signer, fault);

    for (size_t i = 0; !err && i < signer->count; i++)
        err = sign_with(&signer->handles[i], out_fields, fault);
    if (err) {
        out_fields->len = before;
        ERR_clear_error(); /* this thread's next TLS call must not find our errors */
        return err;
    }
    *out_count = (unsigned)signer->count;
    return ERR_OK;
}

struct str signer_words(const struct signer *signer) { return signer->words; }
