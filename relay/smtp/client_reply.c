/*
 * client_reply.c - what is made of each reply.
 *
 * One row per thing that can be waited for: the stage it belongs to, whether a
 * 3xx makes sense, and the function that judges the reply.
 */
#include "relay/smtp/client_impl.h"

typedef bool got_fn(struct smtp_client *client, struct smtp_client_event *event);

static bool tell(struct smtp_client_event *event, enum smtp_client_event_kind kind)
{
    event->kind = kind;
    return true;
}

/* ---- before the mail ---- */

static bool got_banner(struct smtp_client *client, struct smtp_client_event *event)
{
    (void)client;
    return tell(event, SMTP_CLIENT_BANNER);
}

/* Few sessions have one, and it is large. */
static void refused(struct smtp_client *client)
{
    if (!client->refusal)
        client->refusal = mem_alloc(sizeof(*client->refusal));
    *client->refusal = client->reply;
}

/* RFC 5321 3.2: a server that does not know EHLO gets HELO. Some say 5xx for
 * reasons of their own; then HELO fails too and EHLO's words are the ones to tell. */
static bool got_ehlo(struct smtp_client *client, struct smtp_client_event *event)
{
    client->is_esmtp = reply_is_positive(&client->reply);
    if (!client->is_esmtp)
        client->offer = (struct ext_offer){ 0 };
    if (client->tls_active)
        client->offer.exts &= ~(unsigned)EXT_STARTTLS; /* RFC 3207 4.2 */
    if (!reply_is_permanent(&client->reply))
        return tell(event, SMTP_CLIENT_EHLO);
    refused(client);
    smtp_client_helo(client);
    return false;
}

static bool got_helo(struct smtp_client *client, struct smtp_client_event *event)
{
    if (!reply_is_positive(&client->reply))
        event->reply = smtp_client_refusal(client);
    return tell(event, SMTP_CLIENT_EHLO);
}

static bool got_starttls(struct smtp_client *client, struct smtp_client_event *event)
{
    client->awaits_tls = reply_is_positive(&client->reply);
    return tell(event, SMTP_CLIENT_STARTTLS);
}

static bool got_auth(struct smtp_client *client, struct smtp_client_event *event)
{
    if (!reply_is_intermediate(&client->reply))
        return tell(event, SMTP_CLIENT_AUTH);
    event->bytes = str_trim(reply_text(&client->reply));
    return tell(event, SMTP_CLIENT_CHALLENGE);
}

/* ---- the transaction ---- */

static bool got_mail(struct smtp_client *client, struct smtp_client_event *event)
{
    client->mail_accepted = reply_is_positive(&client->reply);
    if (!client->mail_accepted)
        refused(client);
    if (!client->pipelined && client->mail_accepted)
        smtp_client_say_rcpt(client, 0);
    else if (!client->pipelined)
        client->tell_over = true;
    return tell(event, SMTP_CLIENT_MAIL);
}

/* All recipients are answered and DATA was not pipelined behind them. */
static void after_recipients(struct smtp_client *client)
{
    if (client->rcpt_accepted == 0) {
        client->tell_over = true;
    } else if (client->by_bdat) {
        smtp_client_open_content(client);
        client->tell_go = true;
    } else {
        smtp_client_say_data(client);
    }
}

static bool got_rcpt(struct smtp_client *client, struct smtp_client_event *event)
{
    size_t index = client->rcpt_answered++;
    bool is_last = client->rcpt_answered == client->transaction->recipient_count;

    if (client->mail_accepted && reply_is_positive(&client->reply))
        client->rcpt_accepted++;
    else if (client->mail_accepted)
        refused(client);
    if (!client->pipelined && !is_last)
        smtp_client_say_rcpt(client, index + 1);
    else if (is_last && (!client->pipelined || client->by_bdat))
        after_recipients(client);
    event->index = index;
    tell(event, SMTP_CLIENT_RCPT);
    return client->mail_accepted; /* after a refused MAIL, RCPT's "503" tells nobody anything */
}

static bool data_refused(struct smtp_client *client)
{
    if (client->rcpt_accepted > 0)
        refused(client);
    client->tell_over = true;
    return false;
}

static bool got_data(struct smtp_client *client, struct smtp_client_event *event)
{
    if (reply_is_positive(&client->reply)) {
        smtp_client_fail(client, ERR_INVALID, &client->reply, "DATA was answered with %u",
                         client->reply.code);
        return false;
    }
    if (!reply_is_intermediate(&client->reply))
        return data_refused(client);
    if (client->rcpt_accepted == 0) {
        smtp_client_lone_dot(client);
        return false;
    }
    smtp_client_open_content(client);
    return tell(event, SMTP_CLIENT_GO);
}

static bool got_dot(struct smtp_client *client, struct smtp_client_event *event)
{
    (void)event;
    client->mail_accepted = false; /* the server's transaction ended with the dot: no RSET */
    client->tell_over = true;
    return false;
}

