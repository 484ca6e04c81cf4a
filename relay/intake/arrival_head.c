/*
 * arrival_head.c - the header of an arriving message: mended, judged, routed.
 */
#include "relay/intake/arrival.h"

static struct str from_fallback(struct arrival *arrival)
{
    const struct envelope *envelope = &arrival->message->envelope;

    if (envelope->sender.len)
        return envelope->sender;
    return str_of(arena_printf(&arrival->arena, "postmaster@" STR_FMT,
                               STR_ARG(arrival->intake->options.hostname)));
}

struct from_check {
    struct arrival *arrival;
    bool ok;
};

static bool from_one(void *arg, const struct addr_mailbox *mailbox)
{
    struct from_check *check = arg;
    const struct arrival_facts *facts = &check->arrival->facts;

    check->ok = facts->from_ok(facts->from_arg, mailbox->spec, &check->arrival->refusal);
    return check->ok;
}

/* Every From mailbox must be one the user may use, not only the first. */
static bool from_is_allowed(struct arrival *arrival)
{
    struct from_check check = { arrival, true };
    struct header_field field;
    struct fault fault;

    if (!arrival->facts.from_ok)
        return true;
    if (!header_find(buf_view(&arrival->head), STR("From"), &field, NULL))
        return true;
    if (addr_list(field.value, &arrival->arena, from_one, &check, &fault) && check.ok) {
        arrival_refuse(arrival, 550, STATUS(5, 6, 0), "The From field does not parse");
        return false;
    }
    return check.ok;
}

void arrival_set_lanes(struct arrival *arrival)
{
    const struct intake_options *options = &arrival->intake->options;
    struct envelope *envelope = &arrival->message->envelope;
    char lane[LANE_MAX];

    arrival->era = arrival->intake->era;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct recipient *recipient = &envelope->recipients[i];
        lane_of(options->routes, options->route_count, envelope->sender, recipient->address, lane);
        recipient->lane = arena_str(&envelope->arena, str_of(lane));
        recipient->due_at = envelope->arrived_us / 1000000;
        if (recipient->state != RECIPIENT_HELD) /* it leads nowhere yet */
            recipient->state = RECIPIENT_QUEUED;
    }
}

static void set_flags(struct arrival *arrival)
{
    struct envelope *envelope = &arrival->message->envelope;
    bool utf8 = arrival->found.needs_utf8 || !str_is_ascii(envelope->sender);

    for (size_t i = 0; !utf8 && i < envelope->recipient_count; i++)
        utf8 = !str_is_ascii(envelope->recipients[i].address);
    if (utf8)
        envelope->flags |= ENVELOPE_UTF8_NEEDED;
    if (arrival->end.has_8bit)
        envelope->flags |= ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME;
}

bool arrival_mend(struct arrival *arrival)
{
    const struct intake_options *options = &arrival->intake->options;
    struct envelope *envelope = &arrival->message->envelope;
    struct fixup_refusal refusal;
    struct status status;
    struct fixup_options fixup = {
        .hostname = options->hostname,
        .with = arrival->facts.with,
        .tls = arrival->facts.tls,
        .user = options->received_user ? envelope->user : STR_EMPTY,
        .client_host = envelope->helo,
        .client_address = arrival->facts.client_address,
        .submitter = arrival->facts.submitter,
        .from_fallback = from_fallback(arrival),
        .wall_us = arrival->began_us,
        .written_us = arrival->facts.written_us ? arrival->facts.written_us : arrival->began_us,
        .hops_max = options->hops_max,
        .add_missing = arrival->facts.is_submission,
    };

    if (arrival->locals && arrival->facts.is_local_origin)
        fixup.names = locals_names(arrival->locals);

    if (fixup_header(buf_view(&arrival->head_raw), &fixup, envelope, &arrival->head,
                     &arrival->arena, &arrival->found, &refusal, &arrival->fault)) {
        size_t used;
        if (!status_parse(str_of(refusal.status), &status, &used))
            status = STATUS(5, 6, 0);
        arrival_refuse(arrival, refusal.code, status, arrival->fault.text);
        return false;
    }
    envelope->message_id = arena_str(&envelope->arena, arrival->found.message_id);
    envelope->from_domain = arena_str(&envelope->arena, arrival->found.from_domain);
    if (!from_is_allowed(arrival))
        return false;
    arrival_set_lanes(arrival);
    set_flags(arrival);
    arrival->wants_signature =
        arrival->keyring && keyring_match(arrival->keyring, arrival->found.from_domain) > 0;
    return true;
}
