/*
 * verify.c - does the store open, and is what it holds what was promised?
 */
#include "tests/crash/verify_impl.h"

#include "queue/tracelog.h"
#include "relay/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FAR_S ((int64_t)10 * 366 * 86400)
#define PAGE_OF_MESSAGES 500
#define PATIENCE_MS 5000 /* with a recovery that gets nowhere */

#define DONE 0xD0E

/* ---- requests as blocking calls ------------------------------------------------------- */

static void on_done(struct store_request *request) { request->op = DONE; }

static struct store_request request_to(struct verify *verify)
{
    return (struct store_request){ .reply_to = &verify->mail, .done = on_done };
}

static bool wait_for(struct verify *verify, struct store_request *request)
{
    while (request->op != DONE) {
        struct letter *letter = mailbox_wait(&verify->mail, 20000);
        if (!letter) {
            verify_wrong(verify, "the store does not answer");
            return false;
        }
        while (letter) {
            struct letter *next = letter->next;
            letter->open(letter);
            letter = next;
        }
    }
    if (request->err)
        verify_wrong(verify, "a request failed: %s", request->fault.text);
    return request->err == ERR_OK;
}

/* ---- all of the queue ------------------------------------------------------------------------- */

static void look_at(struct verify *verify, const struct store_list *list, size_t i)
{
    const struct envelope *envelope = &list->envelopes[i];
    char id[MSGID_TEXT + 1];

    msgid_print(&envelope->id, id);
    verify->listed++;
    if (list->is_corrupt[i]) {
        verify_wrong(verify, "the record of %s is damaged", id);
        return;
    }
    for (size_t k = 0; k < envelope->recipient_count; k++) {
        verify->queued += envelope->recipients[k].state == RECIPIENT_QUEUED;
        verify->held += envelope->recipients[k].state == RECIPIENT_HELD;
    }
    if (!verify->promises)
        return;
    struct store_get get = { .request = request_to(verify),
                             .id = envelope->id,
                             .with_content = true };
    store_get(verify->store, &get);
    if (!wait_for(verify, &get.request))
        return;
    verify_message(verify, get.message);
    message_unref(&get.message);
}

static void list_all(struct verify *verify)
{
    struct msgid after = { { 0 } };
    bool more = true;

    while (more) {
        struct store_list list = { .request = request_to(verify),
                                   .filter.any_state = true,
                                   .after = after,
                                   .max = PAGE_OF_MESSAGES };
        store_list(verify->store, &list);
        if (!wait_for(verify, &list.request))
            return;
        for (size_t i = 0; i < list.count; i++)
            look_at(verify, &list, i);
        more = list.more && list.count > 0;
        if (list.count)
            after = list.envelopes[list.count - 1].id;
        store_list_clear(&list);
    }
}

static size_t claim_lane(struct verify *verify, const char *lane, struct claim **all)
{
    size_t count = 0;
    bool more = true;

    while (more) {
        struct claim *next;
        struct store_claim claim = { .request = request_to(verify),
                                     .lane = lane,
                                     .max = 1000,
                                     .now_s = clock_wall_us() / 1000000 + FAR_S };
        store_claim(verify->store, &claim);
        if (!wait_for(verify, &claim.request))
            break;
        more = claim.claims != NULL;
        for (struct claim *one = claim.claims; one; one = next) {
            next = one->next;
            count += one->count;
            one->next = *all;
            *all = one;
        }
    }
    return count;
}

static size_t claim_lanes(struct verify *verify, struct claim **all)
{
    struct store_lanes lanes = { .request = request_to(verify), .max = 1000 };
    size_t count = 0;

    store_lanes(verify->store, &lanes);
    if (!wait_for(verify, &lanes.request))
        return 0;
    for (size_t i = 0; i < lanes.count; i++)
        count += claim_lane(verify, lanes.lanes[i].lane, all);
    store_lanes_clear(&lanes);
    return count;
}

