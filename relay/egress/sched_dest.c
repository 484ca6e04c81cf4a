/*
 * sched_dest.c - which dest a lane belongs to, and who waits for it.
 *
 * A `destination` row is one dest, found by the recipient domain or by the
 * suffix of the first MX host's name; a lane that no row matches has a dest of
 * its own, which goes with it.
 */
#include "relay/egress/sched_impl.h"

#define ALARM_MS ((uint64_t)600 * 1000)

const struct route_settings *sched_route(const struct sched *sched, const struct sched_lane *lane)
{
    return route_named(sched->settings->routes, sched->settings->route_count,
                       lane_route_name(str_of(lane->name)), lane->is_smarthost);
}

/* ---- limits ---- */

unsigned sched_loops(const struct sched *sched)
{
    unsigned loops = loop_count(sched->options.loop);

    return loops ? loops : 1;
}

/* This loop's part of limits that hold for all loops together. */
static struct dest_limits share_of(const struct sched *sched, const struct dest_limits *all)
{
    struct dest_limits limits = *all;
    unsigned loops = sched_loops(sched);

    limits.max_connections = all->max_connections / loops;
    if (loop_index(sched->options.loop) < all->max_connections % loops)
        limits.max_connections++;
    limits.rate_per_s =
        all->rate_per_s /
        (all->max_connections && all->max_connections < loops ? all->max_connections : loops);
    return limits;
}

static const struct sched_destination *row_named(const struct sched *sched, const char *name)
{
    for (size_t i = 0; i < sched->settings->destination_count; i++)
        if (str_ieq(sched->settings->destinations[i].match, str_of(name)))
            return &sched->settings->destinations[i];
    return NULL;
}

static struct dest_limits limits_now(const struct sched_dest *dest)
{
    const struct sched *sched = dest->sched;
    const struct sched_destination *row = dest->is_row ? row_named(sched, dest->name) : NULL;
    const struct dest_limits *limits = row ? &row->limits : &sched->settings->default_limits;

    return dest->is_shared ? share_of(sched, limits) : *limits;
}

void dest_limits_renew(struct sched_dest *dest)
{
    struct dest_limits limits = limits_now(dest);

    dest_limits_set(&dest->dest, &limits);
}

/* ---- dests ---- */

static struct sched_dest *dest_new(struct sched *sched, struct str name, bool is_row,
                                   bool is_shared)
{
    struct sched_dest *dest = mem_alloc(sizeof(*dest));
    struct dest_limits limits;

    dest->sched = sched;
    dest->name = str_dup(name);
    dest->is_row = is_row;
    dest->is_shared = is_shared;
    limits = limits_now(dest);
    dest_init(&dest->dest, &limits, loop_now_ms(sched->options.loop));
    if (is_row)
        HASH_ADD_KEYPTR(hh, sched->dests, dest->name, name.len, dest);
    return dest;
}

void dest_unref(struct sched_dest **dest_at)
{
    struct sched_dest *dest = *dest_at;

    *dest_at = NULL;
    if (!dest || --dest->refs > 0)
        return;
    if (dest->is_row)
        HASH_DELETE(hh, dest->sched->dests, dest);
    loop_timer_stop(dest->sched->options.loop, &dest->timer);
    free(dest->words.host);
    free(dest->words.said);
    free(dest->name);
    free(dest);
}

static bool is_under(struct str name, struct str suffix)
{
    if (suffix.len > 0 && suffix.at[0] == '.')
        return str_iends(name, suffix);
    return str_ieq(name, suffix) || (name.len > suffix.len && str_iends(name, suffix) &&
                                     name.at[name.len - suffix.len - 1] == '.');
}

static const struct sched_destination *row_of_domain(const struct sched *sched,
                                                     const struct sched_lane *lane)
{
    for (size_t i = 0; !lane->is_smarthost && i < sched->settings->destination_count; i++) {
        struct str match = sched->settings->destinations[i].match;
        if (str_ieq(lane->place, match) ||
            (str_starts(match, STR(".")) && str_iends(lane->place, match)))
            return &sched->settings->destinations[i];
    }
    return NULL;
}

static const struct sched_destination *row_of_host(const struct sched *sched,
                                                   const struct sched_lane *lane)
{
    if (!lane->plan || lane->plan->host_count == 0)
        return NULL;
    for (size_t i = 0; i < sched->settings->destination_count; i++)
        if (is_under(str_of(lane->plan->hosts[0].name), sched->settings->destinations[i].match))
            return &sched->settings->destinations[i];
    return NULL;
}

static struct sched_dest *dest_of_row(struct sched_lane *lane, const struct sched_destination *row)
{
    struct sched *sched = lane->sched;
    bool is_one_lane = !lane->is_smarthost && str_ieq(row->match, lane->place);
    struct sched_dest *dest;

