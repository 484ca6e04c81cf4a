/*
 * promise.h - what was promised, to whom, and when: the load's ledger tied to
 * the recorder's counter.
 *
 * The ledger is what the clients wrote down:
 *   sent NAME WIDTH LINES RECIPIENT,...     offered, acknowledged or not
 *   ack NAME ID                             the relay said 250
 *   drop NAME COUNT                         sendmail(1) left it in the drop folder and ended
 *                                           with 0; the recorder's count was this then
 * The log says when each acknowledgement left, when the sink's last word on a
 * recipient came, when the relay told that it had settled one.
 */
#ifndef WAYPOST_TESTS_CRASH_PROMISE_H
#define WAYPOST_TESTS_CRASH_PROMISE_H

#include "relay/base/msgid.h"
#include "tests/crash/disk.h"

#define NEVER UINT64_MAX
#define RECIPIENTS_MAX 8
#define LATER_MAX 64

struct promised_recipient {
    char *address;
    bool is_bad;               /* the sink refuses it: a report is owed */
    uint64_t final_at;         /* the sink's last word was read */
    uint64_t settled_at;       /* the relay said so */
    uint64_t later[LATER_MAX]; /* it said that it had put it off */
    size_t later_count;
};

struct promise {
    char *name;
    unsigned width, lines;
    struct promised_recipient recipients[RECIPIENTS_MAX];
    size_t count;
    bool has_id;
    struct msgid id;
    uint64_t acked_at;
    uint64_t drop_heard_at, drop_said_at;
    uint64_t dsn_taken_at, dsn_settled_at;
};

struct promises;

/* NULL: the files cannot be read, or do not fit together (said on stderr). */
struct promises *promises_load(const char *ledger, const struct log_record *const *records,
                               size_t count, enum lie lie);
struct promise *promises_find(struct promises *promises, const char *name);
struct promise *promises_at(struct promises *promises, size_t index); /* NULL: behind the last */

/* The body as the client sent it; malloc'd. */
char *promise_body(const struct promise *promise, size_t *out_len);
char *promise_head(const struct promise *promise);

#endif