/* Mail that nobody can claim is lost too. When it is much, recovery goes on after the
 * open, and what it has not come to cannot be claimed yet. */
static void claim_all(struct verify *verify)
{
    uint64_t last_ms = clock_mono_ms();
    struct claim *all = NULL;
    size_t count = 0;

    while (clock_mono_ms() - last_ms < PATIENCE_MS && !verify->wrong) {
        size_t more = claim_lanes(verify, &all);
        count += more;
        if (count >= verify->queued)
            break;
        if (more)
            last_ms = clock_mono_ms();
        usleep(2000);
    }
    store_unclaim(verify->store, &all);
    if (count != verify->queued)
        verify_wrong(verify, "%zu recipients are queued, %zu can be claimed", verify->queued,
                     count);
}

static void check_counters(struct verify *verify)
{
    struct store_health health;

    store_health(verify->store, &health);
    if (health.corrupt)
        verify_wrong(verify, "%lu records are damaged", (unsigned long)health.corrupt);
    if (health.messages != verify->listed || health.recipients_queued != verify->queued ||
        health.recipients_held != verify->held)
        verify_wrong(verify, "the counters say %lu messages, %lu queued; there are %zu and %zu",
                     (unsigned long)health.messages, (unsigned long)health.recipients_queued,
                     verify->listed, verify->queued);
}

/* ---- one image ----------------------------------------------------------------------------------- */

static bool on_hop(void *arg, const struct hop *hop)
{
    (void)hop;
    return ++*(size_t *)arg < 100;
}

static void check_trace(struct verify *verify)
{
    char folder[4200];
    struct tracelog_options options = { .folder = folder,
                                        .max_bytes = 64U << 20,
                                        .max_age_s = 864000 };
    struct tracelog *log = NULL;
    struct fault fault;
    size_t hops = 0;

    snprintf(folder, sizeof(folder), "%s/trace", verify->folder);
    if (tracelog_open(&options, &log, &fault) != ERR_OK) {
        verify_wrong(verify, "the trace does not open: %s", fault.text);
        return;
    }
    (void)tracelog_find(folder, STR("crash@crash.test"), 10, on_hop, &hops, &fault);
    tracelog_close(&log);
}

static size_t promise_count(struct promises *promises)
{
    size_t count = 0;

    while (promises_at(promises, count))
        count++;
    return count;
}

static void look_around(struct verify *verify, size_t at_open)
{
    const struct lmdb_tuning tuning = { .spill_ms = 30000, .at_open = at_open };
    char path[4200];
    struct fault fault = { 0 };
    struct store_options options = { .folder = path,
                                     .reserve_bytes = 1U << 20,
                                     .map_bytes = (uint64_t)8 << 30 };

    verify->pool = options.pool = pool_new(1, true);
    mailbox_init(&verify->mail, NULL, NULL);
    snprintf(path, sizeof(path), "%s/queue", verify->folder);
    if (lmdb_open(&options, &tuning, &verify->store, &fault) != ERR_OK) {
        verify_wrong(verify, "the store does not open: %s", fault.text);
    } else {
        list_all(verify);
        check_counters(verify);
        claim_all(verify);
        store_close(&verify->store);
    }
    check_trace(verify);
    pool_free(&verify->pool);
    mailbox_clear(&verify->mail);
}

bool verify_image(const char *folder, struct promises *promises, uint64_t cut, const char *label,
                  struct verify_count *count)
{
    struct verify verify = {
        .folder = folder, .label = label, .promises = promises, .cut = cut, .count = count
    };

    verify.found = calloc(promise_count(promises) + 1, sizeof(struct found));
    look_around(&verify, 0);
    verify_drops(&verify);
    verify_promises(&verify);
    free(verify.found);
    return verify.wrong == 0;
}

bool verify_recovery(const char *folder, size_t at_open, const char *label)
{
    struct verify verify = { .folder = folder, .label = label };

    look_around(&verify, at_open);
    return verify.wrong == 0;
}
