/*
 * engine_dropbox_report.c - reports about dropped mail that is refused.
 *
 * They are made here, because ingress knows nothing of egress, whose reports they are.
 */
#include "relay/engine_impl.h"

#include "relay/egress/bounce.h"

#define AGAIN_MS 5000

struct telling {
    struct telling *next, **at; /* while it waits for room */
    struct timer again;
    struct engine *engine;
    struct message *refused;
    size_t left;     /* of its recipients, from the first: nobody was told of these */
    struct msgid id; /* of the first report */
    struct bounce_recipient *recipients;
    struct verdict *verdicts;
    struct bounced made; /* and not stored yet */
    struct job job;
    struct store_get get;
    struct store_accept accept;
    dropbox_reported_fn *fn;
    void *arg;
};

static void telling_end(struct telling *telling, enum err err)
{
    telling->fn(telling->arg, err);
    message_unref(&telling->refused);
    bounced_clear(&telling->made);
    free(telling->recipients);
    free(telling->verdicts);
    free(telling);
}

/* ---- no room ---- */

static void waits_no_more(struct telling *telling)
{
    loop_timer_stop(telling->engine->loops[0].loop, &telling->again);
    *telling->at = telling->next;
    if (telling->next)
        telling->next->at = telling->at;
}

static void again(void *arg);

static void wait_for_room(struct telling *telling)
{
    struct engine *engine = telling->engine;

    telling->next = engine->tellings;
    telling->at = &engine->tellings;
    if (telling->next)
        telling->next->at = &telling->next;
    engine->tellings = telling;
    loop_timer_start(engine->loops[0].loop, &telling->again, AGAIN_MS, again, telling);
}

void engine_dropbox_report_stop(struct engine *engine)
{
    while (engine->tellings) {
        struct telling *telling = engine->tellings;
        waits_no_more(telling);
        telling_end(telling, ERR_AGAIN);
    }
}

static void discard_run(struct job *job)
{
    struct telling *telling = container_of(job, struct telling, job);

    for (size_t i = 0; i < telling->made.count; i++)
        body_remove(telling->made.reports[i]->body);
}

/* Of several some are stored, and on their way: made anew they would go out twice. */
static void discarded(struct job *job)
{
    struct telling *telling = container_of(job, struct telling, job);
    bool has_told_some = telling->left < telling->refused->envelope.recipient_count;

    bounced_clear(&telling->made);
    if (has_told_some && !telling->engine->is_stopping)
        wait_for_room(telling);
    else
        telling_end(telling, ERR_AGAIN);
}

/* The files go before a report may be made again, which could have the same name. */
static void discard(struct telling *telling)
{
    telling->job = (struct job){ .run = discard_run,
                                 .done = discarded,
                                 .reply_to = loop_mailbox(telling->engine->loops[0].loop) };
    (void)pool_post(telling->engine->pool, POOL_DISK, &telling->job); /* no bound on its line */
}

/* ---- storing ---- */

static void store_next(struct telling *telling);

/* The one that is stored told of the last of those that were left. */
static void tell_fewer(struct telling *telling, size_t by)
{
    const struct envelope *envelope = &telling->refused->envelope;

    while (by > 0 && telling->left > 0)
        by -= dsn_is_owed(envelope, &envelope->recipients[--telling->left], DSN_FAILED);
}

static void stored(struct store_request *request)
{
    struct store_accept *accept = container_of(request, struct store_accept, request);
    struct telling *telling = container_of(accept, struct telling, accept);
    struct bounced *made = &telling->made;

    if (request->err) {
        discard(telling);
        return;
    }
    message_unref(&made->reports[--made->count]);
    tell_fewer(telling, made->counts[made->count]);
    store_next(telling);
}

/* The first is the last to be stored: where it is found, all are there. */
static void store_next(struct telling *telling)
{
    struct bounced *made = &telling->made;

    if (made->count == 0) {
        telling_end(telling, ERR_OK);
        return;
    }
    telling->accept = (struct store_accept){ .message = made->reports[made->count - 1] };
    telling->accept.request.reply_to = loop_mailbox(telling->engine->loops[0].loop);
    telling->accept.request.done = stored;
    store_accept(telling->engine->store, &telling->accept);
}

static void made(void *arg, struct bounced *take)
{
    struct telling *telling = arg;
    bool is_all = take->done == telling->left;

    telling->made = *take;
    *take = (struct bounced){ 0 };
    if (!is_all)
        discard(telling);
    else if (telling->made.count == 0)
        telling_end(telling, ERR_INVALID);
    else
        store_next(telling);
}

static void make(struct telling *telling)
{
    struct engine_loop *own = &telling->engine->loops[0];
    const struct envelope *envelope = &telling->refused->envelope;
    struct bounce_options options = { .loop = own->loop,
                                      .intake = own->intake,
                                      .hostname = own->setup->conf->hostname,
                                      .pace = &telling->engine->reports,
                                      .per_hour = own->setup->sched.reports_per_hour,
                                      .recipients_max = BOUNCE_RECIPIENTS,
                                      .bytes_max = BOUNCE_BYTES,
                                      .first_id = &telling->id };

    for (uint32_t i = 0; i < telling->left; i++) {
        const struct recipient *recipient = &envelope->recipients[i];
        telling->verdicts[i] = (struct verdict){ .index = i,
                                                 .state = recipient->state,
                                                 .stage = recipient->stage,
                                                 .kind = recipient->kind,
                                                 .status = recipient->status,
                                                 .said = recipient->said,
                                                 .cause = recipient->cause,
                                                 .fix = recipient->fix };
        telling->recipients[i] = (struct bounce_recipient){ .index = i,
                                                            .action = DSN_FAILED,
                                                            .verdict = &telling->verdicts[i] };
    }
    bounce_make(&options, telling->refused, telling->recipients, telling->left, made, telling);
}

/* A report takes its place in the hour when it is made: one that the store is not going to
 * take would be in the way of others. */
static bool has_room(const struct telling *telling)
{
    struct store_health health;

    store_health(telling->engine->store, &health);
    return health.state == STORE_FINE;
}

static void again(void *arg)
{
    struct telling *telling = arg;

    waits_no_more(telling);
    if (has_room(telling))
        make(telling);
    else
        wait_for_room(telling);
}

/* One that was stored before a crash may have a side file, which is not to be written
 * again while it is sent. */
static void asked(struct store_request *request)
{
    struct store_get *get = container_of(request, struct store_get, request);
    struct telling *telling = container_of(get, struct telling, get);

    if (get->message)
        message_unref(&get->message);
    if (request->err == ERR_NOT_FOUND && has_room(telling))
        make(telling);
    else if (request->err == ERR_NOT_FOUND)
        telling_end(telling, ERR_AGAIN);
    else
        telling_end(telling, request->err ? ERR_AGAIN : ERR_OK);
}

void engine_dropbox_report(void *arg, struct message *refused, const struct msgid *id,
                           dropbox_reported_fn *fn, void *fn_arg)
{
    struct engine *engine = arg;
    struct telling *telling = mem_alloc(sizeof(*telling));
    size_t count = refused->envelope.recipient_count;

    telling->engine = engine;
    telling->refused = message_ref(refused);
    telling->left = count;
    telling->recipients = mem_alloc(count * sizeof(*telling->recipients));
    telling->verdicts = mem_alloc(count * sizeof(*telling->verdicts));
    telling->id = *id;
    telling->fn = fn;
    telling->arg = fn_arg;
    telling->get.id = *id;
    telling->get.request.reply_to = loop_mailbox(engine->loops[0].loop);
    telling->get.request.done = asked;
    store_get(engine->store, &telling->get);
}
