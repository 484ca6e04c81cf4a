/*
 * store_rig.h - a store on a workbench: every request as one blocking call.
 */
#ifndef WAYPOST_TESTS_STORE_RIG_H
#define WAYPOST_TESTS_STORE_RIG_H

#include "queue/lmdb_store.h"
#include "relay/base/clock.h"

#include <assert.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW 1800000000 /* wall seconds of the workbench, unless a test moves them */

struct rig {
    struct store *store;
    struct store_options options;
    struct pool *pool;
    struct mailbox mail;
    struct msgid_maker maker;
    char folder[256];
    bool is_lmdb;
    struct lmdb_tuning tuning;
    char told[4096]; /* lanes the watcher heard of, one a line */
};

/* Store threads ask for it too. */
static _Atomic int64_t rig_wall_s = NOW;

/* Sanitizers make everything ten times slower. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RIG_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RIG_SANITIZED 1
#endif
#endif
#ifndef RIG_SANITIZED
#define RIG_SANITIZED 0
#endif

static inline int64_t rig_wall(void) { return rig_wall_s * 1000000; }

static inline void rig_done(struct store_request *request) { request->op = 0xD0E; }

static inline void rig_wait(struct rig *rig, struct store_request *request)
{
    while (request->op != 0xD0E) {
        struct letter *letter = mailbox_wait(&rig->mail, 100000);
        assert_non_null(letter);
        while (letter) {
            struct letter *next = letter->next;
            letter->open(letter);
            letter = next;
        }
    }
}

static inline struct store_request rig_request(struct rig *rig)
{
    return (struct store_request){ .reply_to = &rig->mail, .done = rig_done };
}

static inline void rig_folder(char *out, size_t size)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(out, size, "%s/waypost-store-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(out));
}

static inline void rig_remove(const char *folder)
{
    DIR *dir = opendir(folder);

    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[512];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof(path), "%.200s/%.255s", folder, entry->d_name);
        if (entry->d_type == DT_DIR)
            rig_remove(path);
        else
            unlink(path);
    }
    if (dir)
        closedir(dir);
    rmdir(folder);
}

static inline void rig_open(struct rig *rig)
{
    struct fault fault = { 0 };
    enum err rc = rig->is_lmdb ? lmdb_open(&rig->options, &rig->tuning, &rig->store, &fault)
                               : store_open_mem(&rig->options, &rig->store, &fault);

    if (rc)
        print_error("%s\n", fault.text);
    assert_int_equal(rc, ERR_OK);
}

static inline void rig_reopen(struct rig *rig)
{
    store_close(&rig->store);
    rig_open(rig);
}

static inline struct rig *rig_new(bool is_lmdb)
{
    struct rig *rig = mem_alloc(sizeof(*rig));

    rig_wall_s = NOW;
    rig->is_lmdb = is_lmdb;
    rig->tuning.spill_ms = 30000;
    mailbox_init(&rig->mail, NULL, NULL);
    msgid_maker_init(&rig->maker);
    if (is_lmdb) {
        rig_folder(rig->folder, sizeof(rig->folder));
        rig->pool = pool_new(2, false);
    }
    rig->options = (struct store_options){
        .map_bytes = (uint64_t)8 << 30, /* sanitizers have no room for a terabyte */
        .folder = is_lmdb ? rig->folder : NULL,
        .pool = rig->pool,
        .wall_us = rig_wall,
    };
    return rig;
}

static inline void rig_free(struct rig *rig)
{
    store_close(&rig->store);
    pool_free(&rig->pool);
    mailbox_drain(&rig->mail);
    mailbox_clear(&rig->mail);
    if (rig->is_lmdb)
        rig_remove(rig->folder);
    free(rig);
}

/* ---- messages -------------------------------------------------------------------- */

/* Recipients "address lane" separated by commas; due at once. */
static inline struct message *rig_message(struct rig *rig, const char *sender, const char *to)
{
    struct message *message = message_new();
    struct envelope *envelope = &message->envelope;
    struct str rest = str_of(to), item;

    envelope->id = msgid_make(&rig->maker, rig_wall_s * 1000);
    envelope->arrived_us = rig_wall();
    envelope->sender = arena_str(&envelope->arena, str_of(sender));
    while (str_next(&rest, ',', &item)) {
        size_t space = str_chr(item, ' ');
        struct recipient *r = envelope_add(envelope, str_head(item, space));
        r->lane = arena_str(&envelope->arena, str_from(item, space + 1));
        r->due_at = rig_wall_s;
    }
    message->head = str_dup(STR("Subject: x\r\n\r\n"));
    message->head_len = strlen(message->head);
    message->body = body_of_bytes(STR("hello\r\n"));
    envelope->size_bytes = message->head_len + body_size(message->body);
    return message;
}

static inline enum err rig_accept(struct rig *rig, struct message *message)
{
    struct store_accept accept = { .request = rig_request(rig), .message = message };

    store_accept(rig->store, &accept);
    rig_wait(rig, &accept.request);
    return accept.request.err;
}

/* Accept and forget; returns the id. */
static inline struct msgid rig_put(struct rig *rig, const char *sender, const char *to)
{
    struct message *message = rig_message(rig, sender, to);
    struct msgid id = message->envelope.id;

    assert_int_equal(rig_accept(rig, message), ERR_OK);
    message_unref(&message);
    return id;
}

