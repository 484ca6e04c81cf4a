/*
 * sendmail_send.c - one message: read, addressed, handed over.
 *
 * First the relay's socket, then the drop folder, and 75 only when both fail.
 * What the relay refuses for good is not dropped into the folder: it would be
 * refused again later, when nobody listens any more.
 */
#include "relay/cli/sendmail.h"

#include "relay/mail/fixup.h"

#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the caller ---- */

/* "Joe Doe,room 1,..." in the passwd file; "&" stands for the login name. */
static char *full_name_of(const struct passwd *entry, struct arena *arena)
{
    struct str gecos = str_of(entry->pw_gecos);
    struct buf name;
    char *kept;

    gecos = str_trim(str_head(gecos, str_chr(gecos, ',')));
    buf_init(&name, 1024);
    for (size_t i = 0; i < gecos.len; i++) {
        if (gecos.at[i] == '&')
            buf_cstr(&name, entry->pw_name);
        else
            buf_char(&name, gecos.at[i]);
    }
    kept = arena_cstr(arena, buf_view(&name));
    buf_clear(&name);
    return kept;
}

static void find_author(const struct conf *conf, struct arena *arena,
                        struct sendmail_author *out_author)
{
    const struct passwd *entry = getpwuid(getuid());
    const char *name = getenv("NAME");

    out_author->extract_adds = conf->sendmail.extract_adds;
    out_author->login = entry ? arena_cstr(arena, str_of(entry->pw_name))
                              : arena_printf(arena, "uid%u", (unsigned)getuid());
    out_author->full_name = name && *name ? name : entry ? full_name_of(entry, arena) : NULL;
}

/* ---- handing over ---- */

/* What the relay does to the header of a dropped message, it must be able to do: asked
 * now, while the caller listens. */
static bool can_mend(const struct sendmail_wish *wish, const struct conf *conf,
                     const struct sendmail_message *message, struct fault *why)
{
    struct fixup_options options = {
        .hostname = STR("localhost"),
        .with = STR("LOCAL"),
        .from_fallback = message->sender,
        .hops_max = conf->is_partial ? UINT_MAX : conf->limits.hops,
        .add_missing = true,
    };
    struct str head = str_head(buf_view(&message->text), message->head_len);
    struct envelope envelope;
    struct fixup_facts facts;
    struct fixup_refusal refusal;
    struct buf mended;
    enum err rc;

    envelope_init(&envelope);
    envelope.flags = message->needs_utf8 || wish->smtputf8 ? ENVELOPE_SMTPUTF8 : 0;
    buf_init(&mended, head.len * 4 + (64U << 10));
    rc = fixup_header(head, &options, &envelope, &mended, &envelope.arena, &facts, &refusal, why);
    buf_clear(&mended);
    envelope_clear(&envelope);
    return rc == ERR_OK;
}

/* The relay would refuse it when nobody listens any more. */
static bool fits_folder(const struct sendmail_wish *wish, const struct conf *conf,
                        const struct sendmail_message *message, struct sendmail_fault *fault)
{
    struct fault why;

    *fault = (struct sendmail_fault){ .trouble = TROUBLE_NONE };
    if (!conf->is_partial && message->head_len > conf->limits.header_size)
        sendmail_fail(fault, TROUBLE_TOO_LARGE,
                      "the header has %zu octets, the relay takes %" PRIu64, message->head_len,
                      (uint64_t)conf->limits.header_size);
    else if (!can_mend(wish, conf, message, &why))
        sendmail_fail(fault, TROUBLE_HEADER, "%s", why.text);
    return !fault->trouble;
}

static bool hand_over(const struct sendmail_wish *wish, const struct conf *conf,
                      const struct sendmail_message *message, char out_id[32],
                      struct sendmail_fault *fault)
{
    struct sendmail_fault first = { .trouble = TROUBLE_NONE };
    enum sendmail_result result = SENT_NOT;
    struct fault why;