    HASH_FIND(hh, sched->dests, row->match.at, row->match.len, dest);
    if (!dest)
        return dest_new(sched, row->match, true, !is_one_lane);
    /* Lanes of other loops may match it too, once it is not one domain's. */
    if (!is_one_lane && !dest->is_shared) {
        dest->is_shared = true;
        dest_limits_renew(dest);
    }
    return dest;
}

void lane_dest_choose(struct sched_lane *lane)
{
    const struct sched_destination *row = row_of_domain(lane->sched, lane);
    struct sched_dest *dest, *before = lane->dest;

    if (!row)
        row = row_of_host(lane->sched, lane);
    if (row)
        dest = dest_of_row(lane, row);
    else if (before && !before->is_row)
        dest = before;
    else
        dest = dest_new(lane->sched, lane->is_smarthost ? str_of(lane->name) : lane->place, false,
                        lane->is_smarthost);
    if (dest == before)
        return;
    dest->refs++;
    lane->dest = dest;
    if (before)
        dest_unref(&before);
}

/* Deliveries under way go on telling the old dest, which goes with them. A row's is others'
 * too: it stays, and is asked again. */
void lane_dest_forget(struct sched_lane *lane)
{
    uint64_t now = loop_now_ms(lane->sched->options.loop);
    struct sched_dest *dest, *before = lane->dest;

    if (!before)
        return;
    if (before->is_row) {
        dest_wake(&before->dest, now);
        dest_let_go(before);
        return;
    }
    dest = dest_new(lane->sched, str_of(before->name), false, before->is_shared);
    dest_doubt(&dest->dest, now);
    dest->refs++;
    lane->dest = dest;
    lane_let_go(lane);
    dest_unref(&before);
}

/* ---- lines ---- */

static struct sched_lane **line_of(struct sched_lane *lane)
{
    switch (lane->line) {
    case LINE_NONE:
        break;
    case LINE_READY:
        return &lane->sched->ready;
    case LINE_UNROUTED:
        return &lane->sched->unrouted;
    case LINE_STARVED:
        return &lane->sched->starved;
    case LINE_BLOCKED:
        return &lane->line_of->blocked;
    case LINE_THROTTLED:
        return &lane->line_of->throttled;
    }
    return NULL;
}

void lane_unline(struct sched_lane *lane)
{
    struct sched_lane **line = line_of(lane);
    struct sched_dest *dest = lane->line_of;

    if (!line)
        return;
    DL_DELETE(*line, lane); // NOLINT(clang-analyzer-core.NullDereference): it is in the list
    lane->line_of = NULL;
    if (dest && lane->line == LINE_BLOCKED)
        dest->blocked_count--;
    lane->line = LINE_NONE;
    if (dest)
        dest_unref(&dest);
}

static void line_up(struct sched_lane *lane, enum lane_line line, struct sched_dest *dest)
{
    lane->line = line;
    lane->line_of = dest;
    if (dest)
        dest->refs++;
    if (dest && line == LINE_BLOCKED)
        dest->blocked_count++;
    DL_APPEND(*line_of(lane), lane);
}

void lane_ready(struct sched_lane *lane)
{
    if (lane->line != LINE_NONE)
        return;
    line_up(lane, LINE_READY, NULL);
    sched_run_soon(lane->sched);
}

void lane_let_go(struct sched_lane *lane)
{
    if (lane->line == LINE_READY)
        return;
    lane_unline(lane);
    lane_ready(lane);
}

static void dest_look(void *arg)
{
    struct sched_dest *dest = arg;

    dest_let_go(dest);
}

static void dest_arm(struct sched_dest *dest, uint64_t at_ms)
{
    struct loop *loop = dest->sched->options.loop;
    uint64_t now = loop_now_ms(loop);

    if (at_ms == UINT64_MAX || (timer_is_running(&dest->timer) && dest->timer.due_ms <= at_ms))
        return;
    loop_timer_start(loop, &dest->timer, at_ms > now ? at_ms - now : 0, dest_look, dest);
}

void lane_block(struct sched_lane *lane, uint64_t retry_ms)
{
    struct sched_dest *dest = lane->dest;

    line_up(lane, LINE_BLOCKED, dest);
    dest_arm(dest, retry_ms);
    /* A kept connection of another lane holds a slot for nothing. */
    if (dest->dest.state == DEST_READY && dest->idle)
        work_quit(dest->idle);
    sweep_begin(dest);
}

void lane_throttle(struct sched_lane *lane, uint64_t retry_ms)
{
    line_up(lane, LINE_THROTTLED, lane->dest);
    dest_arm(lane->dest, retry_ms);
}

static uint64_t hash_of(const struct sched_lane *lane) { return str_hash(str_of(lane->name), 1); }

static bool is_quick(const struct sched_lane *lane)
{
    uint64_t hash = hash_of(lane);

    return lane->sched->quick[hash % SCHED_QUICK_MAX] == hash;
}

