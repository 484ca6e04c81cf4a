/*
 * verdict_test.c - every word of the vocabulary is read back as what it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/verdict.h"

#include <string.h>

static void words_are_read_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < STAGE_COUNT; i++) {
        enum stage stage;
        const char *word = stage_word((enum stage)i);
        assert_true(stage_parse(word, strlen(word), &stage));
        assert_int_equal(stage, i);
        assert_true(strlen(stage_help(stage)) > 0);
    }
    for (unsigned i = 0; i < RESULT_COUNT; i++) {
        enum result result;
        const char *word = result_word((enum result)i);
        assert_true(result_parse(word, strlen(word), &result));
        assert_int_equal(result, i);
    }
    for (unsigned i = 0; i < SCOPE_COUNT; i++) {
        enum scope scope;
        const char *word = scope_word((enum scope)i);
        assert_true(scope_parse(word, strlen(word), &scope));
        assert_int_equal(scope, i);
    }
    for (unsigned i = 0; i < CLASS_COUNT; i++) {
        enum class kind;
        const char *word = class_word((enum class)i);
        assert_true(class_parse(word, strlen(word), &kind));
        assert_int_equal(kind, i);
    }
}

static void unknown_words_are_refused(void **state)
{
    static const char *const words[] = { "", "no", "OK", "ok ", "hard2", "sessio", "sessions" };
    enum stage stage = STAGE_QUIT;
    enum result result = RESULT_LATER;
    enum scope scope = SCOPE_US;
    enum class kind = CLASS_TLS;

    (void)state;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        assert_false(stage_parse(words[i], strlen(words[i]), &stage));
        assert_false(result_parse(words[i], strlen(words[i]), &result));
        assert_false(scope_parse(words[i], strlen(words[i]), &scope));
        assert_false(class_parse(words[i], strlen(words[i]), &kind));
    }
    assert_int_equal(stage, STAGE_QUIT); /* outputs are untouched */
    assert_int_equal(result, RESULT_LATER);
    assert_string_equal(stage_word((enum stage)200), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_read_back),
        cmocka_unit_test(unknown_words_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
