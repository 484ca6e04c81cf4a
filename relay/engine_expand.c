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
    struct chore_run run;
    struct setup *setup;
    struct arena arena; /* of what is told */
    struct told_name told[TOLD_MAX];
    size_t told_count;
    struct msgid changed[TOLD_MAX]; /* on disk; by id, as those told */
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

static void tell_one(const struct engine *engine, const struct told_name *told)
{
    int64_t now = loop_wall_us(engine->loops[0].loop);
    struct hop hop = { .id = told->id,
                       .began_us = now,
                       .ended_us = now,
                       .weight = HOP_EVENT,
                       .stage = STAGE_EXPAND,
                       .recipient = told->address,
                       .text = told->words };

    hop_emit(engine->loops[0].ring, &hop);
}

/* What was found for a page that could not be written is found again. */
static void tell_changed(const struct engine *engine, const struct expanding *expanding)
{
    uint64_t count = expanding->run.change.messages, at = 0;

    if (count > TOLD_MAX)
        count = TOLD_MAX;
    for (size_t i = 0; i < expanding->told_count; i++) {
        const struct told_name *told = &expanding->told[i];
        while (at < count && msgid_cmp(&expanding->changed[at], &told->id) < 0)
            at++;
        if (at < count && msgid_cmp(&expanding->changed[at], &told->id) == 0)
            tell_one(engine, told);
    }
}

static void expanded(struct engine *engine, struct chore_run *run)
{
    struct expanding *expanding = container_of(run, struct expanding, run);

    tell_changed(engine, expanding);
    setup_unref(&expanding->setup);
    arena_clear(&expanding->arena);
    free(expanding);
}

static struct chore_run *expand(struct engine *engine)
{
    struct expanding *expanding;
    struct store_health health;

    store_health(engine->store, &health);
    if (health.recipients_held == 0)
        return NULL;
    expanding = mem_alloc(sizeof(*expanding));
    expanding->setup = setup_ref(engine->setup);
    arena_init(&expanding->arena);
    expanding->run.change = (struct store_change){
        .kind = STORE_READDRESS,
        .filter = { .state = RECIPIENT_HELD },
        .readdress = readdress,
        .arg = expanding,
        .ids = expanding->changed,
        .ids_max = TOLD_MAX,
    };
    return &expanding->run;
}

const struct chore_kind engine_expand_kind = {
    .failed = "held mail for local names could not be looked through; it is tried again",
    .over = "held mail for local names was looked through",
    .make = expand,
    .done = expanded,
};
