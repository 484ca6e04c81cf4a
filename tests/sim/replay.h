/*
 * replay.h - a story about mail over time, told in lines and checked.
 *
 * The language is described in README.md beside this file. A replay runs from
 * its first line to its last over one store; a step that fails ends it with
 * file, line and the last hops.
 */
#ifndef WAYPOST_SIM_REPLAY_H
#define WAYPOST_SIM_REPLAY_H

#include "tests/sim/record.h"
#include "tests/sim/relay.h"

#define REPLAY_WORDS_MAX 64
#define REPLAY_CONF_MAX 64

struct replay_section { /* one option or section of the configuration, as written */
    char *key;
    char *text;
};

struct replay {
    const char *file;
    unsigned line;
    bool is_lmdb;
    char folder[256];
    struct world world;
    struct relay relay;
    bool is_open;
    struct record record;
    struct replay_section conf[REPLAY_CONF_MAX];
    size_t conf_count;
    struct fault fault; /* why the step failed */
};

/* One replay over one store. False: it failed and said why. */
bool replay_run(const char *file, bool is_lmdb);

/* One step, its words cut (quotes gone). False: replay->fault. */
typedef bool replay_step_fn(struct replay *replay, char **words, size_t count);
bool replay_open(struct replay *replay); /* with the configuration given so far */
bool replay_conf(struct replay *replay, struct str text);
bool replay_reload(struct replay *replay);

/* replay_accept.c, replay_expect.c, replay_message.c */
replay_step_fn step_accept, step_expect;
bool expect_message(struct replay *replay, char **words, size_t count, bool dsn);

/* Fill the fault and say false. */
bool replay_fail(struct replay *replay, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "key=value", "key<=5": false when the word has no operator. */
struct replay_pair {
    struct str key, value;
    char op[3]; /* "=", "<", ">", "<=", ">=", "~" */
};
bool replay_pair(const char *word, struct replay_pair *out);
/* Does a number meet it? Values: 5, 3..5, and spans (15m) when `is_span` (ms). */
bool replay_number_ok(const struct replay_pair *pair, uint64_t number, bool is_span, bool *out_ok);
bool replay_text_ok(const struct replay_pair *pair, struct str text); /* "=" and "~" */

#endif
