/*
 * verify.c - does the store open, and is what it holds what was promised?
 */
#include "tests/crash/verify.h"

#include "queue/lmdb_store.h"
#include "queue/tracelog.h"
#include "relay/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FAR_S ((int64_t)10 * 366 * 86400)
#define PAGE_OF_MESSAGES 500
#define REASONS 10 /* said of one image */

struct found {
    bool is_there;
    bool is_queued[RECIPIENTS_MAX];
    uint32_t attempts[RECIPIENTS_MAX];
    bool has_report;
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

#define DONE 0xD0E

__attribute__((format(printf, 2, 3))) static void wrong(struct verify *verify, const char *format,
                                                        ...)
{
    char text[512];
    va_list list;

    if (verify->wrong++ >= REASONS)
        return;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    printf("%s: %s\n", verify->label, text);
}

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
            wrong(verify, "the store does not answer");
            return false;
        }
        while (letter) {
            struct letter *next = letter->next;
            letter->open(letter);
            letter = next;
        }
    }
    if (request->err)
        wrong(verify, "a request failed: %s", request->fault.text);
    return request->err == ERR_OK;
}

/* ---- one message ------------------------------------------------------------------------- */

/* RFC 2045 section 6.7, for what our own converter wrote. In place. */
static size_t unquote(char *text, size_t len)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned code;
        if (text[i] != '=') {
            text[out++] = text[i];
        } else if (i + 2 < len && text[i + 1] == '\r') {
            i += 2;
        } else if (i + 2 < len && sscanf(text + i + 1, "%2x", &code) == 1) {
            text[out++] = (char)code;
            i += 2;
        }
    }
    return out;
}

static void check_body(struct verify *verify, const struct promise *promise,
                       const struct message *message)
{
    struct fault fault = { 0 };
    size_t len = (size_t)body_size(message->body), got = 0, want_len;
    char *have = malloc(len + 1), *want = promise_body(promise, &want_len);

    if (body_read(message->body, 0, have, len, &got, &fault) != ERR_OK || got != len)
        wrong(verify, "%s: its body cannot be read: %s", promise->name, fault.text);
    else if (promise->width > 998) /* re-encoded */
        len = unquote(have, len);
    if (got && (len != want_len || memcmp(have, want, len) != 0))
        wrong(verify, "%s: its body is another: %zu bytes of %zu", promise->name, len, want_len);
    if (body_file(message->body))
        verify->count->side_files++;
    free(have);
    free(want);
}

static void check_head(struct verify *verify, const struct promise *promise,
                       const struct message *message)
{
    char *want = promise_head(promise);
    size_t len = strlen(want);

    if (promise->width <= 998 && (message->head_len < len ||
                                  memcmp(message->head + message->head_len - len, want, len) != 0))
        wrong(verify, "%s: its header is another: %.*s", promise->name, (int)message->head_len,
              message->head);
    free(want);
}

static void check_recipients(struct verify *verify, const struct promise *promise,
                             const struct envelope *envelope, struct found *found)
{
    if (envelope->recipient_count != promise->count) {
        wrong(verify, "%s: %zu recipients of %zu", promise->name, envelope->recipient_count,
              promise->count);
        return;
    }
    for (size_t i = 0; i < promise->count; i++) {
        const struct recipient *r = &envelope->recipients[i];
        const struct promised_recipient *p = &promise->recipients[i];
        if (!str_eq(r->address, str_of(p->address)))
            wrong(verify, "%s: recipient " STR_FMT " instead of %s", promise->name,
                  STR_ARG(r->address), p->address);
        found->is_queued[i] = r->state == RECIPIENT_QUEUED;
        found->attempts[i] = r->attempts;
        if (!found->is_queued[i] && p->final_at >= verify->cut)
            wrong(verify, "%s: %s is %s before the sink said a word", promise->name, p->address,
                  recipient_state_word(r->state));
        verify->count->recipients++;
    }
}

static struct promise *promise_of(struct verify *verify, const struct message *message)
{
    struct str head = str_make(message->head, message->head_len);
    static const char key[] = "\r\nSubject: crash ";
    char name[64];
    struct str rest = str_from(head, str_find(head, str_of(key)));

    if (rest.len == 0)
        return NULL;
    rest = str_from(rest, sizeof(key) - 1);
    snprintf(name, sizeof(name), STR_FMT, STR_ARG(str_head(rest, str_chr(rest, '\r'))));
    return promises_find(verify->promises, name);
}

