/*
 * client_send.c - what the client machine says: commands, the transaction,
 * the content.
 *
 * Everything goes through say(), which lets no line break into a command
 * whatever the caller passed, and each command is entered in the list of what
 * is to be answered in the moment it is written.
 */
#include "relay/smtp/client_impl.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#define SLICE ((size_t)16 * 1024)

/* ---- one command ---- */

void smtp_client_push(struct smtp_client *client, enum client_wait kind)
{
    if (client->run_count == 0)
        client->stamp = true;
    if (client->run_count > 0 && client->runs[client->run_count - 1].kind == kind) {
        client->runs[client->run_count - 1].count++;
        return;
    }
    assert(client->run_count < CLIENT_RUNS_MAX);
    client->runs[client->run_count++] = (struct client_run){ kind, 1 };
}

__attribute__((format(printf, 3, 4))) static void say(struct smtp_client *client,
                                                      enum client_wait kind, const char *format,
                                                      ...)
{
    va_list args;

    /* what is there cannot be the reply to what is said only now */
    if (client->run_count == 0 && (client->in.len > 0 || client->reply_grows))
        smtp_client_junk(client);
    if (client->dead)
        return;
    smtp_client_push(client, kind);
    va_start(args, format);
    buf_vprintf(&client->out, format, args);
    va_end(args);
    buf_append(&client->out, "\r\n", 2);
}

void smtp_client_ehlo(struct smtp_client *client)
{
    client->offer = (struct ext_offer){ 0 };
    client->is_esmtp = false;
    say(client, CLIENT_WAIT_EHLO, "EHLO %s", client->helo);
}

void smtp_client_helo(struct smtp_client *client)
{
    say(client, CLIENT_WAIT_HELO, "HELO %s", client->helo);
}

void smtp_client_starttls(struct smtp_client *client)
{
    say(client, CLIENT_WAIT_STARTTLS, "STARTTLS");
}

/* RFC 3207 6: what was read in clear behind the 220 may be an attacker's. */
void smtp_client_tls_started(struct smtp_client *client)
{
    if (client->in.len > 0)
        smtp_client_fail(client, ERR_INVALID, NULL,
                         "the server sent plaintext behind its reply to STARTTLS");
    client->awaits_tls = false;
    client->tls_active = true;
    client->is_esmtp = false;
    client->offer = (struct ext_offer){ 0 };
    client->stamp = true;
}

void smtp_client_auth(struct smtp_client *client, enum mechanism mechanism,
                      const struct str *initial_base64)
{
    const char *word = mechanism_word((enum mechanism_index)__builtin_ctz((unsigned)mechanism));

    if (!initial_base64)
        say(client, CLIENT_WAIT_AUTH, "AUTH %s", word);
    else if (initial_base64->len == 0) /* RFC 4954 4: an empty one is "=" */
        say(client, CLIENT_WAIT_AUTH, "AUTH %s =", word);
    else
        say(client, CLIENT_WAIT_AUTH, "AUTH %s " STR_FMT, word, STR_ARG(*initial_base64));
}

void smtp_client_auth_respond(struct smtp_client *client, struct str base64)
{
    say(client, CLIENT_WAIT_AUTH, STR_FMT, STR_ARG(base64));
}

void smtp_client_auth_cancel(struct smtp_client *client) { say(client, CLIENT_WAIT_AUTH, "*"); }

void smtp_client_rset(struct smtp_client *client)
{
    client->needs_rset = false;
    say(client, CLIENT_WAIT_RSET, "RSET");
}

/* In the middle of content QUIT would be content: then only closing is left.
 * Whoever says goodbye needs no fault told any more. */
void smtp_client_quit(struct smtp_client *client)
{
    if (client->dead || client->eof || client->sending || client->awaits_tls) {
        client->dead = client->tell_quit = true;
        client->tell_fault = false;
        return;
    }
    say(client, CLIENT_WAIT_QUIT, "QUIT");
}

/* ---- the envelope ---- */

