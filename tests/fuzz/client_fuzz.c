/*
 * client_fuzz.c - the client machine against a server that says anything.
 *
 * First octet: what the driver wants. The rest is the server's side, fed line
 * by line or octet by octet. Checked: every transaction ends exactly once,
 * content is asked for only when a recipient was accepted, recipients are
 * answered in order, nothing comes after the end, and no command has a line
 * break inside.
 */
#include "relay/smtp/client.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECIPIENTS 3

struct probe {
    struct smtp_client *client;
    uint8_t flags;
    struct recipient recipients[RECIPIENTS];
    const struct recipient *list[RECIPIENTS];
    struct smtp_client_transaction mail;
    bool open, had_go, over, has_tls, has_auth;
    unsigned accepted, begun;
    size_t answered;
    bool mail_refused;
};

static void must(bool is_true)
{
    if (!is_true)
        abort();
}

static void begin(struct probe *probe)
{
    for (size_t i = 0; i < RECIPIENTS; i++) {
        probe->recipients[i] = (struct recipient){ .address = STR("b@x.test"),
                                                   .orcpt = STR_EMPTY,
                                                   .notify = NOTIFY_NEVER };
        probe->list[i] = &probe->recipients[i];
    }
    probe->mail = (struct smtp_client_transaction){
        .sender = STR("a@y.test"),
        .envid = STR("e"),
        .recipients = probe->list,
        .recipient_count = 1 + (probe->flags >> 1) % RECIPIENTS,
        .size = 10,
    };
    probe->open = true;
    probe->had_go = probe->mail_refused = false;
    probe->accepted = 0;
    probe->answered = 0;
    probe->begun++;
    smtp_client_begin(probe->client, &probe->mail);
}

static void go_on(struct probe *probe)
{
    const struct ext_offer *offer = smtp_client_offer(probe->client);

    if ((probe->flags & 8) && !probe->has_tls && (offer->exts & EXT_STARTTLS)) {
        smtp_client_starttls(probe->client);
    } else if ((probe->flags & 16) && !probe->has_auth) {
        probe->has_auth = true;
        smtp_client_auth(probe->client, MECHANISM_LOGIN, NULL);
    } else if (probe->begun < 4) {
        begin(probe);
    } else {
        smtp_client_quit(probe->client);
    }
}

static void transaction_over(struct probe *probe)
{
    must(probe->open);
    probe->open = false;
    go_on(probe);
}

static void content(struct probe *probe)
{
    static const char text[] = "Hi\r\n.\r\n";

    must(probe->open && probe->accepted > 0 && !probe->had_go);
    probe->had_go = true;
    smtp_client_body(probe->client, STR("Hi\r\n.\r\n"));
    for (int i = 0; i < 100 && (probe->flags & 32); i++)
        smtp_client_body(probe->client, str_make(text, 7));
    if (!(probe->flags & 64) || probe->begun > 1)
        smtp_client_body_end(probe->client);
}

static void react(struct probe *probe, const struct smtp_client_event *event)
{
    bool is_good = event->reply && reply_is_positive(event->reply);

    must(!probe->over);
    switch (event->kind) {
    case SMTP_CLIENT_BANNER:
        smtp_client_ehlo(probe->client);
        return;
    case SMTP_CLIENT_EHLO:
        if (is_good)
            go_on(probe);
        else
            smtp_client_quit(probe->client);
        return;
    case SMTP_CLIENT_STARTTLS:
        probe->has_tls = true;
        if (is_good)
            smtp_client_tls_started(probe->client);
        smtp_client_ehlo(probe->client);
        return;
    case SMTP_CLIENT_CHALLENGE:
        if (event->bytes.len % 2)
            smtp_client_auth_cancel(probe->client);
        else
            smtp_client_auth_respond(probe->client, STR("AAAA"));
        return;
    case SMTP_CLIENT_AUTH:
        go_on(probe);
        return;
    case SMTP_CLIENT_MAIL:
        must(probe->open && probe->answered == 0);
        probe->mail_refused = !is_good;
        return;
    case SMTP_CLIENT_RCPT:
        must(probe->open && !probe->mail_refused && event->index == probe->answered);
        probe->answered++;
        probe->accepted += is_good;
        return;
    case SMTP_CLIENT_GO:
        content(probe);
        return;
    case SMTP_CLIENT_ROOM:
        return;
    case SMTP_CLIENT_DATA:
        must(!is_good && !probe->had_go);
        transaction_over(probe);
        return;
    case SMTP_CLIENT_CONTENT:
        must(probe->had_go);
        transaction_over(probe);
        return;
    case SMTP_CLIENT_RSET:
        return;
    case SMTP_CLIENT_QUIT:
    case SMTP_CLIENT_FAULT:
        must(event->kind == SMTP_CLIENT_QUIT || event->err != ERR_OK);
        probe->over = true;
        return;
    }
}

static void pump(struct probe *probe)
{
    struct smtp_client_event event;

    while (smtp_client_next(probe->client, 0, &event))
        react(probe, &event);
    struct str out = smtp_client_output(probe->client);
    for (size_t i = 0; i < out.len; i++)
        must((out.at[i] == '\n') == (i > 0 && out.at[i - 1] == '\r'));
    smtp_client_sent(probe->client, out.len, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smtp_client_options options = {
        .helo = STR("me.test"),
        .timeouts = { 1000, 1000, 1000, 1000 },
    };
    struct probe probe = { .client = smtp_client_new(&options, 0) };

    if (size > 0)
        probe.flags = data[0];
    for (size_t at = 1; at < size && !probe.over;) {
        struct str rest = str_make((const char *)data + at, size - at);
        struct str line = str_head(rest, probe.flags & 1 ? 1 : str_chr(rest, '\n') + 1);
        at += line.len;
        while (line.len > 0 && !probe.over) {
            size_t took = smtp_client_feed(probe.client, line, 0);
            line = str_from(line, took);
            pump(&probe);
            if (took == 0)
                break;
        }
    }
    if (!probe.over) {
        smtp_client_closed(probe.client);
        pump(&probe);
        must(probe.over);
    }
    smtp_client_free(&probe.client);
    return 0;
}