    out_id[0] = '\0';
    if (conf->sendmail.socket.len)
        result = sendmail_submit(wish, conf->sendmail.socket.at, message, out_id, &first);
    else
        sendmail_fail(&first, TROUBLE_NOT_TAKEN, "the relay has no socket for sendmail");
    if (result == SENT_QUEUED)
        return true;
    *fault = first;
    if (result == SENT_REFUSED || conf->sendmail.drop.len == 0)
        return false;
    if (!fits_folder(wish, conf, message, fault))
        return false;
    if (sendmail_drop(wish, conf, first.words.text, message, &why) == ERR_OK) {
        *fault = (struct sendmail_fault){ .trouble = TROUBLE_NONE };
        return true;
    }
    *fault = (struct sendmail_fault){ .trouble = TROUBLE_NONE };
    sendmail_fail(fault, TROUBLE_NOT_TAKEN, "%.230s; %.230s", first.words.text, why.text);
    return false;
}

/* ---- -oem: the error goes back by mail ---- */

static void put_report(const struct sendmail_message *message, struct str to,
                       const struct sendmail_fault *fault, struct buf *out)
{
    buf_printf(out,
               "From: MAILER-DAEMON\r\nTo: " STR_FMT "\r\nSubject: Your mail was not sent\r\n"
               "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
               "Content-Type: text/plain; charset=utf-8\r\n\r\n"
               "The message below was not sent, to nobody:\r\n\r\n    ",
               STR_ARG(to));
    buf_escaped(out, str_of(fault->words.text), FAULT_MAX);
    buf_cstr(out, "\r\n\r\n---- its header ----\r\n\r\n");
    buf_str(out, str_head(buf_view(&message->text), message->head_len));
}

/* True when it is on its way. Never about a message that had no sender itself. */
static bool mail_back(const struct sendmail_wish *wish, const struct conf *conf,
                      const struct sendmail_message *message, struct str to,
                      const struct sendmail_fault *fault)
{
    struct sendmail_wish plain = { .called = wish->called, .envid = STR_EMPTY };
    struct sendmail_fault ignored = { .trouble = TROUBLE_NONE };
    struct sendmail_message report;
    char id[32];
    bool sent;

    if (to.len == 0)
        return false;
    sendmail_message_init(&report, message->text.len + (1U << 16));
    report.recipients = &to;
    report.recipient_count = 1;
    report.needs_utf8 = !str_is_ascii(to);
    put_report(message, to, fault, &report.text);
    report.has_8bit = !str_is_ascii(buf_view(&report.text));
    sent = hand_over(&plain, conf, &report, id, &ignored);
    sendmail_message_clear(&report);
    return sent;
}

static int tell_failure(const struct sendmail_wish *wish, const struct conf *conf,
                        const struct sendmail_message *message,
                        const struct sendmail_author *author, const struct sendmail_fault *fault)
{
    bool by_mail = wish->errors == ERRORS_MAIL || wish->errors == ERRORS_ONLY;
    struct str to = wish->has_sender ? message->sender : str_of(author->login);
    int code = sendmail_say(wish, fault);

    /* When nobody takes the message, nobody takes a report about it either. */
    if (!by_mail || fault->trouble == TROUBLE_NOT_TAKEN || fault->trouble == TROUBLE_INPUT)
        return code;
    return mail_back(wish, conf, message, to, fault) && wish->errors == ERRORS_ONLY ? EX_OK : code;
}

int sendmail_send(const struct sendmail_wish *wish, const struct conf *conf, char out_id[32])
{
    struct sendmail_fault fault = { .trouble = TROUBLE_NONE };
    struct sendmail_message message;
    struct sendmail_author author;
    int code = EX_OK;

    sendmail_message_init(&message, conf->limits.message_size);
    find_author(conf, &message.arena, &author);
    /* Before a person has typed a message for nobody. */
    if (!wish->extract && wish->recipient_count == 0)
        sendmail_fail(&fault, TROUBLE_NO_RECIPIENTS, "no recipients");
    if (!fault.trouble)
        code = sendmail_read(wish, STDIN_FILENO, &message, &fault);
    if (!fault.trouble)
        code = sendmail_address(wish, &author, &message, &fault);
    if (!fault.trouble && hand_over(wish, conf, &message, out_id, &fault))
        code = EX_OK;
    if (fault.trouble)
        code = tell_failure(wish, conf, &message, &author, &fault);
    sendmail_message_clear(&message);
    return code;
}
