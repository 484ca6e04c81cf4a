/*
 * ruling.c - from an outcome to a recipient's next state.
 */
#include "relay/egress/ruling.h"

#define OWN_TROUBLE_RETRY_S 10
#define UNKNOWN_RETRY_S 900 /* it may have arrived: no hurry to send it twice */
#define UNKNOWN_ATTEMPTS_MAX 5

/* By the clock as it is now. */
static int64_t arrived_s(const struct ruling_terms *terms, const struct envelope *envelope)
{
    int64_t at_s = envelope->arrived_us / 1000000;

    return at_s <= terms->set_at_s ? at_s + terms->set_by_s : at_s;
}

static int64_t expires_at(const struct ruling_terms *terms, const struct envelope *envelope,
                          const struct recipient *recipient)
{
    return arrived_s(terms, envelope) + recipient->held_lifetime_s + (int64_t)terms->lifetime_s;
}

/* 0: no warning is to come. */
static int64_t warns_at(const struct ruling_terms *terms, const struct envelope *envelope,
                        const struct recipient *recipient)
{
    int64_t at =
        arrived_s(terms, envelope) + recipient->held_lifetime_s + (int64_t)terms->warn_after_s;

    if (recipient->warned || terms->warn_after_s == 0 ||
        at >= expires_at(terms, envelope, recipient))
        return 0;
    return at;
}

/* Neither expiry nor warning may come late because the next try is far away. */
static int64_t not_after(int64_t due_at, int64_t least, int64_t moment)
{
    return moment >= least && due_at > moment ? moment : due_at;
}

static void fail(struct ruling *out, enum dsn_action action)
{
    out->state = RECIPIENT_FAILED;
    out->has_report = true;
    out->action = action;
}

/* It stays in the queue: is it time for a warning? */
static void stay(const struct ruling_terms *terms, const struct envelope *envelope,
                 const struct recipient *recipient, int64_t now_s, struct ruling *out)
{
    int64_t warn_at = warns_at(terms, envelope, recipient);

    out->state = RECIPIENT_QUEUED;
    if (warn_at == 0 || now_s < warn_at)
        return;
    out->warned = true;
    out->has_report = true;
    out->action = DSN_DELAYED;
    out->will_retry_until = expires_at(terms, envelope, recipient);
}

static uint32_t delay_of(const struct ruling_terms *terms, const struct recipient *recipient,
                         const struct outcome *outcome, bool attempted, uint64_t noise)
{
    uint32_t attempts = recipient->attempts + attempted;
    uint32_t delay =
        backoff_delay_s(&terms->backoff, attempts ? attempts : 1, outcome->retry_after_s, noise);

    if (outcome->unknown_delivery)
        return delay > UNKNOWN_RETRY_S ? delay : UNKNOWN_RETRY_S;
    if (outcome->scope == SCOPE_US)
        return OWN_TROUBLE_RETRY_S + (uint32_t)(noise % 8);
    return delay;
}

/* The attempt before this one ended in the same uncertainty. */
static bool was_unknown(const struct recipient *recipient, const struct outcome *outcome)
{
    return recipient->attempts > 0 && str_eq(recipient->cause, str_of(outcome->cause));
}

static void later(const struct ruling_terms *terms, const struct envelope *envelope,
                  const struct recipient *recipient, const struct outcome *outcome, int64_t now_s,
                  uint64_t noise, struct ruling *out)
{
    int64_t expire_at = expires_at(terms, envelope, recipient);
    int64_t least = now_s + (outcome->retry_after_s ? (int64_t)outcome->retry_after_s : 1);

    /* Only a real attempt lets it expire: after a clock that was set wrong, or a
     * relay that was down for a week, everything gets its chance first. */
    if (out->attempted && now_s >= expire_at) {
        fail(out, DSN_EXPIRED);
        return;
    }
    if (outcome->unknown_delivery && recipient->attempts + 1 >= UNKNOWN_ATTEMPTS_MAX &&
        was_unknown(recipient, outcome)) {
        fail(out, DSN_FAILED);
        return;
    }
    out->due_at = now_s + delay_of(terms, recipient, outcome, out->attempted, noise);
    out->due_at = not_after(out->due_at, least, warns_at(terms, envelope, recipient));
    out->due_at = not_after(out->due_at, least, expire_at);
    if (out->attempted)
        stay(terms, envelope, recipient, now_s, out);
}

void ruling_of_attempt(const struct ruling_terms *terms, const struct envelope *envelope,
                       const struct recipient *recipient, const struct outcome *outcome,
                       bool attempted, bool relayed, int64_t now_s, uint64_t noise,
                       struct ruling *out)
{
    *out = (struct ruling){ .state = RECIPIENT_QUEUED, .attempted = attempted };
    switch (outcome->result) {
    case RESULT_OK:
    case RESULT_DELIVERED:
        out->state = RECIPIENT_DELIVERED;
        out->attempted = true;
        out->has_report = relayed;
        out->action = DSN_RELAYED;
        break;
    case RESULT_FAILED:
        fail(out, DSN_FAILED);
        break;
    case RESULT_LATER:
    case RESULT_COUNT:
        later(terms, envelope, recipient, outcome, now_s, noise, out);
        break;
    }
}

void ruling_of_outage(const struct ruling_terms *terms, const struct envelope *envelope,
                      const struct recipient *recipient, int64_t now_s, struct ruling *out)
{
    *out = (struct ruling){ .state = RECIPIENT_QUEUED, .due_at = recipient->due_at };
    if (now_s >= expires_at(terms, envelope, recipient))
        fail(out, DSN_EXPIRED);
    else
        stay(terms, envelope, recipient, now_s, out);
}
