/*
 * store_rules.c - fairness groups, verdicts, filters and changes on recipients.
 */
#include "queue/store_rules.h"

#include "relay/mail/addr.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Where the part of a local part begins that differs from mail to mail:
 * "bounce-2183-a=b.example", "news+id", "noreply2". */
static size_t stem_len(struct str local)
{
    size_t i = 0;

    while (i < local.len && !strchr("+-=0123456789", local.at[i]))
        i++;
    return i;
}

unsigned rules_bucket(const struct envelope *envelope)
{
    uint64_t hash;

    if (envelope->user.len > 0) {
        hash = str_hash(envelope->user, 1);
    } else {
        struct str local = addr_local_of(envelope->sender);
        hash = str_hash(str_head(local, stem_len(local)), 2);
        hash = str_hash(addr_domain_of(envelope->sender), hash);
    }
    return (unsigned)(hash % STORE_BUCKETS);
}

static void release(struct recipient *recipient, int64_t now_s)
{
    if (now_s > recipient->due_at) /* due_at of a held one: since when it is held */
        recipient->held_lifetime_s += now_s - recipient->due_at;
    recipient->state = RECIPIENT_QUEUED;
    recipient->due_at = now_s;
}

void rules_settle(struct recipient *recipient, const struct verdict *verdict, int64_t now_s,
                  bool retry)
{
    if (recipient->state != RECIPIENT_QUEUED && recipient->state != RECIPIENT_HELD)
        return; /* dropped meanwhile */
    if (verdict->attempted) {
        recipient->attempts++;
        recipient->tried_at = now_s;
    }
    if (verdict->warned)
        recipient->warned = true;
    recipient->stage = verdict->stage;
    recipient->kind = verdict->kind;
    recipient->status = verdict->status;
    recipient->host = verdict->host;
    recipient->said = verdict->said;
    recipient->cause = verdict->cause;
    recipient->fix = verdict->fix;
    if (verdict->state != RECIPIENT_QUEUED)
        recipient->state = verdict->state;
    else if (recipient->state == RECIPIENT_QUEUED)
        recipient->due_at = retry ? now_s : verdict->due_at;
}

bool rules_message_matches(const struct store_filter *filter, const struct envelope *envelope)
{
    int64_t arrived_s = envelope->arrived_us / 1000000;

    if (!msgid_is_nil(&filter->id) && msgid_cmp(&filter->id, &envelope->id) != 0)
        return false;
    if (filter->older_than && arrived_s >= filter->older_than)
        return false;
    if (filter->newer_than && arrived_s <= filter->newer_than)
        return false;
    if (filter->user.len && !str_ieq(filter->user, envelope->user))
        return false;
    if (str_eq(filter->sender, STR("<>")))
        return envelope->sender.len == 0;
    return filter->sender.len == 0 || addr_matches(envelope->sender, filter->sender);
}

static bool is_of_routes(const struct store_filter *filter, struct str lane)
{
    struct str name = lane_route_name(lane);

    for (size_t i = 0; i < filter->of_route_count; i++)
        if (str_eq(filter->of_routes[i], name))
            return true;
    return filter->of_route_count == 0;
}

bool rules_recipient_is_open(const struct recipient *recipient)
{
    return recipient->state == RECIPIENT_QUEUED || recipient->state == RECIPIENT_HELD;
}

bool rules_recipient_matches(const struct store_filter *filter, const struct recipient *recipient)
{
    if (!filter->any_state && recipient->state != filter->state)
        return false;
    if (filter->deferred_only && (recipient->attempts == 0 || recipient->state != RECIPIENT_QUEUED))
        return false;
    if (filter->lane.len && !lane_matches(recipient->lane, filter->lane))
        return false;
    /* A finished one is in its record only, and waits in no lane any more. */
    if (filter->lane.len && filter->any_state && !rules_recipient_is_open(recipient))
        return false;
    if (!is_of_routes(filter, recipient->lane))
        return false;
    return filter->recipient.len == 0 || addr_matches(recipient->address, filter->recipient);
}

bool rules_matches(const struct store_filter *filter, const struct envelope *envelope)
{
    if (!rules_message_matches(filter, envelope))
        return false;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (rules_recipient_matches(filter, &envelope->recipients[i]))
            return true;
    }
    return false;
}

bool rules_recipient_is_looked_for(const struct claim_look *look, const struct envelope *envelope,
                                   const struct recipient *recipient, int64_t now_s)
{
    int64_t since = envelope->arrived_us / 1000000 + recipient->held_lifetime_s;

    if (recipient->state != RECIPIENT_QUEUED || recipient->due_at > now_s)
        return false;
    return since < look->expired_before || (!recipient->warned && since < look->late_before);
}

