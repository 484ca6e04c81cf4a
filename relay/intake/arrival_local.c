/*
 * arrival_local.c - mail for this machine's own names: where it goes instead.
 *
 * Aliases and .forward files are followed on a worker, between the end of the
 * content and the mending of the header. A name that leads nowhere is held in
 * the queue until there is an address for it; it is not refused, since the
 * programs that write to root do not listen.
 */
#include "relay/intake/arrival.h"

#include "queue/record.h"

#include <stdio.h>

/* ---- what comes from here has a whole reverse-path ---- */

static void qualify_sender(struct locals *locals, struct envelope *envelope)
{
    struct local_names names;
    struct str whole;

    if (!locals || envelope->sender.len == 0)
        return;
    names = locals_names(locals);
    whole = local_qualify(&names, envelope->sender, &envelope->arena);
    if (whole.at == envelope->sender.at)
        return;
    envelope->flags |= ENVELOPE_LOCAL_SENDER;
    envelope->sender = whole;
}

void arrival_qualify_sender(struct arrival *arrival)
{
    if (arrival->facts.is_local_origin)
        qualify_sender(arrival->locals, &arrival->message->envelope);
}

void intake_qualify_sender(struct intake *intake, struct envelope *envelope)
{
    qualify_sender(intake->options.locals, envelope);
}

/* ---- on a worker ---- */

bool arrival_has_locals(const struct arrival *arrival)
{
    const struct envelope *envelope = &arrival->message->envelope;

    for (size_t i = 0; arrival->locals && i < envelope->recipient_count; i++)
        if (locals_may_be_ours(arrival->locals, envelope->recipients[i].address))
            return true;
    return false;
}

/* Names looked up in one go. The machine's user database may take a millisecond for each,
 * a home on another machine longer, and a dropped file may have fifty thousand: so the
 * worker does some, and stands in line again behind what others want of it. */
#define FOLLOW_AT_ONCE 50

/* A dropped file may name one name fifty thousand times: each is followed once. */
static size_t *slot_of(const struct arrival *arrival, size_t index)
{
    const struct envelope *envelope = &arrival->message->envelope;
    const size_t *slots = arrival->led_slots;
    struct str address = envelope->recipients[index].address;
    size_t at = str_hash(address, 0) & arrival->led_mask;

    while (slots[at] && !str_eq(envelope->recipients[slots[at] - 1].address, address))
        at = (at + 1) & arrival->led_mask;
    return &arrival->led_slots[at];
}

static void lead_begin(struct arrival *arrival)
{
    size_t count = arrival->message->envelope.recipient_count, size = 16;

    while (size < 2 * count)
        size *= 2;
    arrival->led_slots = arena_alloc(&arrival->arena, size * sizeof(*arrival->led_slots));
    arrival->led_mask = size - 1;
    arrival->led = arena_alloc(&arrival->arena, (count + 1) * sizeof(*arrival->led));
    arrival->news =
        locals_refresh(arrival->locals, arrival->follow_ms, &arrival->arena, &arrival->news_words);
}

/* True: there are no more. Ends early when they lead to too many: arrival_take_led()
 * refuses it then. */
static bool lead_some(struct arrival *arrival, const struct local_rules *rules)
{
    const struct envelope *envelope = &arrival->message->envelope;

    for (size_t followed = 0; followed < FOLLOW_AT_ONCE; arrival->led_at++) {
        size_t i = arrival->led_at;
        if (i == envelope->recipient_count || arrival->led_in_all > RECORD_RECIPIENTS_MAX)
            return true;
        struct str address = envelope->recipients[i].address;
        if (!local_is_ours(rules, address))
            continue;
        size_t *slot = slot_of(arrival, i);
        if (*slot) {
            arrival->led[i] = arrival->led[*slot - 1];
        } else {
            *slot = i + 1;
            local_expand(rules, address, &arrival->arena, &arrival->led[i]);
            followed++;
        }
        arrival->led_in_all += arrival->led[i].count + 1;
    }
    return false;
}

bool arrival_follow(struct arrival *arrival)
{
    struct alias_table *table;

    if (!arrival->led)
        lead_begin(arrival);
    struct local_rules rules = locals_rules(arrival->locals, true, &table);
    bool is_all = lead_some(arrival, &rules);
    alias_unref(&table);
    return is_all;
}

/* ---- hops ---- */

static struct hop expand_hop(const struct arrival *arrival, const struct recipient *was)
{
    return (struct hop){
        .id = *arrival_id(arrival),
        .session = arrival->facts.session,
        .began_us = arrival->making_us,
        .ended_us = loop_wall_us(arrival->intake->loop),
        .weight = HOP_EVENT,
        .side = HOP_US,
        .stage = STAGE_EXPAND,
        .recipient = was->address,
    };
}

static void tell_found(const struct arrival *arrival, const struct recipient *was,
                       const struct local_result *led)
{
    struct hop hop = expand_hop(arrival, was);

    for (size_t i = 0; i < led->count; i++) {
        hop.text = led->found[i].words;
        hop.fault = i == 0 ? led->remark : STR_EMPTY;
        hop_emit(loop_ring(arrival->intake->loop), &hop);
    }
}

