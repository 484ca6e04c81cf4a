/*
 * arena_test.c - what an arena gives is zeroed, aligned, apart, and dies with it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/base/arena.h"

static void pieces_are_zeroed_aligned_and_apart(void **state)
{
    struct arena arena;
    unsigned char *pieces[300];

    (void)state;
    arena_init(&arena);
    for (size_t i = 0; i < 300; i++) {
        size_t size = i * 7 % 900 + 1;
        pieces[i] = arena_alloc(&arena, size);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        for (size_t n = 0; n < size; n++)
            assert_int_equal(pieces[i][n], 0);
        memset(pieces[i], (int)i, size);
    }
    for (size_t i = 0; i < 300; i++) {
        for (size_t n = 0; n < i * 7 % 900 + 1; n++)
            assert_int_equal(pieces[i][n], (unsigned char)i);
    }
    assert_true(arena.used_bytes > 0);
    arena_clear(&arena);
    assert_int_equal(arena.used_bytes, 0);
}

static void large_and_empty_pieces(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena);
    assert_non_null(arena_alloc(&arena, 0));
    char *large = arena_alloc(&arena, 1000000);
    large[999999] = 'x';
    assert_non_null(arena_alloc(&arena, 10));
    arena_clear(&arena);
    arena_clear(&arena);
}

static void what_is_expected_is_one_block(void **state)
{
    struct arena arena;
    (void)state;
    arena_init(&arena);
    arena_expect(&arena, 0);
    assert_int_equal(arena_room(&arena), 0);
    arena_expect(&arena, 100);
    size_t room = arena_room(&arena);
    assert_in_range(room, 100, 200);
    assert_non_null(arena_alloc(&arena, 60));
    assert_non_null(arena_alloc(&arena, 40));
    arena_expect(&arena, 5000); /* it is not empty any more */
    assert_int_equal(arena_room(&arena), room);
    assert_non_null(arena_alloc(&arena, 40)); /* more than that: as ever */
    assert_in_range(arena_room(&arena), room + 1024, room + 2048);
    arena_clear(&arena);
}

static void texts_are_copied(void **state)
{
    struct arena arena;
    char from[] = "abc";

    (void)state;
    arena_init(&arena);
    struct str copy = arena_str(&arena, str_make(from, 2));
    from[0] = 'x';
    assert_true(str_eq(copy, STR("ab")));
    assert_int_equal(copy.at[copy.len], '\0');
    assert_string_equal(arena_cstr(&arena, (struct str){ NULL, 0 }), "");
    assert_string_equal(arena_printf(&arena, "%s-%d", "n", 7), "n-7");
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_zeroed_aligned_and_apart),
        cmocka_unit_test(large_and_empty_pieces),
        cmocka_unit_test(what_is_expected_is_one_block),
        cmocka_unit_test(texts_are_copied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