/* To NAME@from.test: it tells of NAME. */
static void check_report(struct verify *verify, const struct message *message)
{
    const struct envelope *envelope = &message->envelope;
    char name[64];

    if (envelope->recipient_count != 1) {
        wrong(verify, "a report to %zu recipients", envelope->recipient_count);
        return;
    }
    struct str to = envelope->recipients[0].address;
    snprintf(name, sizeof(name), STR_FMT, STR_ARG(str_head(to, str_chr(to, '@'))));
    struct promise *promise = promises_find(verify->promises, name);
    if (!promise) {
        wrong(verify, "a report to nobody we know: " STR_FMT, STR_ARG(to));
        return;
    }
    struct found *found = &verify->found[promise - promises_at(verify->promises, 0)];
    if (found->has_report)
        wrong(verify, "%s: two reports", name);
    if (promise->dsn_settled_at < verify->cut)
        wrong(verify, "%s: its report was delivered, settled, and is back", name);
    found->has_report = true;
    verify->count->reports++;
}

static void check_message(struct verify *verify, const struct message *message)
{
    char id[MSGID_TEXT + 1];

    msgid_print(&message->envelope.id, id);
    if (message->envelope.flags & ENVELOPE_DSN) {
        check_report(verify, message);
        return;
    }
    struct promise *promise = promise_of(verify, message);
    if (!promise) {
        wrong(verify, "%s is a message that nobody sent: %.*s", id, (int)message->head_len,
              message->head);
        return;
    }
    struct found *found = &verify->found[promise - promises_at(verify->promises, 0)];
    if (found->is_there)
        wrong(verify, "%s is there twice", promise->name);
    if (promise->has_id && msgid_cmp(&promise->id, &message->envelope.id) != 0)
        wrong(verify, "%s has another id: %s", promise->name, id);
    found->is_there = true;
    check_body(verify, promise, message);
    check_head(verify, promise, message);
    check_recipients(verify, promise, &message->envelope, found);
    verify->count->messages++;
}

/* ---- all of the queue ------------------------------------------------------------------------- */

static void look_at(struct verify *verify, const struct store_list *list, size_t i)
{
    const struct envelope *envelope = &list->envelopes[i];
    char id[MSGID_TEXT + 1];

    msgid_print(&envelope->id, id);
    verify->listed++;
    if (list->is_corrupt[i]) {
        wrong(verify, "the record of %s is damaged", id);
        return;
    }
    for (size_t k = 0; k < envelope->recipient_count; k++) {
        verify->queued += envelope->recipients[k].state == RECIPIENT_QUEUED;
        verify->held += envelope->recipients[k].state == RECIPIENT_HELD;
    }
    struct store_get get = { .request = request_to(verify),
                             .id = envelope->id,
                             .with_content = true };
    store_get(verify->store, &get);
    if (!wait_for(verify, &get.request))
        return;
    check_message(verify, get.message);
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

/* Mail that nobody can claim is lost too. */
static size_t claim_lane(struct verify *verify, const char *lane)
{
    struct claim *all = NULL, *next;
    size_t count = 0;
    bool more = true;

    while (more) {
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
            one->next = all;
            all = one;
        }
    }
    store_unclaim(verify->store, &all);
    return count;
}

static void claim_all(struct verify *verify)
{
    struct store_lanes lanes = { .request = request_to(verify), .max = 1000 };
    size_t count = 0;

    store_lanes(verify->store, &lanes);
    if (!wait_for(verify, &lanes.request))
        return;
    for (size_t i = 0; i < lanes.count; i++)
        count += claim_lane(verify, lanes.lanes[i].lane);
    store_lanes_clear(&lanes);
    if (count != verify->queued)
        wrong(verify, "%zu recipients are queued, %zu can be claimed", verify->queued, count);
}

static void check_counters(struct verify *verify)
{
    struct store_health health;

    store_health(verify->store, &health);
    if (health.corrupt)
        wrong(verify, "%lu records are damaged", (unsigned long)health.corrupt);
    if (health.messages != verify->listed || health.recipients_queued != verify->queued ||
        health.recipients_held != verify->held)
        wrong(verify, "the counters say %lu messages, %lu queued; there are %zu and %zu",
              (unsigned long)health.messages, (unsigned long)health.recipients_queued,
              verify->listed, verify->queued);
}

