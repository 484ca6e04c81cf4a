/*
 * client_read.c - reading replies, and pairing them with what was said.
 *
 * The caps are here: on the length of a line, on the lines of a reply. So is
 * the judgement of what comes without being asked.
 */
#include "relay/smtp/client_impl.h"

#define REPLY_LINE_MAX 12288 /* challenges may be as long as RFC 4954 allows */

enum got { GOT_MORE, GOT_REPLY, GOT_BROKEN };

/* Stray CR, LF or NUL inside a reply line decide nothing here: they become
 * blanks, and the reply is taken for what it says. */
static struct str tidy(struct smtp_client *client, struct str line)
{
    char *at = client->in.at;

    for (size_t i = 0; i < line.len; i++) {
        if (at[i] == '\r' || at[i] == '\n' || at[i] == '\0')
            at[i] = ' ';
    }
    return line;
}

/* The reply keeps 2 KiB of text, and an offer may be longer: so line by line. */
static void note_offer(struct smtp_client *client, struct str line)
{
    bool is_ehlo = client->run_count > 0 && smtp_client_head(client) == CLIENT_WAIT_EHLO;

    if (is_ehlo && client->reply_lines > 1 && str_starts(line, STR("250")))
        ext_offer_line(&client->offer, str_from(line, 4));
}

static void show(char *out, size_t size, struct str line)
{
    struct buf text;

    buf_init(&text, 1024);
    buf_escaped(&text, line, 100);
    str_copy(out, size, buf_view(&text));
    buf_clear(&text);
}

static enum got take_line(struct smtp_client *client, struct str line)
{
    char shown[128];

    if (!client->reply_grows) {
        reply_clear(&client->reply);
        client->reply_lines = 0;
    }
    client->reply_grows = true;
    if (++client->reply_lines > REPLY_LINES_MAX) {
        smtp_client_fail(client, ERR_LIMIT, NULL, "a reply of more than %d lines", REPLY_LINES_MAX);
        return GOT_BROKEN;
    }
    note_offer(client, line);
    enum err rc = reply_feed(&client->reply, line);
    if (rc == ERR_AGAIN)
        return GOT_MORE;
    client->reply_grows = false;
    if (rc == ERR_OK)
        return GOT_REPLY;
    show(shown, sizeof(shown), line);
    smtp_client_fail(client, ERR_INVALID, NULL, "not an SMTP reply: %s", shown);
    return GOT_BROKEN;
}

static enum got read_reply(struct smtp_client *client)
{
    enum got got = GOT_MORE;
    struct str line;
    size_t used;

    while (got == GOT_MORE) {
        enum line_got kind = line_next(buf_view(&client->in), REPLY_LINE_MAX, &client->skipping,
                                       &client->scanned, &line, &used);
        if (kind == LINE_MORE)
            return GOT_MORE;
        if (kind == LINE_TOO_LONG) {
            smtp_client_fail(client, ERR_LIMIT, NULL, "a reply line of more than %d octets",
                             REPLY_LINE_MAX);
            return GOT_BROKEN;
        }
        got = take_line(client, kind == LINE_BARE ? tidy(client, line) : line);
        buf_consume(&client->in, used);
    }
    return got;
}

static enum client_wait pop(struct smtp_client *client)
{
    enum client_wait kind = client->runs[0].kind;

    client->last_stage = smtp_client_wait_stage(client, kind);
    if (--client->runs[0].count == 0) {
        client->run_count--;
        memmove(client->runs, client->runs + 1, client->run_count * sizeof(client->runs[0]));
    }
    client->stamp = true;
    return kind;
}

/* 421 may answer anything, and then the server is gone (RFC 5321 3.8): what
 * was still to be answered will not be. */
static bool take_reply(struct smtp_client *client, struct smtp_client_event *event)
{
    enum client_wait kind = pop(client);
    enum stage stage = client->last_stage;

    *event = (struct smtp_client_event){ .reply = &client->reply };
    bool told = smtp_client_judge(client, kind, event);
    if (client->reply.code == 421 && kind != CLIENT_WAIT_QUIT)
        smtp_client_fail(client, ERR_CLOSED, &client->reply,
                         "the server is closing the connection");
    if (client->tell_fault)
        client->fault_stage = stage;
    return told;
}

/* A reply that nobody waits for: how a server says goodbye to an idle client, or nonsense. */
static void read_unasked(struct smtp_client *client)
{
    struct reply *reply = &client->reply;

    if (read_reply(client) != GOT_REPLY)
        return;
    if (reply_is_transient(reply) || reply_is_permanent(reply))
        smtp_client_fail(client, ERR_CLOSED, reply, "the server ended the session");
    else
        smtp_client_fail(client, ERR_INVALID, reply, "the server spoke without being asked");
}

bool smtp_client_read(struct smtp_client *client, struct smtp_client_event *event)
{
    while (!client->dead && !client->awaits_tls && !client->tell_over && !client->tell_go) {
        if (client->run_count == 0) {
            read_unasked(client);
            return false;
        }
        if (read_reply(client) != GOT_REPLY)
            return false;
        if (take_reply(client, event))
            return true;
    }
    return false;
}

void smtp_client_junk(struct smtp_client *client)
{
    struct str line = str_trim(str_head(buf_view(&client->in), 100));
    bool is_goodbye =
        !client->reply_grows && line.len > 0 && (line.at[0] == '4' || line.at[0] == '5');
    char shown[128];

    show(shown, sizeof(shown), line);
    if (is_goodbye)
        smtp_client_fail(client, ERR_CLOSED, NULL, "the server ended the session: %s", shown);
    else
        smtp_client_fail(client, ERR_INVALID, NULL, "the server spoke without being asked: %s",
                         shown);
}
