/*
 * server_auth.c - STARTTLS and AUTH (RFC 3207, 4954).
 *
 * The machine knows when they may be said and what a response looks like;
 * whether a response is right is the driver's business.
 */
#include "relay/smtp/server_impl.h"

bool smtp_server_offers_auth(const struct smtp_server *server)
{
    return server->options.mechanisms && (server->tls_active || !server->options.auth_needs_tls);
}

enum server_step smtp_server_starttls(struct smtp_server *server, struct str args,
                                      struct smtp_server_event *event)
{
    if (server->tls_active)
        return smtp_server_no(server, 503, STATUS(5, 5, 1), "TLS is active already");
    if (!server->options.starttls)
        return smtp_server_no(server, 502, STATUS(5, 5, 1), "STARTTLS is not offered");
    if (args.len > 0)
        return smtp_server_no_args(server);
    if (!server->greeted_back)
        return smtp_server_no(server, 503, STATUS(5, 5, 1), "say EHLO first");
    return smtp_server_owe(server, event, SMTP_SERVER_STARTTLS);
}

static bool is_base64(struct str text)
{
    size_t pad = 0;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool is_digit = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                        (c >= '0' && c <= '9') || c == '+' || c == '/';
        pad += c == '=';
        if ((!is_digit && c != '=') || (is_digit && pad > 0))
            return false;
    }
    return pad <= 2 && text.len % 4 == 0;
}

static enum server_step auth_begin(struct smtp_server *server, struct str args,
                                   struct smtp_server_event *event)
{
    size_t end = str_chr(args, ' ');
    struct str word = str_head(args, end), initial = str_from(args, end + 1);

    if (word.len == 0 || str_chr(initial, ' ') < initial.len)
        return smtp_server_no(server, 501, STATUS(5, 5, 4),
                              "syntax: AUTH mechanism [initial-response]");
    if (!mechanism_parse(word, &event->mechanism) ||
        !(server->options.mechanisms & event->mechanism))
        return smtp_server_no(server, 504, STATUS(5, 5, 4), "this mechanism is not offered");
    event->has_initial = initial.len > 0;
    if (str_eq(initial, STR("="))) /* RFC 4954 4: an empty one */
        initial = STR_EMPTY;
    if (!is_base64(initial))
        return smtp_server_no(server, 501, STATUS(5, 5, 2), "the response is not base64");
    event->bytes = initial;
    return smtp_server_owe(server, event, SMTP_SERVER_AUTH);
}

enum server_step smtp_server_auth(struct smtp_server *server, struct str args,
                                  struct smtp_server_event *event)
{
    if (!server->options.mechanisms)
        return smtp_server_no(server, 502, STATUS(5, 5, 1), "AUTH is not offered");
    if (!server->greeted_back)
        return smtp_server_no(server, 503, STATUS(5, 5, 1), "say EHLO first");
    if (server->authenticated)
        return smtp_server_no(server, 503, STATUS(5, 5, 1), "authenticated already");
    if (server->mail)
        return smtp_server_no(server, 503, STATUS(5, 5, 1),
                              "AUTH is not allowed inside a transaction");
    if (!smtp_server_offers_auth(server))
        return smtp_server_no(server, 538, STATUS(5, 7, 11), "start TLS before AUTH");
    return auth_begin(server, args, event);
}

/* The exchange ends by the client's fault; the driver only has to forget it. */
static enum server_step auth_ended(struct smtp_server *server, struct smtp_server_event *event,
                                   unsigned code, struct status status, const char *text)
{
    smtp_server_no(server, code, status, text);
    event->kind = SMTP_SERVER_AUTH_MORE;
    event->cancelled = true;
    return SERVER_EVENT;
}

enum server_step smtp_server_auth_line(struct smtp_server *server, struct smtp_server_event *event)
{
    enum line_got got = smtp_server_line(server, SERVER_AUTH_LINE_MAX);
    struct str line = buf_view(&server->line);

    if (got == LINE_MORE)
        return SERVER_WAIT;
    server->phase = SERVER_COMMAND;
    if (got == LINE_TOO_LONG)
        return auth_ended(server, event, 500, STATUS(5, 5, 6), "the response is too long");
    if (got == LINE_BARE)
        return auth_ended(server, event, 500, STATUS(5, 5, 2), "bare CR, bare LF or NUL");
    if (str_eq(line, STR("*")))
        return auth_ended(server, event, 501, STATUS(5, 7, 0), "authentication cancelled");
    if (!is_base64(line))
        return auth_ended(server, event, 501, STATUS(5, 5, 2), "the response is not base64");
    event->bytes = line;
    return smtp_server_owe(server, event, SMTP_SERVER_AUTH_MORE);
}