static bool is_line_safe(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '\r' || text.at[i] == '\n' || text.at[i] == '\0')
            return false;
    }
    return true;
}

static bool is_sayable(const struct smtp_client_transaction *transaction)
{
    if (!is_line_safe(transaction->sender) || !is_line_safe(transaction->envid))
        return false;
    for (size_t i = 0; i < transaction->recipient_count; i++) {
        const struct recipient *recipient = transaction->recipients[i];
        if (!is_line_safe(recipient->address) || !is_line_safe(recipient->orcpt))
            return false;
    }
    return true;
}

static void say_mail(struct smtp_client *client, const struct smtp_client_transaction *mail)
{
    unsigned exts = client->offer.exts;
    char size[40] = "";
    bool has_ret = (exts & EXT_DSN) && mail->ret != RET_UNSET;
    bool has_envid = (exts & EXT_DSN) && mail->envid.len > 0;

    if ((exts & EXT_SIZE) && mail->size > 0)
        snprintf(size, sizeof(size), " SIZE=%llu", (unsigned long long)mail->size);
    say(client, CLIENT_WAIT_MAIL, "MAIL FROM:<" STR_FMT ">%s%s%s%s%s" STR_FMT,
        STR_ARG(mail->sender), size,
        mail->body_8bit && (exts & EXT_8BITMIME) ? " BODY=8BITMIME" : "",
        mail->smtputf8 && (exts & EXT_SMTPUTF8) ? " SMTPUTF8" : "",
        !has_ret                ? ""
        : mail->ret == RET_FULL ? " RET=FULL"
                                : " RET=HDRS",
        has_envid ? " ENVID=" : "", STR_ARG(has_envid ? mail->envid : STR_EMPTY));
}

void smtp_client_say_mail(struct smtp_client *client)
{
    client->mail_said = true;
    say_mail(client, client->transaction);
}

static void notify_words(uint8_t notify, char out[40])
{
    static const char *const words[] = { "NEVER", "SUCCESS", "FAILURE", "DELAY" };
    size_t len = 0;

    for (unsigned i = 0; i < 4; i++) {
        if (!(notify & (1u << i)))
            continue;
        if (len > 0)
            out[len++] = ',';
        len += str_copy(out + len, 40 - len, str_of(words[i]));
    }
    out[len] = '\0';
}

static void say_rcpt(struct smtp_client *client, const struct recipient *recipient)
{
    bool has_dsn = client->offer.exts & EXT_DSN;
    bool has_notify = has_dsn && recipient->notify != 0;
    bool has_orcpt = has_dsn && recipient->orcpt.len > 0;
    char notify[40];

    notify_words(recipient->notify, notify);
    say(client, CLIENT_WAIT_RCPT, "RCPT TO:<" STR_FMT ">%s%s%s" STR_FMT,
        STR_ARG(recipient->address), has_notify ? " NOTIFY=" : "", has_notify ? notify : "",
        has_orcpt ? " ORCPT=" : "", STR_ARG(has_orcpt ? recipient->orcpt : STR_EMPTY));
}

void smtp_client_say_rcpt(struct smtp_client *client, size_t index)
{
    say_rcpt(client, client->transaction->recipients[index]);
}

void smtp_client_say_data(struct smtp_client *client) { say(client, CLIENT_WAIT_DATA, "DATA"); }

/* All in one run of output when the server takes pipelines (RFC 2920), else
 * the replies lead from one command to the next. */
void smtp_client_begin(struct smtp_client *client,
                       const struct smtp_client_transaction *transaction)
{
    client->transaction = transaction;
    client->pipelined = client->offer.exts & EXT_PIPELINING;
    /* Without pipelining every chunk would cost a round trip: DATA is better. */
    client->by_bdat = client->pipelined && (client->offer.exts & EXT_CHUNKING);
    client->mail_said = client->mail_accepted = client->ended = false;
    client->rcpt_answered = client->rcpt_accepted = 0;
    if (!is_sayable(transaction)) {
        client->last_stage = STAGE_MAIL;
        smtp_client_fail(client, ERR_INVALID, NULL, "an address holds a line break or a NUL");
        return;
    }
    if (client->needs_rset) {
        client->needs_rset = false;
        say(client, CLIENT_WAIT_CLEAR, "RSET");
        if (!client->pipelined)
            return;
    }
    smtp_client_say_mail(client);
    for (size_t i = 0; client->pipelined && i < transaction->recipient_count; i++)
        smtp_client_say_rcpt(client, i);
    if (client->pipelined && !client->by_bdat)
        smtp_client_say_data(client);
}

