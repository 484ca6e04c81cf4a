/*
 * remake.c - a message re-encoded and signed as one piece of blocking work.
 */
#include "relay/intake/remake.h"

#include "dkim/signer.h"
#include "relay/mail/convert.h"

#include <stdlib.h>

typedef enum err piece_fn(void *arg, struct str piece, struct fault *fault);

static enum err body_each(struct body *body, piece_fn *fn, void *arg, struct fault *fault)
{
    struct str all;
    char *window;
    size_t got = 0;
    enum err rc;

    if (body_is_inline(body, &all))
        return all.len ? fn(arg, all, fault) : ERR_OK;
    window = mem_alloc(BODY_WINDOW);
    for (uint64_t at = 0;; at += got) {
        rc = body_read(body, at, window, BODY_WINDOW, &got, fault);
        if (rc || got == 0)
            break;
        rc = fn(arg, str_make(window, got), fault);
        if (rc)
            break;
    }
    free(window);
    return rc;
}

static enum err plan_piece(void *arg, struct str piece, struct fault *fault)
{
    (void)fault;
    convert_plan_feed(arg, piece);
    return ERR_OK;
}

struct rewriting {
    struct convert *convert;
    struct body_writer *writer;
    struct buf out;
};

static enum err rewrite_flush(struct rewriting *rewriting, struct fault *fault)
{
    bool full = body_writer_add(rewriting->writer, buf_view(&rewriting->out));

    if (rewriting->out.overflowed)
        return fault_set(fault, ERR_LIMIT, "a re-encoded part grew out of bounds");
    buf_reset(&rewriting->out);
    return full ? body_writer_flush(rewriting->writer, fault) : ERR_OK;
}

static enum err rewrite_piece(void *arg, struct str piece, struct fault *fault)
{
    struct rewriting *rewriting = arg;

    /* Bounded steps, so that an inline body does not double in one buffer. */
    for (size_t at = 0; at < piece.len; at += BODY_WINDOW) {
        convert_feed(rewriting->convert, str_head(str_from(piece, at), BODY_WINDOW),
                     &rewriting->out);
        enum err rc = rewrite_flush(rewriting, fault);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static enum err rewrite(const struct convert_plan *plan, struct body *body, const char *folder,
                        const struct msgid *id, struct buf *out_head, struct body **out_body,
                        struct fault *fault)
{
    struct rewriting rewriting = { .writer = body_writer_new(folder, id) };
    enum err rc;

    /* Quoted-printable triples at the worst, plus what the converter held back. */
    buf_init(&rewriting.out, 6 * BODY_WINDOW);
    rewriting.convert = convert_new(plan, out_head);
    rc = body_each(body, rewrite_piece, &rewriting, fault);
    if (!rc) {
        convert_end(rewriting.convert, &rewriting.out);
        rc = rewrite_flush(&rewriting, fault);
    }
    if (!rc)
        rc = body_writer_seal(rewriting.writer, out_body, fault);
    convert_free(&rewriting.convert);
    body_writer_free(&rewriting.writer);
    buf_clear(&rewriting.out);
    return rc;
}

enum err remake_convert(struct str head, struct body *body, unsigned want, unsigned own_signatures,
                        const char *folder, const struct msgid *id, struct buf *out_head,
                        struct body **out_body, struct fault *fault)
{
    struct convert_plan *plan = convert_plan_new(head, want, own_signatures);
    bool needed = false;
    enum err rc = body_each(body, plan_piece, plan, fault);

    *out_body = NULL;
    if (!rc)
        rc = convert_plan_end(plan, &needed, fault);
    if (!rc && needed)
        rc = rewrite(plan, body, folder, id, out_head, out_body, fault);
    convert_plan_free(&plan);
    return rc;
}

static enum err sign_piece(void *arg, struct str piece, struct fault *fault)
{
    return signer_body(arg, piece, fault);
}

enum err remake_sign(struct keyring *keyring, struct str from_domain, struct str head,
                     struct body *body, struct buf *out_fields, unsigned *out_count,
                     struct buf *out_words, struct fault *fault)
{
    struct signer *signer = signer_new(keyring, from_domain);
    enum err rc;

    *out_count = 0;
    if (!signer)
        return ERR_OK;
    rc = signer_head(signer, head, fault);
    if (!rc)
        rc = body_each(body, sign_piece, signer, fault);
    if (!rc)
        rc = signer_end(signer, out_fields, out_count, fault);
    if (!rc)
        buf_str(out_words, signer_words(signer));
    signer_free(&signer);
    return rc;
}
