/*
 * replay_expect.c - "expect": outcomes, hops, hosts, the queue, lanes.
 */
#include "tests/sim/replay.h"

#include "tests/sim/host.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- hops ---- */

static bool hop_number(const struct hop *hop, struct str key, uint64_t *out, bool *out_span)
{
    *out_span = false;
    if (str_eq(key, STR("attempt")) || str_eq(key, STR("attempts")))
        *out = hop->attempt;
    else if (str_eq(key, STR("code")))
        *out = hop->code;
    else if (str_eq(key, STR("recipients")))
        *out = hop->count;
    else if (str_eq(key, STR("bytes")))
        *out = hop->bytes;
    else if (str_eq(key, STR("next"))) {
        *out = hop->next_us ? (uint64_t)(hop->next_us - hop->ended_us) / 1000 : 0;
        *out_span = true;
    } else
        return false;
    return true;
}

static bool hop_text(const struct hop *hop, struct str key, char status[32], struct str *out)
{
    struct status code = { hop->status_class, hop->status_subject, hop->status_detail };

#define X(field, name)                                                                             \
    if (str_eq(key, STR(name))) {                                                                  \
        *out = hop->field;                                                                         \
        return true;                                                                               \
    }
    HOP_TEXT_MAP(X)
#undef X
    if (str_eq(key, STR("stage")))
        *out = str_of(stage_word(hop->stage));
    else if (str_eq(key, STR("result")))
        *out = str_of(result_word(hop->result));
    else if (str_eq(key, STR("scope")))
        *out = str_of(scope_word(hop->scope));
    else if (str_eq(key, STR("class")))
        *out = str_of(class_word(hop->kind));
    else if (str_eq(key, STR("weight")))
        *out = str_of(hop_weight_word(hop->weight));
    else if (str_eq(key, STR("status"))) {
        status_print(code, status, 32);
        *out = str_of(status);
    } else
        return false;
    return true;
}

/* False with replay->fault set when the word makes no sense. */
static bool hop_meets(struct replay *replay, const struct hop *hop, const struct replay_pair *pair,
                      bool *out_ok)
{
    char status[32];
    struct str text;
    uint64_t number;
    bool is_span;

    if (hop_number(hop, pair->key, &number, &is_span)) {
        if (replay_number_ok(pair, number, is_span, out_ok))
            return true;
        return replay_fail(replay, "\"" STR_FMT "\" is no number", STR_ARG(pair->value));
    }
    if (!hop_text(hop, pair->key, status, &text))
        return replay_fail(replay, "a hop has no \"" STR_FMT "\"", STR_ARG(pair->key));
    *out_ok = replay_text_ok(pair, text);
    return true;
}

static bool hop_meets_all(struct replay *replay, const struct hop *hop, char **words, size_t count,
                          bool *out_all)
{
    struct replay_pair pair;

    *out_all = true;
    for (size_t i = 0; i < count; i++) {
        bool ok;
        if (!replay_pair(words[i], &pair))
            return replay_fail(replay, "\"%s\": KEY=VALUE is wanted", words[i]);
        if (str_eq(pair.key, STR("count")))
            continue;
        if (!hop_meets(replay, hop, &pair, &ok))
            return false;
        *out_all = *out_all && ok;
    }
    return true;
}

/* A count of things: count=N, or at least one; `none` reverses. */
static bool count_ok(struct replay *replay, char **words, size_t count, bool none, uint64_t number,
                     const char *what)
{
    struct replay_pair pair;
    bool ok = none ? number == 0 : number > 0;

    for (size_t i = 0; i < count; i++)
        if (replay_pair(words[i], &pair) && str_eq(pair.key, STR("count")) &&
            !replay_number_ok(&pair, number, false, &ok))
            return replay_fail(replay, "count= takes a number");
    return ok || replay_fail(replay, "%" PRIu64 " such %s", number, what);
}

static bool expect_hop(struct replay *replay, char **words, size_t count, bool none)
{
    struct hop hop;
    uint64_t number = 0;
    bool all;

    for (size_t i = 0; i < replay->record.count; i++) {
        if (!record_get(&replay->record, i, &hop))
            continue;
        if (!hop_meets_all(replay, &hop, words, count, &all))
            return false;
        number += all;
    }
    return count_ok(replay, words, count, none, number, "hops");
}

