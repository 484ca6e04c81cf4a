/*
 * envelope.c - building and copying envelopes.
 */
#include "relay/mail/envelope.h"

void envelope_init(struct envelope *envelope)
{
    memset(envelope, 0, sizeof(*envelope));
    arena_init(&envelope->arena);
    envelope->sender = envelope->envid = envelope->user = envelope->client = STR_EMPTY;
    envelope->helo = envelope->listener = envelope->message_id = STR_EMPTY;
    envelope->from_domain = STR_EMPTY;
}

void envelope_clear(struct envelope *envelope)
{
    arena_clear(&envelope->arena);
    envelope_init(envelope);
}

/* The old array stays in the arena: doubling keeps that waste below the array's size. */
static void reserve(struct envelope *envelope, size_t count)
{
    if (count <= envelope->recipient_cap)
        return;
    size_t cap = envelope->recipient_cap ? envelope->recipient_cap * 2 : 4;
    if (cap < count)
        cap = count;
    struct recipient *grown = arena_alloc(&envelope->arena, cap * sizeof(*grown));
    if (envelope->recipient_count > 0)
        memcpy(grown, envelope->recipients, envelope->recipient_count * sizeof(*grown));
    envelope->recipients = grown;
    envelope->recipient_cap = cap;
}

struct recipient *envelope_add(struct envelope *envelope, struct str address)
{
    reserve(envelope, envelope->recipient_count + 1);
    struct recipient *recipient = &envelope->recipients[envelope->recipient_count++];

    memset(recipient, 0, sizeof(*recipient));
    recipient->address = arena_str(&envelope->arena, address);
    recipient->orcpt = recipient->lane = recipient->status = STR_EMPTY;
    recipient->host = recipient->said = recipient->cause = recipient->fix = STR_EMPTY;
    return recipient;
}

/* ---- each address once ---- */

#define LOOK_MAX 16 /* so many are looked through one by one */

/* Where it stands, or a free place. */
static uint32_t *place_of(const struct envelope *envelope, struct str address)
{
    /* Not the same for all: who sends the names must not choose where they collide. */
    uint64_t seed = (uint64_t)(uintptr_t)envelope->places;
    size_t mask = envelope->place_count - 1, at = str_hash(address, seed) & mask;

    while (envelope->places[at] &&
           !str_eq(envelope->recipients[envelope->places[at] - 1].address, address))
        at = (at + 1) & mask;
    return &envelope->places[at];
}

/* All have their place, and half of the places are free. The old table stays in the arena. */
static void place_all(struct envelope *envelope)
{
    if (envelope->place_count < 2 * (envelope->recipient_count + 1)) {
        envelope->place_count = 8 * (size_t)LOOK_MAX;
        while (envelope->place_count < 4 * envelope->recipient_count)
            envelope->place_count *= 2;
        size_t size = envelope->place_count * sizeof(*envelope->places);
        envelope->places = memset(arena_alloc(&envelope->arena, size), 0, size);
        envelope->placed = 0;
    }
    for (; envelope->placed < envelope->recipient_count; envelope->placed++) {
        struct str address = envelope->recipients[envelope->placed].address;
        uint32_t *place = place_of(envelope, address);
        if (!*place)
            *place = (uint32_t)envelope->placed + 1;
    }
}

static bool has_recipient(struct envelope *envelope, struct str address)
{
    if (envelope->recipient_count >= LOOK_MAX) {
        place_all(envelope);
        return *place_of(envelope, address) != 0;
    }
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (str_eq(envelope->recipients[i].address, address))
            return true;
    }
    return false;
}

struct recipient *envelope_add_once(struct envelope *envelope, struct str address)
{
    return has_recipient(envelope, address) ? NULL : envelope_add(envelope, address);
}

static void forget_places(struct envelope *envelope)
{
    envelope->places = NULL;
    envelope->place_count = envelope->placed = 0;
}

struct recipient *envelope_empty(struct envelope *envelope, size_t *out_count)
{
    struct recipient *recipients = envelope->recipients;

    *out_count = envelope->recipient_count;
    envelope->recipients = NULL;
    envelope->recipient_count = envelope->recipient_cap = 0;
    forget_places(envelope);
    return recipients;
}

/* ---- copies ---- */

static void copy_recipient(struct arena *arena, struct recipient *to, const struct recipient *from)
{
    *to = *from;
    to->address = arena_str(arena, from->address);
    to->orcpt = arena_str(arena, from->orcpt);
    to->lane = arena_str(arena, from->lane);
    to->status = arena_str(arena, from->status);
    to->host = arena_str(arena, from->host);
    to->said = arena_str(arena, from->said);
    to->cause = arena_str(arena, from->cause);
    to->fix = arena_str(arena, from->fix);
}

void envelope_copy(struct envelope *to, const struct envelope *from)
{
    struct arena *arena = &to->arena;

    to->id = from->id;
    to->arrived_us = from->arrived_us;
    to->ret = from->ret;
    to->flags = from->flags;
    to->size_bytes = from->size_bytes;
    to->sender = arena_str(arena, from->sender);
    to->envid = arena_str(arena, from->envid);
    to->user = arena_str(arena, from->user);
    to->client = arena_str(arena, from->client);
    to->helo = arena_str(arena, from->helo);
    to->listener = arena_str(arena, from->listener);
    to->message_id = arena_str(arena, from->message_id);
    to->from_domain = arena_str(arena, from->from_domain);
    to->recipient_count = 0;
    forget_places(to);
    reserve(to, from->recipient_count);
    for (size_t i = 0; i < from->recipient_count; i++)
        copy_recipient(arena, &to->recipients[i], &from->recipients[i]);
    to->recipient_count = from->recipient_count;
}

static const char *const state_words[] = {
#define X(name, word) [RECIPIENT_##name] = word,
    RECIPIENT_STATE_MAP(X)
#undef X
};

const char *recipient_state_word(enum recipient_state state) { return state_words[state]; }

bool recipient_state_parse(struct str word, enum recipient_state *out_state)
{
    for (size_t i = 0; i < sizeof(state_words) / sizeof(state_words[0]); i++) {
        if (!str_eq(word, str_of(state_words[i])))
            continue;
        *out_state = (enum recipient_state)i;
        return true;
    }
    return false;
}
