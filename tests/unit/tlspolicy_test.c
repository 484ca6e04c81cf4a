/*
 * tlspolicy_test.c - the route's level, and what TLSA answers make of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/egress/tlspolicy.h"
#include "virtual_loop.h"

#include <stdlib.h>

/* ---- one question, one answer ---- */

static struct dns_answer given;
static char asked[DNS_NAME + 16];
static unsigned cancelled;

static struct {
    struct deferred deferred;
    dns_fn *fn;
    void *arg;
} pending;

static void answer_now(void *arg)
{
    (void)arg;
    pending.fn(pending.arg, &given);
}

void resolver_ask(struct resolver *resolver, const char *name, enum dns_type type, dns_fn *fn,
                  void *arg, struct dns_query **out_query)
{
    (void)resolver;
    assert_int_equal(type, DNS_TLSA);
    str_copy(asked, sizeof(asked), str_of(name));
    pending.fn = fn;
    pending.arg = arg;
    *out_query = (struct dns_query *)(void *)&pending;
    loop_defer(&virtual_loop, &pending.deferred, answer_now, NULL);
}

void resolver_cancel(struct dns_query **query)
{
    *query = NULL;
    cancelled++;
    loop_undefer(&virtual_loop, &pending.deferred);
}

void resolver_addresses(struct resolver *resolver, const char *host, bool hosts, dns_fn *fn,
                        void *arg, struct dns_query **out_query)
{
    (void)resolver, (void)host, (void)hosts, (void)fn, (void)arg, (void)out_query;
    fail_msg("nobody asks for addresses here");
}

/* ---- the policy ---- */

static struct tlspolicy policy;
static unsigned answers;

static void on_policy(void *arg, const struct tlspolicy *found)
{
    (void)arg;
    answers++;
    tlspolicy_clear(&policy);
    tlspolicy_copy(found, &policy);
    assert_true(found->policy.evidence == found->evidence);
    assert_true(policy.policy.evidence == policy.evidence);
    for (size_t i = 0; i < found->tlsa_count; i++) {
        assert_true(policy.tlsa[i].data != found->tlsa[i].data);
        assert_int_equal(policy.tlsa[i].len, found->tlsa[i].len);
        assert_memory_equal(policy.tlsa[i].data, found->tlsa[i].data, found->tlsa[i].len);
    }
}

static struct tlspolicy_lookup *ask(enum policy_level level, bool is_secure)
{
    static struct route_settings route;
    static struct route_host host;
    struct tlspolicy_lookup *lookup;

    route = (struct route_settings){ .name = STR("r"), .level = level };
    host = (struct route_host){ .name = "mx.test", .port = 25, .is_secure = is_secure };
    asked[0] = '\0';
    answers = 0;
    tlspolicy_find(&virtual_loop, NULL, &route, &host, on_policy, NULL, &lookup);
    assert_int_equal(answers, 0);
    return lookup;
}

static const uint8_t digest[64] = { 1, 2, 3 };
static uint8_t certificate[2000];

#define RECORD(u, s, m, bytes, length)                                                             \
    {                                                                                              \
        .tlsa = {                                                                                  \
            .usage = (u),                                                                          \
            .selector = (s),                                                                       \
            .matching = (m),                                                                       \
            .data = (bytes),                                                                       \
            .len = (length)                                                                        \
        }                                                                                          \
    }

