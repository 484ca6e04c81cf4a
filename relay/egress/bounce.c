/*
 * bounce.c - from verdicts to a report that is ready to be stored.
 */
#include "relay/egress/bounce.h"

#include <stdlib.h>

#define FULL_MAX ((size_t)64 * 1024) /* larger originals are returned by their head (RET) */
#define REPORT_MAX ((size_t)16 << 20)

struct bounce {
    struct bounce_options options;
    struct message *original;
    struct arrival *arrival;
    struct deferred deferred;
    struct buf head, body;
    struct arrival_end end;
    unsigned fed; /* of head and body */
    bounce_fn *fn;
    void *arg;
    int64_t began_us;
};

static void tell_failed(const struct bounce *bounce, struct str why, bool try_again)
{
    struct hop hop = {
        .id = bounce->original->envelope.id,
        .began_us = bounce->began_us,
        .ended_us = loop_wall_us(bounce->options.loop),
        .weight = HOP_WARNING,
        .stage = STAGE_DSN,
        .result = try_again ? RESULT_LATER : RESULT_FAILED,
        .scope = SCOPE_US,
        .recipient = bounce->original->envelope.sender,
        .fault = why,
        .text = try_again ? STR("no report could be made now: the mail waits for it")
                          : STR("no report could be made"),
    };

    hop_emit(loop_ring(bounce->options.loop), &hop);
}

static void bounce_end(struct bounce *bounce, struct message *dsn, bool try_again)
{
    bounce->fn(bounce->arg, dsn, try_again);
    message_unref(&bounce->original);
    buf_clear(&bounce->head);
    buf_clear(&bounce->body);
    free(bounce);
}

static void none_owed(void *arg) { bounce_end(arg, NULL, false); }

/* ---- the text ---- */

/* The recipient as the settlement is going to leave it. */
static struct recipient told(const struct recipient *recipient, const struct verdict *verdict)
{
    struct recipient copy = *recipient;

    copy.state = verdict->state;
    copy.attempts += verdict->attempted;
    copy.warned |= verdict->warned;
    copy.due_at = verdict->due_at;
    copy.stage = verdict->stage;
    copy.kind = verdict->kind;
    copy.status = verdict->status;
    copy.host = verdict->host;
    copy.said = verdict->said;
    copy.cause = verdict->cause;
    copy.fix = verdict->fix;
    return copy;
}

static size_t gather(const struct bounce *bounce, const struct bounce_recipient *recipients,
                     size_t count, struct recipient *copies, struct dsn_recipient *out)
{
    const struct envelope *envelope = &bounce->original->envelope;
    size_t owed = 0;

    for (size_t i = 0; i < count; i++) {
        const struct recipient *recipient = &envelope->recipients[recipients[i].index];
        if (!dsn_is_owed(envelope, recipient, recipients[i].action))
            continue;
        copies[owed] = told(recipient, recipients[i].verdict);
        if (recipients[i].verdict->attempted)
            copies[owed].tried_at = bounce->began_us / 1000000;
        out[owed] = (struct dsn_recipient){
            .recipient = &copies[owed],
            .action = recipients[i].action,
            .will_retry_until = recipients[i].will_retry_until,
        };
        owed++;
    }
    return owed;
}

static void build(struct bounce *bounce, const struct dsn_recipient *recipients, size_t count)
{
    const struct message *original = bounce->original;
    char boundary[MSGID_TEXT + 1];
    struct str body = STR_EMPTY;
    struct dsn_options options = {
        .hostname = bounce->options.hostname,
        .wall_us = bounce->began_us,
        .full_max_bytes = FULL_MAX,
    };
    /* A side file is far larger than what is returned whole: it is not read. */
    bool whole = body_is_inline(original->body, &body) && body.len <= FULL_MAX;

    msgid_print(arrival_id(bounce->arrival), boundary);
    options.boundary = str_of(boundary);
    dsn_build(&options, &original->envelope, str_make(original->head, original->head_len),
              whole ? body : STR_EMPTY, whole, recipients, count, &bounce->head, &bounce->body);
}

static void look_at_body(struct bounce *bounce)
{
    struct str rest = buf_view(&bounce->body), line;

    bounce->end.has_8bit = !str_is_ascii(rest);
    bounce->end.lacks_final_crlf = rest.len < 2 || memcmp(rest.at + rest.len - 2, "\r\n", 2) != 0;
    while (str_next(&rest, '\n', &line))
        if (line.len > 999) /* 998 and the CR (RFC 5322 2.1.1) */
            bounce->end.has_long_line = true;
}

