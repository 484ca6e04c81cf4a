/*
 * policy_test.c - the words of TLS levels, what they demand, the line of facts.
 */
#include "relay/mail/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void words_and_demands(void **state)
{
    static const struct {
        const char *word;
        enum policy_level level;
        bool tls, identity;
    } rows[] = {
        { "none", POLICY_NONE, false, false },
        { "opportunistic", POLICY_OPPORTUNISTIC, false, false },
        { "required", POLICY_REQUIRED, true, false },
        { "verified", POLICY_VERIFIED, true, true },
        { "implicit", POLICY_IMPLICIT, true, true },
        { "dane", POLICY_DANE, true, true },
    };
    enum policy_level level;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_string_equal(policy_word(rows[i].level), rows[i].word);
        assert_true(policy_parse(str_of(rows[i].word), &level));
        assert_int_equal(level, rows[i].level);
        assert_int_equal(policy_needs_tls(level), rows[i].tls);
        assert_int_equal(policy_needs_identity(level), rows[i].identity);
    }
    assert_false(policy_parse(STR("maybe"), &level));
    assert_true(policy_parse(STR("DANE"), &level));
}

static void line_of_facts(void **state)
{
    struct tls_facts facts = { .version = "TLSv1.3", .cipher = "TLS_AES_256_GCM_SHA384" };
    char line[64];
    char small[8];

    (void)state;
    assert_int_equal(tls_facts_line(&facts, line, sizeof(line)), 0);
    assert_string_equal(line, "");
    facts.encrypted = true;
    tls_facts_line(&facts, line, sizeof(line));
    assert_string_equal(line, "TLSv1.3 TLS_AES_256_GCM_SHA384");
    facts.chain_ok = facts.name_ok = true;
    tls_facts_line(&facts, line, sizeof(line));
    assert_string_equal(line, "TLSv1.3 TLS_AES_256_GCM_SHA384 verified");
    facts.dane_ok = true;
    tls_facts_line(&facts, line, sizeof(line));
    assert_string_equal(line, "TLSv1.3 TLS_AES_256_GCM_SHA384 dane");
    facts.dane_ok = facts.name_ok = false;
    facts.problem[0] = 'x';
    tls_facts_line(&facts, line, sizeof(line));
    assert_string_equal(line, "TLSv1.3 TLS_AES_256_GCM_SHA384 unverified");
    assert_int_equal(tls_facts_line(&facts, small, sizeof(small)), 7);
    assert_string_equal(small, "TLSv1.3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_and_demands),
        cmocka_unit_test(line_of_facts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
