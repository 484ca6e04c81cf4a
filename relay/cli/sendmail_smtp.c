/*
 * sendmail_smtp.c - a message to the relay, over its unix socket.
 *
 * The client machine that also talks to the world, with the smallest driver
 * there is: one descriptor, poll, nothing at once. Nothing is sent in parts: when
 * one recipient is refused the connection is dropped before the final dot, so
 * that a caller who sees an error knows that nothing of it is on its way.
 */
#include "relay/cli/sendmail.h"

#include "relay/base/clock.h"
#include "relay/smtp/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PIECE ((size_t)64 * 1024)
/* Somebody who has accepted the connection and says nothing may be starting. */
#define BANNER_MS 30000
#define COMMAND_MS 60000
#define END_MS 600000

int sendmail_connect(const char *socket_path, struct fault *fault)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    int fd;

    if (str_copy(at.sun_path, sizeof(at.sun_path), str_of(socket_path)) < strlen(socket_path)) {
        fault_set(fault, ERR_LIMIT, "the socket's path is too long: %s", socket_path);
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
        return fd;
    if (errno == ECONNREFUSED || errno == ENOENT)
        fault_set(fault, ERR_REFUSED, "the relay does not run (nobody listens on %s)", socket_path);
    else
        fault_errno(fault, errno, "cannot reach the relay on %s", socket_path);
    if (fd >= 0)
        close(fd);
    return -1;
}

/* ---- one conversation ---- */

struct talk {
    const struct sendmail_wish *wish;
    const struct sendmail_message *message;
    struct smtp_client *client;
    struct smtp_client_transaction transaction;
    struct recipient *recipients;
    const struct recipient **pointers;
    struct buf envid;
    size_t body_at;
    bool in_content;
    int fd;
    bool is_over;
    enum sendmail_result result;
    char *out_id;
    struct sendmail_fault *fault;
};

static void end(struct talk *talk, enum sendmail_result result)
{
    talk->result = result;
    talk->is_over = true;
}

