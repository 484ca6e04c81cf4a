/*
 * dropped_report.c - whoever dropped mail that is not taken is told so.
 *
 * sendmail(1) has said 0 and is gone: what it would have printed goes to the
 * envelope's sender as a delivery report, with the beginning of the content. The
 * report is durable before the file is touched. Its id is made of the file's, so
 * that a file which is found again after a crash is not reported again.
 */
#include "relay/ingress/dropbox_impl.h"

#include "relay/mail/dsn.h"

#include <stdio.h>

#define NOBODY STR("undisclosed-recipients") /* a file in which no recipient can be read */

/* ---- what is returned ---- */

void dropped_keep(struct dropped *dropped, struct str content)
{
    struct str kept = str_head(content, DROPPED_KEPT_MAX - dropped->kept.len);

    buf_str(&dropped->kept, kept);
    dropped->kept_is_all = dropped->kept_is_all && kept.len == content.len;
}

/* A report goes by SMTP too: bare CR, bare LF and NUL cannot. */
static bool is_lines(struct str text)
{
    if (memchr(text.at, '\0', text.len))
        return false;
    for (size_t i = 0; i < text.len; i++)
        if ((text.at[i] == '\n') != (i > 0 && text.at[i - 1] == '\r'))
            return false;
    return true;
}

static size_t head_len(struct str text)
{
    size_t end = str_find(text, STR("\r\n\r\n"));

    if (str_starts(text, STR("\r\n")))
        return 2;
    return end < text.len ? end + 4 : text.len;
}

static void put_content(struct dropped *dropped, struct message *refused)
{
    struct str text = buf_view(&dropped->kept), head;

    /* Without its end it may be cut within a line. */
    while (!dropped->kept_is_all && text.len > 0 && text.at[text.len - 1] != '\n')
        text.len--;
    if (text.len == 0 || !is_lines(text))
        text = STR("\r\n");
    head = str_head(text, head_len(text));
    refused->head = str_dup(head);
    refused->head_len = head.len;
    refused->body = body_of_bytes(str_from(text, head.len));
    if (!dropped->kept_is_all)
        refused->envelope.ret = RET_HDRS;
}

/* ---- who gets nothing of it ---- */

static struct message *refused_of(struct dropped *dropped)
{
    if (!dropped->refused)
        dropped->refused = message_new();
    return dropped->refused;
}

void dropped_refuse(struct dropped *dropped, const struct recipient *recipient, enum class kind,
                    const struct reply *why)
{
    struct envelope *envelope = &refused_of(dropped)->envelope;
    struct recipient *refused = envelope_add(envelope, recipient->address);
    char status[16];
    struct buf line;

    buf_init(&line, REPLY_TEXT_MAX);
    reply_line(why, &line);
    (void)status_print(why->status, status, sizeof(status));
    refused->orcpt = arena_str(&envelope->arena, recipient->orcpt);
    refused->notify = recipient->notify;
    refused->state = RECIPIENT_FAILED;
    refused->stage = STAGE_RECEIVE;
    refused->kind = kind;
    refused->status = arena_str(&envelope->arena, str_of(status));
    refused->said = arena_str(&envelope->arena, buf_view(&line));
    refused->cause = kind == CLASS_HARD
                         ? STR("the address cannot be used; the other recipients, if there are "
                               "any, are not concerned")
                         : STR("the message waited on this machine until the relay ran, and the "
                               "relay does not take it");
    refused->fix = STR("mend what the words name, and send it again");
    buf_clear(&line);
}

void dropped_refuse_all(struct dropped *dropped, const struct reply *why)
{
    const struct envelope *envelope = &dropped->envelope;
    struct recipient nobody = { .address = NOBODY };

    for (size_t i = 0; i < envelope->recipient_count; i++)
        dropped_refuse(dropped, &envelope->recipients[i], CLASS_CONTENT, why);
    if (refused_of(dropped)->envelope.recipient_count == 0)
        dropped_refuse(dropped, &nobody, CLASS_CONTENT, why);
}

/* ---- the report ---- */

/* The null sender is no address, and who sent what cannot be read is not known either. */
static void put_envelope(const struct dropped *dropped, struct envelope *envelope)
{
    const struct envelope *given = &dropped->envelope;
    struct arena *arena = &envelope->arena;

    envelope->id = dropped->id;
    envelope->arrived_us = dropped_since(dropped);
    envelope->sender = arena_str(arena, given->sender.len ? given->sender : STR("root"));
    envelope->envid = arena_str(arena, given->envid);
    envelope->user = arena_str(arena, given->user);
    envelope->ret = given->ret;
    intake_qualify_sender(dropped->dropbox->options.intake, envelope);
}

static bool is_owed(const struct envelope *envelope)
{
    for (size_t i = 0; i < envelope->recipient_count; i++)
        if (dsn_is_owed(envelope, &envelope->recipients[i], DSN_FAILED))
            return true;
    return false;
}

static void tell_hop(const struct dropped *dropped, const struct msgid *report)
{
    struct loop *loop = dropped->dropbox->options.loop;
    const struct envelope *envelope = &dropped->refused->envelope;
    int64_t now = loop_wall_us(loop);
    char id[MSGID_TEXT + 1], text[128];
    struct hop hop = { .id = dropped->id,
                       .began_us = dropped_since(dropped),
                       .ended_us = now,
                       .weight = HOP_WARNING,
                       .stage = STAGE_DSN,
                       .result = RESULT_FAILED,
                       .scope = SCOPE_MESSAGE,
                       .count = (uint32_t)envelope->recipient_count,
                       .recipient = envelope->sender,
                       .user = envelope->user,
                       .fault = envelope->recipients[0].said };

    msgid_print(report, id);
    (void)snprintf(text, sizeof(text),
                   "mail dropped by uid %u is refused, its sender is told: queued as %s",
                   dropped->file.uid, id);
    hop.text = str_of(text);
    hop_emit(loop_ring(loop), &hop);
}

static struct msgid report_id(const struct dropped *dropped)
{
    struct msgid id = dropped->id;

    /* One about some recipients may be followed by one about the others. */
    id.bytes[MSGID_BYTES - 1] ^= dropped->is_stored ? 2 : 1;
    return id;
}

static void reported(void *arg, enum err err)
{
    struct dropped *dropped = arg;

    if (!dropped_is_back(dropped))
        return;
    if (!err)
        tell_hop(dropped, &dropped->report_id);
    dropped->told(dropped, err);
}

void dropped_report(struct dropped *dropped, dropped_told_fn *told)
{
    const struct dropbox_options *options = &dropped->dropbox->options;
    struct message *refused = refused_of(dropped);

    if (!refused->head) { /* else it is tried again */
        put_envelope(dropped, &refused->envelope);
        put_content(dropped, refused);
    }
    if (!is_owed(&refused->envelope)) { /* NOTIFY=NEVER */
        told(dropped, ERR_OK);
        return;
    }
    dropped->told = told;
    dropped->report_id = report_id(dropped);
    dropped_out(dropped);
    options->report(options->arg, refused, &dropped->report_id, reported, dropped);
}
