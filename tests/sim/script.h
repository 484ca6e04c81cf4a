/*
 * script.h - what a simulated host does at one stage: words of a replay.
 *
 *   "451 4.7.1 greylisted"              always this reply
 *   "2x 451 4.7.1 greylisted; ok"       twice this, then as usual
 *   "after 30s ok"                      as usual, but slowly
 *   drop | hang | garbage               leave, say nothing, say nonsense
 *   refuse | timeout | unreachable      connect only
 *   fail | expired | wrong-name         tls only
 *   take                                content only: taken, then left without a reply
 *
 * What stands last goes on for ever. A reply 421 is followed by leaving.
 */
#ifndef WAYPOST_SIM_SCRIPT_H
#define WAYPOST_SIM_SCRIPT_H

#include "relay/mail/reply.h"

#define SCRIPT_STEPS_MAX 12

#define ACTION_MAP(X)                                                                              \
    X(OK, "ok")                                                                                    \
    X(REPLY, "")                                                                                   \
    X(DROP, "drop")                                                                                \
    X(HANG, "hang")                                                                                \
    X(GARBAGE, "garbage")                                                                          \
    X(REFUSE, "refuse")                                                                            \
    X(TIMEOUT, "timeout")                                                                          \
    X(UNREACHABLE, "unreachable")                                                                  \
    X(FAIL, "fail")                                                                                \
    X(EXPIRED, "expired")                                                                          \
    X(WRONG_NAME, "wrong-name")                                                                    \
    X(TAKE, "take")                                                                                \
    X(NONE, "none")

enum action_kind {
#define X(name, word) ACTION_##name,
    ACTION_MAP(X)
#undef X
};

struct action {
    enum action_kind kind;
    unsigned times; /* 0: for ever */
    uint64_t delay_ms;
    struct reply reply;
};

struct script {
    struct action steps[SCRIPT_STEPS_MAX];
    size_t count, at;
    unsigned done; /* times of the present step */
};

enum err script_parse(struct str text, struct script *out, struct fault *fault);
/* The next action; an empty script is "ok". */
const struct action *script_next(struct script *script);
/* The one that would be next. */
const struct action *script_peek(const struct script *script);

/* "90s", "15m", "4h", "5d", "250ms", "1h30m"; a bare number is seconds. */
bool span_parse(struct str text, uint64_t *out_ms);

#endif
