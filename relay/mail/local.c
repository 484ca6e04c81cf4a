/*
 * local.c - from one name of the machine's own to addresses elsewhere.
 *
 * A walk over aliases, each name once. A name that stands for itself (\joe, or
 * joe: joe) would be a mailbox here; as there are none it adds nothing, and
 * when a whole name leads nowhere root's address takes it: never dropped.
 */
#include "relay/mail/local.h"

#include "relay/mail/addr.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- which are ours ---- */

bool local_is_localhost(struct str domain)
{
    return str_ieq(domain, STR("localhost")) || str_ieq(domain, STR("localhost.localdomain"));
}

/* Names that every machine has, whoever wrote its alias file. */
static bool is_system_name(struct str name)
{
    return str_ieq(name, STR("root")) || str_ieq(name, STR("postmaster")) ||
           str_ieq(name, STR("mailer-daemon"));
}

static const struct alias_entry *entry_of(const struct local_rules *rules, struct str name)
{
    return rules->table ? alias_find(rules->table, name) : NULL;
}

static bool root_leads_somewhere(const struct local_rules *rules)
{
    return rules->root.len > 0 || entry_of(rules, STR("root")) != NULL;
}

static bool is_own_domain(const struct local_rules *rules, struct str domain)
{
    for (size_t i = 0; i < rules->domain_count; i++)
        if (str_ieq(domain, rules->domains[i]))
            return true;
    return local_is_localhost(domain);
}

bool local_is_ours(const struct local_rules *rules, struct str address)
{
    struct str domain = addr_domain_of(address), name = addr_local_of(address);

    if (domain.len == 0 || is_own_domain(rules, domain))
        return true;
    if (!str_ieq(domain, rules->mailname))
        return false;
    return (!str_eq(name, STR("*")) && entry_of(rules, name)) ||
           (is_system_name(name) && root_leads_somewhere(rules));
}

bool local_is_inner(const struct local_names *names, struct str domain)
{
    return local_is_localhost(domain) || (names->machine.len && str_ieq(domain, names->machine));
}

struct str local_qualify(const struct local_names *names, struct str address, struct arena *arena)
{
    struct str domain = addr_domain_of(address);

    if (domain.len > 0 && !local_is_inner(names, domain))
        return address;
    return str_of(arena_printf(arena, STR_FMT "@" STR_FMT, STR_ARG(addr_local_of(address)),
                               STR_ARG(names->mailname)));
}

/* ---- the walk ---- */

struct walk {
    const struct local_rules *rules;
    struct arena *arena;
    struct str first; /* as asked for, for the words */
    struct local_found *found;
    size_t count, cap;
    struct str *seen; /* names that were taken up */
    size_t seen_count, seen_cap;
    bool too_many;
    struct str remark;
};

static void walk_name(struct walk *walk, struct str name, unsigned depth);

static bool was_seen(struct walk *walk, struct str name)
{
    for (size_t i = 0; i < walk->seen_count; i++)
        if (str_ieq(walk->seen[i], name))
            return true;
    return false;
}

/* A crowd of names is a mistake like a crowd of addresses. */
static bool remember(struct walk *walk, struct str name)
{
    if (walk->seen_count >= (size_t)2 * LOCAL_FOUND_MAX) {
        walk->too_many = true;
        return false;
    }
    if (walk->seen_count == walk->seen_cap) {
        walk->seen_cap = walk->seen_cap ? walk->seen_cap * 2 : 16;
        walk->seen = mem_realloc(walk->seen, walk->seen_cap * sizeof(*walk->seen));
    }
    walk->seen[walk->seen_count++] = name;
    return true;
}

static void found(struct walk *walk, struct str address, struct str by)
{
    for (size_t i = 0; i < walk->count; i++)
        if (str_eq(walk->found[i].address, address))
            return;
    if (walk->count == LOCAL_FOUND_MAX) {
        walk->too_many = true;
        return;
    }
    if (walk->count == walk->cap) { /* of fifty thousand names most lead to one address */
        walk->cap = walk->cap ? walk->cap * 2 : 4;
        walk->found = mem_realloc(walk->found, walk->cap * sizeof(*walk->found));
    }
    struct local_found *one = &walk->found[walk->count++];
    one->address = arena_str(walk->arena, address);
    one->words = str_of(arena_printf(walk->arena, STR_FMT " -> " STR_FMT " (" STR_FMT ")",
                                     STR_ARG(str_head(walk->first, 200)),
                                     STR_ARG(str_head(address, 320)), STR_ARG(by)));
}

/* From here to walk_name() functions call each other in a circle, as aliases name each
 * other; walk_name() stops at ALIAS_DEPTH_MAX. NOLINTBEGIN(misc-no-recursion) */
