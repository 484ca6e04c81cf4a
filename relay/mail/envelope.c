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
