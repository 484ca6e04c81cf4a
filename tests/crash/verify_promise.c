/*
 * verify_promise.c - is everything there that was promised, and nothing that
 * was over?
 */
#include "tests/crash/verify_impl.h"

static void check_absent(struct verify *verify, const struct promise *promise,
                         const struct found *found)
{
    if (found->is_dropped)
        return;
    for (size_t i = 0; i < promise->count; i++) {
        if (promise->recipients[i].final_at >= verify->cut) {
            verify_wrong(verify, "%s was acknowledged and is LOST (%s)", promise->name,
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
            verify_wrong(verify, "%s: %s was settled and is queued again", promise->name,
                         r->address);
        while (later < r->later_count && r->later[later] < verify->cut)
            later++;
        if (found->attempts[i] < later)
            verify_wrong(verify, "%s: %s was put off %zu times, %u attempts are known",
                         promise->name, r->address, later, found->attempts[i]);
    }
    if (settled == promise->count)
        verify_wrong(verify, "%s: all was settled, and it is back", promise->name);
    if (promise->drop_said_at < verify->cut)
        verify_wrong(verify, "%s was dropped, and it is back", promise->name);
}

/* Settle and report are one transaction: both or neither. */
static void check_owed(struct verify *verify, const struct promise *promise,
                       const struct found *found)
{
    bool is_reported = found->has_report || promise->dsn_taken_at < verify->cut;

    for (size_t i = 0; i < promise->count; i++) {
        bool is_open = found->is_dropped || (found->is_there && found->is_queued[i]);
        if (!promise->recipients[i].is_bad)
            continue;
        if (!is_open && !is_reported)
            verify_wrong(verify, "%s: %s failed, and its report is LOST", promise->name,
                         promise->recipients[i].address);
        if (is_open && is_reported)
            verify_wrong(verify, "%s: reported, but %s is still to be tried", promise->name,
                         promise->recipients[i].address);
    }
}

void verify_promises(struct verify *verify)
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
            check_absent(verify, promise, found);
        check_owed(verify, promise, found);
    }
}
