/*
 * sendmail_names.c - addresses, each once, in the order they came.
 *
 * A table beside the list finds what is in it already: with -t a header may name
 * tens of thousands, and looking through all of them for each takes minutes.
 */
#include "relay/cli/sendmail.h"

#include "relay/base/hash.h"

struct sendmail_name {
    UT_hash_handle hh;
    struct str address;
};

static bool is_in(const struct sendmail_name *known, struct str address)
{
    const struct sendmail_name *name;

    HASH_FIND(hh, known, address.at, address.len, name);
    return name != NULL;
}

static void know(struct sendmail_name **known, struct str address, struct arena *arena)
{
    struct sendmail_name *name = arena_alloc(arena, sizeof(*name));

    *name = (struct sendmail_name){ .address = address };
    HASH_ADD_KEYPTR(hh, *known, name->address.at, address.len, name);
}

void sendmail_names_add(struct sendmail_names *names, struct str address, struct arena *arena)
{
    if (is_in(names->known, address))
        return;
    if (names->count == names->cap) {
        size_t cap = names->cap ? names->cap * 2 : 8;
        struct str *grown = arena_alloc(arena, cap * sizeof(*grown));
        if (names->count)
            memcpy(grown, names->list, names->count * sizeof(*grown));
        names->list = grown;
        names->cap = cap;
    }
    names->list[names->count++] = address;
    know(&names->known, address, arena);
}

static struct str lowered(struct str address, struct arena *arena)
{
    char *copy = arena_cstr(arena, address);

    for (size_t i = 0; i < address.len; i++)
        if (copy[i] >= 'A' && copy[i] <= 'Z')
            copy[i] = (char)(copy[i] - 'A' + 'a');
    return str_make(copy, address.len);
}

void sendmail_names_take_away(struct sendmail_names *from, const struct sendmail_names *away,
                              struct arena *arena)
{
    struct sendmail_name *known = NULL;
    size_t kept = 0;

    for (size_t i = 0; i < away->count; i++) {
        struct str address = lowered(away->list[i], arena);
        if (!is_in(known, address))
            know(&known, address, arena);
    }
    for (size_t i = 0; known && i < from->count; i++)
        if (!is_in(known, lowered(from->list[i], arena)))
            from->list[kept++] = from->list[i];
    if (known)
        from->count = kept;
    HASH_CLEAR(hh, known);
}

void sendmail_names_clear(struct sendmail_names *names) { HASH_CLEAR(hh, names->known); }
