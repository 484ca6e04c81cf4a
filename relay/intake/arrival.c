/*
 * arrival.c - a message on its way in: pieces taken, then made, then stored.
 *
 * The loop's part of intake. Nothing here blocks: side files, conversion and
 * private keys are arrival_make.c's, on a worker.
 */
#include "relay/intake/arrival.h"

static void arrival_free(struct arrival *arrival)
{
    arrival->intake->busy--;
    arrival_unhold(arrival);
    loop_undefer(arrival->intake->loop, &arrival->deferred);
    body_writer_free_later(&arrival->writer, loop_pool(arrival->intake->loop));
    message_unref(&arrival->message);
    if (arrival->keyring)
        keyring_unref(&arrival->keyring);
    locals_unref(&arrival->locals);
    buf_clear(&arrival->head_raw);
    buf_clear(&arrival->head);
    buf_clear(&arrival->signatures);
    buf_clear(&arrival->signer_words);
    arena_clear(&arrival->arena);
    free(arrival);
}

void arrival_refuse(struct arrival *arrival, unsigned code, struct status status, const char *text)
{
    if (arrival->refusal.code == 0)
        reply_set(&arrival->refusal, code, status, "%s", text);
}

void arrival_refuse_store(struct arrival *arrival, enum err err)
{
    if (err == ERR_FULL)
        arrival_refuse(arrival, 452, STATUS(4, 3, 1),
                       "No room to keep the message now, try again later");
    else
        arrival_refuse(arrival, 451, STATUS(4, 3, 0),
                       "The message could not be kept, try again later");
}

struct arrival *arrival_begin(struct intake *intake, const struct envelope *envelope,
                              const struct arrival_facts *facts)
{
    struct arrival *arrival = mem_alloc(sizeof(*arrival));

    arrival->intake = intake;
    intake->busy++;
    arrival->began_us = loop_wall_us(intake->loop);
    arrival->message = message_new();
    envelope_copy(&arrival->message->envelope, envelope);
    arrival->message->envelope.id = facts->id ? *facts->id : loop_msgid(intake->loop);
    arrival->message->envelope.arrived_us = arrival->began_us;
    arena_init(&arrival->arena);
    arrival->facts = *facts;
    arrival->facts.with = arena_str(&arrival->arena, facts->with);
    arrival->facts.tls = arena_str(&arrival->arena, facts->tls);
    arrival->facts.client_address = arena_str(&arrival->arena, facts->client_address);
    arrival->facts.submitter = arena_str(&arrival->arena, facts->submitter);
    if (intake->options.keyring)
        arrival->keyring = keyring_ref(intake->options.keyring);
    if (intake->options.locals)
        arrival->locals = locals_ref(intake->options.locals);
    arrival->folder = store_folder(intake->options.store);
    header_scan_init(&arrival->scan);
    buf_init(&arrival->head_raw, intake->options.header_max + (64U << 10));
    /* Added fields, encoded words: the mended block may be a few times larger. */
    buf_init(&arrival->head, intake->options.header_max * 4 + (64U << 10));
    buf_init(&arrival->signatures, 64U << 10);
    buf_init(&arrival->signer_words, 1024);
    return arrival;
}

const struct msgid *arrival_id(const struct arrival *arrival)
{
    return &arrival->message->envelope.id;
}

/* ---- receiving ---- */

static void flush_run(struct job *job)
{
    struct arrival *arrival = container_of(job, struct arrival, job);

    if (body_writer_flush(arrival->writer, &arrival->fault))
        arrival_refuse_store(arrival, arrival->fault.err);
}

static void flush_done(struct job *job)
{
    struct arrival *arrival = container_of(job, struct arrival, job);
    arrival_room_fn *room = arrival->room;

    arrival->busy = false;
    arrival_hold(arrival);
    if (arrival->aborted) {
        arrival_free(arrival);
        return;
    }
    arrival->room = NULL;
    room(arrival->room_arg);
}

static void arrival_post(struct arrival *arrival, enum pool_class kind, job_fn *run, job_fn *done)
{
    arrival->busy = true;
    arrival->job.run = run;
    arrival->job.done = done;
    arrival->job.reply_to = loop_mailbox(arrival->intake->loop);
    /* Neither class has a bound on its line: posting cannot fail. */
    (void)pool_post(loop_pool(arrival->intake->loop), kind, &arrival->job);
}

/* What was announced as too large for memory need not fill it first. */
static void writer_begin(struct arrival *arrival)
{
    arrival->writer = body_writer_new(arrival->folder, arrival_id(arrival));
    if (arrival->facts.announced > BODY_INLINE_MAX)
        body_writer_keep(arrival->writer, BODY_WINDOW);
}

