/*
 * server_cmd.c - one row and one short function per command.
 *
 * A command function judges syntax and sequence, answers what needs no outside
 * knowledge, and makes an event of the rest. RFC 5321 4.1, 4.3.2.
 */
#include "relay/smtp/server_impl.h"

#define IDLE_COMMANDS_MAX 100 /* NOOP, RSET and the like between messages; then each is an error */
#define HELO_MAX 255

enum server_step smtp_server_no(struct smtp_server *server, unsigned code, struct status status,
                                const char *text)
{
    smtp_server_refuse(server, code, status, "%s", text);
    return SERVER_AGAIN;
}

static enum server_step say(struct smtp_server *server, unsigned code, struct status status,
                            const char *text)
{
    smtp_server_refuse(server, code, status, "%s", text);
    if (++server->idle_commands > IDLE_COMMANDS_MAX)
        server->errors++;
    return SERVER_AGAIN;
}

enum server_step smtp_server_no_args(struct smtp_server *server)
{
    return smtp_server_no(server, 501, STATUS(5, 5, 4), "this command takes no argument");
}

/* ---- hello ---- */

/* Taken as they come, since so many clients send something odd; but it ends up
 * in a header field, so it has to be one printable word. */
static bool is_helo(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.at[i];
        if (c <= ' ' || c >= 127)
            return false;
    }
    return name.len > 0 && name.len <= HELO_MAX;
}

static enum server_step hello(struct smtp_server *server, struct str args,
                              struct smtp_server_event *event, bool is_esmtp)
{
    struct str name = str_head(args, str_chr(args, ' '));

    if (!is_helo(name))
        return smtp_server_no(server, 501, STATUS(5, 5, 4),
                              "a host name or address literal is needed");
    if (++server->idle_commands > IDLE_COMMANDS_MAX)
        server->errors++;
    event->helo = name;
    event->is_esmtp = server->is_esmtp = is_esmtp;
    return smtp_server_owe(server, event, SMTP_SERVER_EHLO);
}

static enum server_step cmd_ehlo(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    return hello(server, args, event, true);
}

static enum server_step cmd_helo(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    return hello(server, args, event, false);
}

static unsigned offered(const struct smtp_server *server)
{
    unsigned exts = server->options.exts & ~(unsigned)(EXT_STARTTLS | EXT_AUTH);

    if (server->options.starttls && !server->tls_active)
        exts |= EXT_STARTTLS;
    if (smtp_server_offers_auth(server))
        exts |= EXT_AUTH;
    return exts;
}

static void print_ext(const struct smtp_server *server, enum ext_index index, struct buf *text)
{
    buf_printf(text, "\n%s", ext_keyword(index));
    if (index == EXT_INDEX_SIZE)
        buf_printf(text, " %llu", (unsigned long long)server->options.size_max);
    if (index != EXT_INDEX_AUTH)
        return;
    for (unsigned i = 0; i < MECHANISM_COUNT; i++) {
        if (server->options.mechanisms & (1u << i))
            buf_printf(text, " %s", mechanism_word((enum mechanism_index)i));
    }
}

void smtp_server_answer_ehlo(struct smtp_server *server, const struct reply *reply)
{
    struct buf text;
    struct reply response;

    if (!reply_is_positive(reply)) {
        smtp_server_say(server, reply);
        return;
    }
    server->greeted_back = true;
    smtp_server_end_transaction(server, true);
    buf_init(&text, REPLY_TEXT_MAX - 1);
    buf_str(&text, server->options.hostname);
    for (unsigned i = 0; i < EXT_COUNT && server->is_esmtp; i++) {
        if (offered(server) & (1u << i))
            print_ext(server, (enum ext_index)i, &text);
    }
    /* RFC 2034 4: no enhanced code in the reply to EHLO. */
    reply_set(&response, 250, STATUS(0, 0, 0), STR_FMT, STR_ARG(buf_view(&text)));
    buf_clear(&text);
    smtp_server_say(server, &response);
}

/* ---- the transaction ---- */

