/*
 * smtp_ext_test.c - what EHLO lines offer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/smtp/ext.h"

static const struct {
    const char *name, *line;
    unsigned exts, mechanisms;
    uint64_t size_max;
} rows[] = {
    { "a keyword alone", "PIPELINING", EXT_PIPELINING, 0, 0 },
    { "any case", "8bitMime", EXT_8BITMIME, 0, 0 },
    { "trailing blanks", "CHUNKING  ", EXT_CHUNKING, 0, 0 },
    { "SIZE with a limit", "SIZE 52428800", EXT_SIZE, 0, 52428800 },
    { "SIZE without one", "SIZE", EXT_SIZE, 0, 0 },
    { "SIZE with nonsense", "SIZE lots", EXT_SIZE, 0, 0 },
    { "SIZE beyond 64 bits", "SIZE 99999999999999999999999", EXT_SIZE, 0, 0 },
    { "AUTH with mechanisms", "AUTH PLAIN LOGIN XOAUTH2", EXT_AUTH,
      MECHANISM_PLAIN | MECHANISM_LOGIN, 0 },
    { "the AUTH= of old servers", "AUTH=LOGIN plain", EXT_AUTH, MECHANISM_PLAIN | MECHANISM_LOGIN,
      0 },
    { "AUTH without mechanisms", "AUTH", EXT_AUTH, 0, 0 },
    { "SCRAM", "AUTH SCRAM-SHA-256 SCRAM-SHA-256-PLUS", EXT_AUTH,
      MECHANISM_SCRAM_SHA_256 | MECHANISM_SCRAM_SHA_256_PLUS, 0 },
    { "arguments of others are passed over", "STARTTLS now", EXT_STARTTLS, 0, 0 },
    { "unknown keywords change nothing", "XEXCH50 2 3", 0, 0, 0 },
    { "a keyword is a whole word", "SIZEABLE 12", 0, 0, 0 },
    { "an empty line", "", 0, 0, 0 },
};

static void offers_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ext_offer offer = { 0 };
        ext_offer_line(&offer, str_of(rows[i].line));
        if (offer.exts != rows[i].exts || offer.mechanisms != rows[i].mechanisms ||
            offer.size_max != rows[i].size_max)
            fail_msg("%s: %x %x %llu", rows[i].name, offer.exts, offer.mechanisms,
                     (unsigned long long)offer.size_max);
    }
}

static void words_go_both_ways(void **state)
{
    enum mechanism mechanism;

    (void)state;
    for (unsigned i = 0; i < MECHANISM_COUNT; i++) {
        assert_true(mechanism_parse(str_of(mechanism_word((enum mechanism_index)i)), &mechanism));
        assert_int_equal(mechanism, 1u << i);
    }
    assert_false(mechanism_parse(STR("NTLM"), &mechanism));
    assert_string_equal(ext_keyword(EXT_INDEX_8BITMIME), "8BITMIME");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offers_are_read),
        cmocka_unit_test(words_go_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
