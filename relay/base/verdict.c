/*
 * verdict.c - the words of the vocabulary, both ways, made from its lists.
 */
#include "relay/base/verdict.h"

#include <string.h>

#define X(name, word, help) word,
static const char *const stage_words[] = { STAGE_MAP(X) };
#undef X

#define X(name, word, help) help,
static const char *const stage_helps[] = { STAGE_MAP(X) };
#undef X

#define X(name, word) word,
static const char *const result_words[] = { RESULT_MAP(X) };
static const char *const scope_words[] = { SCOPE_MAP(X) };
static const char *const class_words[] = { CLASS_MAP(X) };
#undef X

static const char *word_of(const char *const *words, size_t count, unsigned value)
{
    return value < count ? words[value] : "unknown";
}

/* Index of the word, or `count` when it is none of them. */
static unsigned find_word(const char *const *words, unsigned count, const char *word, size_t len)
{
    for (unsigned i = 0; i < count; i++) {
        if (strlen(words[i]) == len && memcmp(words[i], word, len) == 0)
            return i;
    }
    return count;
}

const char *stage_word(enum stage stage) { return word_of(stage_words, STAGE_COUNT, stage); }

const char *stage_help(enum stage stage) { return word_of(stage_helps, STAGE_COUNT, stage); }

const char *result_word(enum result result) { return word_of(result_words, RESULT_COUNT, result); }

const char *scope_word(enum scope scope) { return word_of(scope_words, SCOPE_COUNT, scope); }

const char *class_word(enum class kind) { return word_of(class_words, CLASS_COUNT, kind); }

bool stage_parse(const char *word, size_t len, enum stage *out_stage)
{
    unsigned at = find_word(stage_words, STAGE_COUNT, word, len);

    if (at == STAGE_COUNT)
        return false;
    *out_stage = (enum stage)at;
    return true;
}

bool result_parse(const char *word, size_t len, enum result *out_result)
{
    unsigned at = find_word(result_words, RESULT_COUNT, word, len);

    if (at == RESULT_COUNT)
        return false;
    *out_result = (enum result)at;
    return true;
}

bool scope_parse(const char *word, size_t len, enum scope *out_scope)
{
    unsigned at = find_word(scope_words, SCOPE_COUNT, word, len);

    if (at == SCOPE_COUNT)
        return false;
    *out_scope = (enum scope)at;
    return true;
}

bool class_parse(const char *word, size_t len, enum class *out_kind)
{
    unsigned at = find_word(class_words, CLASS_COUNT, word, len);

    if (at == CLASS_COUNT)
        return false;
    *out_kind = (enum class)at;
    return true;
}
