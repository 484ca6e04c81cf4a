/*
 * dropped.c - one file of the drop folder on its way to the store.
 *
 * Workers open, read, remove (dropped_read.c); here, on the loop, the server
 * machine runs over what they read and the content goes to intake.
 */
#include "relay/ingress/dropbox_impl.h"

#include "relay/base/clock.h"
#include "relay/ingress/local_user.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define REPORT_AGAIN_MS 10000

/* ---- life ---- */

/* The id of what may be found again after a crash: the kernel's time, the name's bits. */
static struct msgid id_of(const struct dropped_file *file)
{
    uint64_t ms = (uint64_t)(file->dropped_us / 1000);
    struct msgid id;
    unsigned byte;

    for (unsigned i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    for (unsigned i = 6; i < MSGID_BYTES; i++)
        id.bytes[i] =
            sscanf(file->name + (size_t)2 * (i - 6), "%2x", &byte) == 1 ? (uint8_t)byte : 0;
    return id;
}

static void dropped_free(struct dropped *dropped)
{
    loop_timer_stop(dropped->dropbox->options.loop, &dropped->again);
    *dropped->at = dropped->next;
    if (dropped->next)
        dropped->next->at = dropped->at;
    arrival_abort(&dropped->arrival);
    envelope_clear(&dropped->envelope);
    message_unref(&dropped->refused);
    buf_clear(&dropped->kept);
    smtp_server_free(&dropped->machine);
    if (dropped->get.message)
        message_unref(&dropped->get.message);
    if (dropped->fd >= 0)
        close(dropped->fd);
    if (dropped->folder >= 0)
        close(dropped->folder);
    free(dropped->window);
    free(dropped);
}

void dropped_is_done(struct dropped *dropped)
{
    struct dropbox *dropbox = dropped->dropbox;
    bool was_taken = !dropped->stays;

    dropped_free(dropped);
    dropbox_is_done(dropbox, was_taken);
}

bool dropped_is_back(struct dropped *dropped)
{
    struct dropbox *dropbox = dropped->dropbox;

    dropped->has_work = false;
    (void)dropbox_back(dropbox);
    if (!dropped->is_aborted)
        return true;
    dropped_free(dropped);
    dropbox->under_way--;
    dropbox_may_go(dropbox);
    return false;
}

void dropped_out(struct dropped *dropped)
{
    dropped->has_work = true;
    dropbox_busy(dropped->dropbox);
}

void dropped_work(struct dropped *dropped, job_fn *run, job_fn *done)
{
    struct loop *loop = dropped->dropbox->options.loop;

    dropped->job = (struct job){ .run = run, .done = done, .reply_to = loop_mailbox(loop) };
    dropped_out(dropped);
    (void)pool_post(loop_pool(loop), POOL_DISK, &dropped->job); /* no bound on its line */
}

/* ---- ends ---- */

static void set_aside(struct dropped *dropped)
{
    struct dropbox *dropbox = dropped->dropbox;
    struct buf text;

    buf_init(&text, 1024);
    buf_printf(&text,
               "mail dropped by uid %u cannot be taken and was moved to " STR_FMT "/corrupt-%s",
               dropped->file.uid, STR_ARG(dropbox->options.folder), dropped->file.name);
    dropbox_say(dropbox, HOP_ALARM, buf_view(&text), str_of(dropped->fault.text));
    buf_clear(&text);
    dropped_set_aside(dropped);
}

static void keep_for_later(struct dropped *dropped)
{
    struct dropbox *dropbox = dropped->dropbox;

    if (!dropbox->is_told)
        dropbox_say(dropbox, HOP_WARNING, STR("mail in the drop folder has to wait"),
                    str_of(dropped->fault.text));
    dropbox->is_told = true;
    dropped->stays = true;
    dropped_leave(dropped); /* whoever called goes on using it */
}

/* Whoever sent it knows; what nobody could be told, an operator has to look at. */
static void told_all(struct dropped *dropped, enum err err)
{
    if (err == ERR_AGAIN)
        keep_for_later(dropped);
    else if (err || dropped->is_damaged)
        set_aside(dropped);
    else
        dropped_remove(dropped);
}

static void refuse_all(struct dropped *dropped, const struct reply *why)
{
    dropped->is_over = true;
    arrival_abort(&dropped->arrival);
    dropped_refuse_all(dropped, why);
    dropped_report(dropped, told_all);
}

void dropped_finish(struct dropped *dropped, enum err err)
{
    struct reply why;

    if (dropped->is_over)
        return;
    if (err != ERR_OK && err != ERR_AGAIN) {
        dropped->is_damaged = true;
        reply_set(&why, 554, STATUS(5, 6, 0), "the file in the drop folder is damaged: %s",
                  dropped->fault.text);
        refuse_all(dropped, &why);
        return;
    }
    dropped->is_over = true;
    arrival_abort(&dropped->arrival);
    if (err == ERR_AGAIN)
        keep_for_later(dropped);
    else
        dropped_remove(dropped);
}

/* ---- the dialogue ---- */

static void refuse(struct dropped *dropped, const struct reply *reply)
{
    struct buf line;

    buf_init(&line, FAULT_MAX);
    reply_line(reply, &line);
    fault_set(&dropped->fault, ERR_INVALID, STR_FMT, STR_ARG(buf_view(&line)));
    buf_clear(&line);
    if (reply_is_transient(reply))
        dropped_finish(dropped, ERR_AGAIN);
    else
        refuse_all(dropped, reply);
}

static void answer(struct dropped *dropped, unsigned code)
{
    struct reply reply;

    reply_set(&reply, code, STATUS(0, 0, 0), "ok");
    smtp_server_answer(dropped->machine, &reply);
}

/* False: it is none, and *out_text as it was written. */
static bool canonical(struct dropped *dropped, const struct addr *addr, struct str *out_text,
                      struct fault *fault)
{
    struct buf text;
    enum err rc = ERR_OK;

