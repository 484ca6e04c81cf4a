/*
 * dest.c - window, rate and sleep of one destination.
 *
 * The window works as TCP's does: it starts small, grows by one for each
 * success until it was pushed back once, from then on by one for each round of
 * successes; a push back halves it. So an outage that ends is followed by a
 * full window within a few round trips.
 */
#include "relay/egress/dest.h"

#include <limits.h>

#define WINDOW_FIRST 5.0
#define FAILURES_MAX 3 /* in a row before a place that had been fine is put to sleep */

static const char *const state_words[] = {
#define X(name, word) [DEST_##name] = word,
    DEST_STATE_MAP(X)
#undef X
};

const char *dest_state_word(enum dest_state state) { return state_words[state]; }

static double window_max(const struct dest *dest)
{
    return dest->limits.max_connections ? (double)dest->limits.max_connections : 1.0;
}

static void window_set(struct dest *dest, double window)
{
    if (window < 1.0)
        window = 1.0;
    dest->window = window < window_max(dest) ? window : window_max(dest);
}

/* At least one message must always fit, or a rate under 1/s would send nothing. */
static double bucket_size(const struct dest *dest)
{
    return dest->limits.rate_per_s > 1.0 ? dest->limits.rate_per_s : 1.0;
}

void dest_init(struct dest *dest, const struct dest_limits *limits, uint64_t now_ms)
{
    *dest = (struct dest){ .limits = *limits, .state = DEST_READY, .tokens_at_ms = now_ms };
    dest->calm = window_max(dest);
    dest->tokens = bucket_size(dest);
    window_set(dest, WINDOW_FIRST);
}

void dest_limits_set(struct dest *dest, const struct dest_limits *limits)
{
    bool was_unlimited = dest->limits.rate_per_s <= 0.0;

    dest->limits = *limits;
    dest->calm = window_max(dest);
    window_set(dest, dest->window);
    if (was_unlimited || dest->tokens > bucket_size(dest))
        dest->tokens = bucket_size(dest);
}

/* ---- slots ---- */

unsigned dest_room(const struct dest *dest, uint64_t now_ms)
{
    unsigned window = (unsigned)dest->window;

    switch (dest->state) {
    case DEST_READY:
        return window > dest->connections ? window - dest->connections : 0;
    case DEST_SLEEPING:
        return now_ms >= dest->wake_at_ms;
    case DEST_PROBING:
        return !dest->probe_is_out;
    }
    return 0;
}

enum err dest_acquire(struct dest *dest, uint64_t now_ms, uint64_t *out_retry_ms)
{
    if (dest_room(dest, now_ms) == 0) {
        *out_retry_ms = dest->state == DEST_SLEEPING ? dest->wake_at_ms : UINT64_MAX;
        return ERR_AGAIN;
    }
    if (dest->state == DEST_SLEEPING)
        dest->state = DEST_PROBING;
    if (dest->state == DEST_PROBING)
        dest->probe_is_out = true;
    dest->connections++;
    return ERR_OK;
}

void dest_release(struct dest *dest, uint64_t now_ms)
{
    (void)now_ms;
    if (dest->connections > 0)
        dest->connections--;
    /* A probe that told nothing (it was given up) must not be waited for. */
    dest->probe_is_out = false;
}

/* ---- rate ---- */

static double tokens_now(const struct dest *dest, uint64_t now_ms)
{
    double passed_s = now_ms > dest->tokens_at_ms ? (double)(now_ms - dest->tokens_at_ms) / 1e3 : 0;
    double tokens = dest->tokens + passed_s * dest->limits.rate_per_s;

    return tokens < bucket_size(dest) ? tokens : bucket_size(dest);
}

/* Adding many small parts up does not quite give one. */
#define WHOLE (1.0 - 1e-6)

enum err dest_message(struct dest *dest, uint64_t now_ms, uint64_t *out_retry_ms)
{
    double missing;

    if (dest->limits.rate_per_s <= 0.0)
        return ERR_OK;
    dest->tokens = tokens_now(dest, now_ms);
    dest->tokens_at_ms = now_ms;
    if (dest->tokens >= WHOLE) {
        dest->tokens -= 1.0;
        return ERR_OK;
    }
    missing = (1.0 - dest->tokens) / dest->limits.rate_per_s * 1e3;
    *out_retry_ms = now_ms + (missing < 86400e3 ? (uint64_t)missing + 1 : 86400000);
    return ERR_AGAIN;
}