/* True while there is room. */
static bool body_add(struct arrival *arrival, struct str piece)
{
    bool is_over;

    if (piece.len == 0 || arrival->refusal.code)
        return true;
    if (!arrival->writer)
        writer_begin(arrival);
    arrival_keep_little(arrival);
    is_over = body_writer_add(arrival->writer, piece);
    arrival_hold(arrival);
    return !is_over;
}

/* A message whose very first line is no header field has no header at all (a
 * bare text piped into a client): all of it is body. Decided once, on the first line. */
static bool first_line_is_field(struct str head)
{
    size_t i = 0;

    if (head.len >= 2 && head.at[0] == '\r')
        return true; /* an empty header is a header */
    while (i < head.len && head.at[i] > ' ' && head.at[i] != ':' && head.at[i] < 127)
        i++;
    while (i > 0 && i < head.len && (head.at[i] == ' ' || head.at[i] == '\t'))
        i++;
    return i > 0 && i < head.len && head.at[i] == ':';
}

/* Give what was gathered as header to the body. */
static bool head_is_body(struct arrival *arrival)
{
    arrival->head_done = true;
    bool room = body_add(arrival, buf_view(&arrival->head_raw));
    buf_reset(&arrival->head_raw);
    return room;
}

static bool head_add(struct arrival *arrival, struct str piece, bool *out_room)
{
    size_t used = 0;
    bool whole = header_scan_feed(&arrival->scan, piece, &used);
    struct str head;

    if (!whole)
        used = piece.len;
    buf_append(&arrival->head_raw, piece.at, used);
    head = buf_view(&arrival->head_raw);
    if (!arrival->first_line_judged && str_chr(head, '\n') < head.len) {
        arrival->first_line_judged = true;
        if (!first_line_is_field(head)) {
            *out_room = head_is_body(arrival);
            *out_room = body_add(arrival, str_from(piece, used)) && *out_room;
            return false;
        }
    }
    if (head.len > arrival->intake->options.header_max || arrival->head_raw.overflowed)
        arrival_refuse(arrival, 552, STATUS(5, 3, 4), "The message header is too large");
    if (!whole)
        return false;
    arrival->head_done = true;
    *out_room = body_add(arrival, str_from(piece, used));
    return true;
}

bool arrival_feed(struct arrival *arrival, struct str piece, arrival_room_fn *room, void *arg)
{
    bool has_room = true;

    arrival_spare(arrival);
    if (arrival->refusal.code)
        return true;
    if (arrival->head_done)
        has_room = body_add(arrival, piece);
    else
        head_add(arrival, piece, &has_room);
    if (!arrival->writer)
        arrival_hold(arrival); /* of the header alone */
    if (has_room)
        return true;
    arrival->room = room;
    arrival->room_arg = arg;
    arrival_post(arrival, POOL_DISK, flush_run, flush_done);
    return false;
}

/* ---- handing over ---- */

static void arrival_finish(struct arrival *arrival)
{
    struct reply reply;
    char id[MSGID_TEXT + 1];

    if (arrival->refusal.code) {
        reply = arrival->refusal;
        /* A body that the store has never seen; it looks after those it has. */
        if (arrival->message->body && !arrival->accept.message)
            body_discard_later(&arrival->message->body, loop_pool(arrival->intake->loop));
    } else {
        msgid_print(arrival_id(arrival), id);
        reply_set(&reply, 250, STATUS(2, 0, 0), "queued as %s", id);
    }
    if (!arrival->aborted && arrival->made)
        arrival->made(arrival->done_arg,
                      arrival->refusal.code ? NULL : message_ref(arrival->message), &reply);
    else if (!arrival->aborted)
        arrival->done(arrival->done_arg, &reply);
    arrival_free(arrival);
}

static void finish_deferred(void *arg)
{
    struct arrival *arrival = arg;

    arrival->busy = false;
    arrival_finish(arrival);
}

/* For ends that are known inside arrival_end(): the caller is told later all the same. */
static void arrival_finish_later(struct arrival *arrival)
{
    arrival->busy = true;
    loop_defer(arrival->intake->loop, &arrival->deferred, finish_deferred, arrival);
}

static void accept_done(struct store_request *request)
{
    struct store_accept *accept = container_of(request, struct store_accept, request);
    struct arrival *arrival = container_of(accept, struct arrival, accept);

    arrival->busy = false;
    /* Handed in again after a crash: it is the same message. */
    if (request->err && !(request->err == ERR_EXISTS && arrival->facts.id)) {
        arrival->fault = request->fault;
        arrival_refuse_store(arrival, request->err);
    }
    arrival_tell_queued(arrival);
    arrival_finish(arrival);
}

