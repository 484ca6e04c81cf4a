/*
 * engine_expand.c - local names that led nowhere, tried again.
 *
 * They are held since their message came (intake/arrival_local). At the start,
 * after a reload, and when the alias file was read again the store goes through
 * them; those that lead somewhere now become recipients that are due.
 */
#include "relay/engine_impl.h"

#define TOLD_MAX 500 /* lines in the trace; the rest is only counted */

struct told_name {
    struct msgid id;
    struct str address, words;
};

struct expanding {
    struct store_change change;
    struct engine *engine;
    struct setup *setup;
    struct arena arena; /* of what is told */
    struct told_name told[TOLD_MAX];
    size_t told_count;
};

static void keep_words(struct expanding *expanding, const struct msgid *id, struct str address,
                       const struct local_result *led)
{
    for (size_t i = 0; i < led->count && expanding->told_count < TOLD_MAX; i++) {
        struct told_name *told = &expanding->told[expanding->told_count++];
        told->id = *id;
        told->address = arena_str(&expanding->arena, address);
        told->words = arena_str(&expanding->arena, led->found[i].words);
    }
}

/* On a store thread. */
static size_t readdress(void *arg, const struct envelope *envelope,
                        const struct recipient *recipient, struct arena *arena,
                        const struct store_address **out_addresses)
{
    struct expanding *expanding = arg;
    struct local_result led;

    size_t count = setup_lead(expanding->setup, envelope, recipient, arena, &led, out_addresses);
    keep_words(expanding, &envelope->id, recipient->address, &led);
    return count;
}

static void tell_one(const struct expanding *expanding, const struct told_name *told)
{
    int64_t now = loop_wall_us(expanding->engine->loops[0].loop);
    struct hop hop = { .id = told->id,
                       .began_us = now,
                       .ended_us = now,
                       .weight = HOP_EVENT,
                       .stage = STAGE_EXPAND,
                       .recipient = told->address,
                       .text = told->words };

    hop_emit(expanding->engine->loops[0].ring, &hop);
}

static void expanded(struct store_request *request)
{
    struct store_change *change = container_of(request, struct store_change, request);
    struct expanding *expanding = container_of(change, struct expanding, change);
    struct engine *engine = expanding->engine;

    if (request->err)
        engine_say(engine, STAGE_ALARM, HOP_ALARM,
                   STR("held mail for local names could not be looked through"),
                   str_of(request->fault.text));
    for (size_t i = 0; i < expanding->told_count; i++)
        tell_one(expanding, &expanding->told[i]);
    setup_unref(&expanding->setup);
    arena_clear(&expanding->arena);
    free(expanding);
}

void engine_expand_held(struct engine *engine)
{
    struct expanding *expanding;
    struct store_health health;

    store_health(engine->store, &health);
    if (health.recipients_held == 0)
        return;
    expanding = mem_alloc(sizeof(*expanding));
    expanding->engine = engine;
    expanding->setup = setup_ref(engine->setup);
    arena_init(&expanding->arena);
    expanding->change = (struct store_change){
        .request = { .reply_to = loop_mailbox(engine->loops[0].loop), .done = expanded },
        .kind = STORE_READDRESS,
        .filter = { .state = RECIPIENT_HELD },
        .readdress = readdress,
        .arg = expanding,
    };
    store_change(engine->store, &expanding->change);
}