static inline struct store_claim rig_claim_at(struct rig *rig, const char *lane, size_t max,
                                              int64_t now_s)
{
    struct store_claim claim = {
        .request = rig_request(rig), .lane = lane, .max = max, .now_s = now_s
    };

    store_claim(rig->store, &claim);
    rig_wait(rig, &claim.request);
    assert_int_equal(claim.request.err, ERR_OK);
    return claim;
}

static inline struct claim *rig_claim(struct rig *rig, const char *lane, size_t max)
{
    return rig_claim_at(rig, lane, max, rig_wall_s).claims;
}

static inline size_t rig_count(const struct claim *claims)
{
    size_t count = 0;

    for (; claims; claims = claims->next)
        count++;
    return count;
}

static inline void rig_free_claims(struct claim *claims)
{
    while (claims) {
        struct claim *claim = claims;
        claims = claim->next;
        claim_free(&claim);
    }
}

static inline struct verdict rig_verdict(uint32_t index, enum recipient_state state, int64_t due_at)
{
    return (struct verdict){ .index = index,
                             .state = state,
                             .attempted = true,
                             .due_at = due_at,
                             .stage = STAGE_RCPT,
                             .kind = CLASS_SOFT,
                             .status = STR("4.2.2"),
                             .host = STR("mx.there.test"),
                             .said = STR("452 4.2.2 mailbox full") };
}

/* All recipients of the claim alike; frees the claim. */
static inline enum err rig_settle_dsns(struct rig *rig, struct claim *claim,
                                       enum recipient_state state, int64_t due_at,
                                       struct message **dsns, size_t dsn_count)
{
    struct verdict *verdicts = mem_alloc(claim->count * sizeof(*verdicts));
    struct settlement settlement = {
        .claim = claim,
        .verdicts = verdicts,
        .verdict_count = claim->count,
        .dsns = dsns,
        .dsn_count = dsn_count,
    };
    struct store_settle settle = { .request = rig_request(rig),
                                   .settlements = &settlement,
                                   .count = 1 };

    for (size_t i = 0; i < claim->count; i++)
        verdicts[i] = rig_verdict(claim->indexes[i], state, due_at);
    store_settle(rig->store, &settle);
    rig_wait(rig, &settle.request);
    free(verdicts);
    claim_free(&claim);
    return settle.request.err;
}

static inline enum err rig_settle_dsn(struct rig *rig, struct claim *claim,
                                      enum recipient_state state, int64_t due_at,
                                      struct message *dsn)
{
    return rig_settle_dsns(rig, claim, state, due_at, &dsn, dsn ? 1 : 0);
}

static inline void rig_settle(struct rig *rig, struct claim *claim, enum recipient_state state,
                              int64_t due_at)
{
    assert_int_equal(rig_settle_dsn(rig, claim, state, due_at, NULL), ERR_OK);
}

/* Claim one and settle it. What a claim finds may be gone when it looks again; then it has
 * nothing, and says that there is more. */
static inline void rig_deliver(struct rig *rig, const char *lane)
{
    struct store_claim claim = { .more = true };

    for (int i = 0; i < 100 && !claim.claims && claim.more; i++)
        claim = rig_claim_at(rig, lane, 1, rig_wall_s);
    assert_non_null(claim.claims);
    rig_settle(rig, claim.claims, RECIPIENT_DELIVERED, 0);
}

/* For rig_put(): 0, 1, 2 ... of what stands behind the number. */
static inline void rig_many(char *to, size_t size, size_t count, const char *behind)
{
    for (size_t i = 0; i < count; i++)
        snprintf(to + strlen(to), size - strlen(to), "%zu%s,", i, behind);
}

static inline struct store_change rig_change(struct rig *rig, enum store_change_kind kind,
                                             struct store_filter filter)
{
    struct store_change change = { .request = rig_request(rig), .kind = kind, .filter = filter };

    change.filter.any_state = true;
    store_change(rig->store, &change);
    rig_wait(rig, &change.request);
    assert_int_equal(change.request.err, ERR_OK);
    return change;
}

/* A next hop for "smart", none when 0, and one for "direct"; how many recipients are due
 * for it that were not. */
static inline enum err rig_tell_hops(struct rig *rig, uint64_t smart, uint64_t direct,
                                     uint64_t *out_due)
{
    const struct store_hop hops[] = { { STR("direct"), direct }, { STR("smart"), smart } };
    struct str changed[2];
    struct store_change change = { .request = rig_request(rig),
                                   .kind = STORE_RETRY,
                                   .filter = { .state = RECIPIENT_QUEUED },
                                   .hops = hops,
                                   .changed = changed,
                                   .hop_count = smart ? 2 : 1 };

    store_change(rig->store, &change);
    rig_wait(rig, &change.request);
    *out_due = change.recipients;
    return change.request.err;
}

static inline struct store_list rig_list(struct rig *rig, struct store_filter filter, size_t max,
                                         struct msgid after)
{
    struct store_list list = {
        .request = rig_request(rig), .filter = filter, .max = max, .after = after
    };

    store_list(rig->store, &list);
    rig_wait(rig, &list.request);
    assert_int_equal(list.request.err, ERR_OK);
    return list;
}

static inline struct message *rig_get(struct rig *rig, struct msgid id)
{
    struct store_get get = { .request = rig_request(rig), .id = id, .with_content = true };

    store_get(rig->store, &get);
    rig_wait(rig, &get.request);
    assert_true(get.request.err == ERR_OK ? get.message != NULL : get.message == NULL);
    return get.message;
}

static inline struct store_health rig_health(struct rig *rig)
{
    struct store_health health;

    store_health(rig->store, &health);
    return health;
}

#endif