static void take_address(struct walk *walk, const struct alias_target *target, struct str by,
                         unsigned depth)
{
    struct str name = addr_local_of(target->text);

    /* "root: root@example.com" where example.com is mailname: the mailbox elsewhere. */
    bool leads_back = was_seen(walk, name) &&
                      str_ieq(addr_domain_of(target->text), walk->rules->mailname) &&
                      !is_own_domain(walk->rules, walk->rules->mailname);

    if (leads_back || !local_is_ours(walk->rules, target->text))
        found(walk, target->text, by);
    else if (!was_seen(walk, name))
        walk_name(walk, name, depth + 1);
}

static void take_targets(struct walk *walk, const struct alias_target *targets, size_t count,
                         const char *kind, unsigned depth)
{
    for (size_t i = 0; i < count && !walk->too_many; i++) {
        const struct alias_target *target = &targets[i];
        struct str by = str_of(arena_printf(walk->arena, "%s, " STR_FMT ":%u", kind,
                                            STR_ARG(target->file), target->line));
        switch (target->kind) {
        case ALIAS_ADDRESS:
            take_address(walk, target, by, depth);
            break;
        case ALIAS_NAME:
            if (!was_seen(walk, target->text))
                walk_name(walk, target->text, depth + 1);
            break;
        case ALIAS_FINAL:
            break;
        }
    }
}

static void take_entry(struct walk *walk, const struct alias_entry *entry, unsigned depth)
{
    take_targets(walk, entry->targets, entry->count, "aliases", depth);
}

/* True when the user's .forward names anything. */
static bool take_forward(struct walk *walk, struct str name, unsigned depth)
{
    const struct alias_target *targets;
    struct str why = STR_EMPTY;
    size_t count;

    if (!walk->rules->forward)
        return false;
    bool has =
        walk->rules->forward(walk->rules->forward_arg, name, walk->arena, &targets, &count, &why);
    if (why.len)
        walk->remark = why;
    if (has)
        take_targets(walk, targets, count, ".forward", depth);
    return has;
}

static void take_root(struct walk *walk, unsigned depth)
{
    const struct alias_entry *entry = entry_of(walk->rules, STR("root"));

    if (walk->rules->root.len)
        found(walk, walk->rules->root, STR("aliases { root }"));
    else if (entry && remember(walk, STR("root")))
        take_entry(walk, entry, depth);
}

/* What the name leads to by itself; without an alias of its own the .forward of
 * its user, then the catch-all, then root's address. */
static void walk_name(struct walk *walk, struct str name, unsigned depth)
{
    const struct alias_entry *entry = entry_of(walk->rules, name);
    const struct alias_entry *rest = entry_of(walk->rules, STR("*"));
    bool is_root = str_ieq(name, STR("root"));

    if (depth > ALIAS_DEPTH_MAX || !remember(walk, name))
        return;
    if (is_root && walk->rules->root.len)
        take_root(walk, depth);
    else if (entry && entry != rest)
        take_entry(walk, entry, depth);
    else if (take_forward(walk, name, depth))
        return;
    else if (rest && (!is_system_name(name) || !root_leads_somewhere(walk->rules)))
        take_entry(walk, rest, depth);
    else if (!was_seen(walk, STR("root")))
        walk_name(walk, STR("root"), depth + 1);
}
/* NOLINTEND(misc-no-recursion) */

static struct str reason(const struct walk *walk)
{
    if (walk->too_many)
        return str_of(arena_printf(walk->arena,
                                   "the local name leads to more than %d addresses: "
                                   "see the alias file",
                                   LOCAL_FOUND_MAX));
    return STR("no address for local mail: set aliases { root = ... }");
}

void local_expand(const struct local_rules *rules, struct str address, struct arena *arena,
                  struct local_result *out_result)
{
    struct walk walk = { .rules = rules, .arena = arena, .first = address, .remark = STR_EMPTY };

    walk_name(&walk, addr_local_of(address), 1);
    if (walk.count == 0 && !walk.too_many)
        take_root(&walk, 1);
    if (walk.too_many)
        walk.count = 0;
    struct local_found *kept = arena_alloc(arena, (walk.count + 1) * sizeof(*kept));
    if (walk.count > 0)
        memcpy(kept, walk.found, walk.count * sizeof(*kept));
    *out_result = (struct local_result){
        .found = kept, .count = walk.count, .why = STR_EMPTY, .remark = walk.remark
    };
    if (walk.count == 0)
        out_result->why = reason(&walk);
    free(walk.found);
    free(walk.seen);
}
