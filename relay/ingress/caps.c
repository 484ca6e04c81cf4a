/*
 * caps.c - session counts in one table of atomics.
 *
 * A slot is one 64-bit word: 48 bits of the client's mixed address and 16 bits
 * of count, so that taking, counting and freeing a slot are each one compare
 * and swap. A client lives anywhere in the WINDOW slots behind its home; since
 * freed slots leave holes, a search looks at the whole window. The mix is a
 * bijection of the 64 bits of an address (or /64): two clients in one window
 * are taken for one only if 59 or more bits agree by chance (48 of the tag,
 * the home's rest), and then they share a limit, no more.
 *
 * Two threads may give one client two slots at the same moment. Each counts
 * the window after it has entered, so that a limit is never passed; at worst
 * both step back.
 */
#include "relay/ingress/caps.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define SLOTS 131072U /* pages never touched cost nothing */
#define WINDOW 32U
#define COUNT_MASK 0xffffULL

struct caps {
    uint64_t secret; /* nobody outside can aim at one window */
    atomic_uint most, most_per_client;
    atomic_uint sessions;
    atomic_bool is_short;
    _Atomic(uint64_t) slots[SLOTS + WINDOW];
};

struct caps *caps_new(void)
{
    struct caps *caps = mem_alloc(sizeof(*caps));

    if (getrandom(&caps->secret, sizeof(caps->secret), 0) != (ssize_t)sizeof(caps->secret))
        caps->secret = (uint64_t)time(NULL);
    return caps;
}

void caps_free(struct caps **caps)
{
    free(*caps);
    *caps = NULL;
}

void caps_set(struct caps *caps, unsigned sessions, unsigned sessions_per_client)
{
    atomic_store(&caps->most, sessions);
    atomic_store(&caps->most_per_client, sessions_per_client);
}

unsigned caps_sessions(const struct caps *caps) { return atomic_load(&caps->sessions); }
void caps_set_short(struct caps *caps, bool is_short) { atomic_store(&caps->is_short, is_short); }
bool caps_is_short(const struct caps *caps) { return atomic_load(&caps->is_short); }

/* ---- where a client is ---- */

static uint64_t read_be64(const uint8_t *at)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return value;
}

static uint64_t client_number(const struct endpoint *client)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    /* ff00::/8 is multicast: no client comes from there. */
    static const uint64_t ipv4 = 0xff00000000000000, local = 0xff01000000000000;
    const uint8_t *ip = client->ip;

    switch (client->family) {
    case ENDPOINT_IPV6:
        if (memcmp(ip, mapped, sizeof(mapped)) != 0)
            return read_be64(ip);
        ip += sizeof(mapped);
        break;
    case ENDPOINT_IPV4:
        break;
    case ENDPOINT_UNIX: /* the caller's user, in place of an address */
        return local | (uint64_t)ip[0] << 24 | (uint64_t)ip[1] << 16 | (uint64_t)ip[2] << 8 | ip[3];
    case ENDPOINT_NONE:
        return local;
    }
    return ipv4 | (uint64_t)ip[0] << 24 | (uint64_t)ip[1] << 16 | (uint64_t)ip[2] << 8 | ip[3];
}

/* The finish of splitmix64: each step can be undone. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

struct place {
    _Atomic(uint64_t) *window;
    uint64_t tag; /* in the upper 48 bits */
};

static struct place place_of(struct caps *caps, const struct endpoint *client)
{
    uint64_t mixed = mix(client_number(client) ^ caps->secret);

    return (struct place){ &caps->slots[mixed % SLOTS], mixed & ~COUNT_MASK };
}

static bool holds(uint64_t slot, uint64_t tag)
{
    return (slot & COUNT_MASK) != 0 && (slot & ~COUNT_MASK) == tag;
}

/* ---- counting ---- */

static bool add_to_own(const struct place *place)
{
    for (unsigned i = 0; i < WINDOW; i++) {
        uint64_t slot = atomic_load(&place->window[i]);
        while (holds(slot, place->tag) && (slot & COUNT_MASK) < COUNT_MASK)
            if (atomic_compare_exchange_weak(&place->window[i], &slot, slot + 1))
                return true;
    }
    return false;
}

static bool take_free(const struct place *place)
{
    for (unsigned i = 0; i < WINDOW; i++) {
        uint64_t slot = 0;
        if (atomic_compare_exchange_strong(&place->window[i], &slot, place->tag | 1))
            return true;
    }
    return false;
}

static unsigned count_client(const struct place *place)
{
    unsigned count = 0;

    for (unsigned i = 0; i < WINDOW; i++) {
        uint64_t slot = atomic_load(&place->window[i]);
        if (holds(slot, place->tag))
            count += (unsigned)(slot & COUNT_MASK);
    }
    return count;
}

static void subtract(const struct place *place)
{
    for (unsigned i = 0; i < WINDOW; i++) {
        uint64_t slot = atomic_load(&place->window[i]);
        while (holds(slot, place->tag)) {
            uint64_t less = (slot & COUNT_MASK) == 1 ? 0 : slot - 1;
            if (atomic_compare_exchange_weak(&place->window[i], &slot, less))
                return;
        }
    }
}

static bool enter_client(struct caps *caps, const struct endpoint *client)
{
    struct place place = place_of(caps, client);
    unsigned most = atomic_load(&caps->most_per_client);

    if (count_client(&place) >= most)
        return false;
    if (!add_to_own(&place) && !take_free(&place))
        return false;
    if (count_client(&place) <= most)
        return true;
    subtract(&place);
    return false;
}

enum caps_verdict caps_enter(struct caps *caps, const struct endpoint *client)
{
    if (caps_is_short(caps))
        return CAPS_TOO_MANY;
    if (atomic_fetch_add(&caps->sessions, 1) >= atomic_load(&caps->most)) {
        atomic_fetch_sub(&caps->sessions, 1);
        return CAPS_TOO_MANY;
    }
    if (enter_client(caps, client))
        return CAPS_OK;
    atomic_fetch_sub(&caps->sessions, 1);
    return CAPS_TOO_MANY_FROM_CLIENT;
}

void caps_leave(struct caps *caps, const struct endpoint *client)
{
    struct place place = place_of(caps, client);

    subtract(&place);
    atomic_fetch_sub(&caps->sessions, 1);
}