void dest_message_undo(struct dest *dest)
{
    if (dest->limits.rate_per_s > 0.0)
        dest->tokens += 1.0;
}

unsigned dest_tokens(const struct dest *dest, uint64_t now_ms)
{
    double tokens = tokens_now(dest, now_ms);

    if (dest->limits.rate_per_s <= 0.0)
        return UINT_MAX;
    return tokens >= WHOLE ? (unsigned)(tokens + 1.0 - WHOLE) : 0;
}

/* ---- what attempts tell ---- */

static void answered(struct dest *dest)
{
    if (dest->state == DEST_PROBING) {
        dest->probe_is_out = false;
        dest->calm = window_max(dest);
        window_set(dest, WINDOW_FIRST);
    } else if (dest->state == DEST_SLEEPING) {
        /* What is connected works, it only wanted no more: from here on by rounds. */
        window_set(dest, (double)dest->connections);
        dest->calm = dest->window;
    }
    dest->state = DEST_READY;
    dest->is_proven = true;
    dest->failures = 0;
    dest->sleeps = 0;
}

static void widen(struct dest *dest)
{
    window_set(dest, dest->window + (dest->window < dest->calm ? 1.0 : 1.0 / dest->window));
}

static void narrow(struct dest *dest)
{
    window_set(dest, dest->window / 2.0);
    dest->calm = dest->window;
}

static void fall_asleep(struct dest *dest, const struct outcome *outcome, uint64_t now_ms,
                        uint64_t noise)
{
    uint32_t delay_s =
        backoff_delay_s(&dest->limits.backoff, ++dest->sleeps, outcome->retry_after_s, noise);

    dest->state = DEST_SLEEPING;
    dest->wake_at_ms = now_ms + (uint64_t)delay_s * 1000;
    dest->is_proven = false;
    dest->probe_is_out = false;
    dest->failures = 0;
    window_set(dest, 1.0);
}

static void place_failed(struct dest *dest, const struct outcome *outcome, uint64_t now_ms,
                         uint64_t noise)
{
    dest->last_trouble = *outcome;
    if (dest->state == DEST_SLEEPING)
        return; /* attempts that were under way when it fell asleep add nothing */
    dest->failures++;
    if (dest->state == DEST_READY && dest->is_proven && dest->failures < FAILURES_MAX) {
        narrow(dest);
        return;
    }
    fall_asleep(dest, outcome, now_ms, noise);
}

static void later(struct dest *dest, const struct outcome *outcome, uint64_t now_ms, uint64_t noise)
{
    switch (outcome->scope) {
    case SCOPE_NONE:
    case SCOPE_RECIPIENT:
    case SCOPE_MESSAGE:
        answered(dest);
        break;
    case SCOPE_HOST:
        dest->last_trouble = *outcome;
        if (dest->state == DEST_PROBING)
            place_failed(dest, outcome, now_ms, noise);
        else
            narrow(dest);
        break;
    case SCOPE_DEST:
        place_failed(dest, outcome, now_ms, noise);
        break;
    case SCOPE_US:
    case SCOPE_COUNT:
        break;
    }
}

bool dest_feedback(struct dest *dest, const struct outcome *outcome, uint64_t now_ms,
                   uint64_t noise)
{
    enum dest_state before = dest->state;

    switch (outcome->result) {
    case RESULT_OK:
    case RESULT_DELIVERED:
        dest->delivered++;
        answered(dest);
        widen(dest);
        break;
    case RESULT_FAILED:
        dest->failed++;
        if (outcome->scope != SCOPE_US)
            answered(dest); /* a refusal is an answer */
        break;
    case RESULT_LATER:
        dest->later++;
        later(dest, outcome, now_ms, noise);
        break;
    case RESULT_COUNT:
        break;
    }
    return dest->state != before;
}

void dest_wake(struct dest *dest, uint64_t now_ms)
{
    if (dest->state == DEST_SLEEPING)
        dest->wake_at_ms = now_ms;
}

void dest_doubt(struct dest *dest, uint64_t now_ms)
{
    dest->state = DEST_SLEEPING;
    dest->wake_at_ms = now_ms;
    window_set(dest, 1.0);
}