void lane_starve(struct sched_lane *lane)
{
    struct sched *sched = lane->sched;

    line_up(lane, LINE_STARVED, NULL);
    if (sched->idle)
        work_quit(sched->idle);
}

void lane_unroute(struct sched_lane *lane) { line_up(lane, LINE_UNROUTED, NULL); }

void dest_let_go(struct sched_dest *dest)
{
    uint64_t now = loop_now_ms(dest->sched->options.loop);
    unsigned room = dest_room(&dest->dest, now);
    unsigned tokens = dest_tokens(&dest->dest, now);
    uint64_t retry = UINT64_MAX;

    dest->refs++; /* whoever is let go may be the last to hold it */
    for (; dest->blocked && room > 0; room--)
        lane_let_go(dest->blocked);
    for (; dest->throttled && tokens > 0; tokens--) {
        dest->throttled->may_pass = true;
        lane_let_go(dest->throttled);
    }
    if (dest->blocked && dest->dest.state == DEST_SLEEPING)
        retry = dest->dest.wake_at_ms;
    if (dest->throttled)
        dest_arm(dest, now + 1 + (uint64_t)(1000.0 / dest->dest.limits.rate_per_s));
    dest_arm(dest, retry);
    dest_unref(&dest);
}

void lane_note_pace(struct sched_lane *lane, uint64_t took_ms, bool delivered)
{
    uint64_t hash = hash_of(lane), *quick = &lane->sched->quick[hash % SCHED_QUICK_MAX];

    if (delivered && took_ms <= SCHED_QUICK_MS)
        *quick = hash;
    else if (took_ms > SCHED_QUICK_MS && *quick == hash)
        *quick = 0;
}

unsigned sched_room(const struct sched_lane *lane)
{
    const struct sched *sched = lane->sched;
    unsigned most = sched->settings->connections_max;

    if (!is_quick(lane))
        most -= most / 8;
    return most > sched->connections ? most - sched->connections : 0;
}

void sched_let_go(struct sched *sched)
{
    struct sched_lane *lane;
    unsigned n = 0;

    for (; sched->starved && n < sched_room(sched->starved); n++)
        lane_let_go(sched->starved);
    /* Only what is kept for quick ones is left: the first of them. */
    DL_FOREACH (sched->starved, lane) {
        if (is_quick(lane) && n < sched_room(lane)) {
            lane_let_go(lane);
            return;
        }
    }
}

enum err lane_take_token(struct sched_lane *lane, struct sched_dest *dest, uint64_t *out_retry_ms)
{
    enum err rc = ERR_AGAIN;

    *out_retry_ms = UINT64_MAX; /* the line has its timer */
    if (!dest->throttled || lane->may_pass)
        rc = dest_message(&dest->dest, loop_now_ms(dest->sched->options.loop), out_retry_ms);
    if (!rc)
        lane->may_pass = false;
    return rc;
}

static bool has_other(const struct sched_lane *line, const struct sched_lane *than)
{
    return line && (line != than || line->next);
}

bool lane_is_envied(const struct sched_lane *lane, const struct sched_dest *dest)
{
    return has_other(lane->sched->starved, lane) || has_other(dest->blocked, lane);
}

/* ---- what attempts tell ---- */

static void keep_words(struct sched_dest *dest, const struct delivery_result *result)
{
    free(dest->words.host);
    free(dest->words.said);
    dest->words.stage = result->stage;
    dest->words.host = str_dup(result->host);
    dest->words.said = str_dup(result->said);
}

static void alarm(struct sched_lane *lane, struct sched_dest *dest, bool changed,
                  const struct delivery_result *result)
{
    uint64_t now = loop_now_ms(lane->sched->options.loop);

    if (!changed && dest->alarm_row == result->outcome.row && dest->alarm_at_ms &&
        now - dest->alarm_at_ms < ALARM_MS)
        return;
    dest->alarm_row = result->outcome.row;
    dest->alarm_at_ms = now ? now : 1;
    sched_tell_alarm(lane, result);
}

void dest_hear(struct sched_lane *lane, struct sched_dest *dest,
               const struct delivery_result *result, const struct msgid *id)
{
    struct loop *loop = lane->sched->options.loop;
    enum dest_state before = dest->dest.state;
    bool changed = dest_feedback(&dest->dest, &result->outcome, loop_now_ms(loop), sched_noise(id));

    if (changed && dest->dest.state == DEST_SLEEPING) {
        keep_words(dest, result);
        dest->sweep_wanted = true;
        if (!dest->down_since_s)
            dest->down_since_s = loop_wall_s(loop);
        lane_plan_drop(lane); /* its hosts may have changed by the next probe */
        sched_tell_asleep(lane, dest, result, before == DEST_READY);
    }
    if (dest->dest.state == DEST_READY)
        dest->down_since_s = 0;
    if (result->outcome.alarm)
        alarm(lane, dest, changed && before == DEST_READY, result);
    if (dest->dest.state != DEST_SLEEPING)
        dest_let_go(dest);
}