/* ---- outcomes ---- */

static bool expect_outcome(struct replay *replay, char **words, size_t count)
{
    struct hop hop;
    enum result result;
    const char *wanted;

    if (count < 2)
        return replay_fail(replay, "expect outcome takes ADDRESS RESULT [KEY=VALUE]...");
    wanted = strcmp(words[1], "queued") == 0 ? "later" : words[1];
    if (strcmp(words[1], "none") == 0)
        return !record_settled(&replay->record, str_of(words[0]), &hop) ||
               replay_fail(replay, "%s has an outcome", words[0]);
    if (!result_parse(wanted, strlen(wanted), &result))
        return replay_fail(replay, "\"%s\" is no result", words[1]);
    if (!record_settled(&replay->record, str_of(words[0]), &hop))
        return replay_fail(replay, "nothing was settled for %s", words[0]);
    if (hop.result != result)
        return replay_fail(replay, "%s is %s: " STR_FMT, words[0], result_word(hop.result),
                           STR_ARG(hop.said));
    for (size_t i = 2; i < count; i++) {
        struct replay_pair pair;
        bool ok;
        if (!replay_pair(words[i], &pair))
            return replay_fail(replay, "\"%s\": KEY=VALUE is wanted", words[i]);
        if (!hop_meets(replay, &hop, &pair, &ok))
            return false;
        if (!ok) {
            struct buf line;
            buf_init(&line, 8192);
            hop_line(&hop, &line);
            replay_fail(replay, "%s: " STR_FMT, words[i], STR_ARG(buf_view(&line)));
            buf_clear(&line);
            return false;
        }
    }
    return true;
}

/* ---- hosts ---- */

static bool expect_host(struct replay *replay, const struct host *host, char **words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct replay_pair pair;
        char name[64];
        unsigned number;
        bool ok;
        if (!replay_pair(words[i], &pair))
            return replay_fail(replay, "\"%s\": COUNT=NUMBER is wanted", words[i]);
        str_copy(name, sizeof(name), pair.key);
        if (!host_count(host, name, &number))
            return replay_fail(replay, "no \"%s\" is counted", name);
        if (!replay_number_ok(&pair, number, false, &ok))
            return replay_fail(replay, "\"%s\": a number is wanted", words[i]);
        if (!ok)
            return replay_fail(replay, "%s: %s is %u", host->name, words[i], number);
    }
    return true;
}

/* ---- the queue ---- */

static bool entry_meets(const struct replay_pair *pair, const struct envelope *envelope,
                        const struct recipient *recipient)
{
    if (str_eq(pair->key, STR("state")))
        return replay_text_ok(pair, str_of(recipient_state_word(recipient->state)));
    if (str_eq(pair->key, STR("to")))
        return replay_text_ok(pair, recipient->address);
    if (str_eq(pair->key, STR("from")))
        return replay_text_ok(pair, envelope->sender.len ? envelope->sender : STR("<>"));
    return replay_text_ok(pair, recipient->lane); /* lane= */
}

static uint64_t count_entries(const struct store_list *list, const struct replay_pair *pairs,
                              size_t pair_count)
{
    uint64_t number = 0;

    for (size_t m = 0; m < list->count; m++) {
        const struct envelope *envelope = &list->envelopes[m];
        for (size_t r = 0; r < envelope->recipient_count; r++) {
            const struct recipient *recipient = &envelope->recipients[r];
            bool ok = recipient->state == RECIPIENT_QUEUED || recipient->state == RECIPIENT_HELD;
            for (size_t i = 0; ok && i < pair_count; i++)
                ok = entry_meets(&pairs[i], envelope, recipient);
            number += ok;
        }
    }
    return number;
}