static void what_answers_make_of_dane(void **state)
{
    static const struct {
        const char *name;
        enum dns_status status;
        bool is_secure;
        struct dns_record records[3];
        size_t count;
        enum policy_level level;
        size_t kept;
        bool deferred;
    } rows[] = {
        { "usable", DNS_OK, true, { RECORD(3, 1, 1, digest, 32) }, 1, POLICY_DANE, 1, false },
        { "two of three usable",
          DNS_OK,
          true,
          { RECORD(1, 1, 1, digest, 32), RECORD(2, 0, 2, digest, 64), RECORD(3, 1, 1, digest, 32) },
          3,
          POLICY_DANE,
          2,
          false },
        { "a whole certificate",
          DNS_OK,
          true,
          { RECORD(2, 0, 0, certificate, 2000) },
          1,
          POLICY_DANE,
          1,
          false },
        { "PKIX usages mean nothing here",
          DNS_OK,
          true,
          { RECORD(0, 0, 1, digest, 32) },
          1,
          POLICY_REQUIRED,
          0,
          false },
        { "unknown selector",
          DNS_OK,
          true,
          { RECORD(3, 2, 1, digest, 32) },
          1,
          POLICY_REQUIRED,
          0,
          false },
        { "unknown matching type",
          DNS_OK,
          true,
          { RECORD(3, 1, 3, digest, 32) },
          1,
          POLICY_REQUIRED,
          0,
          false },
        { "digest of the wrong length",
          DNS_OK,
          true,
          { RECORD(3, 1, 1, digest, 31) },
          1,
          POLICY_REQUIRED,
          0,
          false },
        { "not signed",
          DNS_OK,
          false,
          { RECORD(3, 1, 1, digest, 32) },
          1,
          POLICY_OPPORTUNISTIC,
          0,
          false },
        { "none", DNS_NXDOMAIN, true, { { 0 } }, 0, POLICY_OPPORTUNISTIC, 0, false },
        { "no data", DNS_NODATA, true, { { 0 } }, 0, POLICY_OPPORTUNISTIC, 0, false },
        { "kept from us", DNS_SERVFAIL, false, { { 0 } }, 0, POLICY_DANE, 0, true },
        { "bogus", DNS_BOGUS, false, { { 0 } }, 0, POLICY_DANE, 0, true },
        { "nobody answers", DNS_TIMEOUT, false, { { 0 } }, 0, POLICY_DANE, 0, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        given = (struct dns_answer){ .status = rows[i].status,
                                     .is_secure = rows[i].is_secure,
                                     .records = rows[i].records,
                                     .count = rows[i].count };
        (void)ask(POLICY_DANE, true);
        virtual_turn();
        assert_string_equal(asked, "_25._tcp.mx.test");
        if (answers != 1 || policy.policy.level != rows[i].level ||
            policy.tlsa_count != rows[i].kept || policy.deferred != rows[i].deferred)
            fail_msg("%s: level %s, %zu kept, %s", rows[i].name, policy_word(policy.policy.level),
                     policy.tlsa_count, policy.evidence);
    }
}

static void without_dane_nobody_is_asked(void **state)
{
    static const enum policy_level levels[] = { POLICY_NONE, POLICY_OPPORTUNISTIC, POLICY_REQUIRED,
                                                POLICY_VERIFIED, POLICY_IMPLICIT };

    (void)state;
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        (void)ask(levels[i], true);
        virtual_turn();
        assert_int_equal(answers, 1);
        assert_int_equal(policy.policy.level, levels[i]);
        assert_string_equal(asked, "");
    }
    (void)ask(POLICY_DANE, false); /* an unsigned zone can promise nothing */
    virtual_turn();
    assert_string_equal(asked, "");
    assert_int_equal(policy.policy.level, POLICY_OPPORTUNISTIC);
}

static void cancelled_at_any_time(void **state)
{
    struct tlspolicy_lookup *lookup = ask(POLICY_DANE, true);

    (void)state;
    cancelled = 0;
    tlspolicy_cancel(&lookup); /* before it asked */
    assert_null(lookup);
    lookup = ask(POLICY_DANE, true);
    struct deferred *first = virtual_loop.deferred;
    loop_undefer(&virtual_loop, first);
    first->fn(first->arg); /* it asks */
    assert_string_equal(asked, "_25._tcp.mx.test");
    tlspolicy_cancel(&lookup);
    virtual_turn();
    assert_int_equal(answers, 0);
    assert_int_equal(cancelled, 1);
}

static int begin(void **state)
{
    struct loop_options options = { .count = 1 };

    (void)state;
    virtual_begin(&options);
    return 0;
}

static int end(void **state)
{
    (void)state;
    virtual_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_answers_make_of_dane),
        cmocka_unit_test(without_dane_nobody_is_asked),
        cmocka_unit_test(cancelled_at_any_time),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