/* ---- the message ---- */

static void begin(struct bounce *bounce)
{
    const struct envelope *original = &bounce->original->envelope;
    struct arrival_facts facts = { .with = STR("LOCAL") };
    struct envelope envelope;
    struct recipient *to;

    envelope_init(&envelope);
    envelope.arrived_us = bounce->began_us;
    envelope.flags = ENVELOPE_DSN;
    if (!str_is_ascii(original->sender))
        envelope.flags |= ENVELOPE_SMTPUTF8;
    /* Completed for the world outside; here it is the name that it was. */
    to = envelope_add(&envelope, original->flags & ENVELOPE_LOCAL_SENDER
                                     ? addr_local_of(original->sender)
                                     : original->sender);
    to->notify = NOTIFY_NEVER; /* nobody is told about reports on reports */
    bounce->arrival = arrival_begin(bounce->options.intake, &envelope, &facts);
    envelope_clear(&envelope);
}

static void tell_put_off(const struct bounce *bounce)
{
    struct hop hop = {
        .began_us = bounce->began_us,
        .ended_us = loop_wall_us(bounce->options.loop),
        .weight = HOP_ALARM,
        .stage = STAGE_ALARM,
        .result = RESULT_LATER,
        .scope = SCOPE_US,
        .kind = CLASS_QUOTA,
        .text = STR("more reports than retry { reports-per-hour } allows: the others wait in the "
                    "queue for the hours to come"),
        .fix = STR("find out what fails in such numbers: waypost queue list, waypost trace"),
    };

    hop_emit(loop_ring(bounce->options.loop), &hop);
}

/* Nobody else knows the message yet. */
static void set_pace(const struct bounce *bounce, struct message *message)
{
    struct envelope *envelope = &message->envelope;
    bool is_first;
    int64_t due_at;

    if (!bounce->options.pace)
        return;
    due_at = report_pace_take(bounce->options.pace, bounce->options.per_hour,
                              loop_wall_s(bounce->options.loop), &is_first);
    for (size_t i = 0; i < envelope->recipient_count; i++)
        if (envelope->recipients[i].due_at < due_at)
            envelope->recipients[i].due_at = due_at;
    if (is_first)
        tell_put_off(bounce);
}

static void made(void *arg, struct message *message, const struct reply *reply)
{
    struct bounce *bounce = arg;
    bool try_again = !message && reply->code / 100 == 4;

    if (message)
        set_pace(bounce, message);
    else
        tell_failed(bounce, reply_text(reply), try_again);
    bounce_end(bounce, message, try_again);
}

static void feed(void *arg)
{
    struct bounce *bounce = arg;

    while (bounce->fed < 2) {
        struct buf *piece = bounce->fed++ == 0 ? &bounce->head : &bounce->body;
        if (piece->len && !arrival_feed(bounce->arrival, buf_view(piece), feed, bounce))
            return; /* called again when there is room */
    }
    arrival_end_unstored(bounce->arrival, &bounce->end, made, bounce);
}

static void build_and_feed(struct bounce *bounce, const struct bounce_recipient *recipients,
                           size_t count)
{
    struct recipient *copies = mem_alloc((count + 1) * sizeof(*copies));
    struct dsn_recipient *owed = mem_alloc((count + 1) * sizeof(*owed));
    size_t owed_count = gather(bounce, recipients, count, copies, owed);

    if (owed_count == 0) {
        loop_defer(bounce->options.loop, &bounce->deferred, none_owed, bounce);
    } else {
        begin(bounce);
        build(bounce, owed, owed_count);
        look_at_body(bounce);
        feed(bounce);
    }
    free(copies);
    free(owed);
}

void bounce_make(const struct bounce_options *options, struct message *original,
                 const struct bounce_recipient *recipients, size_t count, bounce_fn *fn, void *arg)
{
    struct bounce *bounce = mem_alloc(sizeof(*bounce));

    bounce->options = *options; /* hostname: used before this returns */
    bounce->original = message_ref(original);
    bounce->fn = fn;
    bounce->arg = arg;
    bounce->began_us = loop_wall_us(options->loop);
    buf_init(&bounce->head, REPORT_MAX);
    buf_init(&bounce->body, REPORT_MAX);
    build_and_feed(bounce, recipients, count);
}