/* expect queue empty | N [state=] [to=] [from=] [lane=] */
static bool expect_queue(struct replay *replay, char **words, size_t count)
{
    struct replay_pair pairs[8], wanted = { .op = "=" };
    struct store_list list;
    uint64_t number;
    bool ok;

    if (count < 1 || count > 9)
        return replay_fail(replay, "expect queue takes empty or a number");
    if (!replay_pair(words[0], &wanted))
        wanted.value = str_of(strcmp(words[0], "empty") == 0 ? "0" : words[0]);
    for (size_t i = 1; i < count; i++)
        if (!replay_pair(words[i], &pairs[i - 1]))
            return replay_fail(replay, "\"%s\": state=, to=, from= or lane=", words[i]);
    relay_list(&replay->relay, &list);
    number = count_entries(&list, pairs, count - 1);
    store_list_clear(&list);
    if (!replay_number_ok(&wanted, number, false, &ok))
        return replay_fail(replay, "\"%s\" is no number", words[0]);
    return ok || replay_fail(replay, "%" PRIu64 " recipients are queued", number);
}

/* ---- lanes ---- */

struct lane_look {
    const char *name;
    struct sched_lane_info info;
    bool found;
};

static bool look_at_lane(void *arg, const struct sched_lane_info *info)
{
    struct lane_look *look = arg;

    if (!str_eq(info->lane, str_of(look->name)))
        return true;
    look->info = *info;
    look->found = true;
    return false;
}

static bool lane_meets(const struct replay_pair *pair, const struct sched_lane_info *info,
                       bool *out_ok)
{
    if (str_eq(pair->key, STR("state"))) {
        *out_ok = replay_text_ok(pair, str_of(dest_state_word(info->state)));
        return true;
    }
    if (str_eq(pair->key, STR("trouble"))) {
        *out_ok = replay_text_ok(pair, info->trouble);
        return true;
    }
    if (str_eq(pair->key, STR("window")))
        return replay_number_ok(pair, info->window, false, out_ok);
    return str_eq(pair->key, STR("connections")) &&
           replay_number_ok(pair, info->connections, false, out_ok);
}

/* expect lane NAME gone | [state=] [window=] [connections=] [trouble~] */
static bool expect_lane(struct replay *replay, char **words, size_t count)
{
    struct lane_look look = { .name = count ? words[0] : "" };

    if (count < 2)
        return replay_fail(replay, "expect lane takes NAME and what it is like");
    sched_each_lane(replay->relay.sched, look_at_lane, &look);
    if (strcmp(words[1], "gone") == 0)
        return !look.found || replay_fail(replay, "the lane is still there");
    if (!look.found)
        return replay_fail(replay, "there is no lane %s", words[0]);
    for (size_t i = 1; i < count; i++) {
        struct replay_pair pair;
        bool ok;
        if (!replay_pair(words[i], &pair) || !lane_meets(&pair, &look.info, &ok))
            return replay_fail(replay, "\"%s\": a lane has no such thing", words[i]);
        if (!ok)
            return replay_fail(replay,
                               "%s: the lane is %s, window %u, connections %u (" STR_FMT ")",
                               words[i], dest_state_word(look.info.state), look.info.window,
                               look.info.connections, STR_ARG(look.info.trouble));
    }
    return true;
}

bool step_expect(struct replay *replay, char **words, size_t count)
{
    const struct host *host;

    if (count == 0)
        return replay_fail(replay, "expect what?");
    if (strcmp(words[0], "hop") == 0)
        return expect_hop(replay, words + 1, count - 1, false);
    if (strcmp(words[0], "no") == 0 && count > 1 && strcmp(words[1], "hop") == 0)
        return expect_hop(replay, words + 2, count - 2, true);
    if (strcmp(words[0], "outcome") == 0)
        return expect_outcome(replay, words + 1, count - 1);
    if (strcmp(words[0], "queue") == 0)
        return expect_queue(replay, words + 1, count - 1);
    if (strcmp(words[0], "lane") == 0)
        return expect_lane(replay, words + 1, count - 1);
    if (strcmp(words[0], "message") == 0)
        return expect_message(replay, words + 1, count - 1, false);
    if (strcmp(words[0], "dsn") == 0)
        return expect_message(replay, words + 1, count - 1, true);
    host = host_find(&replay->world, words[0]);
    if (host)
        return expect_host(replay, host, words + 1, count - 1);
    return replay_fail(replay, "\"%s\": neither a host nor outcome, hop, queue, lane, message, dsn",
                       words[0]);
}