/* The message is whole: signatures on top of the mended head. */
static void arrival_compose(struct arrival *arrival)
{
    struct message *message = arrival->message;
    struct buf head;

    if (arrival->signatures.len == 0) {
        message->head = buf_take(&arrival->head, &message->head_len);
    } else {
        buf_init(&head, arrival->signatures.len + arrival->head.len);
        buf_str(&head, buf_view(&arrival->signatures));
        buf_str(&head, buf_view(&arrival->head));
        message->head = buf_take(&head, &message->head_len);
    }
    message->own_signatures = arrival->signature_count;
    message->envelope.size_bytes = message->head_len + body_size(message->body);
}

/* Made or refused; on the loop. */
static void arrival_hand_over(struct arrival *arrival)
{
    arrival->made_us = loop_wall_us(arrival->intake->loop);
    if (!arrival->refusal.code) {
        /* A reload while it was signed: nobody would look for it in an old lane. */
        if (arrival->era != arrival->intake->era)
            arrival_set_lanes(arrival);
        arrival_compose(arrival);
    }
    arrival_tell_received(arrival);
    if (arrival->refusal.code || arrival->made) {
        if (!arrival->refusal.code)
            arrival_tell_made(arrival);
        arrival_finish_later(arrival);
        return;
    }
    arrival_tell_made(arrival);
    arrival->busy = true;
    arrival->accept.message = arrival->message;
    arrival->accept.request.reply_to = loop_mailbox(arrival->intake->loop);
    arrival->accept.request.done = accept_done;
    store_accept(arrival->intake->options.store, &arrival->accept);
}

static void make_run(struct job *job) { arrival_make(container_of(job, struct arrival, job)); }

static void make_done(struct job *job)
{
    struct arrival *arrival = container_of(job, struct arrival, job);

    arrival->busy = false;
    arrival_hand_over(arrival);
}

/* The header as it came has been used up. */
static bool mend(struct arrival *arrival)
{
    bool is_fine = arrival_mend(arrival);

    buf_clear(&arrival->head_raw);
    arrival_hold(arrival);
    return is_fine;
}

static void arrival_mend_and_make(struct arrival *arrival)
{
    if (arrival->refusal.code || !mend(arrival)) {
        arrival_hand_over(arrival);
    } else if (arrival_needs_worker(arrival)) {
        bool has_file = arrival->writer && body_writer_has_file(arrival->writer);
        arrival_post(arrival, has_file ? POOL_DISK : POOL_SIGN, make_run, make_done);
    } else {
        arrival_seal(arrival);
        arrival_hand_over(arrival);
    }
}

static void follow_run(struct job *job)
{
    struct arrival *arrival = container_of(job, struct arrival, job);

    arrival->is_led = arrival_follow(arrival);
}

static void follow_done(struct job *job)
{
    struct arrival *arrival = container_of(job, struct arrival, job);

    arrival->busy = false;
    /* Nothing was promised yet, and whoever could say what From is allowed is gone. */
    if (arrival->aborted) {
        arrival_free(arrival);
        return;
    }
    if (!arrival->is_led) {
        arrival_post(arrival, POOL_DISK, follow_run, follow_done);
        return;
    }
    arrival_take_led(arrival);
    arrival_mend_and_make(arrival);
}

static void arrival_end_either(struct arrival *arrival, const struct arrival_end *end)
{
    arrival->end = *end;
    arrival->making_us = loop_wall_us(arrival->intake->loop);
    arrival_spare(arrival);
    if (!arrival->head_done && arrival->head_raw.len && !arrival->first_line_judged &&
        !first_line_is_field(buf_view(&arrival->head_raw)))
        head_is_body(arrival);
    if (end->lacks_final_crlf) {
        if (arrival->head_done)
            body_add(arrival, STR("\r\n"));
        else
            buf_cstr(&arrival->head_raw, "\r\n");
    }
    if (!arrival->refusal.code)
        arrival_qualify_sender(arrival);
    if (arrival->refusal.code || !arrival_has_locals(arrival)) {
        arrival_mend_and_make(arrival);
        return;
    }
    arrival->follow_ms = loop_now_ms(arrival->intake->loop);
    arrival_post(arrival, POOL_DISK, follow_run, follow_done);
}

void arrival_end(struct arrival *arrival, const struct arrival_end *end, arrival_done_fn *done,
                 void *arg)
{
    arrival->done = done;
    arrival->done_arg = arg;
    arrival_end_either(arrival, end);
}

void arrival_end_unstored(struct arrival *arrival, const struct arrival_end *end,
                          arrival_made_fn *made, void *arg)
{
    arrival->made = made;
    arrival->done_arg = arg;
    arrival_end_either(arrival, end);
}

void arrival_abort(struct arrival **arrival_at)
{
    struct arrival *arrival = *arrival_at;

    *arrival_at = NULL;
    if (!arrival)
        return;
    arrival->aborted = true;
    if (!arrival->busy)
        arrival_free(arrival);
}