bool rules_is_looked_for(const struct claim_look *look, const struct envelope *envelope,
                         struct str lane, int64_t now_s)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct recipient *r = &envelope->recipients[i];
        if (str_eq(r->lane, lane) && rules_recipient_is_looked_for(look, envelope, r, now_s))
            return true;
    }
    return false;
}

bool rules_is_by_id(const struct store_filter *filter)
{
    return !msgid_is_nil(&filter->id) && filter->lane.len == 0 && filter->sender.len == 0 &&
           filter->recipient.len == 0 && filter->user.len == 0 && !filter->older_than &&
           !filter->newer_than && !filter->deferred_only && !filter->of_route_count;
}

static bool bring_forward(struct recipient *recipient, bool leased, int64_t now_s)
{
    if (leased)
        return true; /* the settle will do it */
    if (recipient->due_at <= now_s)
        return false;
    recipient->due_at = now_s;
    return true;
}

/* What was to be waited for on the old way says nothing of the new one. */
static bool move_lane(const struct store_change *change, const struct envelope *envelope,
                      struct recipient *recipient, bool leased, int64_t now_s, char lane[LANE_MAX])
{
    lane[0] = '\0';
    change->reroute(change->arg, envelope, recipient, lane);
    if (!lane[0] || str_eq(str_of(lane), recipient->lane))
        return false;
    recipient->lane = str_of(lane);
    if (recipient->state == RECIPIENT_QUEUED)
        (void)bring_forward(recipient, leased, now_s);
    return true;
}

static void drop(struct recipient *recipient)
{
    recipient->state = RECIPIENT_FAILED;
    recipient->stage = STAGE_OPERATOR;
    recipient->cause = STR("dropped by the operator");
}

bool rules_change(const struct store_change *change, const struct envelope *envelope,
                  struct recipient *recipient, bool leased, int64_t now_s, char lane[LANE_MAX])
{
    bool is_queued = recipient->state == RECIPIENT_QUEUED;
    bool is_held = recipient->state == RECIPIENT_HELD;

    if ((!is_queued && !is_held) || !rules_recipient_matches(&change->filter, recipient))
        return false;
    switch (change->kind) {
    case STORE_HOLD:
        if (!is_queued)
            return false;
        recipient->state = RECIPIENT_HELD;
        recipient->due_at = now_s;
        return true;
    case STORE_RELEASE:
        if (is_held)
            release(recipient, now_s);
        return is_held;
    case STORE_RETRY:
        return is_queued && bring_forward(recipient, leased, now_s);
    case STORE_DROP:
        drop(recipient);
        return true;
    case STORE_REROUTE:
        return move_lane(change, envelope, recipient, leased, now_s, lane);
    case STORE_READDRESS:
        break; /* rules_readdress does it: there may be more recipients afterwards */
    }
    return false;
}

/* ---- next hops ---- */

#define HOP_NAME ((size_t)17) /* a route's, with the blank behind it */
#define HOP_ROW (HOP_NAME + 17)

static void hop_row(const struct store_hop *hop, char out[HOP_ROW + 1])
{
    (void)snprintf(out, HOP_ROW + 1, "%016" PRIx64 " %016" PRIx64 "\n", str_hash(hop->route, 0),
                   hop->print);
}

void rules_hops_row(const struct store_change *change, struct buf *out_row)
{
    char row[HOP_ROW + 1];

    buf_init(out_row, change->hop_count * HOP_ROW);
    for (size_t i = 0; i < change->hop_count; i++) {
        hop_row(&change->hops[i], row);
        buf_cstr(out_row, row);
    }
}

/* Of two with one name it is enough that one is the same. */
static bool is_changed(const struct store_hop *hop, struct str row)
{
    char now[HOP_ROW + 1];
    bool is_known = false;

    hop_row(hop, now);
    for (; row.len >= HOP_ROW; row = str_from(row, HOP_ROW)) {
        if (memcmp(row.at, now, HOP_ROW) == 0)
            return false;
        is_known = is_known || memcmp(row.at, now, HOP_NAME) == 0;
    }
    return is_known;
}

bool rules_hops_changed(struct store_change *change, struct str row)
{
    size_t count = 0;

    for (size_t i = 0; i < change->hop_count; i++)
        if (is_changed(&change->hops[i], row))
            change->changed[count++] = change->hops[i].route;
    change->filter.of_routes = change->changed;
    change->filter.of_route_count = count;
    return count > 0;
}

