/*
 * bounce.c - from verdicts to reports that are ready to be stored, one after the other.
 */
#include "relay/egress/bounce.h"

#include <stdlib.h>

#define FULL_MAX ((size_t)64 * 1024) /* larger originals are returned by their head (RET) */

struct bounce {
    struct bounce_options options; /* its hostname is its own */
    struct message *original;
    const struct bounce_recipient *recipients;
    size_t count;
    size_t owed, told; /* of them, in all and in the reports that are made */
    size_t share;      /* of those owed, in one report: less where they have much to tell */
    struct {           /* the report under way */
        size_t owed;   /* recipients in it */
        size_t until;  /* of `recipients`: the first behind them */
    } now;
    struct arrival *arrival;
    struct deferred deferred;
    struct buf head, body;
    struct arrival_end end;
    unsigned fed; /* of head and body */
    struct bounced made;
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

void bounced_clear(struct bounced *bounced)
{
    for (size_t i = 0; i < bounced->count; i++)
        message_unref(&bounced->reports[i]);
    free(bounced->reports);
    free(bounced->counts);
    *bounced = (struct bounced){ 0 };
}

static void bounce_end(struct bounce *bounce)
{
    bounce->fn(bounce->arg, &bounce->made);
    message_unref(&bounce->original);
    buf_clear(&bounce->head);
    buf_clear(&bounce->body);
    free((char *)bounce->options.hostname.at);
    free(bounce);
}

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

static bool is_owed(const struct bounce *bounce, size_t i)
{
    const struct envelope *envelope = &bounce->original->envelope;

    return dsn_is_owed(envelope, &envelope->recipients[bounce->recipients[i].index],
                       bounce->recipients[i].action);
}

/* What one report is to tell of, from where the last one ended. */
static void gather(struct bounce *bounce, struct recipient *copies, struct dsn_recipient *out)
{
    const struct recipient *all = bounce->original->envelope.recipients;
    size_t owed = 0, i;

    for (i = bounce->made.done; i < bounce->count && owed < bounce->share; i++) {
        const struct bounce_recipient *one = &bounce->recipients[i];
        if (!is_owed(bounce, i))
            continue;
        copies[owed] = told(&all[one->index], one->verdict);
        if (one->verdict->attempted)
            copies[owed].tried_at = bounce->began_us / 1000000;
        out[owed] = (struct dsn_recipient){
            .recipient = &copies[owed],
            .action = one->action,
            .will_retry_until = one->will_retry_until,
        };
        owed++;
    }
    bounce->now.owed = owed;
    bounce->now.until = i;
}

/* Each of several returns as much of the original as the only one would: it has to
 * be understood by itself, and FULL asks for all of it in any report (RFC 3461 4.3). */
static enum err build(struct bounce *bounce, const struct dsn_recipient *recipients, bool is_brief)
{
    const struct message *original = bounce->original;
    char boundary[MSGID_TEXT + 1];
    struct str body = STR_EMPTY;
    struct dsn_options options = {
        .hostname = bounce->options.hostname,
        .wall_us = bounce->began_us,
        .full_max_bytes = FULL_MAX,
        .before = bounce->told,
        .total = bounce->owed,
        .is_brief = is_brief,
    };
    /* A side file is far larger than what is returned whole: it is not read. */
    bool whole = body_is_inline(original->body, &body) && body.len <= FULL_MAX;

    msgid_print(arrival_id(bounce->arrival), boundary);
    options.boundary = str_of(boundary);
    buf_reset(&bounce->head);
    buf_reset(&bounce->body);
    return dsn_build(&options, &original->envelope, str_make(original->head, original->head_len),
                     whole ? body : STR_EMPTY, whole, recipients, bounce->now.owed, &bounce->head,
                     &bounce->body);
}

/* About as many of those that are left as one report has room for. One that has no room
 * even alone is named without the words about it: nobody may be missing. */
static enum err build_share(struct bounce *bounce)
{
    size_t left = bounce->owed - bounce->told;
    size_t most = left < bounce->share ? left : bounce->share;
    struct recipient *copies = mem_alloc(most * sizeof(*copies));
    struct dsn_recipient *owed = mem_alloc(most * sizeof(*owed));
    enum err rc;

