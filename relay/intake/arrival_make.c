/*
 * arrival_make.c - the part of an arrival that may block: its body sealed, its
 * over-long lines re-encoded, its signatures made.
 */
#include "relay/intake/arrival.h"
#include "relay/intake/remake.h"
#include "relay/mail/convert.h"

bool arrival_needs_worker(const struct arrival *arrival)
{
    return arrival->wants_signature || arrival->end.has_long_line ||
           (arrival->writer && body_writer_has_file(arrival->writer));
}

bool arrival_seal(struct arrival *arrival)
{
    if (!arrival->writer) {
        arrival->message->body = body_of_bytes(STR_EMPTY);
        return true;
    }
    if (body_writer_seal(arrival->writer, &arrival->message->body, &arrival->fault)) {
        arrival_refuse_store(arrival, arrival->fault.err);
        return false;
    }
    body_writer_free(&arrival->writer);
    return true;
}

static bool shorten_lines(struct arrival *arrival)
{
    struct body *body = NULL;
    struct buf head;
    enum err rc;

    buf_init(&head, arrival->head.max);
    rc = remake_convert(buf_view(&arrival->head), arrival->message->body, CONVERT_LONG_LINES, 0,
                        arrival->folder, arrival_id(arrival), &head, &body, &arrival->fault);
    if (rc == ERR_DENIED)
        arrival_refuse(arrival, 550, STATUS(5, 6, 0), arrival->fault.text);
    else if (rc)
        arrival_refuse_store(arrival, rc);
    if (!rc && body) {
        body_discard(&arrival->message->body);
        arrival->message->body = body;
        buf_clear(&arrival->head);
        arrival->head = head;
        arrival->was_converted = true;
        return true;
    }
    buf_clear(&head);
    return rc == ERR_OK;
}

static void sign(struct arrival *arrival)
{
    enum err rc =
        remake_sign(arrival->keyring, arrival->found.from_domain, buf_view(&arrival->head),
                    arrival->message->body, &arrival->signatures, &arrival->signature_count,
                    &arrival->signer_words, &arrival->fault);

    if (rc == ERR_INVALID)
        arrival_refuse(arrival, 550, STATUS(5, 6, 0), arrival->fault.text);
    else if (rc)
        arrival_refuse_store(arrival, rc);
}

static void make(struct arrival *arrival)
{
    if (!arrival_seal(arrival))
        return;
    if (arrival->end.has_long_line && !shorten_lines(arrival))
        return;
    if (arrival->wants_signature)
        sign(arrival);
}

void arrival_make(struct arrival *arrival)
{
    make(arrival);
    /* A body that the store will never see; its file goes here, off the loop. */
    if (arrival->refusal.code && arrival->message->body)
        body_discard(&arrival->message->body);
}
