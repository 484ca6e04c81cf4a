/*
 * replay_message.c - "expect message", "expect dsn": what hosts have received.
 */
#include "tests/sim/replay.h"

#include "tests/sim/host.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Runs of white space as one space, so that folding does not matter. */
static char *flat(const struct seen *seen)
{
    char *out = mem_alloc(seen->len + 1);
    size_t len = 0;
    bool space = false;

    for (size_t i = 0; i < seen->len; i++) {
        char c = seen->content[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            space = true;
            continue;
        }
        if (space && len)
            out[len++] = ' ';
        space = false;
        out[len++] = c;
    }
    return out;
}

static bool has_recipient(const struct seen *seen, const struct replay_pair *pair)
{
    for (size_t i = 0; i < seen->envelope.recipient_count; i++)
        if (replay_text_ok(pair, seen->envelope.recipients[i].address))
            return true;
    return false;
}

static const char *ret_word(enum envelope_ret ret)
{
    switch (ret) {
    case RET_UNSET:
        return "none";
    case RET_FULL:
        return "FULL";
    case RET_HDRS:
        return "HDRS";
    }
    return "";
}

static void notify_words(uint8_t notify, char out[64])
{
    (void)snprintf(out, 64, "%s%s%s%s", notify & NOTIFY_NEVER ? "NEVER," : "",
                   notify & NOTIFY_SUCCESS ? "SUCCESS," : "",
                   notify & NOTIFY_FAILURE ? "FAILURE," : "",
                   notify & NOTIFY_DELAY ? "DELAY," : "");
    if (out[0])
        out[strlen(out) - 1] = '\0';
}

static struct str flags_of(const struct seen *seen, char out[64])
{
    (void)snprintf(out, 64, "%s%s%s", seen->is_tls ? "tls " : "clear ",
                   seen->body_8bit ? "8bit " : "7bit ", seen->smtputf8 ? "utf8" : "ascii");
    return str_of(out);
}

/* False: no such key. */
static bool meets(const struct seen *seen, const char *text, const struct replay_pair *pair,
                  bool *out_ok)
{
    struct str key = pair->key;
    char words[64];

    if (str_eq(key, STR("to"))) {
        *out_ok = has_recipient(seen, pair);
    } else if (str_eq(key, STR("from"))) {
        *out_ok =
            replay_text_ok(pair, seen->envelope.sender.len ? seen->envelope.sender : STR("<>"));
    } else if (str_eq(key, STR("host"))) {
        *out_ok = replay_text_ok(pair, str_of(seen->host->name));
    } else if (str_eq(key, STR("recipients"))) {
        return replay_number_ok(pair, seen->envelope.recipient_count, false, out_ok);
    } else if (str_eq(key, STR("session"))) {
        return replay_number_ok(pair, seen->session, false, out_ok);
    } else if (str_eq(key, STR("at"))) {
        return replay_number_ok(pair, seen->at_ms, true, out_ok);
    } else if (str_eq(key, STR("contains"))) {
        *out_ok = str_find(str_of(text), pair->value) < strlen(text);
    } else if (str_eq(key, STR("lacks"))) {
        *out_ok = str_find(str_of(text), pair->value) == strlen(text);
    } else if (str_eq(key, STR("flags"))) {
        *out_ok = replay_text_ok(pair, flags_of(seen, words));
    } else if (str_eq(key, STR("ret"))) {
        *out_ok = replay_text_ok(pair, str_of(ret_word(seen->envelope.ret)));
    } else if (str_eq(key, STR("envid"))) {
        *out_ok = replay_text_ok(pair, seen->envelope.envid);
    } else if (str_eq(key, STR("orcpt"))) {
        *out_ok = replay_text_ok(pair, seen->envelope.recipients[0].orcpt);
    } else if (str_eq(key, STR("user"))) {
        *out_ok = replay_text_ok(pair, str_of(seen->user));
    } else if (str_eq(key, STR("notify"))) {
        notify_words(seen->envelope.recipients[0].notify, words);
        *out_ok = replay_text_ok(pair, str_of(words));
    } else {
        return false;
    }
    return true;
}

static bool meets_all(struct replay *replay, const struct seen *seen, char **words, size_t count,
                      bool *out_all)
{
    char *text = flat(seen);
    bool known = true;

    *out_all = true;
    for (size_t i = 0; known && i < count; i++) {
        struct replay_pair pair;
        bool ok = false;
        if (!replay_pair(words[i], &pair))
            known = replay_fail(replay, "\"%s\": KEY=VALUE is wanted", words[i]);
        else if (str_eq(pair.key, STR("count")))
            continue;
        else if (!meets(seen, text, &pair, &ok))
            known = replay_fail(replay, "\"%s\": a message has no such thing", words[i]);
        *out_all = *out_all && ok;
    }
    free(text);
    return known;
}

static void show(const struct replay *replay, bool dsn)
{
    for (const struct host *host = replay->world.hosts; host; host = host->next)
        for (const struct seen *seen = host->seen; seen; seen = seen->next)
            if (!dsn || seen->envelope.sender.len == 0)
                (void)fprintf(
                    stderr, "---- %s took from <" STR_FMT "> to <" STR_FMT "> at %.3fs:\n%.3000s\n",
                    host->name, STR_ARG(seen->envelope.sender),
                    STR_ARG(seen->envelope.recipients[0].address), (double)seen->at_ms / 1000.0,
                    seen->content);
}

/* A DSN is a message from the null reverse-path. */
bool expect_message(struct replay *replay, char **words, size_t count, bool dsn)
{
    bool none = count > 0 && strcmp(words[0], "none") == 0;
    struct replay_pair wanted = { .key = STR("count"), .op = "=" };
    uint64_t number = 0;
    bool has_count = false, ok, all;

    words += none;
    count -= none;
    for (const struct host *host = replay->world.hosts; host; host = host->next)
        for (const struct seen *seen = host->seen; seen; seen = seen->next) {
            if (dsn && seen->envelope.sender.len)
                continue;
            if (!meets_all(replay, seen, words, count, &all))
                return false;
            number += all;
        }
    for (size_t i = 0; i < count; i++) {
        struct replay_pair pair;
        if (replay_pair(words[i], &pair) && str_eq(pair.key, STR("count"))) {
            wanted = pair;
            has_count = true;
        }
    }
    ok = none ? number == 0 : number > 0;
    if (has_count && !replay_number_ok(&wanted, number, false, &ok))
        return replay_fail(replay, "count= takes a number");
    if (!ok)
        show(replay, dsn);
    return ok || replay_fail(replay, "%" PRIu64 " such messages", number);
}
