/*
 * msgid.c - making, printing and reading message ids.
 */
#include "relay/base/msgid.h"

#include "relay/base/clock.h"

#include <sys/random.h>
#include <unistd.h>

void msgid_maker_init(struct msgid_maker *maker)
{
    *maker = (struct msgid_maker){ .last_ms = -1 };
    if (getrandom(&maker->random, sizeof(maker->random), 0) == sizeof(maker->random))
        return;
    /* No entropy source (a kernel without the call): still different per
     * maker, process and moment, which is all that an id promises. */
    maker->random = clock_mono_ns() ^ ((uint64_t)getpid() << 40) ^ (uint64_t)(uintptr_t)maker;
}

/* splitmix64: a bijection of its counter, so one maker does not repeat. */
static uint64_t stir(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void store_be(uint8_t *to, uint64_t value, size_t bytes)
{
    for (size_t i = bytes; i-- > 0; value >>= 8)
        to[i] = (uint8_t)value;
}

struct msgid msgid_make(struct msgid_maker *maker, int64_t wall_ms)
{
    struct msgid id;

    if (wall_ms > maker->last_ms) {
        maker->last_ms = wall_ms;
        maker->sequence = 0;
    } else if (++maker->sequence == 0) {
        maker->last_ms++; /* 65,536 in one millisecond, or the clock was set back: borrow time */
    }
    store_be(id.bytes, (uint64_t)maker->last_ms, 6);
    store_be(id.bytes + 6, maker->sequence, 2);
    store_be(id.bytes + 8, stir(&maker->random), 8);
    return id;
}

static const char letters[] = "0123456789abcdefghjkmnpqrstvwxyz";

/* 26 letters carry 130 bits: the first two of them are always zero. */
void msgid_print(const struct msgid *id, char out[MSGID_TEXT + 1])
{
    unsigned bits = 0, have = 2;
    size_t from = 0;

    for (size_t i = 0; i < MSGID_TEXT; i++) {
        if (have < 5) {
            bits = (bits << 8 | id->bytes[from++]) & 0xFFFFu;
            have += 8;
        }
        have -= 5;
        out[i] = letters[bits >> have & 31];
    }
    out[MSGID_TEXT] = '\0';
}

static int letter_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        c = (char)(c + ('a' - 'A'));
    if (c == 'i' || c == 'l')
        return 1;
    if (c == 'o')
        return 0;
    const char *hit = c ? strchr(letters, c) : NULL;
    return hit ? (int)(hit - letters) : -1;
}

bool msgid_parse(struct str text, struct msgid *out_id)
{
    struct msgid id;
    unsigned bits = 0, have = 0;
    size_t to = 0;

    if (text.len != MSGID_TEXT)
        return false;
    for (size_t i = 0; i < MSGID_TEXT; i++) {
        int value = letter_value(text.at[i]);
        if (value < 0 || (i == 0 && value > 7))
            return false;
        bits = (bits << 5 | (unsigned)value) & 0xFFFFu;
        have += i == 0 ? 3 : 5;
        if (have >= 8) {
            have -= 8;
            id.bytes[to++] = (uint8_t)(bits >> have);
        }
    }
    *out_id = id;
    return true;
}

int msgid_cmp(const struct msgid *a, const struct msgid *b)
{
    return memcmp(a->bytes, b->bytes, MSGID_BYTES);
}

bool msgid_is_nil(const struct msgid *id)
{
    for (size_t i = 0; i < MSGID_BYTES; i++) {
        if (id->bytes[i])
            return false;
    }
    return true;
}

int64_t msgid_wall_ms(const struct msgid *id)
{
    int64_t ms = 0;

    for (size_t i = 0; i < 6; i++)
        ms = ms << 8 | id->bytes[i];
    return ms;
}