/* What was said behind the content is the transaction from here on. */
static void take_follower(struct smtp_client *client)
{
    client->transaction = client->dead ? NULL : client->follower;
    client->follower = NULL;
    if (!client->transaction)
        return;
    client->mail_said = true;
    client->mail_accepted = client->ended = false;
    client->rcpt_answered = client->rcpt_accepted = 0;
}

static bool content_over(struct smtp_client *client, struct smtp_client_event *event)
{
    take_follower(client);
    client->sending = client->wants_room = client->tell_room = false;
    return tell(event, SMTP_CLIENT_CONTENT);
}

/* Chunks that were sent behind a refused one are answered too, and mean nothing. */
static bool got_chunk(struct smtp_client *client, struct smtp_client_event *event)
{
    if (reply_is_positive(&client->reply))
        return false;
    for (size_t i = 0; i < client->run_count; i++) {
        if (client->runs[i].kind == CLIENT_WAIT_CHUNK ||
            client->runs[i].kind == CLIENT_WAIT_CONTENT)
            client->runs[i].kind = CLIENT_WAIT_SILENT;
    }
    client->needs_rset = true;
    client->ended = false;
    buf_clear(&client->chunk);
    return content_over(client, event);
}

static bool got_content(struct smtp_client *client, struct smtp_client_event *event)
{
    if (smtp_client_content_sent(client))
        return content_over(client, event);
    /* An answer before the dot: a refusal is taken at its word, but the two
     * sides no longer agree on where they are. */
    if (reply_is_positive(&client->reply)) {
        client->last_stage = STAGE_DATA;
        smtp_client_fail(client, ERR_INVALID, &client->reply,
                         "the server accepted the content before its end");
        return false;
    }
    smtp_client_fail(client, ERR_CLOSED, &client->reply,
                     "the server answered before the end of the content");
    return content_over(client, event);
}

/* ---- the rest ---- */

static bool got_rset(struct smtp_client *client, struct smtp_client_event *event)
{
    (void)client;
    return tell(event, SMTP_CLIENT_RSET);
}

static bool got_clear(struct smtp_client *client, struct smtp_client_event *event)
{
    (void)event;
    if (!reply_is_positive(&client->reply))
        smtp_client_fail(client, ERR_INVALID, &client->reply, "RSET was refused");
    else if (client->transaction && !client->mail_said)
        smtp_client_say_mail(client);
    return false;
}

static bool got_silent(struct smtp_client *client, struct smtp_client_event *event)
{
    (void)client;
    (void)event;
    return false;
}

static bool got_quit(struct smtp_client *client, struct smtp_client_event *event)
{
    client->dead = true;
    return tell(event, SMTP_CLIENT_QUIT);
}

static const struct wait_row {
    enum stage stage;
    bool takes_3xx;
    got_fn *got;
} rows[] = {
    [CLIENT_WAIT_BANNER] = { STAGE_BANNER, false, got_banner },
    [CLIENT_WAIT_EHLO] = { STAGE_EHLO, false, got_ehlo },
    [CLIENT_WAIT_HELO] = { STAGE_EHLO, false, got_helo },
    [CLIENT_WAIT_STARTTLS] = { STAGE_STARTTLS, false, got_starttls },
    [CLIENT_WAIT_AUTH] = { STAGE_AUTH, true, got_auth },
    [CLIENT_WAIT_MAIL] = { STAGE_MAIL, false, got_mail },
    [CLIENT_WAIT_RCPT] = { STAGE_RCPT, false, got_rcpt },
    [CLIENT_WAIT_DATA] = { STAGE_DATA, true, got_data },
    [CLIENT_WAIT_DOT] = { STAGE_DATA, false, got_dot },
    [CLIENT_WAIT_CHUNK] = { STAGE_DATA, false, got_chunk },
    [CLIENT_WAIT_CONTENT] = { STAGE_CONTENT, false, got_content },
    [CLIENT_WAIT_RSET] = { STAGE_MAIL, false, got_rset },
    [CLIENT_WAIT_CLEAR] = { STAGE_MAIL, false, got_clear },
    [CLIENT_WAIT_SILENT] = { STAGE_CONTENT, false, got_silent },
    [CLIENT_WAIT_QUIT] = { STAGE_QUIT, false, got_quit },
};

enum stage smtp_client_wait_stage(const struct smtp_client *client, enum client_wait kind)
{
    if (kind == CLIENT_WAIT_CONTENT && !client->ended)
        return STAGE_DATA;
    return rows[kind].stage;
}

bool smtp_client_judge(struct smtp_client *client, enum client_wait kind,
                       struct smtp_client_event *event)
{
    if (reply_is_intermediate(&client->reply) && !rows[kind].takes_3xx) {
        smtp_client_fail(client, ERR_INVALID, &client->reply, "a reply %u that makes no sense here",
                         client->reply.code);
        return false;
    }
    return rows[kind].got(client, event);
}