    gather(bounce, copies, owed);
    while ((rc = build(bounce, owed, false)) && bounce->now.owed > 1) {
        bounce->share = bounce->now.owed / 2;
        gather(bounce, copies, owed);
    }
    if (rc)
        rc = build(bounce, owed, true);
    free(copies);
    free(owed);
    return rc;
}

static void look_at_body(struct bounce *bounce)
{
    struct str rest = buf_view(&bounce->body), line;

    bounce->end = (struct arrival_end){ 0 };
    bounce->end.has_8bit = !str_is_ascii(rest);
    bounce->end.lacks_final_crlf = rest.len < 2 || memcmp(rest.at + rest.len - 2, "\r\n", 2) != 0;
    while (str_next(&rest, '\n', &line))
        if (line.len > 999) /* 998 and the CR (RFC 5322 2.1.1) */
            bounce->end.has_long_line = true;
}

/* ---- the messages ---- */

static void begin(struct bounce *bounce)
{
    const struct envelope *original = &bounce->original->envelope;
    struct arrival_facts facts = {
        .with = STR("LOCAL"),
        .id = bounce->made.count == 0 ? bounce->options.first_id : NULL,
    };
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

static void keep(struct bounce *bounce, struct message *message)
{
    struct bounced *made = &bounce->made;

    made->reports = mem_realloc(made->reports, (made->count + 1) * sizeof(struct message *));
    made->counts = mem_realloc(made->counts, (made->count + 1) * sizeof(*made->counts));
    made->reports[made->count] = message;
    made->counts[made->count++] = (uint32_t)bounce->now.owed;
}

static void make_next(struct bounce *bounce);

/* Of a recipient that has its mail nothing stays in the queue: what is owed for it
 * would be lost by waiting. */
static bool can_wait(const struct bounce *bounce)
{
    for (size_t i = bounce->made.done; i < bounce->count; i++)
        if (bounce->recipients[i].verdict->state == RECIPIENT_DELIVERED)
            return false;
    return true;
}

static void made(void *arg, struct message *message, const struct reply *reply)
{
    struct bounce *bounce = arg;
    bool try_again = !message && reply->code / 100 == 4;

    if (try_again && bounce->now.owed > 1 && !can_wait(bounce)) {
        bounce->share = bounce->now.owed / 2; /* a small one needs no file */
        make_next(bounce);
        return;
    }
    if (message) {
        set_pace(bounce, message);
        keep(bounce, message);
    } else {
        tell_failed(bounce, reply_text(reply), try_again);
    }
    if (try_again) {
        bounce_end(bounce);
        return;
    }
    bounce->told += bounce->now.owed;
    bounce->made.done = bounce->now.until;
    make_next(bounce);
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

/* Of no use to the relay, which leaves room for the longest address a thousand times. */
static void cannot_build(void *arg)
{
    struct reply reply;

    reply_set(&reply, 554, STATUS(5, 3, 4), "The report is too large");
    made(arg, NULL, &reply);
}

static void make_next(struct bounce *bounce)
{
    if (bounce->told == bounce->owed) {
        bounce->made.done = bounce->count;
        bounce_end(bounce);
        return;
    }
    begin(bounce);
    if (build_share(bounce)) {
        arrival_abort(&bounce->arrival);
        loop_defer(bounce->options.loop, &bounce->deferred, cannot_build, bounce);
        return;
    }
    look_at_body(bounce);
    bounce->fed = 0;
    feed(bounce);
}

static void make_first(void *arg) { make_next(arg); }

void bounce_make(const struct bounce_options *options, struct message *original,
                 const struct bounce_recipient *recipients, size_t count, bounce_fn *fn, void *arg)
{
    struct bounce *bounce = mem_alloc(sizeof(*bounce));

    bounce->options = *options;
    bounce->options.hostname = str_of(str_dup(options->hostname));
    bounce->original = message_ref(original);
    bounce->recipients = recipients;
    bounce->count = count;
    bounce->share = options->recipients_max;
    bounce->fn = fn;
    bounce->arg = arg;
    bounce->began_us = loop_wall_us(options->loop);
    for (size_t i = 0; i < count; i++)
        bounce->owed += is_owed(bounce, i);
    buf_init(&bounce->head, options->bytes_max);
    buf_init(&bounce->body, options->bytes_max);
    loop_defer(options->loop, &bounce->deferred, make_first, bounce);
}
