/*
 * verify_impl.h - the inside of the verification, shared by its files only.
 */
#ifndef WAYPOST_TESTS_CRASH_VERIFY_IMPL_H
#define WAYPOST_TESTS_CRASH_VERIFY_IMPL_H

#include "queue/lmdb_store.h"
#include "tests/crash/verify.h"

struct found {
    bool is_there;
    bool is_queued[RECIPIENTS_MAX];
    uint32_t attempts[RECIPIENTS_MAX];
    bool has_report;
    bool is_dropped; /* it lies whole in the drop folder */
};

struct verify {
    const char *folder, *label;
    struct promises *promises;
    uint64_t cut;
    struct verify_count *count;
    unsigned wrong;
    struct store *store;
    struct pool *pool;
    struct mailbox mail;
    struct found *found; /* by the promise's place in the ledger */
    size_t listed, queued, held;
};

/* ---- verify_message.c ---- */
__attribute__((format(printf, 2, 3))) void verify_wrong(struct verify *verify, const char *format,
                                                        ...);
/* Notes in `found` what is there, and says what is not as it was sent. */
void verify_message(struct verify *verify, const struct message *message);

/* ---- verify_drop.c ---- */
/* What sendmail(1) left there while the relay did not run. */
void verify_drops(struct verify *verify);

/* ---- verify_promise.c ---- */
/* After all messages were looked at. */
void verify_promises(struct verify *verify);

#endif