    buf_init(&text, (size_t)2 * ADDR_MAX);
    if (!addr_is_null(addr))
        rc = addr_canonical(addr, &text, fault);
    if (rc) {
        buf_reset(&text);
        buf_printf(&text, STR_FMT "%s" STR_FMT, STR_ARG(addr->local), addr->domain.len ? "@" : "",
                   STR_ARG(addr->domain));
    }
    *out_text = arena_str(&dropped->envelope.arena, buf_view(&text));
    buf_clear(&text);
    return rc == ERR_OK;
}

static void take_mail(struct dropped *dropped, const struct smtp_server_event *event)
{
    struct envelope *envelope = &dropped->envelope;
    struct arena *arena = &envelope->arena;
    struct fault why;

    envelope_clear(envelope);
    envelope->envid = arena_str(arena, event->envid);
    envelope->ret = event->ret;
    envelope->user = str_of(arena_printf(arena, "uid:%u", dropped->file.uid));
    envelope->client = STR("drop folder");
    envelope->listener = STR("sendmail");
    envelope->flags = (event->smtputf8 ? (unsigned)ENVELOPE_SMTPUTF8 : 0U) |
                      (event->body_8bit ? (unsigned)ENVELOPE_8BITMIME : 0U);
    if (!canonical(dropped, &event->addr, &envelope->sender, &why)) {
        envelope->sender = STR_EMPTY; /* root is told */
        reply_set(&dropped->refusal, 553, STATUS(5, 1, 7), "the sender is no address: %s",
                  why.text);
    }
    answer(dropped, 250);
}

/* A bad one does not keep the others from their mail. */
static void take_recipient(struct dropped *dropped, const struct smtp_server_event *event)
{
    struct envelope *envelope = &dropped->envelope;
    struct recipient said = { .orcpt = event->orcpt, .notify = event->notify };
    struct reply refusal;
    struct fault why;

    if (canonical(dropped, &event->addr, &said.address, &why)) {
        struct recipient *recipient = envelope_add_once(envelope, said.address);
        if (recipient) { /* named twice, delivered once */
            recipient->orcpt = arena_str(&envelope->arena, said.orcpt);
            recipient->notify = said.notify;
        }
    } else {
        reply_set(&refusal, 553, STATUS(5, 1, 3), "%s", why.text);
        dropped_refuse(dropped, &said, CLASS_HARD, &refusal);
    }
    answer(dropped, 250);
}

/* When it was dropped; a clock that was set back since does not put it in the future. */
int64_t dropped_since(const struct dropped *dropped)
{
    int64_t now = loop_wall_us(dropped->dropbox->options.loop), then = dropped->file.dropped_us;

    return then < now ? then : now;
}

/* "it waited 3 h 12 min because ...", in the trace of the message. */
static void tell_waited(const struct dropped *dropped)
{
    struct loop *loop = dropped->dropbox->options.loop;
    int64_t now = loop_wall_us(loop);
    char span[24], text[400];
    struct hop hop = { .id = dropped->id,
                       .began_us = dropped_since(dropped),
                       .ended_us = now,
                       .weight = HOP_EVENT,
                       .side = HOP_IN,
                       .stage = STAGE_WAIT,
                       .user = dropped->envelope.user };

    clock_span((uint64_t)((now - hop.began_us) / 1000000), span, sizeof(span));
    (void)snprintf(text, sizeof(text), "%s in the drop folder: %s", span, dropped->why);
    hop.text = str_of(text);
    hop_emit(loop_ring(loop), &hop);
}

static void begin_content(struct dropped *dropped)
{
    struct dropbox_options *options = &dropped->dropbox->options;
    char name[72];
    struct arrival_facts facts = {
        .with = STR("LOCAL"),
        .tls = STR_EMPTY,
        .client_address = STR_EMPTY,
        .id = &dropped->id,
        .written_us = dropped_since(dropped),
        .is_submission = true,
        .is_local_origin = true,
    };

    local_user_print(dropped->file.uid, name, sizeof(name));
    facts.submitter = str_of(name);
    if (!dropped->is_stored)
        tell_waited(dropped);
    if (!dropped->is_stored && !dropped->refusal.code && dropped->envelope.recipient_count > 0)
        dropped->arrival = arrival_begin(options->intake, &dropped->envelope, &facts);
    answer(dropped, 354);
}

static void has_room(void *arg)
{
    struct dropped *dropped = arg;

    dropped->waits = false;
    dropped_pump(dropped);
}

static void report_some(void *arg);

/* Taken again from the folder it would go out twice: this waits here. */
static void told_some(struct dropped *dropped, enum err err)
{
    struct loop *loop = dropped->dropbox->options.loop;

    if (err == ERR_AGAIN && !dropped->dropbox->is_stopped)
        loop_timer_start(loop, &dropped->again, REPORT_AGAIN_MS, report_some, dropped);
    else
        told_all(dropped, err);
}

static void report_some(void *arg) { dropped_report(arg, told_some); }

/* The good recipients have it; the bad ones are told of before the file goes. */
static void is_stored(struct dropped *dropped)
{
    dropped->is_over = dropped->is_stored = true;
    if (dropped->refused)
        report_some(dropped);
    else
        dropped_remove(dropped);
}

static void decided(void *arg, const struct reply *reply)
{
    struct dropped *dropped = arg;

    dropped->arrival = NULL;
    dropped->waits = false;
    if (reply_is_positive(reply))
        is_stored(dropped);
    else
        refuse(dropped, reply);
}

static void refuse_each(struct dropped *dropped)
{
    dropped->is_over = true;
    fault_set(&dropped->fault, ERR_INVALID, STR_FMT,
              STR_ARG(dropped->refused->envelope.recipients[0].said));
    dropped_report(dropped, told_all);
}

static void end_content(struct dropped *dropped, const struct smtp_server_event *event)
{
    const struct reply *refusal = event->refusal ? event->refusal : &dropped->refusal;
    struct arrival_end end = {
        .has_8bit = event->has_8bit,
        .has_long_line = event->has_long_line,
        .lacks_final_crlf = event->lacks_final_crlf,
    };

    if (dropped->is_stored) {
        is_stored(dropped);
    } else if (refusal->code) {
        refuse(dropped, refusal);
    } else if (!dropped->arrival) {
        refuse_each(dropped);
    } else {
        dropped->waits = dropped->is_ended = true;
        arrival_end(dropped->arrival, &end, decided, dropped);
    }
}

static void handle(struct dropped *dropped, const struct smtp_server_event *event)
{
    switch (event->kind) {
    case SMTP_SERVER_EHLO:
        answer(dropped, 250);
        break;
    case SMTP_SERVER_MAIL:
        take_mail(dropped, event);
        break;
    case SMTP_SERVER_RCPT:
        take_recipient(dropped, event);
        break;
    case SMTP_SERVER_DATA:
        begin_content(dropped);
        break;
    case SMTP_SERVER_CONTENT:
        dropped_keep(dropped, event->bytes);
        if (dropped->arrival && !arrival_feed(dropped->arrival, event->bytes, has_room, dropped))
            dropped->waits = true;
        break;
    case SMTP_SERVER_END:
        end_content(dropped, event);
        break;
    case SMTP_SERVER_STARTTLS:
    case SMTP_SERVER_AUTH:
    case SMTP_SERVER_AUTH_MORE:
    case SMTP_SERVER_RESET:
    case SMTP_SERVER_QUIT:
    case SMTP_SERVER_CLOSE: /* the message would have ended it before: it is cut short */
        fault_set(&dropped->fault, ERR_CORRUPT, "the file has no whole message");
        dropped_finish(dropped, ERR_CORRUPT);
        break;
    }
}

/* What the machine refused by itself stands in its output only. */
static void read_output(struct dropped *dropped)
{
    struct str out = smtp_server_output(dropped->machine), rest = out, line;

    while (!dropped->is_over && str_next(&rest, '\n', &line)) {
        if (line.len == 0 || (line.at[0] != '4' && line.at[0] != '5'))
            continue;
        fault_set(&dropped->fault, ERR_INVALID, STR_FMT, STR_ARG(str_trim(line)));
        dropped_finish(dropped, ERR_INVALID);
    }
    if (!dropped->is_over)
        smtp_server_sent(dropped->machine, out.len);
}

/* True when something moved. */
static bool pump_once(struct dropped *dropped)
{
    uint64_t now = loop_now_ms(dropped->dropbox->options.loop);
    struct smtp_server_event event;
    size_t used = smtp_server_feed(
        dropped->machine,
        str_make(dropped->window + dropped->window_at, dropped->window_len - dropped->window_at),
        now);
    bool moved = used > 0;

    dropped->window_at += used;
    while (!dropped->is_over && !dropped->waits &&
           smtp_server_next(dropped->machine, now, &event)) {
        handle(dropped, &event);
        moved = true;
    }
    return moved;
}

void dropped_pump(struct dropped *dropped)
{
    bool moved = true;

    while (moved && !dropped->is_over && !dropped->waits) {
        moved = pump_once(dropped);
        if (!dropped->is_over)
            read_output(dropped);
    }
    if (dropped->is_over || dropped->waits)
        return;
    dropped->waits = true;
    dropped_read(dropped);
}

void dropped_feed_first(struct dropped *dropped)
{
    const struct dropbox_options *options = &dropped->dropbox->options;
    uint64_t now = loop_now_ms(options->loop);
    struct smtp_server_options machine = {
        .hostname = options->hostname,
        .exts = EXT_PIPELINING | EXT_SIZE | EXT_ENHANCEDSTATUSCODES | EXT_8BITMIME | EXT_DSN |
                EXT_SMTPUTF8,
        .size_max = options->message_size,
        .line_max = 2048,
        .bare_addresses = true,
        .recipients_max = ENVELOPE_SENDMAIL_MAX,
        .errors_max = 1,
        .command_timeout_ms = UINT64_MAX / 4,
        .data_timeout_ms = UINT64_MAX / 4,
    };

    dropped->machine = smtp_server_new(&machine, now);
    smtp_server_greet(dropped->machine, NULL);
    dropped_pump(dropped);
}

/* A user gave two files names and times that make one id, or that of a report on the other:
 * side by side they would write the same side file, and the store takes one of them. */
static bool has_twin(const struct dropbox *dropbox, const struct msgid *id)
{
    const size_t last = MSGID_BYTES - 1;

    for (const struct dropped *one = dropbox->dropped; one; one = one->next)
        if (memcmp(one->id.bytes, id->bytes, last) == 0 &&
            (one->id.bytes[last] ^ id->bytes[last]) <= REPORT_BITS)
            return true;
    return false;
}

void dropped_begin(struct dropbox *dropbox, const struct dropped_file *file)
{
    struct dropped *dropped = mem_alloc(sizeof(*dropped));

    dropped->dropbox = dropbox;
    dropped->file = *file;
    dropped->id = id_of(file);
    dropped->size_max = dropbox->options.message_size;
    dropped->fd = -1;
    dropped->kept_is_all = true;
    buf_init(&dropped->kept, DROPPED_KEPT_MAX);
    dropped->folder = fcntl(dropbox->folder, F_DUPFD_CLOEXEC, 0);
    envelope_init(&dropped->envelope);
    dropped->stays = has_twin(dropbox, &dropped->id);
    dropped->next = dropbox->dropped;
    dropped->at = &dropbox->dropped;
    if (dropped->next)
        dropped->next->at = &dropped->next;
    dropbox->dropped = dropped;
    if (dropped->stays) {
        dropped->is_over = true;
        dropped_leave(dropped);
    } else {
        dropped_open(dropped);
    }
}

void dropped_abort_all(struct dropbox *dropbox)
{
    struct dropped *next;

    for (struct dropped *one = dropbox->dropped; one; one = next) {
        bool goes_on = one->is_over ? one->has_work : one->is_ended;
        next = one->next;
        if (goes_on)
            continue;
        one->is_aborted = true;
        if (!one->has_work) {
            dropped_free(one);
            dropbox->under_way--;
        }
    }
}