/* ---- the promises ------------------------------------------------------------------------------ */

static void check_absent(struct verify *verify, const struct promise *promise)
{
    for (size_t i = 0; i < promise->count; i++) {
        if (promise->recipients[i].final_at >= verify->cut) {
            wrong(verify, "%s was acknowledged and is LOST (%s)", promise->name,
                  promise->recipients[i].address);
            return;
        }
    }
    verify->count->gone++;
}

static void check_present(struct verify *verify, const struct promise *promise,
                          const struct found *found)
{
    size_t settled = 0;

    for (size_t i = 0; i < promise->count; i++) {
        const struct promised_recipient *r = &promise->recipients[i];
        size_t later = 0;
        bool is_settled = r->settled_at < verify->cut;
        settled += is_settled;
        if (is_settled && found->is_queued[i])
            wrong(verify, "%s: %s was settled and is queued again", promise->name, r->address);
        while (later < r->later_count && r->later[later] < verify->cut)
            later++;
        if (found->attempts[i] < later)
            wrong(verify, "%s: %s was put off %zu times, %u attempts are known", promise->name,
                  r->address, later, found->attempts[i]);
    }
    if (settled == promise->count)
        wrong(verify, "%s: all was settled, and it is back", promise->name);
    if (promise->drop_said_at < verify->cut)
        wrong(verify, "%s was dropped, and it is back", promise->name);
}

/* Settle and report are one transaction: both or neither. */
static void check_owed(struct verify *verify, const struct promise *promise,
                       const struct found *found)
{
    bool is_reported = found->has_report || promise->dsn_taken_at < verify->cut;

    for (size_t i = 0; i < promise->count; i++) {
        bool is_open = found->is_there && found->is_queued[i];
        if (!promise->recipients[i].is_bad)
            continue;
        if (!is_open && !is_reported)
            wrong(verify, "%s: %s failed, and its report is LOST", promise->name,
                  promise->recipients[i].address);
        if (is_open && is_reported)
            wrong(verify, "%s: reported, but %s is still to be tried", promise->name,
                  promise->recipients[i].address);
    }
}

static void check_promises(struct verify *verify)
{
    const struct promise *promise;

    for (size_t i = 0; (promise = promises_at(verify->promises, i)); i++) {
        const struct found *found = &verify->found[i];
        if (promise->acked_at >= verify->cut)
            continue;
        verify->count->acknowledged++;
        if (promise->drop_said_at < verify->cut)
            verify->count->dropped++;
        for (size_t k = 0; k < promise->count; k++)
            verify->count->settled += promise->recipients[k].settled_at < verify->cut;
        if (found->is_there)
            check_present(verify, promise, found);
        if (promise->drop_heard_at < verify->cut)
            continue; /* it may be gone, and takes its reports with it */
        if (!found->is_there)
            check_absent(verify, promise);
        check_owed(verify, promise, found);
    }
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
        wrong(verify, "the trace does not open: %s", fault.text);
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

bool verify_image(const char *folder, struct promises *promises, uint64_t cut, const char *label,
                  struct verify_count *count)
{
    struct verify verify = {
        .folder = folder, .label = label, .promises = promises, .cut = cut, .count = count
    };
    static const struct lmdb_tuning tuning = { .spill_ms = 30000 };
    char path[4200];
    struct fault fault = { 0 };
    struct store_options options = { .folder = path,
                                     .reserve_bytes = 1U << 20,
                                     .map_bytes = (uint64_t)8 << 30 };

    verify.found = calloc(promise_count(promises) + 1, sizeof(struct found));
    verify.pool = options.pool = pool_new(1, true);
    mailbox_init(&verify.mail, NULL, NULL);
    snprintf(path, sizeof(path), "%s/queue", folder);
    if (lmdb_open(&options, &tuning, &verify.store, &fault) != ERR_OK) {
        wrong(&verify, "the store does not open: %s", fault.text);
    } else {
        list_all(&verify);
        check_counters(&verify);
        claim_all(&verify);
        store_close(&verify.store);
    }
    check_trace(&verify);
    check_promises(&verify);
    pool_free(&verify.pool);
    mailbox_clear(&verify.mail);
    free(verify.found);
    return verify.wrong == 0;
}