/* With several chunks a refused one leaves the rest of them, and what follows,
 * in the air; after a single one RSET gets the two sides together (RFC 3030 2). */
bool smtp_client_follow(struct smtp_client *client,
                        const struct smtp_client_transaction *transaction)
{
    bool only_content =
        client->run_count == 1 && smtp_client_head(client) == CLIENT_WAIT_CONTENT && client->ended;

    if (client->dead || client->eof || !client->transaction || client->follower ||
        !client->pipelined || !only_content || !is_sayable(transaction))
        return false;
    client->follower = transaction;
    if (client->by_bdat)
        say(client, CLIENT_WAIT_CLEAR, "RSET");
    say_mail(client, transaction);
    for (size_t i = 0; i < transaction->recipient_count; i++)
        say_rcpt(client, transaction->recipients[i]);
    if (!client->by_bdat)
        smtp_client_say_data(client);
    return true;
}

/* ---- the content ---- */

void smtp_client_open_content(struct smtp_client *client)
{
    client->sending = true;
    client->wants_room = client->tell_room = false;
    line_stuff_init(&client->stuff);
    buf_reset(&client->chunk);
    if (!client->by_bdat)
        smtp_client_push(client, CLIENT_WAIT_CONTENT);
}

/* 354 came although nobody was accepted (RFC 2920 3.1): an empty message to no one. */
void smtp_client_lone_dot(struct smtp_client *client) { say(client, CLIENT_WAIT_DOT, "."); }

static void say_chunk(struct smtp_client *client, bool is_last)
{
    say(client, is_last ? CLIENT_WAIT_CONTENT : CLIENT_WAIT_CHUNK, "BDAT %zu%s", client->chunk.len,
        is_last ? " LAST" : "");
    buf_str(&client->out, buf_view(&client->chunk));
    buf_reset(&client->chunk);
}

static void gather(struct smtp_client *client, struct str piece)
{
    while (piece.len > 0 && !client->dead) {
        size_t room = client->chunk.max - client->chunk.len;
        struct str part = str_head(piece, room);
        buf_str(&client->chunk, part);
        piece = str_from(piece, part.len);
        if (piece.len > 0) /* a full chunk waits: it may be the last */
            say_chunk(client, false);
    }
}

void smtp_client_body(struct smtp_client *client, struct str piece)
{
    if (!client->sending || client->dead)
        return;
    if (client->out.len == 0)
        client->stamp = true;
    if (client->by_bdat)
        gather(client, piece);
    while (!client->by_bdat && piece.len > 0) {
        struct str slice = str_head(piece, SLICE);
        char *out = buf_reserve(&client->out, 2 * slice.len);
        buf_commit(&client->out, line_stuff(&client->stuff, slice, out));
        piece = str_from(piece, slice.len);
    }
    if (client->out.len > SMTP_CLIENT_HIGH)
        client->wants_room = true;
}

void smtp_client_body_end(struct smtp_client *client)
{
    if (!client->sending || client->dead)
        return;
    if (client->by_bdat) {
        say_chunk(client, true);
        buf_clear(&client->chunk);
    } else {
        if (!line_stuff_at_start(&client->stuff))
            buf_append(&client->out, "\r\n", 2);
        buf_append(&client->out, ".\r\n", 3);
        client->stamp = true;
    }
    client->sending = client->wants_room = client->tell_room = false;
    client->ended = true;
    client->end_mark = client->octets_sent + client->out.len;
}