static enum server_step cmd_mail(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    if (!server->greeted_back)
        return smtp_server_no(server, 503, STATUS(5, 5, 1), "say EHLO first");
    if (server->mail)
        return smtp_server_no(server, 503, STATUS(5, 5, 1), "a transaction is open already");
    if (server->options.auth_required && !server->authenticated)
        return smtp_server_no(server, 530, STATUS(5, 7, 0), "authentication is required");
    if (!smtp_server_mail_args(server, args, event))
        return SERVER_AGAIN;
    server->smtputf8 = event->smtputf8;
    return smtp_server_owe(server, event, SMTP_SERVER_MAIL);
}

static enum server_step cmd_rcpt(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    if (!server->mail)
        return smtp_server_no(server, 503, STATUS(5, 5, 1), "MAIL is needed first");
    if (server->bdat)
        return smtp_server_no(server, 503, STATUS(5, 5, 1), "the content has begun");
    if (!smtp_server_rcpt_args(server, args, event))
        return SERVER_AGAIN;
    if (server->recipients >= server->options.recipients_max)
        return smtp_server_no(server, 452, STATUS(4, 5, 3),
                              "too many recipients in one transaction");
    return smtp_server_owe(server, event, SMTP_SERVER_RCPT);
}

static enum server_step cmd_data(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    if (args.len > 0)
        return smtp_server_no_args(server);
    if (!server->mail)
        return smtp_server_no(server, 503, STATUS(5, 5, 1), "MAIL is needed first");
    if (server->bdat) /* RFC 3030 2 */
        return smtp_server_no(server, 503, STATUS(5, 5, 1), "DATA after BDAT is not allowed");
    if (server->recipients == 0)
        return smtp_server_no(server, 554, STATUS(5, 5, 1), "no valid recipients");
    server->is_bdat_owed = false;
    return smtp_server_owe(server, event, SMTP_SERVER_DATA);
}

static bool bdat_args(struct str args, uint64_t *out_size, bool *out_last)
{
    size_t end = str_chr(args, ' ');
    struct str rest = str_trim(str_from(args, end));

    *out_last = rest.len > 0;
    if (rest.len > 0 && !str_ieq(rest, STR("LAST")))
        return false;
    return str_u64(str_head(args, end), out_size);
}

/* Whatever is wrong, a chunk that was announced is on its way and must be
 * read, or its octets would be taken for commands; when its size is not to be
 * known, the session has to end. */
static enum server_step cmd_bdat(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    struct reply refusal;
    uint64_t size;
    bool is_last;

    if (!bdat_args(args, &size, &is_last)) {
        smtp_server_close(server, 501, STATUS(5, 5, 4), "syntax: BDAT size [LAST]");
        return SERVER_AGAIN;
    }
    reply_clear(&refusal);
    if (!(server->options.exts & EXT_CHUNKING))
        reply_set(&refusal, 502, STATUS(5, 5, 1), "CHUNKING is not offered");
    else if (!server->mail)
        reply_set(&refusal, 503, STATUS(5, 5, 1), "MAIL is needed first");
    else if (server->recipients == 0)
        reply_set(&refusal, 554, STATUS(5, 5, 1), "no valid recipients");
    return smtp_server_begin_chunk(server, size, is_last, refusal.code ? &refusal : NULL, event);
}

static enum server_step cmd_rset(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    (void)event;
    if (args.len > 0)
        return smtp_server_no_args(server);
    smtp_server_end_transaction(server, true);
    return say(server, 250, STATUS(2, 0, 0), "forgotten");
}

/* ---- the rest ---- */

static enum server_step cmd_noop(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    (void)args;
    (void)event;
    return say(server, 250, STATUS(2, 0, 0), "ok");
}

static enum server_step cmd_help(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    (void)args;
    (void)event;
    return say(server, 214, STATUS(2, 0, 0), "see RFC 5321 and RFC 6409");
}

/* RFC 5321 3.5.3: neither confirms nor denies. */
static enum server_step cmd_vrfy(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    (void)event;
    if (args.len == 0)
        return smtp_server_no(server, 501, STATUS(5, 5, 4), "syntax: VRFY address");
    return say(server, 252, STATUS(2, 5, 2), "cannot verify, but will take a message and try");
}