#define FIX STR("name one address in waypost.conf, aliases { root = \"...\" }, and reload")

static void tell_held(const struct arrival *arrival, const struct recipient *was,
                      const struct local_result *led)
{
    struct hop hop = expand_hop(arrival, was);
    bool alarm = locals_alarm_is_due(arrival->locals, loop_now_ms(arrival->intake->loop));

    hop.weight = alarm ? HOP_ALARM : HOP_WARNING;
    hop.result = RESULT_LATER;
    hop.scope = SCOPE_US;
    hop.kind = CLASS_CONFIG;
    hop.fault = led->remark;
    hop.cause = led->why;
    hop.fix = FIX;
    hop.text = STR("held: it leads nowhere");
    hop_emit(loop_ring(arrival->intake->loop), &hop);
}

/* The file changed, and this message was the first to come upon it. */
static void tell_news(const struct arrival *arrival)
{
    struct hop hop = {
        .began_us = arrival->making_us,
        .ended_us = loop_wall_us(arrival->intake->loop),
        .weight = arrival->news_words.len ? HOP_WARNING : HOP_EVENT,
        .stage = STAGE_SERVICE,
        .fault = arrival->news_words,
        .text = STR("the alias file was read again"),
    };

    if (arrival->news == LOCALS_SAME)
        return;
    if (arrival->news == LOCALS_REFUSED) {
        hop.weight = HOP_ALARM;
        hop.stage = STAGE_ALARM;
        hop.text = STR("the alias file has errors, the aliases read before stay in force");
    }
    hop_emit(loop_ring(arrival->intake->loop), &hop);
}

/* ---- the new recipients ---- */

struct crowd {
    struct arrival *arrival;
    struct local_names names;
};

/* RFC 3461 4.2: reports name the address as it was, in xtext. */
static struct str orcpt_of(struct arena *arena, struct str address)
{
    char *text = arena_alloc(arena, 8 + 3 * address.len);
    size_t len = 7;

    memcpy(text, "rfc822;", len);
    for (size_t i = 0; i < address.len; i++) {
        unsigned char c = (unsigned char)address.at[i];
        if (c > 32 && c < 127 && c != '+' && c != '=')
            text[len++] = (char)c;
        else
            len += (size_t)sprintf(text + len, "+%02X", (unsigned)c);
    }
    return str_make(text, len);
}

/* NULL: it is there already. */
static struct recipient *add_recipient(struct crowd *crowd, struct str address,
                                       const struct recipient *was)
{
    struct recipient *added = envelope_add_once(&crowd->arrival->message->envelope, address);

    if (!added)
        return NULL;
    added->notify = was->notify;
    added->orcpt = was->orcpt;
    return added;
}

static void hold(struct arrival *arrival, struct recipient *held, const struct local_result *led)
{
    held->state = RECIPIENT_HELD;
    held->stage = STAGE_EXPAND; /* by this it is found again once there is an address */
    held->kind = CLASS_CONFIG;
    held->cause = arena_str(&arrival->message->envelope.arena, led->why);
    held->fix = FIX;
    tell_held(arrival, held, led);
}

static void take_one(struct crowd *crowd, const struct recipient *was,
                     const struct local_result *led)
{
    struct arrival *arrival = crowd->arrival;
    struct envelope *envelope = &arrival->message->envelope;
    struct recipient named = *was, *held;

    if (!led->found) {
        (void)add_recipient(crowd, was->address, was);
        return;
    }
    named.address = local_qualify(&crowd->names, was->address, &arrival->arena);
    if (named.orcpt.len == 0 && str_is_ascii(named.address))
        named.orcpt = orcpt_of(&envelope->arena, named.address);
    for (size_t i = 0; i < led->count; i++)
        (void)add_recipient(crowd, led->found[i].address, &named);
    if (led->count > 0)
        tell_found(arrival, &named, led);
    else if ((held = add_recipient(crowd, named.address, was)) != NULL)
        hold(arrival, held, led);
}

void arrival_take_led(struct arrival *arrival)
{
    const struct intake_options *options = &arrival->intake->options;
    struct envelope *envelope = &arrival->message->envelope;
    size_t count = envelope->recipient_count, in_all = 0;
    struct crowd crowd = { .arrival = arrival, .names = locals_names(arrival->locals) };

    tell_news(arrival);
    if (arrival->news == LOCALS_CHANGED && options->aliases_changed)
        options->aliases_changed(options->aliases_arg);
    for (size_t i = 0; i < count; i++)
        in_all += arrival->led[i].found ? arrival->led[i].count + 1 : 1;
    if (in_all > RECORD_RECIPIENTS_MAX) {
        arrival_refuse(arrival, 552, STATUS(5, 5, 3), "The aliases make too many recipients of it");
        return;
    }
    const struct recipient *was = envelope_empty(envelope, &count);
    for (size_t i = 0; i < count; i++)
        take_one(&crowd, &was[i], &arrival->led[i]);
}