/* Held for want of an address, not by an operator. */
bool rules_recipient_waits(const struct recipient *recipient)
{
    return recipient->state == RECIPIENT_HELD && recipient->stage == STAGE_EXPAND &&
           recipient->attempts == 0;
}

bool rules_waits(const struct envelope *envelope)
{
    for (size_t i = 0; i < envelope->recipient_count; i++)
        if (rules_recipient_waits(&envelope->recipients[i]))
            return true;
    return false;
}

/* ---- held names that lead somewhere now ---- */

/* Where the address stands, or a free slot. A slot whose recipient has another address
 * since is passed over. */
static uint32_t *slot_of(const struct readdressing *readdressing, struct str address)
{
    const struct recipient *recipients = readdressing->envelope->recipients;
    size_t at = str_hash(address, 0) & readdressing->mask;

    while (readdressing->slots[at] &&
           !str_eq(recipients[readdressing->slots[at] - 1].address, address))
        at = (at + 1) & readdressing->mask;
    return &readdressing->slots[at];
}

static void enter(struct readdressing *readdressing, size_t index)
{
    uint32_t *slot = slot_of(readdressing, readdressing->envelope->recipients[index].address);

    if (*slot)
        return;
    *slot = (uint32_t)index + 1;
    readdressing->filled++;
}

static void enter_all(struct readdressing *readdressing)
{
    size_t count = readdressing->envelope->recipient_count, size = 16;

    while (size < 4 * count)
        size *= 2;
    free(readdressing->slots);
    readdressing->slots = mem_alloc(size * sizeof(*readdressing->slots));
    readdressing->mask = size - 1;
    readdressing->filled = 0;
    for (size_t i = 0; i < count; i++)
        enter(readdressing, i);
}

void readdressing_begin(struct readdressing *readdressing, const struct store_change *change,
                        struct envelope *envelope, int64_t now_s)
{
    *readdressing = (struct readdressing){ .change = change, .envelope = envelope, .now_s = now_s };
    enter_all(readdressing);
}

void readdressing_end(struct readdressing *readdressing) { free(readdressing->slots); }

static void give_address(struct readdressing *readdressing, size_t index,
                         const struct store_address *to)
{
    struct arena *arena = &readdressing->envelope->arena;
    struct recipient *recipient = &readdressing->envelope->recipients[index];

    release(recipient, readdressing->now_s);
    recipient->address = arena_str(arena, to->address);
    recipient->lane = arena_str(arena, to->lane);
    recipient->stage = STAGE_SERVICE;
    recipient->kind = CLASS_NONE;
    recipient->cause = recipient->fix = STR_EMPTY;
    enter(readdressing, index);
    if (readdressing->filled * 2 > readdressing->mask)
        enter_all(readdressing);
}

bool rules_readdress(struct readdressing *readdressing, size_t index)
{
    const struct store_change *change = readdressing->change;
    struct envelope *envelope = readdressing->envelope;
    const struct recipient was = envelope->recipients[index];
    const struct store_address *to = NULL;
    bool is_given = false;

    if (!rules_recipient_waits(&was) || !rules_recipient_matches(&change->filter, &was))
        return false;
    size_t count = change->readdress(change->arg, envelope, &was, &envelope->arena, &to);
    for (size_t i = 0; i < count; i++) {
        bool is_own = str_eq(to[i].address, was.address); /* the mailbox elsewhere */
        if (!is_own && *slot_of(readdressing, to[i].address))
            continue;
        if (!is_given) {
            give_address(readdressing, index, &to[i]);
            is_given = true;
            continue;
        }
        struct recipient *added = envelope_add(envelope, to[i].address);
        struct str address = added->address;
        *added = was;
        added->address = address;
        give_address(readdressing, envelope->recipient_count - 1, &to[i]);
    }
    if (count > 0 && !is_given) { /* others of the message stand for it */
        envelope->recipients[index].state = RECIPIENT_DELIVERED;
        envelope->recipients[index].said = STR("the same address is another recipient");
    }
    return count > 0;
}

bool rules_is_open(const struct envelope *envelope)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (rules_recipient_is_open(&envelope->recipients[i]))
            return true;
    }
    return false;
}

/* A tail over about 2,000 bytes takes a page of its own. */
uint64_t rules_cost(const struct envelope *envelope, uint64_t content_bytes)
{
    uint64_t tail = content_bytes % 4080;
    uint64_t pages = content_bytes / 4080 + (tail > 2000);
    uint64_t record = 400 + 120 * (uint64_t)envelope->recipient_count;

    return record + pages * 4096 + (tail > 2000 ? 0 : tail);
}