static void not_now(struct talk *talk, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void not_now(struct talk *talk, const char *format, ...)
{
    char words[FAULT_MAX];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(words, sizeof(words), format, args);
    va_end(args);
    sendmail_fail(talk->fault, TROUBLE_NOT_TAKEN, "%s", words);
    end(talk, SENT_NOT);
}

static enum sendmail_trouble trouble_of(const struct reply *reply, enum sendmail_trouble otherwise)
{
    if (reply->status.subject == 7)
        return TROUBLE_DENIED;
    if (reply->code == 552)
        return TROUBLE_TOO_LARGE;
    return otherwise;
}

/* 4xx: the folder is tried; 5xx: told to the caller. */
static void refused(struct talk *talk, const struct reply *reply, enum sendmail_trouble trouble,
                    struct str about)
{
    struct buf line;

    buf_init(&line, FAULT_MAX);
    reply_line(reply, &line);
    if (!reply_is_permanent(reply)) {
        not_now(talk, "the relay answered " STR_FMT, STR_ARG(buf_view(&line)));
    } else {
        sendmail_fail(
            talk->fault, trouble_of(reply, trouble), STR_FMT "%s" STR_FMT, STR_ARG(about),
            about.len ? ": " : "the relay refused the message: ", STR_ARG(buf_view(&line)));
        end(talk, SENT_REFUSED);
    }
    buf_clear(&line);
}

static void send_more(struct talk *talk)
{
    struct str text = buf_view(&talk->message->text);

    while (talk->body_at < text.len && smtp_client_output(talk->client).len < SMTP_CLIENT_HIGH) {
        struct str piece = str_head(str_from(text, talk->body_at), PIECE);
        smtp_client_body(talk->client, piece);
        talk->body_at += piece.len;
    }
    if (talk->body_at == text.len) {
        talk->body_at++;
        smtp_client_body_end(talk->client);
    }
}

/* "queued as ID" */
static void keep_id(struct talk *talk, const struct reply *reply)
{
    struct str text = reply_text(reply), mark = STR("queued as ");
    size_t at = str_find(text, mark);

    if (at < text.len)
        str_copy(talk->out_id, 32, str_head(str_from(text, at + mark.len), MSGID_TEXT));
}

static bool is_offered(struct talk *talk)
{
    const struct ext_offer *offer = smtp_client_offer(talk->client);

    if (talk->message->needs_utf8 && !(offer->exts & EXT_SMTPUTF8)) {
        sendmail_fail(talk->fault, TROUBLE_ADDRESS, "the relay does not take addresses in UTF-8");
        end(talk, SENT_REFUSED);
        return false;
    }
    talk->transaction.body_8bit =
        (offer->exts & EXT_8BITMIME) && (talk->message->has_8bit || talk->wish->body_8bit);
    talk->transaction.smtputf8 =
        (offer->exts & EXT_SMTPUTF8) && (talk->message->needs_utf8 || talk->wish->smtputf8);
    return true;
}

static void handle(struct talk *talk, const struct smtp_client_event *event)
{
    switch (event->kind) {
    case SMTP_CLIENT_BANNER:
        if (reply_is_positive(event->reply))
            smtp_client_ehlo(talk->client);
        else
            refused(talk, event->reply, TROUBLE_REFUSED, STR_EMPTY);
        break;
    case SMTP_CLIENT_EHLO:
        if (!reply_is_positive(event->reply))
            refused(talk, event->reply, TROUBLE_REFUSED, STR_EMPTY);
        else if (is_offered(talk))
            smtp_client_begin(talk->client, &talk->transaction);
        break;
    case SMTP_CLIENT_MAIL:
        if (!reply_is_positive(event->reply))
            refused(talk, event->reply, TROUBLE_ADDRESS, talk->transaction.sender);
        break;
    case SMTP_CLIENT_RCPT:
        if (!reply_is_positive(event->reply))
            refused(talk, event->reply, TROUBLE_ADDRESS,
                    talk->transaction.recipients[event->index]->address);
        break;
    case SMTP_CLIENT_GO:
        talk->in_content = true;
        send_more(talk);
        break;
    case SMTP_CLIENT_ROOM:
        send_more(talk);
        break;
    case SMTP_CLIENT_DATA:
        refused(talk, event->reply, TROUBLE_REFUSED, STR_EMPTY);
        break;
    case SMTP_CLIENT_CONTENT:
        if (!reply_is_positive(event->reply)) {
            refused(talk, event->reply,
                    event->reply->status.subject == 6 ? TROUBLE_HEADER : TROUBLE_REFUSED,
                    STR_EMPTY);
            break;
        }
        keep_id(talk, event->reply);
        talk->in_content = false;
        end(talk, SENT_QUEUED);
        break;
    case SMTP_CLIENT_FAULT:
        /* Also when the whole message was sent and the relay died before it said
         * whether it is on disk: at least once is the promise. */
        not_now(talk, "the relay went away: " STR_FMT, STR_ARG(event->words));
        break;
    case SMTP_CLIENT_STARTTLS:
    case SMTP_CLIENT_CHALLENGE:
    case SMTP_CLIENT_AUTH:
    case SMTP_CLIENT_RSET:
    case SMTP_CLIENT_QUIT:
        break; /* never asked for */
    }
}

/* ---- bytes ---- */

static void show(const char *mark, struct str bytes)
{
    struct buf line;
    struct str one;

    buf_init(&line, PIECE);
    while (str_next(&bytes, '\n', &one)) {
        buf_cstr(&line, mark);
        buf_escaped(&line, str_trim(one), 1000);
        buf_char(&line, '\n');
    }
    (void)!write(STDOUT_FILENO, line.at, line.len);
    buf_clear(&line);
}

static void tell_sent(struct talk *talk, struct str bytes)
{
    char words[64];

    if (!talk->wish->verbose)
        return;
    if (!talk->in_content) {
        show(">>> ", bytes);
    } else if (talk->body_at > talk->message->text.len &&
               smtp_client_output(talk->client).len == bytes.len) {
        (void)snprintf(words, sizeof(words), "(%zu octets)", talk->message->text.len);
        show(">>> ", str_of(words));
    }
}

static void write_some(struct talk *talk)
{
    struct str out = smtp_client_output(talk->client);
    ssize_t sent = send(talk->fd, out.at, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent > 0) {
        tell_sent(talk, str_head(out, (size_t)sent));
        smtp_client_sent(talk->client, (size_t)sent, clock_mono_ms());
    } else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        smtp_client_closed(talk->client);
    }
}

