/*
 * engine_chore.c - asking the store for a chore until it has done it.
 */
#include "relay/engine_impl.h"

#define RETRY_FIRST_MS 1000
#define RETRY_MAX_MS 60000
#define ALARM_MS ((uint64_t)600 * 1000) /* between two alarms for the same chore */

static void begin(struct chore *chore);

static uint64_t retry_ms(unsigned failures)
{
    return failures > 6 ? RETRY_MAX_MS : (uint64_t)RETRY_FIRST_MS << (failures - 1);
}

static void again(void *arg) { begin(arg); }

static void failed(struct chore *chore, const struct fault *fault)
{
    struct engine *engine = chore->engine;
    struct loop *loop = engine->loops[0].loop;
    uint64_t now = loop_now_ms(loop);

    if (chore->failures++ == 0 || now - chore->said_ms >= ALARM_MS) {
        chore->said_ms = now;
        engine_say(engine, STAGE_ALARM, HOP_ALARM, str_of(chore->kind->failed),
                   str_of(fault->text));
    }
    loop_timer_start(loop, &chore->timer, retry_ms(chore->failures), again, chore);
}

static void worked(struct chore *chore)
{
    if (chore->failures > 0)
        engine_say(chore->engine, STAGE_SERVICE, HOP_EVENT, str_of(chore->kind->over), STR_EMPTY);
    chore->failures = 0;
}

static void answered(struct store_request *request)
{
    struct store_change *change = container_of(request, struct store_change, request);
    struct chore_run *run = container_of(change, struct chore_run, change);
    struct chore *chore = run->chore;
    enum err err = request->err;
    struct fault fault = request->fault;

    chore->is_out = false;
    chore->kind->done(chore->engine, run);
    if (chore->engine->is_stopping)
        return; /* the next start does it */
    if (err)
        failed(chore, &fault);
    else
        worked(chore);
    if (chore->is_stale)
        begin(chore);
}

static void begin(struct chore *chore)
{
    struct engine *engine = chore->engine;
    struct chore_run *run = chore->kind->make(engine);

    loop_timer_stop(engine->loops[0].loop, &chore->timer);
    chore->is_stale = false;
    if (!run) {
        worked(chore);
        return;
    }
    chore->is_out = true;
    run->chore = chore;
    run->change.request = (struct store_request){
        .reply_to = loop_mailbox(engine->loops[0].loop),
        .done = answered,
    };
    store_change(engine->store, &run->change);
}

void chore_init(struct chore *chore, struct engine *engine, const struct chore_kind *kind)
{
    *chore = (struct chore){ .engine = engine, .kind = kind };
}

void chore_ask(struct chore *chore)
{
    if (chore->engine->is_stopping)
        return;
    if (chore->is_out)
        chore->is_stale = true;
    else
        begin(chore);
}

bool chore_is_pending(const struct chore *chore)
{
    return chore->is_out || timer_is_running(&chore->timer);
}

void chore_stop(struct chore *chore)
{
    loop_timer_stop(chore->engine->loops[0].loop, &chore->timer);
}