static enum server_step cmd_expn(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    (void)args;
    (void)event;
    return smtp_server_no(server, 502, STATUS(5, 5, 1), "lists are not expanded here");
}

static enum server_step cmd_quit(struct smtp_server *server, struct str args,
                                 struct smtp_server_event *event)
{
    (void)args;
    smtp_server_refuse(server, 221, STATUS(2, 0, 0), STR_FMT " bye",
                       STR_ARG(server->options.hostname));
    server->phase = SERVER_CLOSED;
    event->kind = SMTP_SERVER_QUIT;
    return SERVER_EVENT;
}

static const struct command {
    struct str verb;
    smtp_server_command_fn *run;
} commands[] = {
    { STR("EHLO"), cmd_ehlo },
    { STR("HELO"), cmd_helo },
    { STR("STARTTLS"), smtp_server_starttls },
    { STR("AUTH"), smtp_server_auth },
    { STR("MAIL"), cmd_mail },
    { STR("RCPT"), cmd_rcpt },
    { STR("DATA"), cmd_data },
    { STR("BDAT"), cmd_bdat },
    { STR("RSET"), cmd_rset },
    { STR("NOOP"), cmd_noop },
    { STR("HELP"), cmd_help },
    { STR("VRFY"), cmd_vrfy },
    { STR("EXPN"), cmd_expn },
    { STR("QUIT"), cmd_quit },
};

/* A browser led here by a web page, or a TLS client on the wrong port. What
 * follows is not SMTP and must not be read as if it were. */
static const struct foreign {
    struct str prefix;
    const char *why;
} foreigners[] = {
    { STR("GET "), "HTTP request" },
    { STR("POST "), "HTTP request" },
    { STR("PUT "), "HTTP request" },
    { STR("HEAD "), "HTTP request" },
    { STR("OPTIONS "), "HTTP request" },
    { STR("CONNECT "), "HTTP request" },
    { STR("DELETE "), "HTTP request" },
    { STR("PATCH "), "HTTP request" },
    { STR("TRACE "), "HTTP request" },
    { STR("PRI * HTTP/"), "HTTP request" },
    { STR("\x16\x03"), "TLS handshake before STARTTLS" },
};

static const char *foreign_why(struct str in)
{
    for (size_t i = 0; i < sizeof(foreigners) / sizeof(foreigners[0]); i++) {
        if (str_istarts(in, foreigners[i].prefix))
            return foreigners[i].why;
    }
    return NULL;
}

static enum server_step run_line(struct smtp_server *server, struct smtp_server_event *event)
{
    struct str line = str_trim(buf_view(&server->line));
    size_t end = str_chr(line, ' ');
    struct str verb = str_head(line, end), args = str_trim(str_from(line, end));

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (str_ieq(verb, commands[i].verb))
            return commands[i].run(server, args, event);
    }
    return smtp_server_no(server, 500, STATUS(5, 5, 1), "command not known");
}

enum server_step smtp_server_command(struct smtp_server *server, struct smtp_server_event *event)
{
    struct str in = buf_view(&server->in);
    const char *why = server->skipping ? NULL : foreign_why(in);

    if (why) {
        smtp_server_close(server, 554, STATUS(5, 5, 1), why);
        return SERVER_AGAIN;
    }
    if (!server->skipping)
        server->line_is_auth = str_istarts(in, STR("AUTH "));
    enum line_got got = smtp_server_line(server, server->line_is_auth ? SERVER_AUTH_LINE_MAX
                                                                      : server->options.line_max);
    if (got == LINE_MORE)
        return SERVER_WAIT;
    if (got == LINE_TOO_LONG)
        return smtp_server_no(server, 500, server->line_is_auth ? STATUS(5, 5, 6) : STATUS(5, 5, 2),
                              "line too long");
    if (got == LINE_BARE)
        return smtp_server_no(server, 500, STATUS(5, 5, 2), "bare CR, bare LF or NUL in a command");
    return run_line(server, event);
}
