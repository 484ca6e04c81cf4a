/*
 * engine_dropbox_report.c - reports about dropped mail that is refused.
 *
 * They are made here, because ingress knows nothing of egress, whose reports they are.
 */
#include "relay/engine_impl.h"

#include "relay/egress/bounce.h"

struct telling {
    struct engine *engine;
    struct message *refused;
    struct msgid id; /* of the first report */
    struct bounce_recipient *recipients;
    struct verdict *verdicts;
    struct bounced made;
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

static void store_next(struct telling *telling);

static void stored(struct store_request *request)
{
    struct store_accept *accept = container_of(request, struct store_accept, request);
    struct telling *telling = container_of(accept, struct telling, accept);

    if (request->err) {
        telling_end(telling, ERR_AGAIN);
        return;
    }
    message_unref(&telling->made.reports[--telling->made.count]);
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
    bool is_all = take->done == telling->refused->envelope.recipient_count;

    telling->made = *take;
    *take = (struct bounced){ 0 };
    if (!is_all)
        telling_end(telling, ERR_AGAIN);
    else if (telling->made.count == 0)
        telling_end(telling, ERR_INVALID);
    else
        store_next(telling);
}

static void make(struct telling *telling)
{
    struct engine_loop *own = &telling->engine->loops[0];
    const struct envelope *envelope = &telling->refused->envelope;
    size_t count = envelope->recipient_count;
    struct bounce_options options = { .loop = own->loop,
                                      .intake = own->intake,
                                      .hostname = own->setup->conf->hostname,
                                      .pace = &telling->engine->reports,
                                      .per_hour = own->setup->sched.reports_per_hour,
                                      .recipients_max = BOUNCE_RECIPIENTS,
                                      .bytes_max = BOUNCE_BYTES,
                                      .first_id = &telling->id };

    telling->recipients = mem_alloc(count * sizeof(*telling->recipients));
    telling->verdicts = mem_alloc(count * sizeof(*telling->verdicts));
    for (uint32_t i = 0; i < count; i++) {
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
    bounce_make(&options, telling->refused, telling->recipients, count, made, telling);
}

/* One that was stored before a crash may have a side file, which is not to be written
 * again while it is sent. */
static void asked(struct store_request *request)
{
    struct store_get *get = container_of(request, struct store_get, request);
    struct telling *telling = container_of(get, struct telling, get);

    if (get->message)
        message_unref(&get->message);
    if (request->err == ERR_NOT_FOUND)
        make(telling);
    else
        telling_end(telling, request->err ? ERR_AGAIN : ERR_OK);
}

void engine_dropbox_report(void *arg, struct message *refused, const struct msgid *id,
                           dropbox_reported_fn *fn, void *fn_arg)
{
    struct engine *engine = arg;
    struct telling *telling = mem_alloc(sizeof(*telling));

    telling->engine = engine;
    telling->refused = message_ref(refused);
    telling->id = *id;
    telling->fn = fn;
    telling->arg = fn_arg;
    telling->get.id = *id;
    telling->get.request.reply_to = loop_mailbox(engine->loops[0].loop);
    telling->get.request.done = asked;
    store_get(engine->store, &telling->get);
}