static void take_events(struct talk *talk)
{
    struct smtp_client_event event;

    while (!talk->is_over && smtp_client_next(talk->client, clock_mono_ms(), &event))
        handle(talk, &event);
}

/* What the machine has no room for fits once it has told what it has: the replies to a
 * thousand recipients come in one piece. */
static void take(struct talk *talk, struct str bytes)
{
    size_t used = 1;

    while (used > 0 && bytes.len > 0 && !talk->is_over) {
        used = smtp_client_feed(talk->client, bytes, clock_mono_ms());
        bytes = str_from(bytes, used);
        take_events(talk);
    }
}

static void read_some(struct talk *talk)
{
    char bytes[16384];
    ssize_t got = recv(talk->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (got > 0) {
        if (talk->wish->verbose)
            show("<<< ", str_make(bytes, (size_t)got));
        take(talk, str_make(bytes, (size_t)got));
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        smtp_client_closed(talk->client);
    }
}

static void wait_for_bytes(struct talk *talk)
{
    bool has_output = smtp_client_output(talk->client).len > 0;
    struct pollfd poll_fd = { .fd = talk->fd,
                              .events = (short)(POLLIN | (has_output ? POLLOUT : 0)) };
    uint64_t now = clock_mono_ms(), deadline = smtp_client_deadline(talk->client);
    uint64_t left = deadline > now ? deadline - now : 0;

    int ready = poll(&poll_fd, 1, left > END_MS ? END_MS : (int)left);
    if (ready == 0)
        smtp_client_timeout(talk->client, clock_mono_ms());
    if (poll_fd.revents & POLLOUT)
        write_some(talk);
    if (poll_fd.revents & ~POLLOUT)
        read_some(talk);
}

static void converse(struct talk *talk)
{
    while (!talk->is_over) {
        take_events(talk);
        if (!talk->is_over && smtp_client_output(talk->client).len > 0)
            write_some(talk);
        if (!talk->is_over)
            wait_for_bytes(talk);
    }
    if (talk->result != SENT_QUEUED)
        return;
    smtp_client_quit(talk->client); /* said, not waited for */
    write_some(talk);
}

static void prepare(struct talk *talk)
{
    const struct sendmail_message *message = talk->message;
    size_t count = message->recipient_count;

    talk->recipients = mem_alloc(count * sizeof(*talk->recipients));
    talk->pointers = mem_alloc(count * sizeof(struct recipient *));
    for (size_t i = 0; i < count; i++) {
        talk->recipients[i] = (struct recipient){ .address = message->recipients[i],
                                                  .orcpt = STR_EMPTY,
                                                  .notify = talk->wish->notify };
        talk->pointers[i] = &talk->recipients[i];
    }
    buf_init(&talk->envid, 1024);
    sendmail_xtext(&talk->envid, talk->wish->envid);
    talk->transaction = (struct smtp_client_transaction){
        .sender = message->sender,
        .recipients = talk->pointers,
        .recipient_count = count,
        .size = message->text.len,
        .ret = talk->wish->ret,
        .envid = buf_view(&talk->envid),
    };
}

enum sendmail_result sendmail_submit(const struct sendmail_wish *wish, const char *socket_path,
                                     const struct sendmail_message *message, char out_id[32],
                                     struct sendmail_fault *fault)
{
    struct talk talk = { .wish = wish, .message = message, .fault = fault, .out_id = out_id };
    struct smtp_client_options options = {
        .helo = STR("localhost"),
        .timeouts = { .banner_ms = BANNER_MS,
                      .command_ms = COMMAND_MS,
                      .data_ms = COMMAND_MS,
                      .end_of_data_ms = END_MS },
    };
    struct fault why;

    out_id[0] = '\0';
    talk.fd = sendmail_connect(socket_path, &why);
    if (talk.fd < 0) {
        not_now(&talk, "%s", why.text);
        return talk.result;
    }
    prepare(&talk);
    talk.client = smtp_client_new(&options, clock_mono_ms());
    converse(&talk);
    smtp_client_free(&talk.client);
    close(talk.fd);
    buf_clear(&talk.envid);
    free(talk.recipients);
    free(talk.pointers);
    return talk.result;
}
