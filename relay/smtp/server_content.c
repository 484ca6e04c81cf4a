/*
 * server_content.c - the content of a message, by DATA or by BDAT (RFC 3030).
 *
 * Whatever is wrong with the content, it is read to its end, so that no octet
 * of it is ever taken for a command; END then carries the refusal.
 */
#include "relay/smtp/server_impl.h"

static void begin_content(struct smtp_server *server)
{
    line_content_init(&server->content);
    server->content_octets = 0;
    server->too_big = false;
}

/* The clock of one stretch of content: a whole DATA, or one chunk. */
static void begin_stretch(struct smtp_server *server, enum server_phase phase)
{
    server->phase = phase;
    server->stamp = server->stamp_content = true;
    server->phase_octets = server->in.len;
}

/* A CONTENT event of what still fits the size limit; nothing when nothing does. */
static bool tell_content(struct smtp_server *server, struct str piece,
                         struct smtp_server_event *event)
{
    uint64_t room = server->too_big ? 0 : server->options.size_max - server->content_octets;

    if (piece.len > room) {
        server->too_big = true;
        piece.len = (size_t)room;
    }
    server->content_octets += piece.len;
    event->kind = SMTP_SERVER_CONTENT;
    event->bytes = piece;
    return piece.len > 0;
}

static const struct reply *judge(struct smtp_server *server)
{
    struct reply *refusal = &server->refusal;
    unsigned faults = server->content.faults;

    reply_clear(refusal);
    if (server->too_big)
        reply_set(refusal, 552, STATUS(5, 3, 4), "larger than the limit of %llu octets",
                  (unsigned long long)server->options.size_max);
    else if (faults & (LINE_CONTENT_BARE_CR | LINE_CONTENT_BARE_LF))
        reply_set(refusal, 550, STATUS(5, 6, 0),
                  "the content has a bare CR or LF: lines must end in CRLF");
    else if (faults & LINE_CONTENT_NUL)
        reply_set(refusal, 550, STATUS(5, 6, 0), "the content has a NUL octet");
    return refusal->code ? refusal : NULL;
}

static enum server_step tell_end(struct smtp_server *server, struct smtp_server_event *event)
{
    line_content_finish(&server->content);
    server->phase = SERVER_COMMAND;
    event->refusal = judge(server);
    event->has_8bit = server->content.has_8bit;
    event->has_long_line = server->content.faults & LINE_CONTENT_LONG;
    event->lacks_final_crlf = line_content_lacks_crlf(&server->content);
    return smtp_server_owe(server, event, SMTP_SERVER_END);
}

void smtp_server_answer_end(struct smtp_server *server, const struct reply *reply)
{
    /* Content that broke a rule is never accepted, whatever the driver says. */
    if (server->refusal.code && reply_is_positive(reply))
        reply = &server->refusal;
    if (reply_is_positive(reply))
        server->errors = server->idle_commands = 0;
    smtp_server_say(server, reply);
    smtp_server_end_transaction(server, false);
}

/* ---- DATA ---- */

enum server_step smtp_server_data(struct smtp_server *server, struct smtp_server_event *event)
{
    struct str in = buf_view(&server->in);
    size_t used;

    if (server->content.ended)
        return tell_end(server, event);
    if (in.len == 0) {
        buf_clear(&server->piece);
        return SERVER_WAIT;
    }
    buf_reset(&server->piece);
    char *out = buf_reserve(&server->piece, in.len + 1);
    size_t len = line_content_decode(&server->content, in, out, &used);
    buf_commit(&server->piece, len);
    smtp_server_drop_input(server, used);
    return tell_content(server, buf_view(&server->piece), event) ? SERVER_EVENT : SERVER_AGAIN;
}

/* ---- BDAT ---- */

static enum server_step swallow(struct smtp_server *server, const struct reply *refusal)
{
    server->held = *refusal;
    begin_stretch(server, SERVER_SWALLOW);
    return SERVER_AGAIN;
}

enum server_step smtp_server_begin_chunk(struct smtp_server *server, uint64_t size, bool is_last,
                                         const struct reply *refusal,
                                         struct smtp_server_event *event)
{
    server->chunk_left = server->chunk_size = size;
    server->chunk_last = is_last;
    if (refusal)
        return swallow(server, refusal);
    if (server->bdat) {
        begin_stretch(server, SERVER_BDAT);
        return SERVER_AGAIN;
    }
    event->is_bdat = server->is_bdat_owed = true;
    return smtp_server_owe(server, event, SMTP_SERVER_DATA);
}

/* A chunk refused leaves a hole in the content: the transaction is over, and
 * the chunks that follow find none. */
static void answer_chunk(struct smtp_server *server, const struct reply *reply)
{
    if (reply_is_positive(reply) || reply_is_intermediate(reply)) {
        server->bdat = true;
        begin_content(server);
        begin_stretch(server, SERVER_BDAT);
        return;
    }
    smtp_server_end_transaction(server, true);
    swallow(server, reply);
}

void smtp_server_answer_data(struct smtp_server *server, const struct reply *reply)
{
    struct reply go;

    if (server->is_bdat_owed) {
        answer_chunk(server, reply);
        return;
    }
    if (!reply_is_positive(reply) && !reply_is_intermediate(reply)) {
        smtp_server_say(server, reply);
        return;
    }
    reply_set(&go, 354, STATUS(0, 0, 0), "end with CRLF . CRLF");
    smtp_server_say(server, reply_is_intermediate(reply) ? reply : &go);
    begin_content(server);
    begin_stretch(server, SERVER_DATA);
}

static enum server_step end_chunk(struct smtp_server *server, struct smtp_server_event *event)
{
    /* No use in letting the client send the rest of what is too big. */
    if (server->chunk_last || server->too_big)
        return tell_end(server, event);
    server->phase = SERVER_COMMAND;
    smtp_server_refuse(server, 250, STATUS(2, 0, 0), "%llu octets received",
                       (unsigned long long)server->chunk_size);
    return SERVER_AGAIN;
}

static struct str chunk_piece(struct smtp_server *server)
{
    struct str piece = buf_view(&server->in);

    if (piece.len > server->chunk_left)
        piece.len = (size_t)server->chunk_left;
    server->chunk_left -= piece.len;
    return piece;
}

/* The event points into the input, which is dropped at the next call. */
enum server_step smtp_server_bdat(struct smtp_server *server, struct smtp_server_event *event)
{
    if (server->chunk_left == 0)
        return end_chunk(server, event);
    struct str piece = chunk_piece(server);
    if (piece.len == 0)
        return SERVER_WAIT;
    line_content_inspect(&server->content, piece);
    if (tell_content(server, piece, event)) {
        server->used = piece.len;
        return SERVER_EVENT;
    }
    smtp_server_drop_input(server, piece.len);
    return SERVER_AGAIN;
}

enum server_step smtp_server_swallow(struct smtp_server *server, struct smtp_server_event *event)
{
    struct str piece = chunk_piece(server);

    (void)event;
    smtp_server_drop_input(server, piece.len);
    if (server->chunk_left > 0)
        return SERVER_WAIT;
    server->phase = SERVER_COMMAND;
    smtp_server_say(server, &server->held);
    return SERVER_AGAIN;
}
