/*
 * users.c - a set of users in memory: read once, then immutable and counted.
 */
#include "relay/ingress/users.h"

#include "relay/ingress/users_impl.h"
#include "relay/mail/addr.h"

#include <stdatomic.h>
#include <stdlib.h>

struct users {
    atomic_uint refs;
    struct arena arena;
    struct user *rows; /* by name */
    size_t count;
    bool all_have_scram;
};

struct users *users_ref(struct users *users)
{
    atomic_fetch_add(&users->refs, 1);
    return users;
}

void users_unref(struct users **users_at)
{
    struct users *users = *users_at;

    *users_at = NULL;
    if (!users || atomic_fetch_sub(&users->refs, 1) != 1)
        return;
    arena_clear(&users->arena);
    free(users->rows);
    free(users);
}

/* ---- reading ---- */

static enum err read_lines(struct users *users, const char *file, struct str text,
                           struct fault *fault)
{
    unsigned number = 0;
    size_t cap = 0;
    struct fault why;
    struct str line;

    while (str_next(&text, '\n', &line)) {
        number++;
        if (users_line_is_blank(line))
            continue;
        if (users->count == cap) {
            cap = cap ? cap * 2 : 16;
            users->rows = mem_realloc(users->rows, cap * sizeof(*users->rows));
        }
        if (users_line_parse(line, &users->arena, &users->rows[users->count], &why))
            return fault_set(fault, ERR_INVALID, "%s:%u: %s", file, number, why.text);
        users->count++;
    }
    return ERR_OK;
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct user *)a)->name, ((const struct user *)b)->name);
}

static enum err sort_rows(struct users *users, const char *file, struct fault *fault)
{
    users->all_have_scram = true;
    if (users->count > 0)
        qsort(users->rows, users->count, sizeof(*users->rows), by_name);
    for (size_t i = 0; i < users->count; i++) {
        if (!users->rows[i].has_scram)
            users->all_have_scram = false;
        if (i > 0 && str_eq(users->rows[i - 1].name, users->rows[i].name))
            return fault_set(fault, ERR_INVALID,
                             "%s: user \"" STR_FMT "\" is there twice; remove one of the lines",
                             file, STR_ARG(users->rows[i].name));
    }
    return ERR_OK;
}

enum err users_load(const char *file, struct users **out_users, struct fault *fault)
{
    struct users *users;
    struct buf text;
    enum err rc;

    buf_init(&text, USERS_FILE_MAX);
    rc = users_file_read(file, &text, NULL, fault);
    if (rc)
        goto out;
    users = mem_alloc(sizeof(*users));
    atomic_init(&users->refs, 1);
    arena_init(&users->arena);
    rc = read_lines(users, file, buf_view(&text), fault);
    if (!rc)
        rc = sort_rows(users, file, fault);
    if (rc)
        users_unref(&users);
    else
        *out_users = users;
out:
    if (text.start)
        explicit_bzero(text.start, text.cap);
    buf_clear(&text);
    return rc;
}

/* ---- asking ---- */

const struct user *users_find(const struct users *users, struct str name)
{
    struct user key = { .name = name };

    if (users->count == 0)
        return NULL;
    return bsearch(&key, users->rows, users->count, sizeof(*users->rows), by_name);
}

const struct user *users_at(const struct users *users, size_t index)
{
    return index < users->count ? &users->rows[index] : NULL;
}

size_t users_count(const struct users *users) { return users->count; }

bool users_all_have_scram(const struct users *users) { return users->all_have_scram; }

static bool matches_any(const struct user *user, struct str address)
{
    for (size_t i = 0; i < user->sender_count; i++)
        if (addr_matches(address, user->senders[i]))
            return true;
    return false;
}

bool user_may_send_as(const struct user *user, struct str address)
{
    struct addr addr;
    struct buf text;
    struct fault fault;
    bool ok;

    if (user->sender_count == 0 || address.len == 0)
        return true;
    if (addr_parse(address, ADDR_ALLOW_UTF8 | ADDR_ALLOW_BARE | ADDR_ALLOW_LONG, &addr, &fault))
        return false;
    buf_init(&text, address.len + ADDR_MAX);
    ok = addr_canonical(&addr, &text, &fault) == ERR_OK && matches_any(user, buf_view(&text));
    buf_clear(&text);
    return ok;
}
